//! What a watched directory means on a running cluster: broken files, directories that vanish,
//! removed files, swapped links, many deletions at once. On real hosts.

mod common;

use common::real::{Cloud, DIRECTORY, FIRST, Outcome, formed, sentence, wait};
use microcloud::reconcile::status::{ConditionType, ObjectStatus};
use std::thread::sleep;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// Longer than an absence takes to count.
const ABSENT: Duration = Duration::from_secs(12);

fn profile(name: &str, cpu: u32) -> String {
    format!(
        "apiVersion: microcloud.dev/v1\nkind: Profile\nmetadata: {{name: {name}}}\n\
         spec: {{config: {{limits.cpu: {cpu}}}}}\n"
    )
}

/// A script on the first host, which has the directory.
fn sh(cloud: &Cloud, script: &str) -> Outcome<String> {
    cloud.must(FIRST, &["sh", "-ec", script])
}

/// The `limits.cpu` of every profile that is there.
fn cpus(cloud: &Cloud) -> Outcome<Vec<(String, String)>> {
    let listed = cloud.query(FIRST, "/1.0/profiles?recursion=1")?;
    let one = |p: &serde_json::Value| {
        let word = |v: &serde_json::Value| v.as_str().unwrap_or("-").to_owned();
        (word(&p["name"]), word(&p["config"]["limits.cpu"]))
    };
    let mut all: Vec<_> = listed.as_array().into_iter().flatten().map(one).collect();
    all.sort();
    Ok(all)
}

fn has(cloud: &Cloud, profile: &str) -> Outcome<bool> {
    Ok(cpus(cloud)?.iter().any(|(name, _)| name == profile))
}

/// Waits until the profiles have these values; `-` when there shall be none of the name.
fn wait_cpus(cloud: &Cloud, wanted: &[(&str, &str)]) -> Outcome {
    wait(&format!("{wanted:?}"), SOON, || {
        let all = cpus(cloud)?;
        let good = wanted.iter().all(|(name, cpu)| {
            let found = all.iter().find(|(n, _)| n == name).map_or("-", |(_, c)| c);
            found == *cpu
        });
        Ok(if good {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        })
    })
}

fn object(cloud: &Cloud, name: &str) -> Outcome<Option<ObjectStatus>> {
    let status = cloud.status(FIRST)?;
    let objects = status.report.into_iter().flat_map(|r| r.objects);
    Ok(objects.into_iter().find(|o| o.object.to_string() == name))
}

fn expect(good: bool, what: impl Into<String>) -> Outcome {
    if good {
        Ok(())
    } else {
        Err(what.into().into())
    }
}

/// One file of five is broken: the others are applied, it keeps its last good version, and while
/// it is broken nothing counts as absent.
fn a_broken_file_holds_nothing_else_up(cloud: &Cloud) -> Outcome {
    for name in ["a", "b", "c", "d", "e"] {
        cloud.write(&format!("{name}.yaml"), &profile(name, 2))?;
    }
    wait_cpus(
        cloud,
        &[("a", "2"), ("b", "2"), ("c", "2"), ("d", "2"), ("e", "2")],
    )?;
    cloud.wait_ready(FIRST, SOON)?;
    let broken = profile("c", 3).replace("config:", "confg:");
    cloud.write("c.yaml", &broken)?;
    for name in ["a", "b", "d"] {
        cloud.write(&format!("{name}.yaml"), &profile(name, 3))?;
    }
    cloud.remove("e.yaml")?;
    wait_cpus(cloud, &[("a", "3"), ("b", "3"), ("c", "2"), ("d", "3")])?;
    let shown = cloud.wait_says(FIRST, "Profile/c", &["c.yaml:4:8", "last good"], SOON)?;
    expect(
        !shown.ready(),
        "a profile whose file is broken is shown ready",
    )?;
    let said = cloud.run(FIRST, &["microcloud", "status"], "")?;
    let said = common::real::text(&said.stdout);
    for word in [
        "c.yaml:4:8",
        "spec: {confg:",
        "^^^^^",
        "did you mean `config`",
    ] {
        expect(
            said.contains(word),
            format!("status does not say {word:?}:\n{said}"),
        )?;
    }
    // Its last good version is held like any other.
    cloud.lxc(FIRST, &["profile", "set", "c", "limits.cpu=9"])?;
    wait_cpus(cloud, &[("c", "2")])?;
    sleep(ABSENT);
    expect(
        has(cloud, "e")?,
        "a profile was pruned while another file was broken",
    )?;
    cloud.write("c.yaml", &profile("c", 3))?;
    wait_cpus(cloud, &[("c", "3"), ("e", "-")])?;
    cloud.wait_ready(FIRST, SOON)?;
    Ok(())
}

