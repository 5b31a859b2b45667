//! The stream of what happened, which mends itself.

use super::client::Lxd;
use super::deadlines::EVENT_RETRY;
use super::transport::{EventStream, Method, Transport, TransportError};
use super::types::Lifecycle;
use backoff::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What the stream of events says.
#[derive(Debug, Clone)]
pub enum Event {
    /// The stream is open (again). Nothing is replayed: read everything now.
    Connected,
    /// Something was done to an object.
    Lifecycle(Lifecycle),
    /// The stream broke or could not be opened; it is tried again. What happens until
    /// [`Event::Connected`] is not heard of.
    Lost(TransportError),
}

/// A stream that was open this long was healthy: the pauses start small again.
const HEALTHY: Duration = Duration::from_secs(10);

/// How many events are remembered to tell copies. In a cluster LXD sends each event of the member
/// that is listened to twice, with events of other members at most in between.
const REMEMBERED: usize = 32;

struct State {
    lxd: Lxd,
    recent: VecDeque<Value>,
    open: Option<(EventStream, Instant)>,
    pauses: ExponentialBackoff,
    pause: Option<Duration>,
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(EVENT_RETRY.0)
        .with_max_delay(EVENT_RETRY.1)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

impl Lxd {
    /// The lifecycle events of all projects, for ever: a broken stream is opened again after a
    /// pause that grows. Each time it opens, [`Event::Connected`] says so.
    ///
    /// Two gaps that the stream cannot close: what happened while it was broken is lost, and so
    /// is, without any break, what happens on a member in the seconds after its LXD restarted.
    /// Events are a reason to look, never what there is.
    pub fn events(&self) -> impl Stream<Item = Event> + Send + 'static {
        let state = State {
            lxd: self.clone(),
            recent: VecDeque::with_capacity(REMEMBERED),
            open: None,
            pauses: pauses(),
            pause: None,
        };
        stream::unfold(state, |mut state| async move {
            let event = next(&mut state).await;
            Some((event, state))
        })
    }
}

async fn next(state: &mut State) -> Event {
    loop {
        if let Some((stream, since)) = &mut state.open {
            let item = stream.next().await;
            match item {
                Some(Ok(raw)) => {
                    if let Some(lifecycle) = lifecycle(&raw)
                        && first_time(&mut state.recent, raw)
                    {
                        return Event::Lifecycle(lifecycle);
                    }
                    continue;
                }
                broken => {
                    if since.elapsed() >= HEALTHY {
                        state.pauses = pauses();
                    }
                    state.open = None;
                    state.pause = state.pauses.next();
                    return Event::Lost(match broken {
                        Some(Err(error)) => error,
                        _ => TransportError::Broken {
                            endpoint: "the stream of events".to_owned(),
                            reason: "it ended".to_owned(),
                        },
                    });
                }
            }
        }
        if let Some(pause) = state.pause.take() {
            sleep(pause).await;
        }
        match open(&state.lxd).await {
            Ok(stream) => {
                state.open = Some((stream, Instant::now()));
                return Event::Connected;
            }
            Err(error) => {
                state.pause = state.pauses.next();
                return Event::Lost(error);
            }
        }
    }
}

/// Whether this event was not among the last ones. Two events are the same when all of their
/// frames are, the time to the nanosecond included; without a time nothing can be said.
fn first_time(recent: &mut VecDeque<Value>, raw: Value) -> bool {
    if raw.get("timestamp").is_none() {
        return true;
    }
    if recent.contains(&raw) {
        return false;
    }
    if recent.len() == REMEMBERED {
        recent.pop_front();
    }
    recent.push_back(raw);
    true
}

async fn open(lxd: &Lxd) -> Result<EventStream, TransportError> {
    lxd.count(Method::Get);
    let transport: Arc<dyn Transport> = Arc::clone(&lxd.transport);
    transport.events(&["lifecycle", "operation"]).await
}

/// Operations that change a member without any lifecycle event (seen on 5.0.2), and the action
/// that later versions tell.
const SILENT: [(&str, &str); 2] = [
    ("Evacuating cluster member", "cluster-member-evacuated"),
    ("Restoring cluster member", "cluster-member-restored"),
];

/// The end of an operation that no lifecycle event tells of, as one.
fn silent(raw: &Value) -> Option<Lifecycle> {
    let metadata = raw.get("metadata")?;
    // Also one that failed may have changed the state before it did.
    if metadata.get("status_code")?.as_u64()? < 200 {
        return None;
    }
    let description = metadata.get("description")?.as_str()?;
    let (_, action) = SILENT.iter().find(|(told, _)| *told == description)?;
    let location = raw.get("location")?.as_str()?;
    Some(Lifecycle {
        action: (*action).to_owned(),
        source: format!("/1.0/cluster/members/{location}"),
        project: "default".to_owned(),
        location: location.to_owned(),
        requestor: None,
    })
}

/// Reads a lifecycle event, or the end of an operation that is as good as one; anything else is
/// nothing.
pub(super) fn lifecycle(raw: &Value) -> Option<Lifecycle> {
    match raw.get("type")?.as_str()? {
        "lifecycle" => {}
        "operation" => return silent(raw),
        _ => return None,
    }
    let metadata = raw.get("metadata")?;
    let text = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let source = text(metadata.get("source")).unwrap_or_default();
    let (path, query) = match source.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query)),
        None => (source.clone(), None),
    };
    let in_query = query.and_then(|query| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix("project="))
    });
    Some(Lifecycle {
        action: text(metadata.get("action"))?,
        source: path,
        project: text(raw.get("project"))
            .or_else(|| text(metadata.get("project")))
            .or_else(|| in_query.map(str::to_owned))
            .unwrap_or_else(|| "default".to_owned()),
        location: text(raw.get("location")).unwrap_or_default(),
        requestor: metadata
            .get("requestor")
            .and_then(|requestor| text(requestor.get("username"))),
    })
}
