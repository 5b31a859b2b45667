//! A cloud of real hosts for tests: the hosts of a throwaway sandbox, with the agents' trust made
//! by the real commands and a directory of resources on one of them.
//!
//! Everything is asked the way a person would ask it: `microcloud`, `lxc`, `systemctl` in the host.

// Each test program uses a part of this.
#![allow(dead_code)]

use microcloud::agent::api::AgentStatus;
use microcloud::reconcile::history::Event;
use microcloud::reconcile::status::ObjectStatus;
use microcloud::resources::ObjectRef;
use microcloud::sandbox::{Options, Throwaway};
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fs::File;
use std::io::Write;
use std::ops::Deref;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Why a test fails.
pub type Failure = Box<dyn StdError>;

/// What a test and every step of it ends with.
pub type Outcome<T = ()> = Result<T, Failure>;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_microcloud");

/// Where the first host has its resources.
pub const DIRECTORY: &str = "/etc/microcloud/resources";

/// The host that forms the cluster and has the directory.
pub const FIRST: &str = "micro01";

/// How often something is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(200);

/// Real hosts; taken down when this goes.
pub struct Cloud {
    sandbox: Arc<Throwaway>,
    hosts: Vec<String>,
    fingerprints: BTreeMap<String, String>,
    /// Given back when the hosts are gone: fields are dropped in this order.
    _alone: File,
}

impl Deref for Cloud {
    type Target = Throwaway;

    fn deref(&self) -> &Throwaway {
        &self.sandbox
    }
}

/// One cloud at a time, whichever processes and checkouts the tests run in: the machine is small.
fn alone() -> Outcome<File> {
    let lock = File::create("/run/lock/microcloud-tests.lock")?;
    lock.lock()?;
    Ok(lock)
}

/// Raises `hosts` hosts (`micro01` and so on) with one empty disk each, and gives the agents each
/// other's fingerprints, but starts none and writes no resources. Runs `test` and, when it fails,
/// prints what the agents wrote last.
pub fn with(name: &str, hosts: u16, test: impl FnOnce(&mut Cloud) -> Outcome) -> Outcome {
    fresh(name, hosts, |cloud| {
        cloud.provision_all()?;
        test(cloud)
    })
}

/// As [`with`], with hosts that know nothing of each other.
pub fn fresh(name: &str, hosts: u16, test: impl FnOnce(&mut Cloud) -> Outcome) -> Outcome {
    let alone = alone()?;
    let begun = Instant::now();
    let options = Options {
        disks: 1,
        binary: Some(PROGRAM.into()),
        ..Options::with_hosts(hosts)
    };
    let mut cloud = Cloud {
        sandbox: Arc::new(Throwaway::up(name, &options)?),
        hosts: options.hosts.clone(),
        fingerprints: BTreeMap::new(),
        _alone: alone,
    };
    eprintln!("{name}: {hosts} hosts after {:.1?}", begun.elapsed());
    let outcome = test(&mut cloud);
    if outcome.is_err() {
        cloud.tell();
    }
    eprintln!("{name}: ended after {:.1?}", begun.elapsed());
    outcome
}

/// As [`with`], with the three-node example written and formed: all resources are ready.
pub fn formed(name: &str, hosts: u16, test: impl FnOnce(&mut Cloud) -> Outcome) -> Outcome {
    with(name, hosts, |cloud| {
        let took = cloud.form()?;
        eprintln!("{name}: formed in {took:.1?}");
        test(cloud)
    })
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until `look` finds something, or fails with what it said last.
pub fn wait<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Outcome<Result<T, String>>,
) -> Outcome<T> {
    let begun = Instant::now();
    loop {
        let missing = match look()? {
            Ok(found) => return Ok(found),
            Err(missing) => missing,
        };
        if begun.elapsed() >= limit {
            return Err(format!("{what}: not within {limit:?}: {missing}").into());
        }
        thread::sleep(LOOK);
    }
}

