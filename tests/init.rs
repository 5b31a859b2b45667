//! `init`, `join`, `add` and `preseed` as programs, answered through pipes: real agents with real TLS
//! and mDNS between them, each beside a simulated LXD. A test runs again in a network of its own (which
//! needs root, or user namespaces), where the machines' addresses are those of its loopback.

use microcloud::agent::{self, Config};
use microcloud::simulate::{SimCloud, SimConfig};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

/// How long one answer of the program may take.
const ANSWER: Duration = Duration::from_secs(40);

/// The port of the agents.
const PORT: u16 = 9445;

/// Agents that know nothing of each other.
struct Machines {
    dir: tempfile::TempDir,
    cloud: SimCloud,
    stop: CancellationToken,
}

impl Drop for Machines {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Says that this process is the one in a network of its own.
const INSIDE: &str = "MICROCLOUD_TEST_INSIDE";

/// Runs a test of this program in a network of its own.
fn apart(name: &str, test: impl Future<Output = ()>) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(test);
        return;
    }
    let script = "mount -t sysfs sysfs /sys && ip link set lo multicast on up && \
                  for n in 1 2 3; do ip address add 10.77.0.$n/16 dev lo; done && \
                  ip route add 224.0.0.0/4 dev lo && exec \"$0\" \"$@\"";
    let root = rustix::process::geteuid().is_root();
    let status = std::process::Command::new("unshare")
        .args(if root {
            &["--net", "--mount"][..]
        } else {
            &["--map-root-user", "--net", "--mount"]
        })
        .args(["sh", "-c", script])
        .arg(std::env::current_exe().expect("this program"))
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare");
    assert!(status.success(), "in a network of its own: {status}");
}

fn name(number: u8) -> String {
    format!("micro{number:02}")
}

impl Machines {
    async fn start(count: u8) -> Machines {
        let machines = Machines {
            dir: tempfile::tempdir().expect("a directory"),
            cloud: SimCloud::new(SimConfig::of(count.into())),
            stop: CancellationToken::new(),
        };
        for number in 1..=count {
            // An agent that joins looks first whether the port of LXD's cluster answers.
            let port = TcpListener::bind((machines.address(number), 8443)).await;
            let port = port.expect("a port");
            tokio::spawn(async move { while port.accept().await.is_ok() {} });
            let name = name(number);
            let lxd = machines.path(number, "lxd");
            let server = machines.cloud.serve_unix(&name, &lxd).expect("a socket");
            let agent = agent::start(Config {
                name,
                directory: None,
                listen: machines.address(number),
                port: PORT,
                lxd_socket: Some(lxd),
                state_dir: machines.path(number, "state"),
                socket: machines.path(number, "control"),
            })
            .await
            .expect("an agent");
            let (stopped, all) = (agent.stop.clone(), machines.stop.clone());
            tokio::spawn(async move {
                all.cancelled().await;
                stopped.cancel();
                drop(server);
            });
            tokio::spawn(agent.work());
        }
        machines
    }

    fn path(&self, number: u8, what: &str) -> PathBuf {
        self.dir.path().join(format!("{what}{number}"))
    }

    /// Where the simulated LXD thinks that its machine is.
    fn address(&self, number: u8) -> IpAddr {
        IpAddr::from([10, 77, 0, number])
    }

