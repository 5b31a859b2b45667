use super::*;
use crate::resources::draft::Draft;
use crate::resources::value::ConfigValue;
use crate::resources::yaml::{MOST_DOCUMENTS, MOST_VALUES};
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn decode(text: &str) -> Decoded {
    decode_file(SourceName::Directory, "a.yaml", text.as_bytes())
}

fn profile(spec: &str) -> String {
    format!("apiVersion: microcloud.dev/v1\nkind: Profile\nmetadata: {{name: p}}\nspec:\n{spec}")
}

fn one(text: &str) -> Resource {
    let decoded = decode(text);
    assert!(decoded.broken.is_empty(), "{:#?}", decoded.broken);
    decoded
        .resources
        .into_iter()
        .next()
        .expect("one document")
        .resource
}

fn config(text: &str) -> Vec<(String, String)> {
    match one(text).spec {
        Spec::Profile(spec) => spec
            .config
            .into_iter()
            .map(|(key, value)| match value {
                ConfigValue::Plain(text) => (key, text),
                other => (key, format!("{other:?}")),
            })
            .collect(),
        other => panic!("not a profile: {other:?}"),
    }
}

fn messages(text: &str) -> Vec<String> {
    decode(text)
        .broken
        .iter()
        .flat_map(|b| &b.diagnostics)
        .map(ToString::to_string)
        .collect()
}

#[test]
fn config_values_are_kept_as_they_are_written() {
    let text = profile(
        "  config:\n    a: 2\n    b: true\n    c: 1.50\n    d: 0x10\n    e: yes\n    f: \"null\"\n    \
         g: 010\n    h: 1e3\n    i: 12345678901234567890123\n    j: -0\n    k: |\n      two\n      lines\n    \
         l: ''\n    m: True\n    n: '~'\n    o: {credential: x}\n",
    );
    let expected = [
        ("a", "2"),
        ("b", "true"),
        ("c", "1.50"),
        ("d", "0x10"),
        ("e", "yes"),
        ("f", "null"),
        ("g", "010"),
        ("h", "1e3"),
        ("i", "12345678901234567890123"),
        ("j", "-0"),
        ("k", "two\nlines\n"),
        ("l", ""),
        ("m", "True"),
        ("n", "~"),
        ("o", "Credential(\"x\")"),
    ];
    let expected: Vec<(String, String)> = expected
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    assert_eq!(config(&text), expected);
}

#[test]
fn fields_know_where_they_were_written() {
    let text = "# comment\n---\napiVersion: microcloud.dev/v1\nkind: Uplink\nmetadata:\n  name: U\nspec:\n  \
                interface: é0\n  ipv4:\n    gateway: 192.0.2.1/24\n    ranges:\n      - 192.0.2.10-192.0.2.20\n      \
                - 192.0.2.30-192.0.2.40\n  config:\n    bgp.peers.a.asn: 1\n";
    let located = &decode(text).resources[0];
    let at = |path| located.positions.locate(path);
    assert_eq!(located.positions.line(), 3);
    assert_eq!(located.resource.origin.line, 3);
    assert_eq!(at("kind"), (4, 7));
    assert_eq!(at("metadata.name"), (6, 9));
    assert_eq!(at("spec.ipv4.ranges[1]"), (13, 9));
    assert_eq!(at("spec.config.bgp.peers.a.asn"), (15, 22));
    // The nearest field above what was not written.
    assert_eq!(at("spec.ipv4.ranges[7]"), at("spec.ipv4.ranges"));
    assert_eq!(at("status"), (3, 1));
    let key = located
        .positions
        .key(crate::resources::positions::at!["spec", "ipv4"], "x");
    assert_eq!((key.line, key.column, key.length), (9, 3, 4));
}

#[test]
fn documents_of_one_file_do_not_spoil_each_other() {
    let good = profile("  config: {a: b}\n");
    let text = format!(
        "{}\n---\nspec: \"unclosed\n--- # comment\n{}\n...\n---\n---\n{}",
        good.replace("name: p", "name: first"),
        good.replace("name: p", "name: second"),
        good.replace("name: p", "name: third"),
    );
    let decoded = decode(&text);
    let names: Vec<&str> = decoded
        .resources
        .iter()
        .map(|l| l.resource.metadata.name.as_str())
        .collect();
    assert_eq!(names, ["first", "second", "third"]);
    assert_eq!(decoded.broken.len(), 1);
    assert_eq!(decoded.broken[0].diagnostics[0].line, 8);
}

#[test]
fn the_header_of_a_broken_document_is_still_read() {
    let text = profile("  config: [unclosed\n");
    let decoded = decode(&text);
    assert_eq!(
        decoded.broken[0].reference,
        Some(ObjectRef::new(Kind::Profile, "p"))
    );
    let text =
        profile("  config: {}\n").replace("{name: p}", "{name: p, project: web}") + "  x: 1\n";
    assert_eq!(
        decode(&text).broken[0].reference,
        Some(ObjectRef::in_project(Kind::Profile, "web", "p"))
    );
}

