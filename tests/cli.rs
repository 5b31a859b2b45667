//! Commands as they are typed, against an agent that gives fixed answers (`tests/cli/api`): what
//! they print (`tests/cli/*.txt`), what they send, and how they end. Write the files anew with
//! `SNAPSHOTS=overwrite cargo test --test cli`.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use microcloud::reconcile::plan::Topic;
use serde_json::{Value, json};
use snapbox::{assert_data_eq, file};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::process::Command;

/// An agent with fixed answers. Each path gives its answers one after another; the last one stays.
struct Agent {
    /// Its socket is in here, and the files that commands are given.
    dir: tempfile::TempDir,
    talk: Arc<Mutex<Talk>>,
}

#[derive(Default)]
struct Talk {
    answers: BTreeMap<String, VecDeque<(u16, Value)>>,
    /// Paths and bodies, in order.
    asked: Vec<(String, Value)>,
}

fn api(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cli/api/{name}.json"));
    let text = std::fs::read_to_string(path).expect("the file is there");
    serde_json::from_str(&text).expect("it is JSON")
}

impl Agent {
    async fn start() -> Agent {
        let dir = tempfile::tempdir().expect("a directory");
        let talk = Arc::new(Mutex::new(Talk::default()));
        let listener = UnixListener::bind(dir.path().join("socket")).expect("a socket");
        let router = Router::new().fallback(answer).with_state(Arc::clone(&talk));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let agent = Agent { dir, talk };
        agent.answers("status", api("status"));
        agent.answers("resources", api("resources"));
        agent.answers("events", api("events"));
        agent
    }

    /// Adds an answer of `/v1/NAME`.
    fn answers(&self, name: &str, body: Value) {
        self.answers_with(name, 200, body);
    }

    fn answers_with(&self, name: &str, status: u16, body: Value) {
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = talk.answers.entry(format!("/v1/{name}")).or_default();
        answers.push_back((status, body));
    }

    /// Forgets the answers of `/v1/NAME` and gives this one.
    fn only_answers(&self, name: &str, body: Value) {
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        talk.answers.remove(&format!("/v1/{name}"));
        drop(talk);
        self.answers(name, body);
    }

    /// What was sent to `/v1/NAME`.
    fn asked(&self, name: &str) -> Vec<Value> {
        let talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        let path = format!("/v1/{name}");
        let of_path = talk.asked.iter().filter(|(p, _)| *p == path);
        of_path.map(|(_, body)| body.clone()).collect()
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).expect("a file");
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Runs `microcloud …`.
    async fn run(&self, words: &str) -> Ran {
        run(&self.socket(), self.dir.path(), words, "").await
    }
}

async fn answer(
    State(talk): State<Arc<Mutex<Talk>>>,
    Query(query): Query<BTreeMap<String, u64>>,
    uri: Uri,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let (next, others) = {
        let mut talk = talk.lock().unwrap_or_else(PoisonError::into_inner);
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        talk.asked.push((path.clone(), body));
        match talk.answers.get_mut(&path) {
            None => return StatusCode::NOT_FOUND.into_response(),
            Some(answers) if answers.len() > 1 => (answers.pop_front(), true),
            Some(answers) => (answers.front().cloned(), false),
        }
    };
    // Nothing new: the whole time is waited.
    if let (false, Some(seconds), Some(1..)) = (others, query.get("timeout"), query.get("after")) {
        tokio::time::sleep(Duration::from_secs(*seconds)).await;
    }
    let (status, body) = next.expect("there is always a last answer");
    let status = StatusCode::from_u16(status).expect("a status");
    (status, axum::Json(body)).into_response()
}

/// A command that ended.
struct Ran {
    line: String,
    code: Option<i32>,
    stdout: String,
    stderr: String,
    socket: String,
}

impl Ran {
    /// All of it as one text.
    fn transcript(&self) -> String {
        let mut text = format!("$ {}\n{}", self.line, self.stdout);
        if !self.stderr.is_empty() {
            text.push_str(&format!("[stderr]\n{}", self.stderr));
        }
        let code = self.code.map_or("none".to_owned(), |c| c.to_string());
        text.push_str(&format!("[exit {code}]\n"));
        text.replace(&self.socket, "SOCKET")
    }
}

