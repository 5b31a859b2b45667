//! The envelope around every answer. The HTTP status alone says nothing: a failed operation
//! arrives with 200, so the body decides.

use super::error::LxdError;
use super::transport::{Request, Response};
use super::types::Operation;
use serde_json::Value;

/// What an envelope held.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The request is done; the object or list it asked for.
    Sync {
        /// The object.
        metadata: Value,
        /// Its ETag.
        etag: Option<String>,
    },
    /// The request started an operation.
    Async {
        /// The operation as it was when the answer was written.
        operation: Box<Operation>,
    },
}

/// Opens the envelope.
///
/// # Errors
/// The service reported a failure, or the answer is not an envelope.
pub(crate) fn open(request: &Request, response: Response) -> Result<Answer, LxdError> {
    let Response {
        status,
        etag,
        mut body,
    } = response;
    let kind = body.get("type").and_then(Value::as_str).unwrap_or("");
    match kind {
        "error" => {
            let code = number(&body, "error_code").unwrap_or(status);
            Err(LxdError::reported(code, text(&body, "error")))
        }
        "sync" | "async" if status >= 400 => Err(unexpected(
            request,
            format!("HTTP status {status} with an envelope of type {kind}"),
        )),
        "sync" => {
            if let Some(code) = number(&body, "status_code").filter(|code| *code >= 400) {
                return Err(LxdError::reported(code, text(&body, "error")));
            }
            Ok(Answer::Sync {
                metadata: body["metadata"].take(),
                etag,
            })
        }
        "async" => {
            let mut operation: Operation = decode(request, body["metadata"].take())?;
            if operation.id.is_empty() {
                operation.id = body["operation"]
                    .as_str()
                    .and_then(|url| url.split('?').next())
                    .and_then(|url| url.rsplit('/').next())
                    .unwrap_or_default()
                    .to_owned();
            }
            if operation.id.is_empty() {
                return Err(unexpected(request, "an operation without an id".to_owned()));
            }
            Ok(Answer::Async {
                operation: Box::new(operation),
            })
        }
        _ if status >= 400 => Err(LxdError::reported(status, text(&body, "error"))),
        other => Err(unexpected(
            request,
            format!("HTTP status {status} and an envelope of type {other:?}"),
        )),
    }
}

/// Reads an object out of an envelope's metadata.
///
/// # Errors
/// It does not have the object's shape. The message names the field, never its value.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(
    request: &Request,
    metadata: Value,
) -> Result<T, LxdError> {
    serde_json::from_value(metadata).map_err(|error| unexpected(request, shape(&error)))
}

/// serde's message repeats the offending value (`invalid type: string "…"`); a value may be a
/// secret, so only what comes before and after it is kept.
fn shape(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            format!("{}…{}", &message[..=first], &message[last..])
        }
        _ => message,
    }
}

/// An answer of the wrong shape.
pub(crate) fn unexpected(request: &Request, reason: String) -> LxdError {
    LxdError::Unexpected {
        request: format!("{request:?}"),
        reason,
    }
}

fn number(body: &Value, key: &str) -> Option<u16> {
    body.get(key)
        .and_then(Value::as_u64)
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n > 0)
}

fn text(body: &Value, key: &str) -> String {
    match body.get(key).and_then(Value::as_str) {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => "no reason was given".to_owned(),
    }
}
