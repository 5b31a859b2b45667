//! The stream of events over a WebSocket, with pings: a peer that is gone without closing the
//! connection must not look like one where nothing happens.

use super::deadlines::{CONNECT, EVENT_PING, EVENT_SILENCE, READ};
use super::transport::{EventStream, TransportError};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use reqwest::RequestBuilder;
use reqwest_websocket::{Message, Upgrade, WebSocket};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

/// Opens the stream.
pub(super) async fn open(
    request: RequestBuilder,
    endpoint: String,
) -> Result<EventStream, TransportError> {
    let opening = async {
        let response = request.upgrade().send().await?;
        response.into_websocket().await
    };
    let socket = match timeout(CONNECT + READ, opening).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => {
            return Err(TransportError::Connect {
                reason: last_cause(&error),
                endpoint,
            });
        }
        Err(_) => {
            return Err(TransportError::Timeout {
                endpoint,
                seconds: (CONNECT + READ).as_secs(),
            });
        }
    };
    Ok(watch(socket, endpoint).boxed())
}

struct Watched {
    socket: WebSocket,
    endpoint: String,
    pings: tokio::time::Interval,
    heard: Instant,
}

/// The socket's messages, as JSON, until it breaks or has been silent for too long.
fn watch(
    socket: WebSocket,
    endpoint: String,
) -> impl stream::Stream<Item = Result<Value, TransportError>> + Send + 'static {
    let mut pings = interval_at(Instant::now() + EVENT_PING, EVENT_PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watched = Watched {
        socket,
        endpoint,
        pings,
        heard: Instant::now(),
    };
    stream::unfold(Some(watched), |watched| async move {
        let mut watched = watched?;
        match watched.next().await {
            Ok(value) => Some((Ok(value), Some(watched))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

impl Watched {
    async fn next(&mut self) -> Result<Value, TransportError> {
        loop {
            let silent_at = self.heard + EVENT_SILENCE;
            tokio::select! {
                message = self.socket.next() => {
                    let message = match message {
                        Some(Ok(message)) => message,
                        Some(Err(error)) => return Err(self.broken(last_cause(&error))),
                        None => return Err(self.broken("the service closed it".to_owned())),
                    };
                    self.heard = Instant::now();
                    match message {
                        Message::Text(text) => return self.parse(text.as_bytes()),
                        Message::Binary(bytes) => return self.parse(&bytes),
                        Message::Close { .. } => {
                            return Err(self.broken("the service closed it".to_owned()));
                        }
                        // Answering a ping is the library's business; both are signs of life.
                        _ => {}
                    }
                }
                _ = self.pings.tick() => {
                    let ping = self.socket.send(Message::Ping(Bytes::new()));
                    // A full socket is as dead as a closed one.
                    match timeout(EVENT_PING, ping).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return Err(self.broken(last_cause(&error))),
                        Err(_) => return Err(self.silent()),
                    }
                }
                () = sleep_until(silent_at) => return Err(self.silent()),
            }
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Value, TransportError> {
        serde_json::from_slice(bytes).map_err(|error| TransportError::NotJson {
            endpoint: self.endpoint.clone(),
            reason: error.to_string(),
        })
    }

    fn broken(&self, reason: String) -> TransportError {
        TransportError::Broken {
            endpoint: self.endpoint.clone(),
            reason,
        }
    }

    fn silent(&self) -> TransportError {
        TransportError::Timeout {
            endpoint: self.endpoint.clone(),
            seconds: EVENT_SILENCE.as_secs(),
        }
    }
}

fn last_cause(error: &reqwest_websocket::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
