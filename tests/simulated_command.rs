//! `microcloud simulate` as it is typed.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn simulate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_microcloud"))
        .arg("simulate")
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("NO_COLOR", "1")
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(args: &[&str]) -> (Option<i32>, Value) {
    let output = simulate(&[args, &["--json"]].concat());
    let value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
    (output.status.code(), value)
}

#[test]
fn every_example_comes_to_be_as_written_and_then_rests() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut tried = 0;
    for entry in std::fs::read_dir(examples).expect("examples") {
        let path = entry.expect("an entry").path();
        // `every-kind` holds kinds that this version does not manage yet.
        if !path.is_dir() || path.ends_with("every-kind") {
            continue;
        }
        tried += 1;
        let (code, report) = json(&[&path.to_string_lossy()]);
        assert_eq!(code, Some(0), "{}: {report:#}", path.display());
        assert_eq!(report["converged"], true);
        assert_eq!(report["idleMinute"]["writes"], 0, "{}", path.display());
        assert_eq!(report["idleMinute"]["cephWrites"], 0, "{}", path.display());
        assert_eq!(report["oneChange"]["steps"], 1, "{}", path.display());
        let ready = |object: &Value| object["conditions"][0]["status"] == true;
        assert!(
            report["objects"]
                .as_array()
                .expect("objects")
                .iter()
                .all(ready)
        );
    }
    assert!(tried >= 3, "only {tried} examples");
}

#[test]
fn what_is_changed_by_hand_comes_back() {
    let (code, report) = json(&["examples/three-node", "--drift", "12", "--seed", "7"]);
    assert_eq!(code, Some(0), "{report:#}");
    let drift = report["drift"].as_array().expect("drift");
    assert_eq!(drift.len(), 12);
    for repair in drift {
        let seconds = repair["seconds"].as_f64().expect("it came back");
        assert!(seconds < 5.0, "{repair}");
    }
}

#[test]
fn it_forms_through_faults_and_says_what_they_were() {
    let (code, report) = json(&["examples/three-node", "--faults", "15", "--seed", "2"]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["faults"].as_array().expect("faults").len(), 15);
}

/// Seeds that once ended with a member that joined while a network or a pool was half made, or
/// joined without its part of a pool that the controller did not know of.
#[test]
fn a_member_never_joins_into_what_is_half_made_or_unknown() {
    for seed in ["1", "3", "13", "17", "140", "499", "518"] {
        let (code, report) = json(&["examples/three-node", "--faults", "25", "--seed", seed]);
        assert_eq!(code, Some(0), "seed {seed}: {report:#}");
    }
}

#[test]
fn the_same_seed_goes_wrong_in_the_same_way() {
    let faults =
        || json(&["examples/three-node", "--faults", "10", "--seed", "5"]).1["faults"].clone();
    assert_eq!(faults(), faults());
}

#[test]
fn people_see_what_happened_and_what_it_cost() {
    let output = simulate(&["examples/three-node"]);
    let told = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{told}{}",
        text(&output.stderr)
    );
    for expected in [
        "join micro02 at 10.77.0.12",
        "StoragePool/local",
        "everything is as written: ",
        "a minute of rest",
        "of memory at most",
    ] {
        assert!(told.contains(expected), "{expected:?} is not in:\n{told}");
    }
}

#[test]
fn a_machine_that_stays_away_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cloud.yaml");
    // The second member's name is not that of the machine: nothing can be simulated for it.
    std::fs::write(
        &file,
        "apiVersion: microcloud.dev/v1\nkind: Cluster\nmetadata: {name: c}\nspec: {initiator: a}\n\
         ---\napiVersion: microcloud.dev/v1\nkind: Member\nmetadata: {name: a}\n\
         spec: {address: 10.0.0.1}\n\
         ---\napiVersion: microcloud.dev/v1\nkind: StoragePool\nmetadata: {name: local}\n\
         spec: {driver: btrfs, members: {a: {source: /dev/disk/by-id/x}}, config: {nonsense: 1}}\n",
    )
    .expect("a file");
    let output = simulate(&[&file.to_string_lossy(), "--timeout", "10m"]);
    let code = output.status.code();
    assert!(
        code == Some(1) || code == Some(2),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn what_is_not_valid_is_not_simulated() {
    for path in ["tests/invalid", "nowhere"] {
        let output = simulate(&[path]);
        assert_eq!(output.status.code(), Some(2), "{path}");
        assert!(!text(&output.stderr).is_empty());
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("profile.yaml");
    let profile = "apiVersion: microcloud.dev/v1\nkind: Profile\nmetadata: {name: web}\nspec: {}\n";
    std::fs::write(&file, profile).expect("a file");
    let output = simulate(&[&file.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("Cluster"),
        "{}",
        text(&output.stderr)
    );
}
