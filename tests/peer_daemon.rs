//! `microcloud agent` as a program: its key, whom it trusts, two daemons that talk, an orderly
//! end. All on loopback, in directories of the test's own.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A machine: a directory with its configuration and state.
struct Machine {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn free_port() -> u16 {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    probe.local_addr().unwrap().port()
}

impl Machine {
    fn new(name: &str, address: &str, port: u16) -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "name: {name}\nlisten: {address}\nport: {port}\nlxdSocket: {}\n",
            dir.path().join("no-lxd").display()
        );
        fs::write(dir.path().join("agent.yaml"), config).unwrap();
        Machine { dir, daemon: None }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_microcloud"));
        command
            .arg("agent")
            .args(args)
            .env("MICROCLOUD_CONFIG", self.dir.path().join("agent.yaml"))
            .env("MICROCLOUD_STATE_DIR", self.state())
            .env("MICROCLOUD_SOCKET", self.dir.path().join("control.socket"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn fingerprint(&self) -> String {
        self.ok(&["fingerprint"]).trim().to_owned()
    }

    /// Starts the daemon and waits until it tells systemd that it is ready.
    fn start(&mut self) {
        let notify = self.dir.path().join("notify");
        let _ = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let daemon = self
            .command(&[])
            .env("NOTIFY_SOCKET", &notify)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        self.daemon = Some(daemon);
        let mut said = [0; 256];
        let n = socket.recv(&mut said).expect("the daemon becomes ready");
        assert_eq!(&said[..n], b"READY=1\n");
    }

    /// Sends a signal; the daemon must end well and soon. Returns what it logged.
    fn stop(&mut self) -> String {
        let mut daemon = self.daemon.take().unwrap();
        let pid = rustix::process::Pid::from_child(&daemon);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let end = Instant::now() + Duration::from_secs(15);
        let status = loop {
            match daemon.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > end => panic!("the daemon does not end"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert!(status.success(), "{status}");
        let mut log = String::new();
        daemon
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        log
    }

    /// The memory of the daemon that is its own, in KiB.
    fn memory(&self) -> u64 {
        let pid = self.daemon.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

#[test]
fn the_key_is_made_once_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new("a", "127.0.0.1", free_port());
    let first = machine.fingerprint();
    assert_eq!(first.len(), 64);
    assert_eq!(machine.fingerprint(), first);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&machine.state()), 0o700);
    assert_eq!(mode(&machine.state().join("identity/agent.key")), 0o600);
}

#[test]
fn two_daemons_talk_once_they_know_each_other() {
    let port = free_port();
    let (mut a, mut b) = (
        Machine::new("a", "127.78.0.1", port),
        Machine::new("b", "127.78.0.2", port),
    );
    let (of_a, of_b) = (a.fingerprint(), b.fingerprint());
    a.start();
    b.start();
    assert_eq!(a.fingerprint(), of_a, "the running daemon says the same");

    let call = |what| ["call", "a", what, "--address", "127.78.0.1"];
    assert!(b.fails(&call("beat"), 3).contains("no key of it is known"));
    b.ok(&["trust", &of_a, "--name", "a"]);
    assert!(b.fails(&call("beat"), 3).contains("does not let `b` in"));
    a.ok(&["trust", &of_b]);
    assert!(b.ok(&call("beat")).contains("\"name\": \"a\""));
    let report: serde_json::Value = serde_json::from_str(&b.ok(&call("report"))).unwrap();
    assert_eq!(report["fingerprint"], of_a.as_str());
    assert_eq!(report["lxd"]["state"], "notRunning");

    // The trust store takes over; what a person said ends with it.
    let body = b.dir.path().join("trust.json");
    let store = serde_json::json!({ "version": 1, "members": {
        "a": { "fingerprint": of_a, "address": "127.78.0.1" },
        "b": { "fingerprint": of_b, "address": "127.78.0.2" },
    }});
    fs::write(&body, store.to_string()).unwrap();
    let body = body.to_str().unwrap().to_owned();
    let mut set = call("trust").to_vec();
    set.extend(["--body", &body]);
    assert!(b.fails(&set, 1).contains("does not lead"));
    set.extend(["--epoch", "4"]);
    b.ok(&set);
    let refused = a.fails(&["trust", &of_b], 2);
    assert!(refused.contains("already follows the trust store") && refused.contains("a, b"));
    let mut stale = call("report").to_vec();
    stale.extend(["--epoch", "3"]);
    assert!(b.fails(&stale, 1).contains("follows epoch 4"));

    // A restart forgets nothing.
    a.stop();
    a.start();
    assert!(b.fails(&stale, 1).contains("follows epoch 4"));
    assert!(b.ok(&call("beat")).contains("\"trustVersion\": 1"));
    a.ok(&["trust", "--replace", &of_b, "--name", "b"]);
    assert!(b.ok(&call("beat")).contains("\"epoch\": 0"));

    let kib = a.memory();
    assert!(kib < 30 << 10, "the daemon has {kib} KiB");
    let log = a.stop();
    assert!(log.contains("the agent is ready"), "{log}");
    assert!(!a.dir.path().join("control.socket").exists());
}

#[test]
fn trust_works_without_a_daemon_too() {
    let mut machine = Machine::new("a", "127.0.0.1", free_port());
    machine.ok(&["trust", &"ab".repeat(32), "--name", "b"]);
    assert!(
        machine
            .fails(&["trust", "abc"], 2)
            .contains("64 hex digits")
    );
    let wrong = machine.fails(&["trust", &"cd".repeat(32), "--name", "no name"], 2);
    assert!(wrong.contains("cannot be a member's name"), "{wrong}");
    machine.start();
    let text = fs::read_to_string(machine.state().join("trust.json")).unwrap();
    assert!(text.contains(&"ab".repeat(32)));
}

#[test]
fn a_second_daemon_is_refused() {
    let mut machine = Machine::new("a", "127.0.0.1", free_port());
    machine.start();
    let error = machine.fails(&[], 3);
    assert!(
        error.contains("another agent is running already"),
        "{error}"
    );
    machine.ok(&["fingerprint"]);
}

#[test]
fn what_cannot_be_used_is_explained() {
    let machine = Machine::new("a", "127.0.0.1", free_port());
    machine.fingerprint();
    fs::write(machine.state().join("trust.json"), "{").unwrap();
    let error = machine.fails(&[], 2);
    assert!(error.contains("trust.json is damaged"), "{error}");
    fs::remove_file(machine.state().join("trust.json")).unwrap();
    fs::write(machine.dir.path().join("agent.yaml"), "name: b\n").unwrap();
    let error = machine.fails(&[], 2);
    assert!(error.contains("made for member `a`"), "{error}");
    fs::write(machine.dir.path().join("agent.yaml"), "nam: b\n").unwrap();
    let error = machine.fails(&["fingerprint"], 2);
    assert!(error.contains("did you mean `name`"), "{error}");
}

#[test]
fn an_idle_daemon_rests() {
    let mut machine = Machine::new("a", "127.0.0.1", free_port());
    machine.start();
    std::thread::sleep(Duration::from_secs(1));
    let pid = machine.daemon.as_ref().unwrap().id();
    // Wake-ups of all threads, which is what an idle program costs.
    let wakeups = || -> u64 {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        tasks
            .filter_map(|t| fs::read_to_string(t.ok()?.path().join("status")).ok())
            .filter_map(|s| {
                let line = s.lines().find(|l| l.starts_with("voluntary_ctxt"))?;
                line.split_whitespace().nth(1)?.parse::<u64>().ok()
            })
            .sum()
    };
    let before = wakeups();
    std::thread::sleep(Duration::from_secs(4));
    let woken = wakeups() - before;
    assert!(woken < 20, "woken {woken} times in 4 s");
}
