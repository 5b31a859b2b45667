//! Three fresh hosts that know nothing of each other become a cloud by `init` and `join`, driven
//! through terminals: needs root, `systemd-nspawn` and the sandbox's base.

mod common;

use common::real::{self, FIRST, Outcome};
use common::terminal::{answer, ends_well, join, shown, terminal};
use std::time::{Duration, Instant};

#[test]
fn fresh_hosts_join_by_mdns_and_by_address() -> Outcome {
    real::fresh("t-join", 3, |cloud| {
        let hosts = cloud.hosts();
        let all: Vec<&str> = hosts.iter().map(String::as_str).collect();
        cloud.start_agents(&all)?;
        for host in &hosts {
            let trust = cloud.must(host, &["ls", "/var/lib/microcloud"])?;
            assert!(!trust.contains("trust.json"), "nothing is shared before");
        }
        let begun = Instant::now();
        let first = cloud.address(FIRST)?.to_string();
        let mut init = terminal(
            cloud,
            FIRST,
            &[
                "microcloud",
                "init",
                "--address",
                &first,
                "--timeout",
                "60s",
            ],
        )?;
        answer(&mut init, "more than this machine?", "")?;
        let passphrase = shown(&mut init, "passphrase:  ")?;
        let fingerprint = shown(&mut init, "fingerprint: ")?;
        assert_eq!(passphrase.split(' ').count(), 4, "{passphrase}");

        // A hint, which names this session.
        let found = cloud.must("micro02", &["microcloud", "discover"])?;
        assert!(found.contains(FIRST) && found.contains(&first), "{found}");

        // One who mistypes it is told, and nothing else happens.
        let wrong = cloud.run(
            "micro03",
            &[
                "microcloud",
                "join",
                "--passphrase-file",
                "-",
                "--initiator-address",
                &first,
            ],
            "four other words here",
        )?;
        assert_eq!(wrong.status.code(), Some(1));
        let said = real::text(&wrong.stderr);
        assert!(said.contains("the passphrase is not the one"), "{said}");

        let second = join(cloud, "micro02", &passphrase, None, &fingerprint)?;
        let third = join(cloud, "micro03", &passphrase, Some(&first), &fingerprint)?;
        for host in ["micro02", "micro03"] {
            let key = cloud.must(host, &["microcloud", "agent", "fingerprint"])?;
            let address = cloud.address(host)?;
            let line = format!("{host}  {address}  {}", &key[..12]);
            init.exp_string(&line)?;
        }
        println!("both are there after {:.1?}", begun.elapsed());
        init.send_line("")?;
        // Fewer rows are shown by a filter, and all of them taken.
        answer(&mut init, "Which?", "/micro0")?;
        answer(&mut init, "Which?", "1,2")?;
        answer(&mut init, "Local storage", "yes")?;
        answer(&mut init, "Which?", "all")?;
        answer(&mut init, "Its driver", "btrfs")?;
        answer(&mut init, "Ceph?", "no")?;
        answer(&mut init, "OVN?", "no")?;
        init.exp_string("kind: Cluster")?;
        answer(&mut init, "Form this cloud?", "yes")?;
        ends_well(init, "init")?;
        ends_well(second, "join on micro02")?;
        ends_well(third, "join on micro03")?;
        println!("formed after {:.1?}", begun.elapsed());

        // The joiners ended only when they were members that are ready.
        let members = cloud.members("micro03")?;
        assert_eq!(members.len(), 3, "{members:?}");
        assert!(members.values().all(|s| s == "ONLINE"), "{members:?}");
        cloud.wait_formed(&all, Duration::from_secs(20))?;
        let pool = cloud.query("micro02", "/1.0/storage-pools/local")?;
        assert_eq!(pool["driver"], "btrfs");
        assert_eq!(pool["locations"].as_array().map(Vec::len), Some(3));
        let root = cloud.lxc(
            "micro02",
            &["profile", "device", "get", "default", "root", "pool"],
        )?;
        assert_eq!(root.trim(), "local");
        let yaml = cloud.must(FIRST, &["microcloud", "get", "member", "-o", "yaml"])?;
        for host in &hosts {
            let key = cloud.must(host, &["microcloud", "agent", "fingerprint"])?;
            assert!(yaml.contains(key.trim()), "{yaml}");
        }
        assert!(!yaml.contains(&passphrase), "no passphrase in resources");
        for host in &hosts {
            let journal = cloud.must(host, &["journalctl", "--no-pager", "--unit=microcloud"])?;
            assert!(
                !journal.contains(&passphrase),
                "no passphrase in the log of {host}"
            );
        }
        // Run again, it goes on with what there is.
        cloud.must(FIRST, &["microcloud", "init", "--yes", "--timeout", "20s"])?;
        Ok(())
    })
}

