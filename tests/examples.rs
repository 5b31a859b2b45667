//! The examples and what the documents say: every example is valid, converges on a simulated cloud
//! and plans nothing afterwards; the commands, targets and links in the documents are there.
//!
//! The commands of the README's tour are run for real by `make tour`, on the hosts of `make demo`.

#[path = "common/sim.rs"]
mod sim;

use microcloud::cli::simulate::fitting;
use microcloud::resources::{Reading, directory};
use microcloud::simulate::{SimCloud, SimConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The folders of `examples`.
fn examples() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root().join("examples"))
        .expect("there are examples")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    assert!(folders.len() >= 3, "{folders:?}");
    folders
}

fn microcloud(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_microcloud"))
        .current_dir(root())
        .args(arguments)
        .env("NO_COLOR", "1")
        .output()
        .expect("the program can be started")
}

/// The machines an example names, with the disks and interfaces its resources ask for.
fn machines(reading: &Reading) -> SimConfig {
    let (machines, notes) = fitting(&reading.resources);
    assert_eq!(notes, [] as [String; 0]);
    SimConfig::with(machines)
}

#[test]
fn every_example_is_valid() {
    for folder in examples() {
        let path = folder.to_str().expect("paths here are UTF-8");
        let output = microcloud(&["validate", path]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{path}: {said}");
    }
}

#[test]
fn the_examples_have_the_addresses_of_the_sandbox_named_default() {
    for folder in examples() {
        for machine in machines(&directory::read(&folder)).machines {
            let number: u8 = machine.name["micro".len()..].parse().expect("a number");
            let expected = format!("10.77.0.{}", 10 + number);
            assert_eq!(
                machine.address.to_string(),
                expected,
                "{}",
                folder.display()
            );
        }
    }
    assert!(text("scripts/lib").contains("EXAMPLE_SUBNETS=(10.77.0 10.78.0 198.51.100)\n"));
}

#[tokio::test(start_paused = true)]
async fn every_example_converges_and_then_plans_nothing() {
    for folder in examples() {
        let name = folder.display();
        let reading = directory::read(&folder);
        assert!(reading.broken.is_empty(), "{name}: {:?}", reading.broken);
        let cloud = SimCloud::new(machines(&reading));
        let controller = sim::controller(&cloud, "micro01").await;
        controller.submit(&reading).await.expect("it can be kept");
        sim::settled(&controller).await;

        let plans = controller.diff(None).expect("a diff of what is accepted");
        assert!(plans.len() >= reading.resources.len(), "{name}");
        for plan in &plans {
            let nothing = !plan.differs()
                && plan.steps.is_empty()
                && plan.waiting_on.is_empty()
                && plan.refused.is_empty();
            assert!(nothing, "{name}: {plan:?}");
        }
        // What is recorded once everything is done goes out within a moment.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = cloud.counts().total().writes;
        assert!(before > 0, "{name}: something was written to get there");
        controller
            .reconcile(&Default::default())
            .await
            .expect("a forced round");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(before, cloud.counts().total().writes, "{name}");
        controller.stop().await;
    }
}

/// What is wanted, without where it is written.
fn wanted(reading: &Reading) -> BTreeMap<String, String> {
    assert!(reading.broken.is_empty(), "{:?}", reading.broken);
    assert_eq!(reading.unreadable, None);
    let resources = reading.resources.iter();
    resources
        .map(|r| (r.reference().to_string(), format!("{:?}", r.spec)))
        .collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("can be made");
    for entry in std::fs::read_dir(from).expect("can be listed") {
        let path = entry.expect("can be listed").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("can be copied");
        }
    }
}

#[test]
fn the_gitops_example_reads_the_same_in_every_layout_of_sync_tools() {
    let folder = root().join("examples/gitops");
    let expected = wanted(&directory::read(&folder));
    assert_eq!(expected.len(), 11);
    let dir = tempfile::tempdir().expect("a folder");

    // git-sync: a folder for each revision, and a symlink that is swapped.
    copy(&folder, &dir.path().join("git/rev-1/cloud"));
    symlink("rev-1", dir.path().join("git/current")).expect("a symlink");
    let read = directory::read(&dir.path().join("git/current/cloud"));
    assert_eq!(wanted(&read), expected);

    // A ConfigMap: what `kustomization.yaml` names, flat, behind two symlinks.
    let volume = dir.path().join("volume");
    let data = volume.join("..2024_01_01");
    std::fs::create_dir_all(&data).expect("a folder");
    symlink("..2024_01_01", volume.join("..data")).expect("a symlink");
    let kustomization = text("examples/gitops/kustomization.yaml");
    for file in kustomization
        .lines()
        .filter_map(|l| l.trim().strip_prefix("- "))
    {
        if file.starts_with("name:") {
            continue;
        }
        let name = Path::new(file).file_name().expect("it has a name");
        std::fs::copy(folder.join(file), data.join(name)).expect("it is there");
        symlink(Path::new("..data").join(name), volume.join(name)).expect("names differ");
    }
    assert_eq!(wanted(&directory::read(&volume)), expected);
}

/// The documents that tell people what to type.
const DOCUMENTS: [&str; 5] = [
    "README.md",
    "docs/architecture.md",
    "docs/agent.md",
    "docs/safety.md",
    "examples/gitops/README.md",
];

/// The commands in the code blocks of a document, without prompts, comments and pipes.
fn commands(document: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut shell = None;
    for line in text(document).lines() {
        match (line.strip_prefix("```"), shell) {
            (Some("sh"), _) => shell = Some(""),
            (Some("console"), _) => shell = Some("$ "),
            (Some(_), _) => shell = None,
            (None, Some(prompt)) => commands.extend(line.strip_prefix(prompt).map(plain)),
            (None, None) => {}
        }
    }
    commands.retain(|c| !c.is_empty());
    commands
}

fn plain(line: &str) -> String {
    let end = line.find([';', '|', '#', '>']).unwrap_or(line.len());
    line[..end].trim().to_owned()
}

#[test]
fn the_commands_in_the_documents_are_known() {
    let makefile = text("Makefile");
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(target, _)| target)
        .collect();
    let mut seen = BTreeSet::new();
    for document in DOCUMENTS {
        for command in commands(document) {
            let words: Vec<&str> = command.split_whitespace().collect();
            match words[0] {
                "microcloud" => {
                    // Words and options that are not known are refused before help is given.
                    let mut arguments = words[1..].to_vec();
                    arguments.push("--help");
                    let output = microcloud(&arguments);
                    let said = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.success(), "{document}: {command}: {said}");
                }
                "make" => {
                    let known = words[1..]
                        .iter()
                        .all(|w| w.contains('=') || targets.contains(w));
                    assert!(known, "{document}: {command}: no such target");
                }
                "lxc" | "ceph" | "ovs-vsctl" | "sleep" | "systemctl" | "install" | "apt-get" => {}
                other => panic!("{document}: `{other}` of `{command}` is checked by nobody"),
            }
            seen.insert(words[..words.len().min(2)].join(" "));
        }
    }
    for command in [
        "make demo",
        "make test",
        "microcloud status",
        "microcloud diff",
    ] {
        assert!(seen.contains(command), "{command} is nowhere: {seen:?}");
    }
}

#[test]
fn the_links_in_the_documents_lead_somewhere() {
    for document in DOCUMENTS {
        let folder = root().join(document).parent().expect("a folder").to_owned();
        let content = text(document);
        for target in content
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file = target.split('#').next().unwrap_or(target);
            assert!(folder.join(file).exists(), "{document} links to {target}");
        }
    }
}
