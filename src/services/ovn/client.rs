//! A connection to a database server: calls and their answers, the server's `echo`, and monitors.

use super::SERVER;
use super::endpoint::{Credentials, Endpoint, Stream, open};
use super::error::OvsdbError;
use super::framing::Splitter;
use super::operation::{Operation, Outcome};
use super::rows::Row;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a call may take. A server whose raft has no leader holds transactions back; reads are
/// answered at once.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection; it ends when the last clone of it and its monitors are dropped.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    /// Reads and writes; ends with the last clone.
    _tasks: Arc<JoinSet<()>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client")
            .field(&self.shared.endpoint)
            .finish()
    }
}

struct Shared {
    endpoint: String,
    next: AtomicU64,
    out: mpsc::UnboundedSender<Value>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Calls that wait for their answer, by id.
    waiting: HashMap<u64, oneshot::Sender<Value>>,
    /// Where a monitor's updates go, by the monitor's number.
    monitors: HashMap<u64, mpsc::UnboundedSender<Vec<RowChange>>>,
    /// Why the connection ended.
    broken: Option<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self, reason: &str) -> OvsdbError {
        OvsdbError::Broken {
            endpoint: self.endpoint.clone(),
            reason: reason.to_owned(),
        }
    }

    /// Everything that waits hears that the connection is gone.
    fn end(&self, reason: String) {
        let mut state = self.state();
        state.broken.get_or_insert(reason);
        state.waiting.clear();
        state.monitors.clear();
    }

    fn received(&self, message: Value) {
        let Value::Object(mut message) = message else {
            return;
        };
        let method = message.get("method").and_then(Value::as_str).unwrap_or("");
        match method {
            "echo" => {
                let answer = json!({
                    "id": message.remove("id"),
                    "result": message.remove("params"),
                    "error": null,
                });
                let _ = self.out.send(answer);
            }
            "update2" => {
                let Some(Value::Array(params)) = message.remove("params") else {
                    return;
                };
                let mut params = params.into_iter();
                let number = params.next().and_then(|id| id.as_u64());
                let (Some(number), Some(Value::Object(tables))) = (number, params.next()) else {
                    return;
                };
                let mut state = self.state();
                let gone = state
                    .monitors
                    .get(&number)
                    .is_some_and(|to| to.send(changes(tables)).is_err());
                if gone {
                    state.monitors.remove(&number);
                }
            }
            "" => {
                let id = message.get("id").and_then(Value::as_u64);
                let waiting = id.and_then(|id| self.state().waiting.remove(&id));
                if let Some(waiting) = waiting {
                    let _ = waiting.send(Value::Object(message));
                }
            }
            // Notifications nobody asked for.
            _ => {}
        }
    }
}

impl Client {
    /// Connects; TLS needs credentials.
    ///
    /// # Errors
    /// Nothing answers there within 5 s, or the two do not trust each other.
    pub async fn connect(
        endpoint: &Endpoint,
        credentials: Option<&Credentials>,
    ) -> Result<Client, OvsdbError> {
        let stream = timeout(CONNECT, open(endpoint, credentials))
            .await
            .map_err(|_| OvsdbError::Connect {
                endpoint: endpoint.to_string(),
                reason: format!("no connection within {} s", CONNECT.as_secs()),
            })??;
        let (read, write) = tokio::io::split(stream);
        let (out, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            endpoint: endpoint.to_string(),
            next: AtomicU64::new(1),
            out,
            state: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(reading(Arc::clone(&shared), read));
        tasks.spawn(writing(Arc::clone(&shared), write, queue));
        Ok(Client {
            shared,
            _tasks: Arc::new(tasks),
        })
    }

    /// Calls a method and waits for its result.
    ///
    /// # Errors
    /// The connection breaks, the deadline passes, or the server refuses.
    pub async fn call(
        &self,
        method: &str,
        params: Value,
        deadline: Duration,
    ) -> Result<Value, OvsdbError> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        self.call_as(id, method, params, deadline).await
    }