#[test]
fn json_is_yaml() {
    let json = serde_json::json!({
        "apiVersion": "microcloud.dev/v1", "kind": "Profile", "metadata": {"name": "p"},
        "spec": {"config": {"limits.cpu": 2, "user.x": "a\"b\\c\n\t/é\u{1F600}"}}
    });
    let expected = vec![
        ("limits.cpu".to_owned(), "2".to_owned()),
        ("user.x".to_owned(), "a\"b\\c\n\t/é\u{1F600}".to_owned()),
    ];
    assert_eq!(config(&json.to_string()), expected);
    assert_eq!(config(&format!("{json:#}")), expected);
}

#[test]
fn byte_order_marks_and_foreign_line_ends_do_not_matter() {
    let text = profile("  config:\n    a: b\n").replace('\n', "\r\n");
    let decoded = decode_file(
        SourceName::Directory,
        "a.yaml",
        format!("\u{feff}{text}").as_bytes(),
    );
    assert!(decoded.broken.is_empty(), "{:?}", decoded.broken);
    assert_eq!(
        decoded.resources[0].positions.locate("spec.config.a"),
        (6, 8)
    );
    let wrong = text.replace("spec", "spek");
    assert_eq!(
        messages(&wrong),
        ["a.yaml:4:1: unknown field `spek` in `Profile` (did you mean `spec`?)"]
    );
}

#[test]
fn anchors_aliases_and_merges_mean_what_they_stand_for() {
    let text = profile(
        "  config:\n    <<: &base {a: 1, b: 2}\n    b: 3\n    c: &c four\n    d: *c\n  devices:\n    \
         x: {<<: [*base, {b: 9, e: 5}], type: none}\n",
    );
    let resource = one(&text);
    let json = resource.spec.to_json();
    assert_eq!(
        json["config"],
        serde_json::json!({"a": "1", "b": "3", "c": "four", "d": "four"})
    );
    assert_eq!(
        json["devices"]["x"],
        serde_json::json!({"a": "1", "b": "2", "e": "5", "type": "none"})
    );
}

#[test]
fn fields_left_empty_are_fields_left_out() {
    let resource = one(&profile(
        "  config:\n  devices:\n  description:\n  ignore: ~\n",
    ));
    assert_eq!(resource.spec.to_json(), serde_json::json!({}));
    let project = "apiVersion: microcloud.dev/v1\nkind: Project\nmetadata: {name: p}\n";
    assert_eq!(one(project).spec.to_json(), serde_json::json!({}));
}

#[test]
fn a_secret_is_in_no_message_about_its_line() {
    let text = "apiVersion: microcloud.dev/v1\nkind: Cluster\nmetadata: {name: c}\nspec:\n  \
                config: {core.trust_password: \"hun\\\"ter2\", a: [1]}\n  initiatr: x\n";
    let broken = &decode(text).broken;
    assert_eq!(broken[0].diagnostics.len(), 2);
    let shown = crate::resources::render::render(&broken[0].diagnostics, false);
    assert!(
        !shown.contains("ter2") && shown.contains("core.trust_password: ****"),
        "{shown}"
    );
}

#[test]
fn bombs_end_soon() {
    let start = Instant::now();
    let levels: String = (1..40)
        .map(|n| format!("  l{n}: &l{n} [*l{}, *l{}]\n", n - 1, n - 1))
        .collect();
    let found = messages(&profile(&format!("  l0: &l0 x\n{levels}")));
    assert!(
        found[0].contains("aliases of this document repeat"),
        "{found:?}"
    );
    let deep = messages(&"[".repeat(100_000));
    assert!(deep[0].contains("nested deeper"), "{deep:?}");
    let deep = messages(
        &(0..1000)
            .map(|n| " ".repeat(n) + "a:\n")
            .collect::<String>(),
    );
    assert!(deep[0].contains("nested deeper"), "{deep:?}");
    let recursive = messages("a: &a [*a]\n");
    assert!(
        recursive[0].contains("inside the value it stands for"),
        "{recursive:?}"
    );
    let merged = (0..300)
        .map(|n| format!("  <<: &m{n} {{k{n}: 1}}\n"))
        .collect::<String>();
    assert!(!messages(&profile(&merged)).is_empty());
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "took {:?}",
        start.elapsed()
    );
}

#[test]
fn files_that_are_too_large_are_refused_and_large_ones_are_read() {
    let large = vec![b'#'; LARGEST_FILE as usize + 1];
    let decoded = decode_file(SourceName::Directory, "a.yaml", &large);
    assert_eq!(
        decoded.broken[0].diagnostics[0].to_string(),
        "a.yaml: the file has 10.0 MiB; at most 10 MiB are read: split it"
    );
    let start = Instant::now();
    let many = messages(&format!("[{}a]", "a,".repeat(300_000)));
    assert!(many[0].contains("brackets and commas"), "{many:?}");
    let many = messages(&"- a\n".repeat(MOST_VALUES + 10));
    assert_eq!(many.len(), 1);
    assert!(many[0].contains("more than 1000000 values"), "{many:?}");
    let many = messages(&"---\na\n".repeat(MOST_DOCUMENTS + 10));
    assert!(many[MOST_DOCUMENTS].contains("more than 50000 documents"));
    assert_eq!(many.len(), MOST_DOCUMENTS + 1);
    let keys: String = (0..100_000).map(|n| format!("  k{n}: x\n")).collect();
    let found = decode(&profile(&keys));
    assert!(found.broken[0].diagnostics.len() <= MOST_DIAGNOSTICS);
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "took {:?}",
        start.elapsed()
    );
}