async fn run(socket: &Path, dir: &Path, words: &str, input: &str) -> Ran {
    let started = Command::new(env!("CARGO_BIN_EXE_microcloud"))
        .args(words.split_whitespace())
        .current_dir(dir)
        .env("MICROCLOUD_SOCKET", socket)
        .env("TZ", "UTC")
        .env_remove("NO_COLOR")
        .env("TERM", "xterm-256color")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = started.expect("the program starts");
    let mut stdin = child.stdin.take().expect("its input is piped");
    // A command that does not read it ends first.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output());
    let output = output.await.expect("in time").expect("its output is read");
    let ran = Ran {
        line: format!("microcloud {words}"),
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
        socket: socket.display().to_string(),
    };
    assert!(
        !ran.stdout.contains('\x1b') && !ran.stderr.contains('\x1b'),
        "colours without a terminal: {}{}",
        ran.stdout,
        ran.stderr
    );
    ran
}

const WEB: &str = "\
apiVersion: microcloud.dev/v1
kind: Profile
metadata: {name: web}
spec: {config: {limits.cpu: 4}}
";

const API: &str = "\
apiVersion: microcloud.dev/v1
kind: Profile
metadata: {name: api, project: shop}
spec: {config: {limits.memory: 1GiB}}
";

fn applied(pairs: &[(&str, &str)]) -> Value {
    let one = |(object, result): &(&str, &str)| json!({"object": object, "result": result});
    pairs.iter().map(one).collect()
}

/// The status with only these objects, all of them ready, and nothing broken.
fn ready(objects: &[&str], version: u64) -> Value {
    let mut status = api("status");
    let all = status["report"]["objects"].as_array().cloned();
    let template = all.expect("objects").into_iter().next().expect("one");
    let of = |object: &&str| {
        let mut one = template.clone();
        one["object"] = json!(object);
        one
    };
    status["report"]["objects"] = objects.iter().map(of).collect();
    status["report"]["sources"]["directory"]["broken"] = json!([]);
    status["report"]["version"] = json!(version);
    status["directory"]["behind"] = json!(false);
    status
}

#[tokio::test]
async fn status_shows_everything() {
    let agent = Agent::start().await;
    assert_data_eq!(
        agent.run("status").await.transcript(),
        file!["cli/status.txt"]
    );
    agent.only_answers("status", ready(&["Cluster/demo", "Profile/web"], 42));
    let ran = agent.run("status").await;
    assert_data_eq!(ran.transcript(), file!["cli/status_ready.txt"]);
}

#[tokio::test]
async fn status_as_json_is_what_the_agent_says() {
    let agent = Agent::start().await;
    let ran = agent.run("status -o json").await;
    let printed: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(printed["report"], api("status")["report"]);
    assert_eq!(printed, api("status"));
    assert_eq!(ran.code, Some(1));
}

#[tokio::test]
async fn status_without_a_controller_shows_what_was_known() {
    let agent = Agent::start().await;
    let mut status = ready(&["Cluster/demo"], 42);
    status["cached"] = json!(true);
    status["leader"] = Value::Null;
    status["role"] = json!("waiting");
    status["reason"] = json!("LXD has no quorum");
    agent.only_answers("status", status.clone());
    let ran = agent.run("status").await;
    assert_data_eq!(ran.transcript(), file!["cli/status_cached.txt"]);
    status["report"] = Value::Null;
    status["machines"] = json!({});
    agent.only_answers("status", status);
    let ran = agent.run("status").await;
    assert_data_eq!(ran.transcript(), file!["cli/status_nothing.txt"]);
    agent.only_answers("resources", json!([]));
    let ran = agent.run("get").await;
    assert_data_eq!(ran.transcript(), file!["cli/get_nothing.txt"]);
    let ran = agent.run("wait --timeout 1s").await;
    assert_data_eq!(ran.transcript(), file!["cli/wait_nobody.txt"]);
}

#[tokio::test]
async fn an_agent_that_does_not_answer_ends_with_three() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("socket");
    for words in [
        "status",
        "get",
        "describe profile web",
        "diff",
        "wait --timeout 1s",
        "events",
        "reconcile",
        "suspend",
        "resume",
        "approve Disk/a/wipe@b",
        "delete profile/web",
        "cluster list",
        "cluster recover --yes",
        "service list",
        "service add",
        "tokens list",
        "tokens revoke micro04",
        "waitready -t 0",
    ] {
        let ran = run(&socket, dir.path(), words, "").await;
        assert_eq!(ran.code, Some(3), "{words}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: no agent "), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        assert!(ran.stdout.is_empty(), "{}", ran.stdout);
    }
    let ran = run(&socket, dir.path(), "apply -f -", WEB).await;
    assert_data_eq!(ran.transcript(), file!["cli/no_agent.txt"]);
    // What nobody listens on any more is the same.
    drop(UnixListener::bind(&socket).expect("a socket"));
    let ran = run(&socket, dir.path(), "status", "").await;
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
}

