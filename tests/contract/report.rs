//! How assertions went, one by one and all together.

use super::check::Failure;
use std::fmt;
use std::time::Duration;

/// How one assertion went.
pub struct Tried {
    /// Its name.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// Why it does not hold.
    pub failure: Option<Failure>,
}

/// How all of them went.
pub struct Report(pub Vec<Tried>);

impl Report {
    /// Whether each one holds.
    pub fn holds(&self) -> bool {
        self.0.iter().all(|tried| tried.failure.is_none())
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        match &self.failure {
            None => write!(f, "ok   {seconds:6.2} s  {}", self.name),
            Some(failure) => write!(f, "FAIL {seconds:6.2} s  {}\n     {failure}", self.name),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.0.iter().filter(|tried| tried.failure.is_some());
        for tried in failed.clone() {
            writeln!(f, "{tried}")?;
        }
        write!(
            f,
            "{} assertions, {} do not hold",
            self.0.len(),
            failed.count()
        )
    }
}