    async fn call_as(
        &self,
        id: u64,
        method: &str,
        params: Value,
        deadline: Duration,
    ) -> Result<Value, OvsdbError> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.shared.state();
            if let Some(reason) = &state.broken {
                return Err(self.shared.broken(reason));
            }
            state.waiting.insert(id, answer);
        }
        let request = json!({"method": method, "params": params, "id": id});
        // The queue's end is gone only when the connection is, which shows below.
        let _ = self.shared.out.send(request);
        let answer = match timeout(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                let reason = self.shared.state().broken.clone();
                return Err(self
                    .shared
                    .broken(reason.as_deref().unwrap_or("it was closed")));
            }
            Err(_) => {
                self.shared.state().waiting.remove(&id);
                return Err(OvsdbError::TooLate {
                    endpoint: self.shared.endpoint.clone(),
                    method: method.to_owned(),
                    deadline,
                });
            }
        };
        let Value::Object(mut answer) = answer else {
            return Ok(Value::Null);
        };
        match answer.remove("error") {
            None | Some(Value::Null) => Ok(answer.remove("result").unwrap_or(Value::Null)),
            Some(error) => Err(self.refused(method, &error)),
        }
    }

    fn refused(&self, method: &str, error: &Value) -> OvsdbError {
        let word = |key: &str| error.get(key).and_then(Value::as_str).map(str::to_owned);
        OvsdbError::Refused {
            endpoint: self.shared.endpoint.clone(),
            method: method.to_owned(),
            error: word("error")
                .or_else(|| error.as_str().map(|e| e.trim_end().to_owned()))
                .unwrap_or_else(|| error.to_string()),
            details: word("details").unwrap_or_default(),
        }
    }

    fn unexpected(&self, method: &str, reason: impl std::fmt::Display) -> OvsdbError {
        OvsdbError::Unexpected {
            endpoint: self.shared.endpoint.clone(),
            method: method.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// The databases the server has.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn list_dbs(&self) -> Result<Vec<String>, OvsdbError> {
        let names = self.call("list_dbs", json!([]), ANSWER).await?;
        serde_json::from_value(names).map_err(|e| self.unexpected("list_dbs", e))
    }

    /// A database's schema; its `version` is the one of OVN's or Open vSwitch's schema.
    ///
    /// # Errors
    /// As [`Client::call`]; there is no such database.
    pub async fn get_schema(&self, database: &str) -> Result<Value, OvsdbError> {
        self.call("get_schema", json!([database]), ANSWER).await
    }

    /// Runs operations as one transaction: all of them, or none.
    ///
    /// # Errors
    /// As [`Client::call`]; an operation or the commit failed, and nothing was changed.
    pub async fn transact(
        &self,
        database: &str,
        operations: &[Operation],
    ) -> Result<Vec<Outcome>, OvsdbError> {
        let mut params = vec![json!(database)];
        params.extend(operations.iter().map(|o| o.0.clone()));
        let answer = self.call("transact", params.into(), ANSWER).await?;
        let Value::Array(results) = answer else {
            return Err(self.unexpected("transact", "not a list"));
        };
        // An operation that failed says so in its place, a failed commit behind the last one.
        if let Some(error) = results
            .iter()
            .find(|r| r.get("error").is_some_and(|e| !e.is_null()))
        {
            return Err(self.refused("transact", error));
        }
        if results.len() < operations.len() {
            return Err(self.unexpected("transact", "fewer results than operations"));
        }
        results
            .into_iter()
            .map(|r| match r {
                Value::Null => Ok(Outcome::default()),
                r => serde_json::from_value(r).map_err(|e| self.unexpected("transact", e)),
            })
            .collect()
    }

    /// All rows of a table.
    ///
    /// # Errors
    /// As [`Client::transact`]; a row is not as its type says.
    pub async fn rows<R: Row>(&self, database: &str) -> Result<Vec<R>, OvsdbError> {
        let select = Operation::select(R::TABLE, &[], R::COLUMNS);
        let results = self.transact(database, &[select]).await?;
        results
            .into_iter()
            .flat_map(|r| r.rows)
            .map(|row| serde_json::from_value(row).map_err(|e| self.unexpected(R::TABLE, e)))
            .collect()
    }

    /// How the server's databases stand.
    ///
    /// # Errors
    /// As [`Client::rows`].
    pub async fn databases(&self) -> Result<Vec<super::rows::Database>, OvsdbError> {
        self.rows(SERVER).await
    }

    /// Follows tables of a database. The first changes are the rows that are there.
    ///
    /// # Errors
    /// As [`Client::call`]; there is no such table or column.
    pub async fn monitor(
        &self,
        database: &str,
        tables: &[MonitorTable<'_>],
    ) -> Result<Monitor, OvsdbError> {
        // Without this a server closes the connection when a database's standing changes. Old
        // servers do not know it, and do not do that either.
        let _ = self
            .call("set_db_change_aware", json!([true]), ANSWER)
            .await;
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let requests: Map<String, Value> = tables
            .iter()
            .map(|t| {
                let mut request = json!({"columns": t.columns});
                if let Some((column, value)) = t.only {
                    request["where"] = json!([[column, "==", value]]);
                }
                ((*t.table).to_owned(), json!([request]))
            })
            .collect();
        let (to, changes_to_come) = mpsc::unbounded_channel();
        self.shared.state().monitors.insert(number, to);
        let params = json!([database, number, requests]);
        let initial = match self.call("monitor_cond", params, ANSWER).await {
            Ok(Value::Object(tables)) => changes(tables),
            Ok(_) => return Err(self.unexpected("monitor_cond", "not an object")),
            Err(e) => {
                self.shared.state().monitors.remove(&number);
                return Err(e);
            }
        };
        Ok(Monitor {
            client: self.clone(),
            first: Some(initial),
            changes: changes_to_come,
        })
    }
}

/// A table that is followed.
#[derive(Debug, Clone, Copy)]
pub struct MonitorTable<'a> {
    /// The table.
    pub table: &'a str,
    /// The columns whose changes are told.
    pub columns: &'a [&'a str],
    /// Of which rows: those whose column has this value.
    pub only: Option<(&'a str, &'a str)>,
}