#[tokio::test]
async fn nobody_controls_and_refusals_have_their_exit_codes() {
    let agent = Agent::start().await;
    let failure = |message: &str| json!({"message": message});
    agent.answers_with("reconcile", 503, failure("nobody controls: no quorum"));
    agent.answers_with("reconcile", 404, failure("there is no Profile/nope"));
    let words = "reconcile profile/nope";
    let ran = agent.run(words).await;
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (Some(3), "error: nobody controls: no quorum\n")
    );
    let ran = agent.run(words).await;
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (Some(2), "error: there is no Profile/nope\n")
    );
    // A path the agent does not have: it is of another version.
    let ran = agent.run("approve a").await;
    assert_data_eq!(ran.transcript(), file!["cli/other_version.txt"]);
    agent.only_answers("events", json!({"not": "events"}));
    assert_eq!(agent.run("events").await.code, Some(3));
}

#[tokio::test]
async fn apply_prints_what_became_of_each() {
    let agent = Agent::start().await;
    agent.file("web.yaml", WEB);
    agent.file("api.yaml", API);
    agent.answers(
        "apply",
        applied(&[
            ("Profile/web", "configured"),
            ("Profile/shop/api", "unchanged"),
        ]),
    );
    let ran = agent.run("apply -f web.yaml api.yaml").await;
    assert_data_eq!(ran.transcript(), file!["cli/apply.txt"]);
    let sent = agent.asked("apply");
    let names = sent[0]["resources"].as_array().expect("resources").iter();
    let names: Vec<&str> = names
        .filter_map(|r| r["metadata"]["name"].as_str())
        .collect();
    assert_eq!(names, ["web", "api"], "the default project comes first");
    assert_eq!(sent[0]["resources"][0]["origin"]["file"], "web.yaml");
    // The same from the standard input and from a folder.
    let ran = run(&agent.socket(), agent.dir.path(), "apply -f -", WEB).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    std::fs::remove_file(agent.socket()).expect("only its name goes");
    let ran = agent.run("apply -f .").await;
    assert_eq!(
        ran.code,
        Some(3),
        "the files are read before: {}",
        ran.stderr
    );
}

#[tokio::test]
async fn a_broken_file_ends_with_two_and_nothing_is_sent() {
    let agent = Agent::start().await;
    agent.file("a.yaml", &WEB.replace("limits.cpu", "limits.cpuu"));
    agent.file("b.yaml", &API.replace("spec:", "spek:"));
    agent.answers("apply", applied(&[]));
    let ran = agent.run("apply -f a.yaml -f b.yaml").await;
    assert_data_eq!(ran.transcript(), file!["cli/apply_broken.txt"]);
    assert_eq!(agent.run("diff -f b.yaml").await.code, Some(2));
    assert_eq!(agent.run("delete -f b.yaml").await.code, Some(2));
    for words in ["apply -f nope.yaml", "apply -f nope/", "apply"] {
        let ran = agent.run(words).await;
        assert_eq!(ran.code, Some(2), "{words}: {}", ran.stderr);
    }
    agent.file("empty.yaml", "# nothing\n");
    let ran = agent.run("apply -f empty.yaml").await;
    assert_eq!(ran.code, Some(2));
    assert_eq!(ran.stderr, "error: there are no resources in empty.yaml\n");
    assert!(agent.asked("apply").is_empty() && agent.asked("diff").is_empty());
}

#[tokio::test]
async fn what_is_accepted_already_can_be_referred_to() {
    let agent = Agent::start().await;
    agent.answers("apply", applied(&[("Disk/d", "created")]));
    let disk = |member: &str| {
        format!(
            "apiVersion: microcloud.dev/v1\nkind: Disk\nmetadata: {{name: d}}\n\
             spec: {{member: {member}, path: /dev/disk/by-id/x, use: {{pool: local}}}}\n\
             ---\napiVersion: microcloud.dev/v1\nkind: StoragePool\nmetadata: {{name: local}}\n\
             spec: {{driver: btrfs}}\n"
        )
    };
    agent.file("known.yaml", &disk("micro03"));
    agent.file("unknown.yaml", &disk("micro09"));
    let ran = agent.run("apply -f known.yaml").await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ran = agent.run("apply -f unknown.yaml").await;
    assert_eq!(ran.code, Some(2), "{}", ran.stdout);
    assert!(ran.stderr.contains("micro09"), "{}", ran.stderr);
}