/// The objects of a status that are not ready, a line each with the sentence.
pub fn unready(status: &AgentStatus) -> String {
    let objects = status.report.iter().flat_map(|r| &r.objects);
    let lines: Vec<String> = objects
        .filter(|o| !o.ready())
        .map(|o| format!("{}: {}", o.object, sentence(o)))
        .collect();
    match (&status.reason, lines.is_empty()) {
        (Some(reason), _) => format!("{reason}\n{}", lines.join("\n")),
        (None, true) if status.report.as_ref().is_none_or(|r| r.objects.is_empty()) => {
            "nothing is known yet".to_owned()
        }
        (None, true) => "nothing that is not ready is shown".to_owned(),
        (None, false) => lines.join("\n"),
    }
}

/// All an object waits for and is refused, in one text.
pub fn sentence(object: &ObjectStatus) -> String {
    let waiting = object.waiting_on.iter().map(|w| &w.message);
    let refused = object.refused.iter().map(|r| &r.message);
    let conditions = object.conditions.iter().map(|c| &c.message);
    let all: Vec<&str> = refused
        .chain(waiting)
        .chain(conditions)
        .map(String::as_str)
        .collect();
    all.join("; ")
}

/// `KIND/NAME` as an object.
fn object(text: &str) -> Outcome<ObjectRef> {
    text.parse()
        .map_err(|e| format!("{text:?} is no object: {e}").into())
}

impl Cloud {
    /// Gives the agents each other's fingerprints.
    pub fn provision_all(&mut self) -> Outcome {
        self.hosts()
            .iter()
            .try_for_each(|host| self.provision(host))
    }

    /// Makes the agent's key on a host and, but for the first host, has it trust the first one.
    fn provision(&mut self, host: &str) -> Outcome {
        let fingerprint = self.must(host, &["microcloud", "agent", "fingerprint"])?;
        self.fingerprints
            .insert(host.to_owned(), fingerprint.trim().to_owned());
        if host != FIRST {
            let first = self.fingerprint(FIRST)?;
            let words = ["microcloud", "agent", "trust", &first, "--name", FIRST];
            self.must(host, &words)?;
        }
        Ok(())
    }

    /// Makes a host's key anew, as when it was reinstalled, and has it trust the first one.
    pub fn renew(&mut self, host: &str) -> Outcome {
        self.provision(host)
    }

    /// Raises another host, with its key and its trust in the first one.
    pub fn add_host(&mut self, host: &str) -> Outcome {
        let options = Options {
            hosts: vec![host.to_owned()],
            disks: 1,
            binary: Some(PROGRAM.into()),
            ..Options::default()
        };
        self.sandbox.up(&options, &|line| eprintln!("{line}"))?;
        self.hosts.push(host.to_owned());
        self.provision(host)
    }

    /// The hosts' sandbox, for work on another thread; to be given back before the test ends.
    pub fn shared(&self) -> Arc<Throwaway> {
        self.sandbox.clone()
    }

    /// The fingerprint of a host's agent.
    pub fn fingerprint(&self, host: &str) -> Outcome<String> {
        let found = self.fingerprints.get(host).cloned();
        found.ok_or_else(|| format!("{host} was not provisioned").into())
    }

    /// The hosts, in order.
    pub fn hosts(&self) -> Vec<String> {
        self.hosts.clone()
    }

