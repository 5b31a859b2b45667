//! `/1.0/operations`: what runs, what it came to, waiting for it.

use super::Call;
use super::reply::{Answer, Refusal, Reply};
use crate::services::lxd::Method;
use crate::simulate::events::Lifecycle;
use crate::simulate::faults::FaultAction;
use crate::simulate::world::World;
use serde_json::{Map as JsonMap, Value, json};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// An operation.
#[derive(Debug)]
pub(in crate::simulate) struct OperationRow {
    /// The machine it runs on.
    pub machine: usize,
    /// The member name of that machine then.
    pub location: String,
    /// `task` or `token`.
    pub class: &'static str,
    /// What it does.
    pub description: String,
    /// The project it belongs to.
    pub project: String,
    /// When it began.
    pub created: Instant,
    /// When it last changed.
    pub updated: Instant,
    /// 103 running, 200 success, 400 failure, 401 cancelled.
    pub code: i64,
    /// What it works on.
    pub resources: Value,
    /// What it has to say.
    pub metadata: Value,
    /// Why it failed.
    pub err: String,
    /// The status that a wait which saw it fail is answered with.
    pub err_code: u16,
    /// Becomes true when it ends.
    pub done: watch::Sender<bool>,
}

/// A new operation.
pub(super) struct Start {
    /// What it does.
    pub description: &'static str,
    /// What it works on.
    pub resources: Value,
    /// How long it takes.
    pub takes: Duration,
    /// The machine it runs on.
    pub on: usize,
}

impl Call<'_> {
    /// Starts an operation on the LXD that was asked; its effect happens when it ends.
    pub(super) fn start(
        &mut self,
        start: Start,
        effect: impl FnOnce(&mut World) -> Result<(), Refusal> + Send + 'static,
    ) -> Answer {
        let id = self.begin(
            start.on,
            "task",
            start.description,
            start.resources,
            Value::Null,
        );
        let (mut takes, mut failure) = (start.takes, None);
        match self.fault.take() {
            Some(FaultAction::FailOperation(message)) => failure = Some(message),
            Some(FaultAction::SlowOperation(more)) => takes += more,
            _ => {}
        }
        let ends = id.clone();
        self.world.schedule(takes, move |world| {
            // Gone with its daemon: it has no effect.
            if !world.operations.contains_key(&ends) {
                return;
            }
            let result = match failure {
                Some(message) => Err(Refusal::failed(message)),
                None => effect(world),
            };
            finish(world, &ends, result);
        });
        Ok(Reply::Operation(id))
    }

    /// Notes an operation that runs.
    pub(super) fn begin(
        &mut self,
        on: usize,
        class: &'static str,
        description: &str,
        resources: Value,
        metadata: Value,
    ) -> String {
        let id = self.world.uuid();
        let now = Instant::now();
        let project = self.query("project").unwrap_or("default").to_owned();
        self.world.operations.insert(
            id.clone(),
            OperationRow {
                machine: on,
                location: self.world.machines[on].lxd.member.clone(),
                class,
                description: description.to_owned(),
                project: project.clone(),
                created: now,
                updated: now,
                code: 103,
                resources,
                metadata,
                err: String::new(),
                err_code: 0,
                done: watch::channel(false).0,
            },
        );
        let rendered = render(self.world, &id);
        self.world.emit_operation(on, &project, rendered);
        id
    }

    /// `/1.0/operations…`.
    pub(super) fn operations(&mut self, method: Method, rest: &[&str]) -> Answer {
        match (method, rest) {
            (Method::Get, []) => Ok(self.list_operations()),
            (Method::Get, [id]) => {
                let row = self.visible(id)?;
                Ok(Reply::value(render_row(self.world, id, row)))
            }
            (Method::Get, [id, "wait"]) => {
                let row = self.visible(id)?;
                Ok(Reply::Wait {
                    operation: (*id).to_owned(),
                    done: row.done.subscribe(),
                    timeout: self
                        .query("timeout")
                        .and_then(|t| t.parse::<i64>().ok())
                        .and_then(|t| u64::try_from(t).ok())
                        .map(Duration::from_secs),
                })
            }
            (Method::Delete, [id]) => {
                let row = self.visible(id)?;
                if row.code >= 200 {
                    return Err(Refusal::bad("Only running operations can be cancelled"));
                }
                if row.class != "token" {
                    return Err(Refusal::bad("This operation can't be cancelled"));
                }
                cancel(self.world, id);
                Ok(Reply::empty())
            }
            _ => Err(Refusal::not_implemented()),
        }
    }

    /// An operation that the asked LXD knows: its own or another member's.
    fn visible(&self, id: &str) -> Result<&OperationRow, Refusal> {
        self.world
            .operations
            .get(id)
            .filter(|row| self.sees(row))
            .ok_or_else(|| Refusal::not_found("Operation not found"))
    }

    fn sees(&self, row: &OperationRow) -> bool {
        let db_of = |machine: usize| self.world.machines[machine].lxd.db;
        row.machine == self.at
            || (db_of(row.machine) == db_of(self.at)
                && self.world.lxd_reaches(self.at, row.machine))
    }

    fn list_operations(&self) -> Reply {
        let all = self
            .query("all-projects")
            .is_some_and(|v| v == "true" || v == "1");
        let project = self.query("project").unwrap_or("default");
        let mut by_status: JsonMap<String, Value> = JsonMap::new();
        for (id, row) in &self.world.operations {
            if !self.sees(row) || !(all || row.project == project) {
                continue;
            }
            let item = if self.recursion() {
                render_row(self.world, id, row)
            } else {
                Value::from(format!("/1.0/operations/{id}"))
            };
            if let Value::Array(list) = by_status
                .entry(word(row.code).to_lowercase())
                .or_insert_with(|| json!([]))
            {
                list.push(item);
            }
        }
        Reply::value(Value::Object(by_status))
    }
}