#[tokio::test]
async fn what_the_directory_owns_is_refused() {
    let agent = Agent::start().await;
    let message = "Profile/web belongs to the watched directory (profiles.yaml:3): change it there";
    for name in ["apply", "diff", "delete"] {
        agent.answers_with(name, 409, json!({ "message": message }));
    }
    agent.file("web.yaml", WEB);
    for words in [
        "apply -f web.yaml",
        "apply -f web.yaml --dry-run",
        "diff -f web.yaml",
        "delete profile/web",
    ] {
        let ran = agent.run(words).await;
        assert_eq!(ran.code, Some(2), "{words}");
        assert_eq!(ran.stderr, format!("error: {message}\n"), "{words}");
    }
}

#[tokio::test]
async fn apply_and_wait_tells_only_changes_and_ends_when_all_is_ready() {
    let agent = Agent::start().await;
    agent.file("web.yaml", WEB);
    agent.answers("apply", applied(&[("Profile/web", "created")]));
    let mut at_work = ready(&["Cluster/demo", "Profile/web"], 50);
    let web = &mut at_work["report"]["objects"][1];
    web["conditions"][0]["status"] = json!(false);
    web["conditions"][0]["message"] = json!("create Profile/web");
    let mut waits = at_work.clone();
    waits["report"]["objects"][1]["conditions"][0]["message"] = json!("Network/lan is not ready");
    // Ready, but what is said is about the version before.
    let mut old = ready(&["Cluster/demo", "Profile/web"], 51);
    old["report"]["objects"][1]["generation"] = json!(2);
    agent.only_answers("status", old);
    agent.answers("status", at_work.clone());
    agent.answers("status", at_work);
    agent.answers("status", waits);
    agent.answers("status", ready(&["Cluster/demo", "Profile/web"], 52));
    let ran = agent.run("apply -f web.yaml --wait --timeout 30s").await;
    assert_data_eq!(ran.transcript(), file!["cli/apply_wait.txt"]);
}

#[tokio::test]
async fn wait_ends_early_when_only_somebodys_help_is_missing() {
    let agent = Agent::start().await;
    let mut status = ready(&["Cluster/demo", "StoragePool/local", "Profile/web"], 60);
    let objects = &mut status["report"]["objects"];
    for (place, kind, message) in [
        (1, "Stalled", "it is of another driver"),
        (2, "Reconciling", "StoragePool/local is not ready"),
    ] {
        let conditions = &mut objects[place]["conditions"];
        conditions[0]["status"] = json!(false);
        conditions[0]["message"] = json!(message);
        let mut second = conditions[0].clone();
        second["type"] = json!(kind);
        second["status"] = json!(true);
        conditions.as_array_mut().expect("a list").push(second);
    }
    objects[1]["refused"] =
        json!([{"reason": "TypeMismatch", "message": "it is of another driver", "approve": null}]);
    objects[2]["waitingOn"] = json!([{
        "on": serde_json::to_value(Topic::Object("StoragePool/local".parse().expect("an object"))).expect("JSON"),
        "reason": "DependencyNotReady",
        "message": "StoragePool/local is not ready"
    }]);
    agent.only_answers("status", status.clone());
    let began = Instant::now();
    let ran = agent.run("wait --timeout 90s").await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    assert!(
        ran.stderr
            .contains("2 of 3 resources are not ready, and waiting does not help")
            && ran.stderr.contains("it is of another driver"),
        "{}",
        ran.stderr
    );

    // While members are updated one after another, or anything else still goes on, it waits.
    status["report"]["objects"][1]["refused"][0]["reason"] = json!("VersionMismatch");
    agent.only_answers("status", status);
    let began = Instant::now();
    let ran = agent.run("wait --timeout 7s").await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(
        began.elapsed() >= Duration::from_secs(7),
        "{:?}",
        began.elapsed()
    );
    assert!(
        !ran.stderr.contains("waiting does not help"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn wait_ends_with_one_when_the_time_is_over_and_says_why() {
    let agent = Agent::start().await;
    let began = Instant::now();
    let ran = agent.run("wait --for=ready --timeout 1s").await;
    assert_data_eq!(ran.transcript(), file!["cli/wait_late.txt"]);
    assert!(began.elapsed() < Duration::from_secs(10));
    let ran = agent
        .run("wait profile/web storagepool/old --timeout 1s")
        .await;
    assert_data_eq!(ran.transcript(), file!["cli/wait_two_late.txt"]);
    let ran = agent.run("wait member micro01 micro02 --timeout 1s").await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "2 resources are ready\n")
    );
    let ran = agent.run("wait profile/nope").await;
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.starts_with("error: there is no Profile/nope"),
        "{}",
        ran.stderr
    );
    agent.only_answers("status", ready(&["Cluster/demo"], 60));
    let ran = agent.run("wait").await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "1 resource is ready\n")
    );
}