#[test]
fn what_is_aborted_leaves_nothing_and_a_cloud_grows_by_add() -> Outcome {
    real::fresh("t-join2", 2, |cloud| {
        cloud.start_agents(&[FIRST, "micro02"])?;
        let first = cloud.address(FIRST)?.to_string();
        let second = cloud.address("micro02")?.to_string();
        // Aborted at every question on the way.
        let words = ["microcloud", "init", "--address", &first];
        let answers = ["no", "yes", "all", "btrfs", "no", "no"];
        for given in 0..=answers.len() {
            let input: String = answers[..given].iter().map(|a| format!("{a}\n")).collect();
            let aborted = cloud.run(FIRST, &words, &input)?;
            let said = real::text(&aborted.stderr) + &real::text(&aborted.stdout);
            assert_eq!(aborted.status.code(), Some(1), "after {given}: {said}");
            assert!(said.contains("aborted"), "after {given}: {said}");
            let left = cloud.must(FIRST, &["microcloud", "get", "-o", "name"])?;
            assert_eq!(left.trim(), "", "after {given}");
        }
        // A session that is given up: the joiner is told why and trusts nobody.
        let mut init = terminal(cloud, FIRST, &words)?;
        answer(&mut init, "more than this machine?", "")?;
        let passphrase = shown(&mut init, "passphrase:  ")?;
        let fingerprint = shown(&mut init, "fingerprint: ")?;
        let mut joiner = join(cloud, "micro02", &passphrase, Some(&first), &fingerprint)?;
        init.exp_string("micro02  ")?;
        init.send_control('c')?;
        joiner.exp_string("given up on micro01: aborted")?;
        init.exp_eof()?;
        let trust = cloud.must("micro02", &["ls", "/var/lib/microcloud"])?;
        assert!(!trust.contains("trust.json"), "{trust}");

        // Alone, by flags; then another one by names.
        let disk = format!("{FIRST}=/dev/disk/by-id/sandbox-{FIRST}-disk1");
        let flags = [
            "microcloud",
            "init",
            "--yes",
            "--alone",
            "--address",
            &first,
            "--local-disk",
            &disk,
            "--local-driver",
            "btrfs",
            "--timeout",
            "60s",
        ];
        let formed = cloud.must(FIRST, &flags)?;
        assert!(formed.contains("kind: Member"), "{formed}");
        cloud.must_with(
            FIRST,
            &["sh", "-c", "umask 077; cat > /root/pass"],
            "one two three four\n",
        )?;
        cloud.must_with(
            "micro02",
            &["sh", "-c", "umask 077; cat > /root/pass"],
            "one two three four\n",
        )?;
        let disk = "micro02=/dev/disk/by-id/sandbox-micro02-disk1";
        let add = [
            "microcloud",
            "add",
            "--yes",
            "--members",
            "micro02",
            "--passphrase-file",
            "/root/pass",
            "--local-disk",
            disk,
            "--lookup-timeout",
            "20s",
            "--timeout",
            "60s",
        ];
        let join = [
            "microcloud",
            "join",
            "--yes",
            "--address",
            &second,
            "--passphrase-file",
            "/root/pass",
            "--timeout",
            "60s",
        ];
        std::thread::scope(|scope| {
            let adding = scope.spawn(|| cloud.must(FIRST, &add).map_err(|e| e.to_string()));
            cloud.must("micro02", &join)?;
            adding.join().map_err(|_| "add panicked")??;
            Outcome::Ok(())
        })?;
        let members = cloud.members("micro02")?;
        assert_eq!(members.len(), 2, "{members:?}");
        Ok(())
    })
}