    /// Runs a command in a host with something to read; whatever it ends with.
    pub fn run(&self, host: &str, words: &[&str], input: &str) -> Outcome<Output> {
        let mut child = self
            .sandbox
            .command(host, words)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that reads nothing closes it.
            let _ = stdin.write_all(input.as_bytes());
        }
        Ok(child.wait_with_output()?)
    }

    /// Runs a command in a host and returns what it printed; fails when it fails.
    pub fn must(&self, host: &str, words: &[&str]) -> Outcome<String> {
        self.must_with(host, words, "")
    }

    /// As [`Cloud::must`], with something to read.
    pub fn must_with(&self, host: &str, words: &[&str], input: &str) -> Outcome<String> {
        let out = self.run(host, words, input)?;
        if out.status.success() {
            return Ok(text(&out.stdout));
        }
        let said = text(&out.stderr) + &text(&out.stdout);
        Err(format!("{words:?} on {host} ended with {}: {said}", out.status).into())
    }

    /// `lxc …` in a host.
    pub fn lxc(&self, host: &str, words: &[&str]) -> Outcome<String> {
        let words: Vec<&str> = ["lxc"].iter().chain(words).copied().collect();
        self.must(host, &words)
    }

    /// What `lxc query` answers, as JSON.
    pub fn query(&self, host: &str, path: &str) -> Outcome<serde_json::Value> {
        Ok(serde_json::from_str(&self.lxc(host, &["query", path])?)?)
    }

    /// The members as LXD lists them, with their status in upper case.
    pub fn members(&self, host: &str) -> Outcome<BTreeMap<String, String>> {
        let listed = self.query(host, "/1.0/cluster/members?recursion=1")?;
        let members = listed.as_array().into_iter().flatten().map(|m| {
            let word = |key: &str| m[key].as_str().unwrap_or_default().to_owned();
            (word("server_name"), word("status").to_uppercase())
        });
        Ok(members.collect())
    }

    /// Writes a file of the first host's directory, as a sync tool would: at once.
    pub fn write(&self, file: &str, content: &str) -> Outcome {
        self.write_on(FIRST, file, content)
    }

    /// As [`Cloud::write`], on any host.
    pub fn write_on(&self, host: &str, file: &str, content: &str) -> Outcome {
        let script = format!(
            "mkdir -p {DIRECTORY} && cat > {DIRECTORY}/.{file}.new && mv {DIRECTORY}/.{file}.new {DIRECTORY}/{file}"
        );
        self.must_with(host, &["sh", "-c", &script], content)?;
        Ok(())
    }

    /// Removes a file of the first host's directory.
    pub fn remove(&self, file: &str) -> Outcome {
        self.must(FIRST, &["rm", &format!("{DIRECTORY}/{file}")])?;
        Ok(())
    }

    /// The `Member` of a host, without anything else.
    pub fn only_member(&self, host: &str) -> Outcome<String> {
        let address = self.address(host)?.to_string();
        Ok(only_member(host, &address, &self.fingerprint(host)?))
    }

    /// The `Member` of a host and the `Disk` that it gives to the pool `local`.
    pub fn member(&self, host: &str) -> Outcome<String> {
        let address = self.address(host)?.to_string();
        Ok(member(host, &address, &self.fingerprint(host)?))
    }

    /// The `Member` of a host and the `Disk`, `osd-HOST`, that it gives to Ceph.
    pub fn member_with_osd(&self, host: &str) -> Outcome<String> {
        Ok(self.only_member(host)?
            + &format!(
                "---\napiVersion: microcloud.dev/v1\nkind: Disk\nmetadata: {{name: osd-{host}}}\n\
                 spec: {{member: {host}, match: size >= 1GiB, limit: 1, use: ceph}}\n"
            ))
    }

    /// Writes the cluster, the given members, a pool, a network and a profile.
    pub fn write_all(&self, hosts: &[&str]) -> Outcome {
        for host in hosts {
            self.write(&format!("{host}.yaml"), &self.member(host)?)?;
        }
        self.write("cluster.yaml", CLUSTER)?;
        self.write("things.yaml", THINGS)
    }

    /// Starts the agents of these hosts, at every boot as well.
    pub fn start_agents(&self, hosts: &[&str]) -> Outcome {
        // What was written when tells why a restart wrote again, should a test say that it did.
        let log = "MICROCLOUD_LOG=info,microcloud::reconcile::controller::keeper=debug,microcloud::agent::lead=debug";
        for host in hosts {
            self.must(host, &["systemctl", "set-environment", log])?;
        }
        let words = ["systemctl", "enable", "--now", "microcloud.service"];
        thread::scope(|scope| {
            let started: Vec<_> = hosts
                .iter()
                .map(|host| scope.spawn(move || self.must(host, &words).map_err(|e| e.to_string())))
                .collect();
            for one in started {
                one.join().map_err(|_| "starting an agent panicked")??;
            }
            Ok(())
        })
    }

    /// Writes everything, starts the agents and waits until all is ready; how long that took from
    /// the agents' start.
    pub fn form(&self) -> Outcome<Duration> {
        let hosts = self.hosts();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        self.write_all(&hosts)?;
        let begun = Instant::now();
        self.start_agents(&hosts)?;
        self.wait_formed(&hosts, Duration::from_secs(60))?;
        Ok(begun.elapsed())
    }

    /// Waits until all is ready and LXD lists these members online.
    pub fn wait_formed(&self, hosts: &[&str], limit: Duration) -> Outcome {
        self.wait_ready(hosts[0], limit)?;
        wait("all members online", limit, || {
            let members = self.members(hosts[0])?;
            let all = hosts
                .iter()
                .all(|h| members.get(*h).is_some_and(|s| s == "ONLINE"));
            Ok(if all && members.len() == hosts.len() {
                Ok(())
            } else {
                Err(format!("{members:?}"))
            })
        })
    }

    /// `microcloud status -o json` in a host; the error says why no agent answers.
    pub fn ask_status(&self, host: &str) -> Outcome<Result<AgentStatus, String>> {
        let out = self.run(host, &["microcloud", "status", "-o", "json"], "")?;
        match out.status.code() {
            Some(0 | 1) => Ok(Ok(serde_json::from_slice(&out.stdout)?)),
            _ => Ok(Err(text(&out.stderr))),
        }
    }

    /// As [`Cloud::ask_status`]; fails when no agent answers.
    pub fn status(&self, host: &str) -> Outcome<AgentStatus> {
        self.ask_status(host)?.map_err(Into::into)
    }

    /// Waits until a host's status is as `good` wants it, which says what is missing otherwise.
    pub fn wait_status(
        &self,
        host: &str,
        what: &str,
        limit: Duration,
        mut good: impl FnMut(&AgentStatus) -> Result<(), String>,
    ) -> Outcome<AgentStatus> {
        wait(what, limit, || {
            Ok(match self.ask_status(host)? {
                Ok(status) => good(&status).map(|()| status),
                Err(why) => Err(why),
            })
        })
    }

    /// Waits until everything is as written, as far as a host knows, and what it knows is new.
    pub fn wait_ready(&self, host: &str, limit: Duration) -> Outcome<AgentStatus> {
        self.wait_status(host, "everything ready", limit, |status| {
            let ready = status.report.as_ref().is_some_and(|r| r.all_ready());
            if ready && !status.cached {
                Ok(())
            } else {
                Err(unready(status))
            }
        })
    }

    /// Waits until these objects (`KIND/NAME`) are ready.
    pub fn wait_objects(&self, host: &str, objects: &[&str], limit: Duration) -> Outcome {
        let wanted: Vec<ObjectRef> = objects.iter().map(|o| object(o)).collect::<Outcome<_>>()?;
        self.wait_status(host, &format!("{objects:?} ready"), limit, |status| {
            let report = status.report.as_ref().filter(|_| !status.cached);
            let ready = |wanted: &ObjectRef| {
                let found = report.and_then(|r| r.objects.iter().find(|o| o.object == *wanted));
                found.is_some_and(ObjectStatus::ready)
            };
            if wanted.iter().all(ready) {
                Ok(())
            } else {
                Err(unready(status))
            }
        })?;
        Ok(())
    }

    /// Waits until an object says, in what it waits for or is refused, all these words.
    pub fn wait_says(
        &self,
        host: &str,
        name: &str,
        words: &[&str],
        limit: Duration,
    ) -> Outcome<ObjectStatus> {
        let wanted = object(name)?;
        let mut found = None;
        self.wait_status(host, &format!("{name} says {words:?}"), limit, |status| {
            let objects = status.report.iter().flat_map(|r| &r.objects);
            let one = objects.into_iter().find(|o| o.object == wanted);
            found = one
                .filter(|o| words.iter().all(|w| sentence(o).contains(w)))
                .cloned();
            found.as_ref().map(|_| ()).ok_or_else(|| unready(status))
        })?;
        found.ok_or_else(|| "it went".into())
    }

    /// The member that controls, as a host knows it.
    pub fn leader(&self, host: &str) -> Outcome<String> {
        let status =
            self.wait_status(
                host,
                "somebody controls",
                Duration::from_secs(20),
                |s| match (&s.leader, s.cached) {
                    (Some(_), false) => Ok(()),
                    _ => Err(unready(s)),
                },
            )?;
        status.leader.ok_or_else(|| "nobody controls".into())
    }

    /// What happened, as `microcloud events` in a host tells it.
    pub fn events(&self, host: &str) -> Outcome<Vec<Event>> {
        #[derive(serde::Deserialize)]
        struct Printed {
            events: Vec<Event>,
        }
        let printed = self.must(host, &["microcloud", "events", "-o", "json"])?;
        let printed: Printed = serde_json::from_str(&printed)?;
        Ok(printed.events)
    }

    /// Requests and writes that the controller sent to LXD so far.
    pub fn lxd_requests(&self, host: &str) -> Outcome<(u64, u64)> {
        let status = self.status(host)?;
        let report = status.report.ok_or("there is no report")?;
        Ok(report.lxd_requests)
    }

    /// The process id of a host's agent, in the host.
    pub fn agent_pid(&self, host: &str) -> Outcome<u32> {
        let words = ["systemctl", "show", "-P", "MainPID", "microcloud.service"];
        Ok(self.must(host, &words)?.trim().parse()?)
    }

    /// Prints what a person would look at first when something went wrong.
    fn tell(&self) {
        for host in self.hosts() {
            let journal = [
                "journalctl",
                "--unit=microcloud.service",
                "--no-pager",
                "--output=short-precise",
                "--lines=80",
            ];
            let events = ["microcloud", "events"];
            for words in [&journal[..], &["microcloud", "status"], &events] {
                match self.run(&host, words, "") {
                    Ok(out) => eprintln!(
                        "---- {host}: {words:?}\n{}{}",
                        text(&out.stdout),
                        text(&out.stderr)
                    ),
                    Err(e) => eprintln!("---- {host}: {words:?}: {e}"),
                }
            }
        }
    }
}