    /// A command on a machine whose questions are answered.
    fn begin(&self, number: u8, words: &str) -> Asked {
        let address = self.address(number).to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_microcloud"))
            .args(words.split_whitespace())
            .args(["--address", &address])
            .env("MICROCLOUD_SOCKET", self.path(number, "control"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program");
        Asked {
            given: child.stdin.take(),
            said: BufReader::new(child.stdout.take().expect("a pipe")).lines(),
            child,
            heard: String::new(),
        }
    }

    /// A command that asks nothing of this test: its exit code, and what it said.
    async fn run(&self, number: u8, words: &str) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_microcloud"))
            .args(words.split_whitespace())
            .env("MICROCLOUD_SOCKET", self.path(number, "control"))
            .stdin(Stdio::null())
            .output()
            .await
            .expect("the program");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// How many members there are and are ready.
    async fn members(&self) -> usize {
        let (code, said) = self.run(2, "get member").await;
        assert_eq!(code, Some(0), "{said}");
        said.lines().filter(|line| line.contains(" Ready ")).count()
    }
}

/// A command that is answered.
struct Asked {
    child: Child,
    given: Option<ChildStdin>,
    said: Lines<BufReader<ChildStdout>>,
    heard: String,
}

impl Asked {
    async fn give(&mut self, answers: &str) {
        let given = self.given.as_mut().expect("it is open");
        given.write_all(answers.as_bytes()).await.expect("it reads");
        given.flush().await.expect("it reads");
    }

    /// The rest of the first line with these words.
    async fn line(&mut self, words: &str) -> String {
        let look = async {
            while let Ok(Some(line)) = self.said.next_line().await {
                self.heard.push_str(&line);
                self.heard.push('\n');
                if let Some((_, rest)) = line.split_once(words) {
                    return Some(rest.trim().to_owned());
                }
            }
            None
        };
        let found = tokio::time::timeout(ANSWER, look).await.ok().flatten();
        found.unwrap_or_else(|| panic!("never said {words:?}: {}", self.heard))
    }

    /// How it ended, and all that it said.
    async fn end(mut self) -> (Option<i32>, String) {
        drop(self.given.take());
        while let Ok(Some(line)) = self.said.next_line().await {
            self.heard.push_str(&line);
            self.heard.push('\n');
        }
        let mut errors = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            let _ = stderr.read_to_string(&mut errors).await;
        }
        let status = self.child.wait().await.expect("it ends");
        (status.code(), self.heard + &errors)
    }
}

#[test]
fn init_and_join_form_a_cloud_and_add_makes_it_larger() {
    apart(
        "init_and_join_form_a_cloud_and_add_makes_it_larger",
        forming(),
    );
}

async fn forming() {
    let machines = Machines::start(3).await;
    let mut init = machines.begin(1, "init --timeout 60s");
    init.give("yes\n").await;
    let passphrase = init.line("passphrase:").await;
    assert_eq!(passphrase.split(' ').count(), 4, "{passphrase}");
    let first = machines.address(1);
    let mut join = machines.begin(
        2,
        &format!("join --timeout 60s --initiator-address {first}"),
    );
    join.give(&format!("{passphrase}\n")).await;
    init.line("micro02  ").await;
    // No storage and no networking: this machine's own disks are none of this test's business.
    init.give("\nall\nno\nno\nno\n").await;
    init.line("These resources are kept:").await;
    init.give("yes\n").await;
    let (code, said) = init.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("kind: Member"), "{said}");
    let (code, said) = join.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("micro01 at 10.77.0.1"), "{said}");
    assert_eq!(machines.members().await, 2);

    // Run again it goes on with what there is.
    let (code, said) = machines.run(1, "init --yes --timeout 20s").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("set up here already"), "{said}");

    // Another one, by names and a file, added by the member that does not control.
    let file = machines.path(0, "passphrase");
    std::fs::write(&file, "one two three four\n").expect("a file");
    let file = file.display();
    let flags = format!("--yes --passphrase-file {file} --timeout 60s");
    let add = machines.begin(2, &format!("add --members micro03 {flags}"));
    let second = machines.address(2);
    let join = machines.begin(3, &format!("join --initiator-address {second} {flags}"));
    let (code, said) = add.end().await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = join.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(machines.members().await, 3);
    let (code, said) = machines.run(3, "status").await;
    assert_eq!(code, Some(0), "{said}");

    // What users of MicroCloud ask next.
    let (code, said) = machines.run(3, "waitready").await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = machines.run(3, "cluster list -f csv").await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        said.lines().filter(|l| l.contains("database")).count(),
        3,
        "{said}"
    );
    let (code, said) = machines.run(2, "service list").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("not set up: microcloud service add"),
        "{said}"
    );
    let (code, said) = machines.run(2, "service add --yes").await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("nothing was chosen"), "{said}");
    let (code, said) = machines.run(2, "cluster recover --yes").await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("has its majority"), "{said}");
}