#[tokio::test]
async fn an_agent_that_goes_while_it_is_waited_for_is_asked_again() {
    let agent = Agent::start().await;
    let failure = json!({"message": "micro01 controls and does not answer"});
    let mut at_work = ready(&["Profile/web"], 50);
    at_work["report"]["objects"][0]["conditions"][0]["status"] = json!(false);
    agent.only_answers("status", at_work);
    agent.answers_with("status", 503, failure.clone());
    agent.answers_with("status", 503, failure.clone());
    agent.answers("status", ready(&["Profile/web"], 51));
    let ran = agent.run("wait --timeout 30s").await;
    assert_data_eq!(ran.transcript(), file!["cli/wait_lost.txt"]);
    // It does not come back: that is not the same as not ready.
    let mut at_work = ready(&["Profile/web"], 50);
    at_work["report"]["objects"][0]["conditions"][0]["status"] = json!(false);
    agent.only_answers("status", at_work);
    agent.answers_with("status", 503, failure);
    assert_eq!(agent.run("wait --timeout 1s").await.code, Some(3));
}

#[tokio::test]
async fn diff_shows_each_field_and_ends_with_one_when_something_differs() {
    let agent = Agent::start().await;
    agent.answers("diff", api("plans"));
    assert_data_eq!(agent.run("diff").await.transcript(), file!["cli/diff.txt"]);
    let ran = agent.run("diff -o json").await;
    let printed: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        printed["summary"],
        json!({"create": 1, "change": 2, "delete": 2, "release": 1, "refused": 2, "waiting": 2})
    );
    assert_eq!(printed["plans"].as_array().map(Vec::len), Some(8));
    // Notes alone are no difference.
    let plans = api("plans");
    agent.only_answers("diff", json!([plans[1], plans[3], plans[5]]));
    let ran = agent.run("diff").await;
    assert_data_eq!(ran.transcript(), file!["cli/diff_same.txt"]);
}

#[tokio::test]
async fn a_dry_run_shows_only_what_the_files_would_change_and_applies_nothing() {
    let agent = Agent::start().await;
    agent.file("web.yaml", WEB);
    let plans = api("plans");
    // With the file: `web` changes, and `old` is deleted as it was to be anyway.
    agent.answers("diff", json!([plans[6], plans[7], plans[8]]));
    agent.answers("diff", json!([plans[7]]));
    agent.answers("apply", applied(&[]));
    let ran = agent.run("apply -f web.yaml --dry-run").await;
    assert_data_eq!(ran.transcript(), file!["cli/apply_dry_run.txt"]);
    assert_eq!(
        agent.asked("diff")[0]["resources"][0]["metadata"]["name"],
        "web"
    );
    assert_eq!(agent.asked("diff")[1]["resources"], Value::Null);
    assert!(agent.asked("apply").is_empty());
}

#[tokio::test]
async fn get_lists_by_kind() {
    let agent = Agent::start().await;
    assert_data_eq!(agent.run("get").await.transcript(), file!["cli/get.txt"]);
    let ran = agent.run("get profiles -o wide").await;
    assert_data_eq!(ran.transcript(), file!["cli/get_wide.txt"]);
    let ran = agent.run("get members -o name").await;
    assert_eq!(
        ran.stdout,
        "member/micro01\nmember/micro02\nmember/micro03\n"
    );
    let ran = agent.run("get profile nope").await;
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.starts_with("error: there is no Profile/nope"),
        "{}",
        ran.stderr
    );
    let ran = agent.run("get projects").await;
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (Some(0), "", "No resources.\n")
    );
    assert_eq!(agent.run("get nonsense").await.code, Some(2));
}

