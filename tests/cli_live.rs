//! Commands against the routes an agent really has, with a controller at work on a simulated
//! cloud behind them.

use microcloud::agent::api::MachineStatus;
use microcloud::agent::control::local_routes;
use microcloud::agent::office::{Duty, Office};
use microcloud::agent::{self, Config as AgentConfig};
use microcloud::reconcile::clock::Clock;
use microcloud::reconcile::controller::{CONCURRENCY, Config, Controller};
use microcloud::reconcile::status::ConditionType;
use microcloud::resources::draft::Draft;
use microcloud::resources::{Kind, ObjectRef, SourceName};
use microcloud::services::host::Hosts;
use microcloud::services::lxd::{Lxd, ProfilePut};
use microcloud::simulate::{SimCloud, SimConfig};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::process::Command;

const MEMBER: &str = "micro01";

const CLUSTER: &str = "\
apiVersion: microcloud.dev/v1
kind: Cluster
metadata: {name: demo}
spec: {initiator: micro01, internalSubnet: 10.77.0.0/16}
---
apiVersion: microcloud.dev/v1
kind: Member
metadata: {name: micro01}
spec: {address: 10.77.0.1}
---
apiVersion: microcloud.dev/v1
kind: Member
metadata: {name: micro02}
spec: {address: 10.77.0.2}
";

fn profile(cpu: u32) -> String {
    format!(
        "apiVersion: microcloud.dev/v1\nkind: Profile\nmetadata: {{name: web}}\n\
         spec: {{config: {{limits.cpu: {cpu}}}}}\n"
    )
}

fn controller(cloud: &SimCloud, hosts: Arc<dyn Hosts>) -> Controller {
    Controller::start(Config {
        member: MEMBER.to_owned(),
        epoch: 1,
        lxd: Lxd::new(cloud.transport(MEMBER)),
        hosts,
        clock: Clock::system(),
        memory: None,
        concurrency: CONCURRENCY,
    })
}

/// A machine with an agent that controls simulated machines.
struct Live {
    dir: tempfile::TempDir,
    cloud: SimCloud,
    office: Arc<Office>,
    /// Keeps the agent's own state locked.
    _agent: agent::Agent,
}