/// A change of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowChange {
    /// The table.
    pub table: String,
    /// The row.
    pub row: String,
    /// What happened.
    pub change: Change,
}

/// What happened to a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It was there when the monitor began.
    Initial(Value),
    /// It was made.
    Insert(Value),
    /// Columns changed: of sets and maps, as the protocol has it, only the difference is told, so
    /// that who needs the whole reads the row again.
    Modify(Value),
    /// It went.
    Delete,
}

/// The changes of tables that are followed, as they come.
#[derive(Debug)]
pub struct Monitor {
    client: Client,
    first: Option<Vec<RowChange>>,
    changes: mpsc::UnboundedReceiver<Vec<RowChange>>,
}

impl Monitor {
    /// The next changes, which were made in one transaction; first the rows that were there. Cancel
    /// safe.
    ///
    /// # Errors
    /// The connection ended: connect again, and follow anew.
    pub async fn next(&mut self) -> Result<Vec<RowChange>, OvsdbError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        match self.changes.recv().await {
            Some(changes) => Ok(changes),
            None => {
                let reason = self.client.shared.state().broken.clone();
                Err(self
                    .client
                    .shared
                    .broken(reason.as_deref().unwrap_or("it was closed")))
            }
        }
    }
}

fn changes(tables: Map<String, Value>) -> Vec<RowChange> {
    let mut all = Vec::new();
    for (table, rows) in tables {
        let Value::Object(rows) = rows else { continue };
        for (row, change) in rows {
            let Value::Object(change) = change else {
                continue;
            };
            let by_word: BTreeMap<String, Value> = change.into_iter().collect();
            let Some((word, content)) = by_word.into_iter().next() else {
                continue;
            };
            let change = match word.as_str() {
                "initial" => Change::Initial(content),
                "insert" => Change::Insert(content),
                "modify" => Change::Modify(content),
                "delete" => Change::Delete,
                _ => continue,
            };
            all.push(RowChange {
                table: table.clone(),
                row,
                change,
            });
        }
    }
    all
}

async fn reading(shared: Arc<Shared>, mut stream: ReadHalf<Box<dyn Stream>>) {
    let mut splitter = Splitter::default();
    let mut buffer = vec![0; 64 << 10];
    let reason = 'read: loop {
        match stream.read(&mut buffer).await {
            Ok(0) => break "the server closed it".to_owned(),
            Ok(n) => splitter.push(&buffer[..n]),
            Err(e) => break e.to_string(),
        }
        loop {
            match splitter.next() {
                Ok(Some(message)) => shared.received(message),
                Ok(None) => break,
                Err(reason) => break 'read reason,
            }
        }
    };
    shared.end(reason);
}

async fn writing(
    shared: Arc<Shared>,
    mut stream: WriteHalf<Box<dyn Stream>>,
    mut queue: mpsc::UnboundedReceiver<Value>,
) {
    while let Some(message) = queue.recv().await {
        let text = message.to_string();
        let written = async {
            stream.write_all(text.as_bytes()).await?;
            stream.flush().await
        };
        if let Err(e) = written.await {
            shared.end(e.to_string());
            return;
        }
    }
}