#[tokio::test]
async fn get_prints_documents_that_can_be_applied_again() {
    let agent = Agent::start().await;
    let ran = agent.run("get profiles -o yaml").await;
    assert_data_eq!(ran.transcript(), file!["cli/get_yaml.txt"]);
    agent.file("again.yaml", &ran.stdout);
    agent.answers("apply", applied(&[("Profile/web", "unchanged")]));
    let ran = agent.run("apply -f again.yaml").await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let mut sent = agent.asked("apply")[0]["resources"].clone();
    let mut accepted = json!([api("resources")[7], api("resources")[6]]);
    for resource in [&mut sent, &mut accepted]
        .into_iter()
        .flat_map(Value::as_array_mut)
        .flatten()
    {
        resource["origin"] = Value::Null;
    }
    assert_eq!(sent, accepted);

    let ran = agent.run("get profile web -o json --show-status").await;
    let one: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(one["kind"], "Profile");
    assert_eq!(one["status"]["generation"], 4);
    assert_eq!(one.get("origin"), None);
    let ran = agent.run("get -o json").await;
    let all: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(all["items"].as_array().map(Vec::len), Some(8));
    assert_eq!(agent.run("get -w -o yaml").await.code, Some(2));
    assert_eq!(agent.run("get --show-status").await.code, Some(2));
}

#[tokio::test]
async fn watching_prints_what_changes() {
    let agent = Agent::start().await;
    let mut next = api("status");
    next["report"]["version"] = json!(42);
    next["report"]["objects"][8]["conditions"][0]["status"] = json!(true);
    let conditions = next["report"]["objects"][8]["conditions"].as_array_mut();
    conditions.expect("conditions").truncate(1);
    agent.answers("status", next);
    // The agent is of another version after that, which ends the watching.
    agent.answers("status", json!({}));
    agent.answers("status", Value::Null);
    let ran = agent.run("get profiles --watch").await;
    assert_data_eq!(ran.transcript(), file!["cli/get_watch.txt"]);
}

#[tokio::test]
async fn describe_tells_everything_about_an_object() {
    let agent = Agent::start().await;
    let ran = agent.run("describe profile web").await;
    assert_data_eq!(ran.transcript(), file!["cli/describe.txt"]);
    let ran = agent.run("describe StoragePool/old Disk/spare").await;
    assert_data_eq!(ran.transcript(), file!["cli/describe_two.txt"]);
    assert_eq!(agent.run("describe profile/nope").await.code, Some(2));
    assert_eq!(agent.run("describe").await.code, Some(2));
}

#[tokio::test]
async fn events_are_listed_and_followed() {
    let agent = Agent::start().await;
    let ran = agent.run("events").await;
    let shown = ran.stdout.clone();
    assert!(
        shown
            .lines()
            .nth(2)
            .is_some_and(|l| l.contains("Drifted") && l.ends_with("(3 times)")),
        "{shown}"
    );
    assert!(shown.contains("controller"), "{shown}");
    let ran = agent.run("events profile/web -o json").await;
    let printed: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(
        printed,
        json!({"events": [api("events")[1], api("events")[2]]})
    );

    let mut more = api("events")[1].clone();
    more["number"] = json!(9);
    more["at"] = json!("2026-05-01T11:00:00Z");
    agent.answers("events", json!([more]));
    agent.answers("events", json!({}));
    agent.answers("events", Value::Null);
    let ran = agent.run("events --follow").await;
    assert_data_eq!(ran.transcript(), file!["cli/events_follow.txt"]);
}

#[tokio::test]
async fn delete_sends_references_and_says_what_stays() {
    let agent = Agent::start().await;
    agent.answers("delete", applied(&[("Profile/shop/api", "deleted")]));
    agent.answers(
        "delete",
        applied(&[("StoragePool/a", "deleted"), ("StoragePool/b", "deleted")]),
    );
    agent.file("api.yaml", API);
    let ran = agent.run("delete -f api.yaml").await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "profile/shop/api deleted\n")
    );
    let ran = agent.run("delete pool a b").await;
    assert_data_eq!(ran.transcript(), file!["cli/delete.txt"]);
    assert_eq!(
        agent.asked("delete"),
        [
            json!({"objects": ["Profile/shop/api"]}),
            json!({"objects": ["StoragePool/a", "StoragePool/b"]})
        ]
    );
    for words in ["delete", "delete profile", "delete profile/a -f api.yaml"] {
        assert_eq!(agent.run(words).await.code, Some(2), "{words}");
    }
}

