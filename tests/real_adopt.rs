//! A cluster formed by hand with LXD's own commands is exported, taken over without a write outside
//! the project `microcloud`, and held once the mode is `Enforce`: on real hosts, so it needs root,
//! `systemd-nspawn` and the sandbox's base.

mod common;

use common::adopted::{self, APPLY, changes, follow};
use common::real::{self, Cloud, FIRST, Outcome, text, wait};
use std::thread;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(40);
const SECOND: &str = "micro02";

/// Forms two members with a pool, a network, a project and profiles, as a person would.
fn by_hand(cloud: &Cloud) -> Outcome {
    let first = format!(
        "config:
  core.https_address: '{0}:8443'
  images.auto_update_interval: 15
  user.note: ours
cluster: {{server_name: {FIRST}, enabled: true}}
",
        cloud.address(FIRST)?
    );
    cloud.must_with(FIRST, &["lxd", "init", "--preseed"], &first)?;
    let said = cloud.lxc(FIRST, &["cluster", "add", SECOND])?;
    let token = said.lines().last().unwrap_or_default().trim().to_owned();
    let second = format!(
        "cluster: {{enabled: true, server_address: '{}:8443', cluster_token: {token}}}\n",
        cloud.address(SECOND)?
    );
    cloud.must_with(SECOND, &["lxd", "init", "--preseed"], &second)?;
    let made = "
        lxc storage create local dir --target micro01
        lxc storage create local dir --target micro02
        lxc storage create local dir
        lxc network create lan --target micro01
        lxc network create lan --target micro02
        lxc network create lan ipv4.address=10.99.0.1/24 ipv6.address=none
        lxc project create team -c features.images=false
        lxc profile create web
        lxc profile set web limits.cpu=2 limits.memory=512MiB
        lxc profile device add web root disk path=/ pool=local
        lxc profile device add web eth0 nic network=lan
        lxc cluster group create fast
        lxc cluster group assign micro02 default,fast";
    cloud.must(FIRST, &["bash", "-euc", made])?;
    Ok(())
}

/// Everything that is not this program's own, as LXD shows it.
fn portrait(cloud: &Cloud) -> Outcome<String> {
    let paths = [
        "/1.0/cluster/members?recursion=1",
        "/1.0/storage-pools/local",
        "/1.0/storage-pools/local?target=micro02",
        "/1.0/networks/lan",
        "/1.0/profiles/web",
        "/1.0/profiles/default",
        "/1.0/projects/team",
    ];
    adopted::portrait(cloud, &paths.map(str::to_owned))
}

#[test]
fn a_cluster_formed_by_hand_is_taken_over_without_a_write_and_then_held() -> Outcome {
    real::with("t-adopt", 2, |cloud| {
        by_hand(cloud)?;
        let before = portrait(cloud)?;
        cloud.start_agents(&[FIRST, SECOND])?;
        let all = adopted::export(cloud)?;
        println!("{all}");
        assert!(all.contains("mode: Report") && !all.contains("volatile."));
        assert!(all.contains("user.note: ours") && all.contains("- fast"));

        follow(cloud)?;
        println!("{}", cloud.must(FIRST, &APPLY)?);
        cloud.wait_ready(FIRST, LIMIT)?;
        thread::sleep(Duration::from_secs(5));
        assert_eq!(changes(cloud)?, Vec::<String>::new(), "the first round");
        assert_eq!(portrait(cloud)?, before);

        // What is changed by hand is shown and left alone.
        cloud.lxc(FIRST, &["profile", "set", "web", "limits.cpu=9"])?;
        wait("the difference is shown", LIMIT, || {
            let out = cloud.run(FIRST, &["microcloud", "diff"], "")?;
            Ok(match out.status.code() {
                Some(1) => Ok(()),
                _ => Err(text(&out.stdout) + &text(&out.stderr)),
            })
        })?;
        thread::sleep(Duration::from_secs(5));
        let told = changes(cloud)?;
        assert!(told.iter().all(|l| l.contains("profiles/web")), "{told:?}");
        let now = cloud.lxc(FIRST, &["profile", "get", "web", "limits.cpu"])?;
        assert_eq!(now.trim(), "9", "mode Report leaves it");

        // Once it is enforced, it is held.
        adopted::enforce(cloud)?;
        println!("{}", cloud.must(FIRST, &APPLY)?);
        let cpu = |value: &'static str| {
            wait(&format!("limits.cpu is {value}"), LIMIT, || {
                let now = cloud.lxc(FIRST, &["profile", "get", "web", "limits.cpu"])?;
                Ok(if now.trim() == value {
                    Ok(())
                } else {
                    Err(now)
                })
            })
        };
        cpu("2")?;
        cloud.lxc(SECOND, &["profile", "set", "web", "limits.cpu=7"])?;
        cpu("2")?;
        cloud.wait_ready(FIRST, LIMIT)?;
        assert_eq!(portrait(cloud)?, before);

        // What a managed cluster exports changes nothing there.
        follow(cloud)?;
        println!("{}", adopted::export_again(cloud)?);
        thread::sleep(Duration::from_secs(3));
        assert_eq!(changes(cloud)?, Vec::<String>::new(), "its own export");
        Ok(())
    })
}