#[test]
fn what_is_no_text_is_told_with_its_place() {
    let decoded = decode_file(SourceName::Directory, "a.yaml", b"a: b\nc: d\xffe\n");
    assert_eq!(
        decoded.broken[0].diagnostics[0].to_string(),
        "a.yaml:2:5: not UTF-8: the byte 0xff (save the file as UTF-8)"
    );
    assert_eq!(
        messages("a: b\u{0}c: d\n").len(),
        1,
        "a NUL must not end the file"
    );
}

#[test]
fn a_reading_puts_documents_in_order_and_revisions_follow_the_content() {
    let files = [
        ("b.yaml", profile("  config: {}\n")),
        ("a.yaml", profile("").replace("name: p", "name: a")),
    ];
    let draft = |files: &[(&str, String)]| {
        Draft::of_files(
            SourceName::Directory,
            files.iter().map(|(n, t)| (*n, t.as_bytes())),
        )
    };
    let reading = draft(&files).check(&[]);
    let names: Vec<String> = reading
        .resources
        .iter()
        .map(|r| r.reference().to_string())
        .collect();
    assert_eq!(names, ["Profile/a", "Profile/p"]);
    let mut changed = files.clone();
    changed[0].1.push('\n');
    assert_eq!(draft(&files).revision, draft(&files.clone()).revision);
    assert_ne!(draft(&files).revision, draft(&changed).revision);
    // Moving text over the border of two files changes the revision.
    let (x, y) = ([("a", "bc".to_owned())], [("ab", "c".to_owned())]);
    assert_ne!(draft(&x).revision, draft(&y).revision);
}

/// Text that looks like YAML often enough to reach deep code.
fn yamlish() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just(
            "apiVersion: microcloud.dev/v1\nkind: Disk\nmetadata: {name: d}\nspec:\n  ".to_owned()
        ),
        Just("---\n".to_owned()),
        Just("...\n".to_owned()),
        Just("%YAML 1.2\n".to_owned()),
        Just("\n".to_owned()),
        Just("\n  ".to_owned()),
        Just("\t".to_owned()),
        Just("use: {pool: x}".to_owned()),
        "[-:{}\\[\\],&*!|>'\"%@`#?~ \\n\\r\\t]{1,4}",
        "[a-z]{1,6}: ",
        "&[a-b] ",
        "\\*[a-b] ",
        "<<: ",
        "\\PC{1,8}",
    ];
    proptest::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_never_panics_on_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode_file(SourceName::Directory, "a.yaml", &bytes);
    }

    #[test]
    fn decoding_and_rendering_never_panic_on_what_looks_like_yaml(text in yamlish()) {
        let reading = Draft::of_files(SourceName::Directory, [("a.yaml", text.as_bytes())]).check(&[]);
        for broken in &reading.broken {
            prop_assert!(!broken.diagnostics.is_empty());
            for diagnostic in &broken.diagnostics {
                prop_assert!(diagnostic.line <= text.matches(['\n', '\r']).count() + 1);
            }
            let _ = crate::resources::render::render(&broken.diagnostics, true);
        }
    }

    #[test]
    fn a_written_document_decodes_to_the_same(
        name in "[a-z][a-z0-9-]{0,10}",
        keys in proptest::collection::btree_map("[a-z]{1,5}(\\.[a-z]{1,5}){0,2}", "\\PC{0,12}", 0..6),
        description in proptest::option::of("\\PC{0,20}"),
        ignore in proptest::collection::vec("config\\.[a-z]{1,5}", 0..3),
        suspended: bool,
    ) {
        let spec = serde_json::json!({
            "config": keys, "description": description, "ignore": ignore,
            "mode": if suspended { Some("Suspended") } else { None },
        });
        let spec = Spec::from_json(Kind::Profile, spec).expect("a profile");
        let origin = Origin { source: SourceName::Directory, file: "a.yaml".to_owned(), line: 1 };
        let metadata = Metadata { name, ..Metadata::default() };
        let resource = Resource { metadata, spec, origin };
        let json = resource.document().to_string();
        prop_assert_eq!(&one(&json), &resource);
        // The writer of YAML follows version 1.1, in which these are line breaks.
        prop_assume!(!json.contains(['\u{85}', '\u{2028}', '\u{2029}']));
        let yaml = serde_yaml::to_string(&resource.document()).expect("YAML");
        prop_assert_eq!(&one(&yaml), &resource);
    }
}