#[tokio::test]
async fn small_requests_are_sent_as_they_are_meant() {
    let agent = Agent::start().await;
    for name in ["reconcile", "suspend", "resume", "approve"] {
        agent.answers(name, Value::Null);
    }
    let mut transcript = String::new();
    for words in [
        "reconcile",
        "reconcile profile/web --accept-from micro02",
        "suspend",
        "suspend network lan --for 30m --reason uplink",
        "suspend --for 0s",
        "resume",
        "resume network/lan",
        "approve StoragePool/old/delete@old",
    ] {
        transcript.push_str(&agent.run(words).await.transcript());
    }
    assert_data_eq!(transcript, file!["cli/small.txt"]);
    assert_eq!(
        agent.asked("reconcile"),
        [
            json!({"objects": [], "acceptFrom": null}),
            json!({"objects": ["Profile/web"], "acceptFrom": "micro02"})
        ]
    );
    assert_eq!(
        agent.asked("suspend"),
        [
            json!({"object": null, "seconds": 3600, "reason": null}),
            json!({"object": "Network/lan", "seconds": 1800, "reason": "uplink"})
        ]
    );
    assert_eq!(
        agent.asked("resume"),
        [json!({"object": null}), json!({"object": "Network/lan"})]
    );
    assert_eq!(
        agent.asked("approve"),
        [json!({"step": "StoragePool/old/delete@old"})]
    );
}

/// The status with what two of its machines run.
fn with_services() -> Value {
    let placed = |service: &str, address: &str, roles: &[&str], status: &str| json!({"service": service, "address": address, "roles": roles, "status": status});
    let mut status = api("status");
    status["machines"]["micro01"]["services"] = json!([
        placed(
            "LXD",
            "10.77.0.1:8443",
            &["database-leader", "database"],
            "Online"
        ),
        placed("OVN", "10.78.0.1", &["central", "chassis"], "Online"),
        placed("Ceph", "10.77.0.1", &["mon", "mgr", "osd.0"], "mgr failed"),
    ]);
    status["machines"]["micro02"]["services"] =
        json!([placed("LXD", "10.77.0.2:8443", &[], "Evacuated")]);
    status
}

#[tokio::test]
async fn members_and_services_are_listed_in_every_format() {
    let agent = Agent::start().await;
    agent.only_answers("status", with_services());
    let ran = agent.run("cluster list").await;
    assert_data_eq!(ran.transcript(), file!["cli/cluster_list.txt"]);
    let ran = agent.run("cluster list -f csv").await;
    assert_data_eq!(ran.transcript(), file!["cli/cluster_list_csv.txt"]);
    let table = agent.run("cluster list").await.stdout;
    assert_eq!(agent.run("cluster ls --format compact").await.stdout, table);
    let json = agent.run("cluster list -o json").await.stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json[0]["services"][2]["roles"][2], "osd.0");
    assert_eq!(json[2]["status"], "Unreachable");
    let yaml = agent.run("cluster list -f yaml").await.stdout;
    let yaml: Value = serde_yaml::from_str(&yaml).expect("YAML");
    assert_eq!(yaml, json);
    assert_eq!(agent.run("cluster list -f nonsense").await.code, Some(2));

    let ran = agent.run("service list").await;
    assert_data_eq!(ran.transcript(), file!["cli/service_list.txt"]);
    let ran = agent.run("service list -f csv").await;
    assert_data_eq!(ran.transcript(), file!["cli/service_list_csv.txt"]);
    let json = agent.run("service list -f json").await.stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json[1]["service"], &json[1]["name"]),
        (&json!("OVN"), &json!("micro01"))
    );
}

#[tokio::test]
async fn a_service_is_only_added_where_no_file_says_otherwise() {
    let agent = Agent::start().await;
    let ran = agent.run("service add --yes --uplink up0").await;
    assert_data_eq!(ran.transcript(), file!["cli/service_add_of_a_file.txt"]);
    let mut resources = api("resources");
    for resource in resources.as_array_mut().expect("a list") {
        if resource["kind"] == "Cluster" {
            resource["origin"]["source"] = json!("applied");
            resource["spec"]["ovn"] = json!({"provider": "packaged"});
            resource["spec"]["ceph"] = json!({"provider": "packaged"});
        }
    }
    agent.only_answers("resources", resources);
    let ran = agent.run("service add").await;
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("nothing is left to add"),
        "{}",
        ran.stderr
    );
    let ran = agent.run("service add --ceph-disk micro01=/dev/sdb").await;
    assert!(
        ran.stderr.contains("Ceph is set up already"),
        "{}",
        ran.stderr
    );
    assert!(agent.asked("apply").is_empty());
}

