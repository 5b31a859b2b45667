//! Why Ceph did not answer, or not as wanted.

use std::time::Duration;

/// Why a command of Ceph failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CephError {
    /// This machine has no `ceph.conf` or no key: nothing can be asked from here.
    #[error("this machine is not set up for Ceph: {missing} is missing")]
    NotSetUp {
        /// The file.
        missing: String,
    },
    /// What carries the commands cannot be started or ended.
    #[error("Ceph cannot be asked: {reason}")]
    Bridge {
        /// Why.
        reason: String,
    },
    /// The cluster could not be reached: its monitors are down, cut off or without a majority.
    #[error("Ceph's monitors do not answer: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("Ceph did not answer `{command}` within {} s", deadline.as_secs())]
    Timeout {
        /// The command.
        command: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// The command was refused.
    #[error("Ceph refused `{command}`: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// The error number, as in errno.
        code: i32,
        /// What Ceph said.
        reason: String,
    },
    /// The answer is not what is expected of this command.
    #[error("Ceph answered `{command}` with something unexpected: {reason}")]
    Answer {
        /// The command.
        command: String,
        /// Why.
        reason: String,
    },
}

impl CephError {
    /// Whether Ceph said that there is no such thing.
    pub fn is_missing(&self) -> bool {
        matches!(self, CephError::Refused { code: 2, .. })
    }
}