/// Ends an operation.
fn finish(world: &mut World, id: &str, result: Result<(), Refusal>) {
    let Some(row) = world.operations.get_mut(id) else {
        return;
    };
    row.updated = Instant::now();
    match result {
        Ok(()) => row.code = 200,
        Err(refused) => {
            row.code = 400;
            row.err = refused.message;
            row.err_code = refused.code;
        }
    }
    ended(world, id);
}

/// Cancels an operation; of a token this takes back the token.
pub(super) fn cancel(world: &mut World, id: &str) {
    let Some(row) = world.operations.get_mut(id) else {
        return;
    };
    row.updated = Instant::now();
    row.code = 401;
    let machine = row.machine;
    world
        .db_mut(machine)
        .tokens
        .retain(|_, token| token.operation != id);
    let event = Lifecycle {
        action: "operation-cancelled",
        source: format!("/1.0/operations/{id}"),
        ..Lifecycle::default()
    };
    world.emit(machine, event);
    ended(world, id);
}

fn ended(world: &mut World, id: &str) {
    let rendered = render(world, id);
    let Some(row) = world.operations.get(id) else {
        return;
    };
    row.done.send_replace(true);
    let (machine, project, forgotten) = (row.machine, row.project.clone(), id.to_owned());
    world.emit_operation(machine, &project, rendered);
    let kept = world.timings.operation_kept;
    world.schedule(kept, move |world| {
        world.operations.remove(&forgotten);
    });
}

/// The answer to a wait. One that sees the operation fail is answered with the failure's own
/// status; one that comes later gets the failed operation.
pub(super) fn wait_result(world: &World, id: &str, early: bool) -> Answer {
    let row = world
        .operations
        .get(id)
        .ok_or_else(|| Refusal::not_found("Operation not found"))?;
    if row.code < 200 {
        return Err(Refusal::failed("context deadline exceeded"));
    }
    if row.code == 400 && !early {
        return Err(Refusal::new(row.err_code, row.err.clone()));
    }
    Ok(Reply::value(render_row(world, id, row)))
}

/// An operation as the API gives it; null when there is none.
pub(super) fn render(world: &World, id: &str) -> Value {
    world
        .operations
        .get(id)
        .map_or(Value::Null, |row| render_row(world, id, row))
}

fn render_row(world: &World, id: &str, row: &OperationRow) -> Value {
    json!({
        "id": id,
        "class": row.class,
        "description": row.description,
        "created_at": world.timestamp(row.created),
        "updated_at": world.timestamp(row.updated),
        "status": word(row.code),
        "status_code": row.code,
        "resources": row.resources,
        "metadata": row.metadata,
        "may_cancel": row.class == "token",
        "err": row.err,
        "location": row.location,
    })
}

fn word(code: i64) -> &'static str {
    match code {
        200 => "Success",
        400 => "Failure",
        401 => "Cancelled",
        _ => "Running",
    }
}