#[tokio::test]
async fn tokens_are_listed_without_their_secrets_and_revoked() {
    let agent = Agent::start().await;
    let one = json!({
        "name": "micro04",
        "kind": "token",
        "member": "micro01",
        "expiresAt": "2030-01-01T03:00:00Z",
    });
    agent.answers("agent/tokens", json!([one]));
    agent.answers("agent/tokens/revoke", json!([one]));
    let ran = agent.run("tokens list").await;
    assert_data_eq!(ran.transcript(), file!["cli/tokens_list.txt"]);
    let ran = agent.run("tokens revoke micro04").await;
    assert_eq!(ran.stdout, "token micro04 revoked\n");
    assert_eq!(
        agent.asked("agent/tokens/revoke"),
        [json!({"name": "micro04"})]
    );
}

#[tokio::test]
async fn the_database_is_brought_back_when_somebody_is_sure() {
    let agent = Agent::start().await;
    let mut recovery = json!({
        "name": "micro03",
        "refused": "LXD's database has its majority",
        "lost": ["micro01", "micro02"],
        "left": ["Ceph lost 2 of 3 monitors."],
    });
    agent.only_answers("agent/recovery", recovery.clone());
    let ran = agent.run("cluster recover --yes").await;
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.stderr, "error: LXD's database has its majority\n");
    recovery["refused"] = Value::Null;
    agent.only_answers("agent/recovery", recovery.clone());
    let ran = run(&agent.socket(), agent.dir.path(), "cluster recover", "\n").await;
    assert_eq!(ran.code, Some(1), "no is the default");
    assert_eq!(agent.asked("agent/recovery").len(), 2);
    agent.only_answers("agent/recovery", recovery);
    agent.answers(
        "agent/recovery",
        json!({"copy": "/var/lib/lxd/database.before-recovery-1"}),
    );
    agent.only_answers("status", ready(&["Cluster/demo"], 42));
    let ran = agent.run("cluster recover --yes").await;
    assert_data_eq!(ran.transcript(), file!["cli/cluster_recover.txt"]);
}

#[tokio::test]
async fn waitready_waits_for_the_agent_and_for_lxd() {
    let agent = Agent::start().await;
    let report = |lxd: Value| {
        json!({
            "name": "micro01", "agentVersion": "", "fingerprint": "", "machineId": "",
            "bootId": "", "lxd": lxd, "disks": [], "interfaces": [],
        })
    };
    let silent = report(json!({"state": "notRunning", "reason": "no socket"}));
    agent.answers("agent/report", silent.clone());
    agent.answers("agent/report", report(json!({"state": "running"})));
    assert_eq!(agent.run("waitready -t 20").await.code, Some(0));
    assert_eq!(agent.asked("agent/report").len(), 2);
    agent.only_answers("agent/report", silent);
    let ran = agent.run("waitready --timeout 1s").await;
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (Some(1), "error: LXD does not answer: no socket\n")
    );
    let nowhere = agent.dir.path().join("nowhere");
    let ran = run(&nowhere, agent.dir.path(), "waitready -t 1", "").await;
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert_eq!(agent.run("waitready -t nonsense").await.code, Some(2));
}

#[tokio::test]
async fn the_flag_names_another_socket_and_completions_know_the_commands() {
    let agent = Agent::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let words = format!("--socket {} status", agent.socket().display());
    assert_eq!(
        run(Path::new("/nowhere"), dir.path(), &words, "")
            .await
            .code,
        Some(1)
    );
    let words = format!("status --socket {}", agent.socket().display());
    assert_eq!(
        run(Path::new("/nowhere"), dir.path(), &words, "")
            .await
            .code,
        Some(1)
    );
    for shell in ["bash", "zsh", "fish"] {
        let ran = agent.run(&format!("completion {shell}")).await;
        assert_eq!(ran.code, Some(0));
        assert!(ran.stdout.contains("accept-from"), "{shell}");
    }
    assert_eq!(agent.run("completion nonsense").await.code, Some(2));
}