impl Live {
    async fn start() -> Live {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let agent = agent::start(AgentConfig {
            name: MEMBER.to_owned(),
            directory: None,
            listen: [127, 0, 0, 1].into(),
            port: 0,
            lxd_socket: None,
            state_dir: path("state"),
            socket: path("own"),
        })
        .await
        .expect("an agent");
        let cloud = SimCloud::new(SimConfig::of(2));
        let epoch = Arc::new(AtomicU64::new(1));
        let hosts = cloud.hosts(MEMBER, epoch);
        let controller = controller(&cloud, Arc::clone(&hosts));
        let office = Office::open(
            Arc::clone(&agent.machine),
            agent.client.clone(),
            hosts,
            &agent.config,
        )
        .expect("an office");
        office.set_duty(Duty::Leading(Arc::new(controller)));
        let listener = UnixListener::bind(path("socket")).expect("a socket");
        let office = Arc::new(office);
        let routes = local_routes(Arc::clone(&office));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Live {
            dir,
            cloud,
            office,
            _agent: agent,
        }
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).expect("a file");
    }

    /// Runs `microcloud …`: its exit code, and what it printed.
    async fn run(&self, words: &str) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_microcloud"))
            .args(words.split_whitespace())
            .current_dir(self.dir.path())
            .env("MICROCLOUD_SOCKET", self.dir.path().join("socket"))
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(120), output)
            .await
            .expect("in time")
            .expect("the program starts");
        let mut text = String::from_utf8(output.stdout).expect("text");
        text.push_str(&String::from_utf8(output.stderr).expect("text"));
        (output.status.code(), text)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_applied_changed_held_and_deleted() {
    let live = Live::start().await;
    live.file("cluster.yaml", CLUSTER);
    live.file("web.yaml", &profile(2));

    let (code, text) = live.run("diff -f cluster.yaml web.yaml").await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("+ Profile/web"), "{text}");
    let (code, text) = live.run("get").await;
    assert_eq!((code, text.as_str()), (Some(0), "No resources.\n"));

    let (code, text) = live
        .run("apply -f cluster.yaml web.yaml --wait --timeout 90s")
        .await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("profile/web created\n"), "{text}");
    assert!(text.contains("4 resources are ready\n"), "{text}");
    let (code, text) = live.run("status").await;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = live.run("diff").await;
    assert_eq!((code, text.as_str()), (Some(0), "No differences.\n"));
    let (_, text) = live.run("apply -f cluster.yaml web.yaml").await;
    assert!(text.lines().all(|l| l.ends_with(" unchanged")), "{text}");

    // A new version is never taken for ready because the old one was.
    let lxd = live.cloud.hand(MEMBER);
    for cpu in 3..6 {
        live.file("web.yaml", &profile(cpu));
        let (code, text) = live.run("diff -f web.yaml").await;
        assert_eq!(code, Some(1), "{text}");
        let (code, text) = live.run("apply -f web.yaml --wait --timeout 30s").await;
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("profile/web configured\n"), "{text}");
        let held = lxd.profile("default", "web").await.expect("the profile");
        assert_eq!(held.value.config["limits.cpu"], cpu.to_string());
    }

    // What somebody else changes while it is suspended is repaired once that ends.
    let (code, text) = live.run("suspend profile/web --reason test").await;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = live.run("wait profile/web --timeout 1s").await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("Suspended"), "{text}");
    let held = lxd.profile("default", "web").await.expect("the profile");
    let drifted = ProfilePut {
        config: [("limits.cpu".to_owned(), "9".to_owned())].into(),
        ..ProfilePut::default()
    };
    lxd.put_profile("default", "web", &drifted, held.etag.as_deref())
        .await
        .expect("it can be changed");
    let (code, text) = live.run("resume profile/web").await;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = live.run("wait profile/web --timeout 30s").await;
    assert_eq!(code, Some(0), "{text}");
    let held = lxd.profile("default", "web").await.expect("the profile");
    assert_eq!(held.value.config["limits.cpu"], "5");
    let (_, text) = live.run("events profile/web").await;
    assert!(text.contains("profile/web"), "{text}");
    let (code, text) = live.run("describe profile web").await;
    assert_eq!(code, Some(0), "{text}");

    let (code, text) = live.run("approve Profile/web/nothing@web").await;
    assert_eq!(code, Some(2), "{text}");
    let (code, text) = live.run("reconcile profile/nope").await;
    assert_eq!(code, Some(2), "{text}");
    let (code, text) = live.run("reconcile").await;
    assert_eq!(code, Some(0), "{text}");

    let (code, text) = live.run("delete -f web.yaml --wait --timeout 30s").await;
    assert_eq!(code, Some(0), "{text}");
    let told = "profile/web deleted\n1 resource is gone\n";
    // How it goes is shown as far as there was time to look.
    let rest = text.strip_prefix(told).expect(&text);
    assert!(
        rest.is_empty() || rest.ends_with("profile/web: Gone\n"),
        "{text}"
    );
    let gone = lxd.profile("default", "web").await;
    assert!(gone.is_err(), "what was created is deleted");
    let (code, text) = live.run("wait profile/web --for delete").await;
    assert_eq!((code, text.as_str()), (Some(0), "1 resource is gone\n"));
    let (code, text) = live.run("delete profile/web").await;
    assert_eq!(code, Some(2), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_new_version_is_not_ready_before_it_was_looked_at() {
    let cloud = SimCloud::new(SimConfig::of(1));
    let controller = controller(&cloud, cloud.hosts(MEMBER, Arc::new(AtomicU64::new(1))));
    let resources = |text: &str| {
        let files = [("a.yaml", text.as_bytes())];
        Draft::of_files(SourceName::Applied, files)
            .check(&[])
            .resources
    };
    let cluster = CLUSTER
        .split("---\n")
        .take(2)
        .collect::<Vec<_>>()
        .join("---\n");
    let all = format!("{cluster}---\n{}", profile(2));
    controller.apply(resources(&all)).await.expect("applied");
    let web = ObjectRef::new(Kind::Profile, "web");
    let status = |controller: &Controller| {
        let objects = controller.status().objects;
        objects.into_iter().find(|o| o.object == web)
    };
    let new = status(&controller).expect("an object that was not planned yet is shown");
    assert!(!new.ready());
    let ready = async {
        while !controller.all_ready() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ready = tokio::time::timeout(Duration::from_secs(300), ready).await;
    assert!(ready.is_ok(), "{:?}", controller.status());
    let before = status(&controller).expect("the profile");
    assert!(before.ready() && controller.status().all_ready());

    let web_only = Draft::of_files(SourceName::Applied, [("a.yaml", profile(3).as_bytes())])
        .check(&controller.resources());
    controller.apply(web_only.resources).await.expect("applied");
    let after = status(&controller).expect("the profile");
    assert!(!after.ready() && !controller.status().all_ready());
    assert!(after.generation > before.generation, "{after:?}");
    let condition = after.condition(ConditionType::Ready).expect("a condition");
    assert_eq!(condition.observed_generation, before.generation);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_tells_what_the_lost_controller_carried() {
    let live = Live::start().await;
    live.file("cluster.yaml", CLUSTER);
    let (code, text) = live.run("apply -f cluster.yaml --wait --timeout 90s").await;
    assert_eq!(code, Some(0), "{text}");
    // What an agent that follows has: the controller's last report, and its own ears.
    let controller = live.office.controller().expect("it controls");
    let mut report = controller.status();
    report.lease.holder = "micro02".to_owned();
    let machines = controller.machines().into_iter().map(|(name, machine)| {
        let shown = MachineStatus {
            answers: true,
            burden: machine.burden,
            ..MachineStatus::default()
        };
        (name, shown)
    });
    let machines = machines.collect();
    live.office
        .keep(|kept| {
            kept.report = Some(report);
            kept.machines = machines;
        })
        .expect("kept");
    let witness = &live.office.witness;
    witness.heard_leader("micro02");
    witness.missed_leader("micro02", "no answer within 2 s");
    live.office
        .set_duty(Duty::Waiting("micro02 does not answer".to_owned()));

    let (code, text) = live.run("status").await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("nobody controls (this is micro01, which waits): micro02, which controlled, has not answered for "),
        "{text}"
    );
    assert!(
        text.contains("all below is as micro02 told it last, "),
        "{text}"
    );
    let lost = text
        .lines()
        .find(|l| l.trim_start().starts_with("member/micro02"))
        .expect("the member is shown");
    assert!(
        lost.contains("Reconciling") && lost.contains("it carries a part of LXD's database"),
        "{text}"
    );
    let own = text
        .lines()
        .find(|l| l.trim_start().starts_with("member/micro01"))
        .expect("the member is shown");
    assert!(own.contains("Ready"), "{text}");
    let machine = text
        .lines()
        .find(|l| l.trim_start().starts_with("micro02"))
        .expect("the machine is shown");
    assert!(
        machine.contains(" no ") && machine.contains("it carries"),
        "{text}"
    );
    let (code, text) = live.run("diff").await;
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("micro02, which controlled, has not answered"),
        "{text}"
    );
}