/// The directory is emptied, becomes a file, becomes a link to nothing, and comes back as a link
/// to a copy, as a sync tool would have it: nothing is deleted on the way, and a swap is read.
fn a_vanished_directory_changes_nothing(cloud: &Cloud) -> Outcome {
    let before = cpus(cloud)?;
    let unchanged = |cloud: &Cloud, when: &str| -> Outcome {
        let now = cpus(cloud)?;
        expect(now == before, format!("{when}: {before:?} became {now:?}"))?;
        for (path, what) in [
            ("/1.0/networks/lan", "lan"),
            ("/1.0/storage-pools/local", "local"),
        ] {
            expect(
                cloud.query(FIRST, path)?["name"] == what,
                format!("{when}: no {what}"),
            )?;
        }
        expect(
            cloud.members(FIRST)?.len() == 2,
            format!("{when}: a member went"),
        )
    };
    let says = |cloud: &Cloud, word: &str| -> Outcome {
        cloud.wait_status(FIRST, &format!("status says {word:?}"), SOON, |status| {
            let report = status.report.as_ref();
            let source = report.and_then(|r| r.sources.values().find_map(|s| s.unreadable.clone()));
            match source {
                Some(said) if said.contains(word) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        Ok(())
    };
    sh(
        cloud,
        &format!("mkdir -p /srv/sync/v1; mv {DIRECTORY}/* /srv/sync/v1/"),
    )?;
    sleep(ABSENT);
    unchanged(cloud, "emptied")?;
    sh(
        cloud,
        &format!("rmdir {DIRECTORY}; echo no directory > {DIRECTORY}"),
    )?;
    says(cloud, "is not a directory")?;
    unchanged(cloud, "a file")?;
    sh(cloud, &format!("rm {DIRECTORY}"))?;
    says(cloud, "is not there")?;
    unchanged(cloud, "gone")?;
    sh(cloud, &format!("ln -s /srv/sync/nothing {DIRECTORY}"))?;
    says(cloud, "a symlink to nothing")?;
    sleep(ABSENT);
    unchanged(cloud, "a symlink to nothing")?;
    sh(
        cloud,
        &format!("ln -s /srv/sync/v1 /srv/sync/next; mv -T /srv/sync/next {DIRECTORY}"),
    )?;
    cloud.wait_ready(FIRST, SOON)?;
    unchanged(cloud, "back as a link")?;
    let swap = "cp -a /srv/sync/v1 /srv/sync/v2; sed -i 's/limits.cpu: 3/limits.cpu: 4/' \
                /srv/sync/v2/a.yaml; ln -s /srv/sync/v2 /srv/sync/next";
    sh(cloud, &format!("{swap}; mv -T /srv/sync/next {DIRECTORY}"))?;
    wait_cpus(cloud, &[("a", "4"), ("b", "3")])?;
    cloud.wait_ready(FIRST, SOON)?;
    Ok(())
}

/// Of the profiles whose files go, one is pruned; what is in use, was there before or is to be
/// kept stays, and so does what a command applied. Pools and members are never touched.
fn removed_files(cloud: &Cloud) -> Outcome {
    cloud.lxc(FIRST, &["profile", "create", "adopted"])?;
    cloud.lxc(FIRST, &["profile", "set", "adopted", "limits.cpu=6"])?;
    cloud.write("gone.yaml", &profile("gone", 1))?;
    cloud.write("adopted.yaml", &profile("adopted", 6))?;
    let kept = profile("kept", 1).replace("spec: {", "spec: {deletion: Retain, ");
    cloud.write("kept.yaml", &kept)?;
    let used = profile("used", 1).replace(
        "}}\n",
        "}, devices: {root: {type: disk, path: /, pool: local}}}\n",
    );
    cloud.write("used.yaml", &used)?;
    let pool = "apiVersion: microcloud.dev/v1\nkind: StoragePool\nmetadata: {name: extra}\n\
                spec: {driver: dir}\n";
    cloud.write("extra.yaml", pool)?;
    cloud.must_with(
        FIRST,
        &["microcloud", "apply", "-f", "-"],
        &profile("applied", 7),
    )?;
    wait_cpus(
        cloud,
        &[
            ("gone", "1"),
            ("kept", "1"),
            ("used", "1"),
            ("applied", "7"),
        ],
    )?;
    cloud.wait_ready(FIRST, SOON)?;
    cloud.lxc(FIRST, &["init", "c1", "--empty", "-p", "used"])?;
    let all = "gone.yaml adopted.yaml kept.yaml used.yaml extra.yaml micro02.yaml";
    sh(cloud, &format!("cd {DIRECTORY}; rm {all}"))?;
    wait_cpus(cloud, &[("gone", "-")])?;
    let words = ["used", "instances/c1"];
    let shown = cloud.wait_says(FIRST, "Profile/used", &words, SOON)?;
    expect(!shown.ready(), format!("in use: {}", sentence(&shown)))?;
    for (name, cpu) in [
        ("adopted", "6"),
        ("kept", "1"),
        ("used", "1"),
        ("applied", "7"),
    ] {
        wait_cpus(cloud, &[(name, cpu)])?;
    }
    for name in ["Profile/adopted", "Profile/kept"] {
        let left = object(cloud, name)?;
        expect(
            left.is_none(),
            format!("{name} is released, not shown: {left:?}"),
        )?;
    }
    for name in ["StoragePool/extra", "Member/micro02", "Disk/local-micro02"] {
        let shown = object(cloud, name)?.ok_or_else(|| format!("{name} is not shown"))?;
        let orphaned = shown.condition(ConditionType::Orphaned).is_some();
        expect(
            orphaned,
            format!("{name} is not shown as orphaned: {shown:?}"),
        )?;
    }
    expect(cloud.members(FIRST)?.len() == 2, "the member was removed")?;
    let pool = cloud.query(FIRST, "/1.0/storage-pools/extra")?;
    expect(
        pool["status"] == "Created",
        format!("the pool was touched: {pool}"),
    )?;
    // What is used no more goes by itself.
    cloud.lxc(FIRST, &["delete", "c1"])?;
    wait_cpus(cloud, &[("used", "-")])?;
    cloud.write("extra.yaml", "apiVersion: microcloud.dev/v1\nkind: StoragePool\nmetadata: {name: extra}\nspec: {driver: dir}\n")?;
    cloud.write("micro02.yaml", &cloud.member("micro02")?)?;
    cloud.wait_ready(FIRST, SOON)?;
    // What was applied is held as well, and only a command takes it away.
    cloud.lxc(FIRST, &["profile", "set", "applied", "limits.cpu=1"])?;
    wait_cpus(cloud, &[("applied", "7")])
}

/// Five go at once where three may: all of them are held, until somebody approves.
fn many_deletions_are_held(cloud: &Cloud) -> Outcome {
    let names = ["x1", "x2", "x3", "x4", "x5"];
    for name in names {
        cloud.write(&format!("{name}.yaml"), &profile(name, 1))?;
    }
    wait_cpus(cloud, &names.map(|n| (n, "1")))?;
    cloud.wait_ready(FIRST, SOON)?;
    sh(
        cloud,
        &format!("cd {DIRECTORY}; rm x1.yaml x2.yaml x3.yaml x4.yaml x5.yaml"),
    )?;
    let mut approve = None;
    for name in names {
        let words = ["deletionLimit 3", "microcloud approve"];
        let shown = cloud.wait_says(FIRST, &format!("Profile/{name}"), &words, SOON)?;
        approve = shown.refused.iter().find_map(|r| r.approve.clone());
    }
    wait_cpus(cloud, &names.map(|n| (n, "1")))?;
    let step = approve.ok_or("no step to approve is shown")?;
    eprintln!("approving {step}");
    let wrong = cloud.run(
        FIRST,
        &["microcloud", "approve", "Cluster/demo/delete@99"],
        "",
    )?;
    expect(
        !wrong.status.success(),
        "a step that nobody asks for was approved",
    )?;
    cloud.must(FIRST, &["microcloud", "approve", &step])?;
    wait_cpus(cloud, &names.map(|n| (n, "-")))?;
    cloud.wait_ready(FIRST, SOON)?;
    Ok(())
}

#[test]
fn the_directory_is_followed_and_never_destroys_by_absence() -> Outcome {
    formed("t-drift-dir", 2, |cloud| {
        a_broken_file_holds_nothing_else_up(cloud)?;
        eprintln!("broken file: as it should be");
        a_vanished_directory_changes_nothing(cloud)?;
        eprintln!("vanished directory: as it should be");
        removed_files(cloud)?;
        eprintln!("removed files: as they should be");
        many_deletions_are_held(cloud)
    })
}
