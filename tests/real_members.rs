//! Members of real hosts that are evacuated, restored and removed, the one that controls among
//! them. Needs root, `systemd-nspawn` and, for the first run, the machine's Debian mirror.

mod common;

use common::real::{Cloud, FIRST, Outcome, THINGS, formed, text, unready, wait};
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

/// Waits for a member's status in LXD; meanwhile all that is not of the member stays ready.
fn becomes(cloud: &Cloud, name: &str, status: &str) -> Outcome {
    let begun = Instant::now();
    loop {
        let shown = cloud.status(FIRST)?;
        let report = shown.report.as_ref().ok_or("there is no report")?;
        let own = |object: &str| object.ends_with(name);
        let disturbed = report
            .objects
            .iter()
            .find(|o| !o.ready() && !own(&o.object.name));
        if disturbed.is_some() {
            return Err(format!("while {name} becomes {status}: {}", unready(&shown)).into());
        }
        let now = cloud.members(FIRST)?.get(name).cloned();
        if now.as_deref() == Some(status) && report.all_ready() {
            eprintln!("{name} is {status} after {:.1?}", begun.elapsed());
            return Ok(());
        }
        if begun.elapsed() > SOON {
            return Err(format!("{name} is {now:?}, not {status}: {}", unready(&shown)).into());
        }
        thread::sleep(Duration::from_millis(300));
    }
}

/// Waits until LXD lists these members alone, as one of them sees it.
fn left(cloud: &Cloud, by: &str, names: &[&str]) -> Outcome {
    let begun = Instant::now();
    wait("the members that are left", SOON, || {
        let listed = cloud.members(by)?;
        let good = listed.len() == names.len() && names.iter().all(|n| listed.contains_key(*n));
        Ok(match good {
            true => Ok(()),
            false => Err(format!(
                "{listed:?}; {}",
                cloud
                    .ask_status(by)?
                    .map_or_else(|e| e, |status| unready(&status))
            )),
        })
    })?;
    eprintln!("{names:?} are left after {:.1?}", begun.elapsed());
    Ok(())
}

/// Waits until all is ready, and these members keep their images in the pool.
fn kept(cloud: &Cloud, members: &[&str]) -> Outcome {
    for member in members {
        wait(&format!("images of {member} in the pool"), SOON, || {
            let own = cloud.query(FIRST, &format!("/1.0?target={member}"))?;
            let said = own["config"]["storage.images_volume"].to_string();
            Ok(match said.as_str() {
                "\"local/images\"" => Ok(()),
                _ => Err(format!("{said}: {}", unready(&cloud.status(FIRST)?))),
            })
        })?;
    }
    cloud.wait_ready(FIRST, SOON).map(drop)
}

#[test]
fn members_are_evacuated_restored_and_removed() {
    let outcome = formed("members", 3, |cloud| {
        // What LXD keeps of its own lies in the pool from now on: it must hold up nobody's leaving.
        let told = "description: Local storage";
        let volumes = format!("{told}, volumes: [images, backups]");
        cloud.write("things.yaml", &THINGS.replacen(told, &volumes, 1))?;
        kept(cloud, &["micro01", "micro02", "micro03"])?;
        let third = cloud.member("micro03")?;
        let with = |state: &str| third.replacen("spec: {", &format!("spec: {{state: {state}, "), 1);
        cloud.write("micro03.yaml", &with("Evacuated"))?;
        becomes(cloud, "micro03", "EVACUATED")?;
        cloud.write("micro03.yaml", &with("Active"))?;
        becomes(cloud, "micro03", "ONLINE")?;

        // What a file owns is refused, with the file and what to write there.
        let refused = cloud.run(FIRST, &["microcloud", "remove", "micro03"], "")?;
        let told = text(&refused.stderr);
        if refused.status.code() != Some(2)
            || !["micro03.yaml:1", "state: Absent"]
                .iter()
                .all(|w| told.contains(w))
        {
            return Err(format!("it was not refused so: {told}").into());
        }
        // Its owner is the command line from now on.
        cloud.remove("micro03.yaml")?;
        wait("the file to be gone for good", SOON, || {
            let out = cloud.run(FIRST, &["microcloud", "apply", "-f", "-"], &third)?;
            Ok(match out.status.success() {
                true => Ok(()),
                false => Err(text(&out.stderr)),
            })
        })?;
        let volume = ["storage", "volume"];
        let on = ["local", "data", "--target", "micro03"];
        cloud.lxc(FIRST, &[&volume[..], &["create"], &on].concat())?;
        let out = cloud.must(FIRST, &["microcloud", "remove", "micro03"])?;
        eprintln!("{out}");
        cloud.wait_says(
            FIRST,
            "Member/micro03",
            &["volume data of pool local"],
            SOON,
        )?;
        cloud.lxc(FIRST, &[&volume[..], &["delete"], &on].concat())?;
        left(cloud, FIRST, &["micro01", "micro02"])?;
        let wait_for = [
            "microcloud",
            "wait",
            "Member/micro03",
            "--for=ready",
            "--timeout=60s",
        ];
        cloud.must(FIRST, &wait_for)?;
        let server = cloud.query("micro03", "/1.0")?;
        if server["environment"]["server_clustered"] != false {
            return Err("LXD on micro03 is in a cluster still".into());
        }
        // Nobody lets it in any more.
        let trust = cloud.must("micro02", &["cat", "/var/lib/microcloud/trust.json"])?;
        eprintln!("micro02 trusts: {trust}");

        // It comes again as it is, and the one that controls goes.
        cloud.must_with(FIRST, &["microcloud", "apply", "-f", "-"], &third)?;
        left(cloud, FIRST, &["micro01", "micro02", "micro03"])?;
        kept(cloud, &["micro01", "micro02", "micro03"])?;
        let own = cloud.member(FIRST)?;
        cloud.write(
            "micro01.yaml",
            &own.replacen("spec: {", "spec: {state: Absent, ", 1),
        )?;
        let step = "Member/micro01/remove@micro01";
        cloud.wait_says(FIRST, "Member/micro01", &[step], SOON)?;
        cloud.must(FIRST, &["microcloud", "approve", step])?;
        left(cloud, "micro02", &["micro02", "micro03"])?;
        cloud.wait_ready("micro02", SOON)?;
        Ok(())
    });
    outcome.expect("members come and go");
}