#[test]
fn init_that_is_aborted_at_any_question_leaves_nothing() {
    apart(
        "init_that_is_aborted_at_any_question_leaves_nothing",
        aborting(),
    );
}

async fn aborting() {
    let machines = Machines::start(2).await;
    let answers = ["no", "no", "no", "no"];
    for given in 0..=answers.len() {
        let mut init = machines.begin(1, "init");
        let input: String = answers[..given].iter().map(|a| format!("{a}\n")).collect();
        if given > 0 {
            init.give(&input).await;
        }
        let (code, said) = init.end().await;
        if given == answers.len() {
            // Local storage, Ceph and OVN declined; the last question was the fifth.
            assert!(said.contains("These resources are kept:"), "{said}");
        }
        assert_eq!(code, Some(1), "after {given}: {said}");
        assert!(said.contains("aborted"), "after {given}: {said}");
        let (_, left) = machines.run(1, "get -o name").await;
        assert!(!left.contains('/'), "after {given}: {left}");
    }
    // With a joiner waiting: it is told, and the next session finds nothing of this one.
    for round in 0..2 {
        let mut init = machines.begin(1, "init");
        init.give("yes\n").await;
        let passphrase = init.line("passphrase:").await;
        let first = machines.address(1);
        let mut join = machines.begin(2, &format!("join --initiator-address {first}"));
        join.give(&format!("{passphrase}\n")).await;
        init.line("micro02  ").await;
        let answers = if round == 0 { "" } else { "\nall\nno\n" };
        init.give(answers).await;
        let (code, said) = init.end().await;
        assert_eq!(code, Some(1), "{said}");
        let (code, said) = join.end().await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("given up on micro01: aborted"), "{said}");
        assert!(!machines.path(2, "state").join("trust.json").exists());
    }
    // One that somebody else on the machine ends by its name.
    let mut init = machines.begin(1, "init");
    init.give("yes\n").await;
    init.line("passphrase:").await;
    let (code, said) = machines.run(1, "tokens list -f csv").await;
    assert_eq!(code, Some(0), "{said}");
    let (name, rest) = said.split_once(',').expect("a session");
    assert!(rest.starts_with("session,micro01,20"), "{said}");
    let (code, said) = machines.run(1, &format!("tokens revoke {name}")).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = init.end().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("was revoked on micro01"), "{said}");
    let (code, said) = machines.run(1, &format!("tokens revoke {name}")).await;
    assert_eq!(code, Some(2), "{said}");
    // Without a person, what is missing is told.
    let (code, said) = machines.run(2, "join --yes").await;
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn one_preseed_on_all_machines_forms_a_cloud_and_another_adds_to_it() {
    apart(
        "one_preseed_on_all_machines_forms_a_cloud_and_another_adds_to_it",
        preseeding(),
    );
}

/// What the machines of a preseed know.
const SECRET: &str = "one two three four";