/// The cluster.
pub const CLUSTER: &str = "\
apiVersion: microcloud.dev/v1
kind: Cluster
metadata: {name: demo}
spec: {initiator: micro01}
";

/// A pool, a network and a profile.
pub const THINGS: &str = "\
apiVersion: microcloud.dev/v1
kind: StoragePool
metadata: {name: local}
spec: {driver: btrfs, description: Local storage}
---
apiVersion: microcloud.dev/v1
kind: Network
metadata: {name: lan}
spec: {type: bridge, config: {ipv4.address: 10.99.0.1/24, ipv4.nat: true, ipv6.address: none}}
---
apiVersion: microcloud.dev/v1
kind: Profile
metadata: {name: web}
spec:
  config: {limits.cpu: 2}
  devices:
    root: {type: disk, path: /, pool: local}
    eth0: {type: nic, network: lan}
";

fn only_member(host: &str, address: &str, fingerprint: &str) -> String {
    format!(
        "\
apiVersion: microcloud.dev/v1
kind: Member
metadata: {{name: {host}}}
spec: {{address: {address}, fingerprint: {fingerprint}}}
"
    )
}

/// A `Member` and the `Disk` that it gives to the pool `local`.
pub fn member(host: &str, address: &str, fingerprint: &str) -> String {
    only_member(host, address, fingerprint)
        + &format!(
            "\
---
apiVersion: microcloud.dev/v1
kind: Disk
metadata: {{name: local-{host}}}
spec: {{member: {host}, match: size >= 1GiB, limit: 1, use: {{pool: local}}}}
"
        )
}
