//! `microcloud validate` as a whole: every manifest of `tests/invalid` gives the error that was
//! meant, and the generated files are fresh.
//!
//! `UPDATE_EXPECTED=1 cargo test --test validate` writes the expected errors anew; look at the
//! difference before keeping it.

#[path = "common/program.rs"]
mod program;

use program::{microcloud, names};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_invalid_manifest_gives_the_intended_error() {
    let folder = root().join("tests/invalid");
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let manifests = names(&folder, "yaml");
    assert!(manifests.len() >= 150, "only {} manifests", manifests.len());
    let mut wrong = Vec::new();
    for name in &manifests {
        let output = microcloud(&folder, &["validate", &format!("{name}.yaml")]);
        assert_eq!(output.status.code(), Some(2), "{name}: the exit code");
        let shown = String::from_utf8(output.stderr).expect("messages are UTF-8");
        let expected = folder.join(format!("{name}.stderr"));
        if update {
            std::fs::write(&expected, &shown).expect("can be written");
        } else if std::fs::read_to_string(&expected).ok().as_deref() != Some(&shown) {
            wrong.push(format!("--- {name} gives now ---\n{shown}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let without: Vec<String> = names(&folder, "stderr")
        .difference(&manifests)
        .cloned()
        .collect();
    assert!(
        without.is_empty(),
        "expected errors without a manifest: {without:?}"
    );
}

#[test]
fn no_two_manifests_are_there_for_the_same_error() {
    let folder = root().join("tests/invalid");
    let mut seen = BTreeSet::new();
    for name in names(&folder, "stderr") {
        let text = std::fs::read_to_string(folder.join(format!("{name}.stderr"))).expect("there");
        let errors: Vec<&str> = text
            .lines()
            .filter(|l| l.starts_with("error") || l.contains("= help"))
            .collect();
        assert!(!errors.is_empty(), "{name} expects no error");
        assert!(
            seen.insert(errors.join("\n")),
            "{name} is like another one: {errors:?}"
        );
    }
}

fn assert_fresh(folder: &str, extension: &str, files: Vec<(String, String)>, command: &str) {
    let folder = root().join(folder);
    let mut there = names(&folder, extension);
    for (name, content) in files {
        let written = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(
            written == content,
            "{name} is stale: run `cargo run -- {command}`"
        );
        there.remove(name.trim_end_matches(extension).trim_end_matches('.'));
    }
    assert!(there.is_empty(), "files of no kind: {there:?}");
}

#[test]
fn the_generated_schemas_are_fresh() {
    let files = microcloud::resources::schema::files();
    assert_fresh(
        "manifests/schemas",
        "json",
        files,
        "schema --write manifests/schemas",
    );
}

#[test]
fn the_generated_pages_are_fresh() {
    let files = microcloud::resources::manual::files();
    assert_fresh("docs/kinds", "md", files, "explain --write docs/kinds");
}

fn manifest(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("can be written");
    path
}

const GOOD: &str = "apiVersion: microcloud.dev/v1\nkind: Profile\nmetadata: {name: web}\n";
const BAD: &str = "apiVersion: microcloud.dev/v1\nkind: Profile\nmetadata: {nam: web, x: y}\n";

#[test]
fn valid_files_are_counted_and_end_with_0() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    manifest(folder.path(), "a.yaml", GOOD);
    manifest(
        folder.path(),
        "b.json",
        &serde_json::json!({
            "apiVersion": "microcloud.dev/v1", "kind": "Project", "metadata": {"name": "p"}
        })
        .to_string(),
    );
    let output = microcloud(folder.path(), &["validate", "."]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "2 resources are valid\n"
    );
}

#[test]
fn errors_of_all_files_come_in_one_go_and_as_json() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    manifest(folder.path(), "a.yaml", BAD);
    manifest(folder.path(), "b.yaml", GOOD);
    manifest(folder.path(), "c.yaml", BAD);
    let output = microcloud(
        folder.path(),
        &[
            "validate", "-o", "json", "a.yaml", "b.yaml", "c.yaml", "d.yaml",
        ],
    );
    assert_eq!(output.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&report["valid"], &report["resources"]),
        (&false.into(), &1.into())
    );
    let places: Vec<(&str, u64)> = report["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|e| {
            (
                e["file"].as_str().expect("a file"),
                e["line"].as_u64().expect("a line"),
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            ("a.yaml", 3),
            ("a.yaml", 3),
            ("c.yaml", 3),
            ("c.yaml", 3),
            ("d.yaml", 0)
        ]
    );
}

/// Resources that are valid, with what the test is about.
fn whole(more: &str) -> String {
    format!(
        "apiVersion: microcloud.dev/v1\nkind: Cluster\nmetadata: {{name: c}}\nspec:\n  \
         initiator: m1\n---\n\
         apiVersion: microcloud.dev/v1\nkind: Member\nmetadata: {{name: m1}}\nspec:\n  \
         address: 10.0.0.1\n---\n\
         apiVersion: microcloud.dev/v1\nkind: StoragePool\nmetadata: {{name: local}}\nspec: \
         {{driver: btrfs}}\n---\n{more}"
    )
}

fn document(kind: &str, spec: &str) -> String {
    format!("apiVersion: microcloud.dev/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")
}

#[test]
fn what_this_version_does_not_do_is_warned_of() {
    let cluster =
        |spec: &str| whole("").replace("initiator: m1\n", &format!("initiator: m1\n  {spec}\n"));
    let member = |spec: &str| {
        whole("").replace(
            "address: 10.0.0.1\n",
            &format!("address: 10.0.0.1\n  {spec}\n"),
        )
    };
    let profile = |device: &str| {
        whole(&document(
            "Profile",
            &format!("{{devices: {{d: {device}}}}}"),
        ))
    };
    let disk = |usage: &str| {
        whole(&document(
            "Disk",
            &format!("{{member: m1, match: size > 1GiB, state: Absent, use: {usage}}}"),
        ))
    };
    for (text, place, part) in [
        (cluster("instances: incus"), "6:14", "does not run Incus"),
        (cluster("ovn: {provider: microovn}"), "6:19", "MicroOVN"),
        (
            cluster("ovn: {provider: external, northbound: ['ssl:10.0.0.9:6641']}"),
            "6:19",
            "northbound connection",
        ),
        (cluster("ceph: {provider: microceph}"), "6:20", "MicroCeph"),
        (
            cluster("ceph: {provider: external}"),
            "6:20",
            "external Ceph",
        ),
        (member("roles: [storage]"), "12:11", "none of LXD's roles"),
        (disk("{pool: local}"), "21:47", "not taken out of a pool"),
        (
            profile("{type: disk, path: /, pool: locl}"),
            "21:49",
            "no resource is the StoragePool `locl` (did you mean `local`?)",
        ),
        (
            profile("{type: nic, network: lan}"),
            "21:42",
            "no resource is the Network `lan`",
        ),
    ] {
        let folder = tempfile::tempdir().expect("a temporary directory");
        manifest(folder.path(), "a.yaml", &text);
        let output = microcloud(folder.path(), &["validate", "-o", "line", "a.yaml"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}{told}");
        assert!(
            told.starts_with(&format!("warning: a.yaml:{place}: ")) && told.contains(part),
            "{text}{told}"
        );
        assert_eq!(told.lines().count(), 1, "{told}");
        let output = microcloud(folder.path(), &["validate", "a.yaml"]);
        let (shown, said) = (
            String::from_utf8_lossy(&output.stderr).into_owned(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        );
        assert!(
            shown.starts_with("warning: ") && shown.contains('^'),
            "{shown}"
        );
        assert!(said.ends_with("are valid, with 1 warning\n"), "{said}");
        let output = microcloud(folder.path(), &["validate", "-o", "json", "a.yaml"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["valid"], true);
        assert_eq!(
            report["warnings"].as_array().map(Vec::len),
            Some(1),
            "{report}"
        );
    }
}

#[test]
fn a_part_of_the_documents_is_not_warned_of_for_what_the_others_hold() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let alone = document("Profile", "{devices: {d: {type: nic, network: lan}}}");
    manifest(folder.path(), "a.yaml", &alone);
    let output = microcloud(folder.path(), &["validate", "a.yaml"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    // Nor are the examples.
    for example in names_of_folders(&root().join("examples")) {
        let output = microcloud(root(), &["validate", &format!("examples/{example}")]);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{example}");
    }
}

fn names_of_folders(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("its entries can be listed"))
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[test]
fn one_line_for_each_error_when_asked_for() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    manifest(folder.path(), "a.yaml", BAD);
    let output = microcloud(folder.path(), &["validate", "-o", "line", "a.yaml"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("a.yaml:3:12: unknown field `nam` in `metadata` (did you mean `name`?)\n"),
        "{text}"
    );
}

#[test]
fn schema_and_explain_know_every_kind() {
    let here = root();
    for kind in microcloud::resources::Kind::ALL {
        let schema = microcloud(here, &["schema", kind.as_str()]);
        let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("JSON");
        assert_eq!(schema["properties"]["kind"]["const"], kind.as_str());
        let explained = microcloud(here, &["explain", kind.as_str()]);
        assert!(String::from_utf8_lossy(&explained.stdout).contains("FIELDS"));
    }
    assert_eq!(
        microcloud(here, &["schema", "Instance"]).status.code(),
        Some(2)
    );
    assert_eq!(
        microcloud(here, &["explain", "Disk.foo"]).status.code(),
        Some(2)
    );
}