async fn preseeding() {
    let machines = Machines::start(3).await;
    let keep = |name: &str, text: &str| {
        let file = machines.path(0, name);
        std::fs::write(&file, text).expect("a file");
        file.display().to_string()
    };
    // By multicast, from a file and from the standard input.
    let text = format!(
        "initiator: micro01\nlookup_subnet: 10.77.0.0/16\nlookup_timeout: 30\n\
         session_passphrase: {SECRET}\nsystems:\n- name: micro01\n- name: micro02\n"
    );
    let forms = keep("forms", &text);
    let mut join = machines.begin(2, "preseed --timeout 60s");
    join.give(&text).await;
    drop(join.given.take());
    let init = machines.begin(1, &format!("preseed -f {forms} --timeout 60s"));
    let (code, init) = init.end().await;
    assert_eq!(code, Some(0), "{init}");
    assert!(init.contains("kind: Member"), "{init}");
    assert!(init.contains("internalSubnet: 10.77.0.0/16"), "{init}");
    let (code, join) = join.end().await;
    assert_eq!(code, Some(0), "{join}");
    assert!(join.contains("micro01 at 10.77.0.1"), "{join}");
    assert_eq!(machines.members().await, 2);
    for said in [&init, &join] {
        assert!(!said.contains(SECRET), "{said}");
    }

    // Run again it goes on with what there is, on both; but it is no way to add.
    for (number, words) in [(1, "goes on with it"), (2, "a member already")] {
        let again = machines.begin(number, &format!("preseed -f {forms} --timeout 20s"));
        let (code, said) = again.end().await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let larger = keep("larger", &format!("{text}- name: micro03\n"));
    let (code, said) = machines
        .begin(1, &format!("preseed -f {larger}"))
        .end()
        .await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("without micro03"), "{said}");

    // By address, to the member that does not control.
    let adds = keep(
        "adds",
        &format!(
            "initiator_address: 10.77.0.2\nlookup_timeout: 30\nsession_passphrase: {SECRET}\n\
             systems:\n- name: micro03\n  address: 10.77.0.3\n"
        ),
    );
    let add = machines.begin(2, &format!("preseed -f {adds} --timeout 60s"));
    let join = machines.begin(3, &format!("preseed -f {adds} --timeout 60s"));
    let (code, said) = add.end().await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = join.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(machines.members().await, 3);
    let (code, said) = machines.begin(2, &format!("preseed -f {adds}")).end().await;
    assert_eq!(code, Some(0), "{said}");
    let both = keep(
        "both",
        &format!(
            "initiator: micro02\nlookup_subnet: 10.77.0.0/16\nsession_passphrase: {SECRET}\n\
             systems:\n- name: micro03\n- name: micro04\n"
        ),
    );
    let (code, said) = machines.begin(2, &format!("preseed -f {both}")).end().await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("micro03 is in the cloud already"), "{said}");
}

#[test]
fn a_preseed_that_does_not_fit_leaves_nothing() {
    apart("a_preseed_that_does_not_fit_leaves_nothing", unfit());
}

async fn unfit() {
    let machines = Machines::start(2).await;
    let head = format!(
        "initiator: micro01\nlookup_subnet: 10.77.0.0/16\nlookup_timeout: 3\n\
         session_passphrase: {SECRET}\n"
    );
    let file = machines.path(0, "preseed");
    let begin = |number: u8, rest: &str| {
        std::fs::write(&file, format!("{head}{rest}")).expect("a file");
        machines.begin(number, &format!("preseed -f {}", file.display()))
    };
    for (rest, code, words) in [
        (
            "systems: [{name: micro01, adress: 10.77.0.1}]\n",
            2,
            ":5:27",
        ),
        (
            "systems: [{name: micro07}]\n",
            2,
            "the initiator among its `systems`",
        ),
        (
            "systems: [{name: micro01}, {name: micro02}]\n",
            1,
            "micro02 did not come",
        ),
        (
            "systems: [{name: micro01}]\nstorage: {ceph: [{find: size > 900TiB}]}\n",
            2,
            "0 free disks of the machines match, and there must be at least 1",
        ),
    ] {
        let (ended, said) = begin(1, rest).end().await;
        assert_eq!(ended, Some(code), "{said}");
        assert!(said.contains(words), "{said}");
        assert!(!said.contains(SECRET), "{said}");
    }
    // One that has no part in it, and one whose initiator never comes.
    let (code, said) = begin(2, "systems: [{name: micro01}]\n").end().await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("this machine is micro02"), "{said}");
    let (code, said) = begin(2, "systems: [{name: micro01}, {name: micro02}]\n")
        .end()
        .await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no session is open"), "{said}");
    // The disks are judged when all are there; who waits is told.
    let rest = "systems: [{name: micro01}, {name: micro02}]\nstorage:\n  local:\n  - find: size > 900TiB\n";
    let (init, join) = (begin(1, rest), begin(2, rest));
    let (code, said) = init.end().await;
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("error: 0 machines have such a disk"),
        "{said}"
    );
    let (code, said) = join.end().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("given up on micro01"), "{said}");
    for number in 1..=2 {
        assert!(!machines.path(number, "state").join("trust.json").exists());
        let (_, left) = machines.run(number, "get -o name").await;
        assert!(!left.contains('/'), "{left}");
    }
}
