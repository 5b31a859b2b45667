//! How assertions say that something does not hold.

use microcloud::services::lxd::{LxdError, TransportError};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Why an assertion does not hold, and where it says so.
#[derive(Debug)]
pub struct Failure {
    what: String,
    place: &'static Location<'static>,
}

/// Whether an assertion holds.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// It does not hold because of `what`.
    #[track_caller]
    pub fn new(what: impl Into<String>) -> Self {
        Failure {
            what: what.into(),
            place: Location::caller(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}",
            self.place.file(),
            self.place.line(),
            self.what
        )
    }
}

impl From<LxdError> for Failure {
    #[track_caller]
    fn from(error: LxdError) -> Self {
        Failure::new(error.to_string())
    }
}

impl From<TransportError> for Failure {
    #[track_caller]
    fn from(error: TransportError) -> Self {
        Failure::new(error.to_string())
    }
}

/// `holds`, or the failure `what`.
#[track_caller]
pub fn is(holds: bool, what: impl Into<String>) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(Failure::new(what))
    }
}

/// Two values that must be the same.
#[track_caller]
pub fn same<A: PartialEq<B> + fmt::Debug, B: fmt::Debug>(found: A, wanted: B) -> Outcome {
    is(
        found == wanted,
        format!("found {found:?}, wanted {wanted:?}"),
    )
}

/// A call that must fail in this way, with a message that contains `text`.
#[track_caller]
pub fn fails<T: fmt::Debug>(result: Result<T, LxdError>, category: &str, text: &str) -> Outcome {
    match result {
        Ok(value) => Err(Failure::new(format!(
            "wanted {category} with {text:?}, but it succeeded: {value:?}"
        ))),
        Err(error) => is(
            error.category() == category && error.to_string().contains(text),
            format!(
                "wanted {category} with {text:?}, found {}: {error}",
                error.category()
            ),
        ),
    }
}

/// Asks again and again until it holds; fails with the last failure after the deadline.
pub async fn eventually<F, T>(deadline: Duration, mut ask: F) -> Result<T, Failure>
where
    F: AsyncFnMut() -> Result<T, Failure>,
{
    let end = Instant::now() + deadline;
    loop {
        match ask().await {
            Ok(value) => return Ok(value),
            Err(failure) if Instant::now() >= end => return Err(failure),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A map of text.
pub fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// A list in order, whatever order it came in.
pub fn sorted(list: &[String]) -> Vec<String> {
    let mut list = list.to_vec();
    list.sort();
    list
}

/// The value of a key that must be there.
#[track_caller]
pub fn value_of(config: &BTreeMap<String, String>, key: &str) -> Result<String, Failure> {
    let value = config.get(key).cloned();
    value.ok_or_else(|| Failure::new(format!("there is no {key} in {config:?}")))
}
