//! `microcloud import` as a whole: every preseed of `tests/import/valid` becomes the resources that
//! are beside it, which are valid; every one of `tests/import/invalid` gives the error that was
//! meant.
//!
//! `UPDATE_EXPECTED=1 cargo test --test import` writes what is expected anew; look at the
//! difference before keeping it.

#[path = "common/program.rs"]
mod program;

use program::{microcloud, names};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/import")
        .join(name)
}

/// Runs `import` on a file, with what its first line says: `# arguments: …`.
fn import(folder: &Path, name: &str) -> Output {
    let file = format!("{name}.yaml");
    let text = std::fs::read_to_string(folder.join(&file)).expect("can be read");
    let first = text.lines().next().unwrap_or_default();
    let more = first.strip_prefix("# arguments: ").unwrap_or_default();
    let arguments: Vec<&str> = ["import", &file]
        .into_iter()
        .chain(more.split_whitespace())
        .collect();
    microcloud(folder, &arguments)
}

/// Compares with a file, or writes it anew.
fn expect(file: &Path, shown: &str, wrong: &mut Vec<String>) {
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(file, shown).expect("can be written");
    } else if std::fs::read_to_string(file).ok().as_deref() != Some(shown) {
        wrong.push(format!("--- {} is now ---\n{shown}", file.display()));
    }
}

#[test]
fn every_preseed_becomes_the_resources_that_were_meant() {
    let folder = folder("valid");
    let mut wrong = Vec::new();
    let all = names(&folder, "yaml");
    assert!(all.len() >= 15, "only {} preseeds", all.len());
    for name in &all {
        let output = import(&folder, name);
        let shown = String::from_utf8(output.stdout).expect("YAML is UTF-8");
        let told = String::from_utf8(output.stderr).expect("messages are UTF-8");
        assert_eq!(output.status.code(), Some(0), "{name}: {told}");
        expect(
            &folder.join(format!("{name}.resources")),
            &shown,
            &mut wrong,
        );
        expect(&folder.join(format!("{name}.stderr")), &told, &mut wrong);
        for secret in ["the_password", "four words", "eyJzZXJ2", "foo\n"] {
            assert!(!shown.contains(secret), "{name} shows a secret");
            assert!(!told.contains(secret), "{name} tells a secret");
        }
        // What stands beside a cluster that is there is no whole by itself.
        if shown.contains("kind: Cluster") {
            let there = tempfile::tempdir().expect("a temporary directory");
            std::fs::write(there.path().join("all.yaml"), &shown).expect("can be written");
            let checked = microcloud(there.path(), &["validate", "-o", "line", "all.yaml"]);
            let told = String::from_utf8_lossy(&checked.stderr).into_owned();
            assert_eq!(checked.status.code(), Some(0), "{name}: {told}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_invalid_preseed_gives_the_intended_error() {
    let folder = folder("invalid");
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let all = names(&folder, "yaml");
    assert!(all.len() >= 60, "only {} preseeds", all.len());
    for name in &all {
        let output = import(&folder, name);
        let told = String::from_utf8(output.stderr).expect("messages are UTF-8");
        assert_eq!(output.status.code(), Some(2), "{name}: {told}");
        assert!(output.stdout.is_empty(), "{name}: something was written");
        assert!(!told.contains("sesame"), "{name} tells a secret: {told}");
        assert!(told.starts_with("error: "), "{name}: {told}");
        let errors: Vec<&str> = told
            .lines()
            .filter(|l| l.starts_with("error") || l.contains("= help"))
            .collect();
        assert!(seen.insert(errors.join("\n")), "{name} is like another one");
        expect(&folder.join(format!("{name}.stderr")), &told, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_folder_gets_a_file_for_each_kind_and_is_never_overwritten_unasked() {
    let there = tempfile::tempdir().expect("a temporary directory");
    let out = there.path().join("cloud");
    let out = out.to_str().expect("UTF-8");
    let folder = folder("valid");
    let arguments = ["import", "microcloud_every_key.yaml", "-o", out];
    let first = microcloud(&folder, &arguments);
    assert_eq!(first.status.code(), Some(0));
    let files = names(Path::new(out), "yaml");
    let expected = [
        "cluster", "disks", "members", "networks", "profiles", "storage",
    ];
    assert_eq!(files, expected.map(str::to_owned).into());
    let checked = microcloud(Path::new(out), &["validate", "."]);
    assert_eq!(checked.status.code(), Some(0));
    let again = microcloud(&folder, &arguments);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
    let forced = microcloud(&folder, &[&arguments[..], &["--force"]].concat());
    assert_eq!(forced.status.code(), Some(0));
}
