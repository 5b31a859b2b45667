//! Why a command ended without doing what it was asked for.

use super::Exit;
use super::client::ClientError;
use crate::resources::ObjectRef;

/// Why a command ended.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The agent did not do it.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// The words of the command line make no sense together.
    #[error("{0}")]
    Usage(String),
    /// It was not done, for a reason that is no mistake of the command line.
    #[error("{0}")]
    NotDone(String),
    /// The files cannot be applied; their errors were shown.
    #[error("{0}: nothing was sent")]
    Files(String),
    /// Nobody names it.
    #[error("there is no {0}: `microcloud get` lists what there is")]
    NotFound(ObjectRef),
    /// No task can be run on this machine.
    #[error("cannot start")]
    Start(#[source] std::io::Error),
}

impl CommandError {
    /// The exit code of the command.
    pub fn exit(&self) -> Exit {
        match self {
            CommandError::Agent(error) => error.exit(),
            CommandError::Usage(_) | CommandError::Files(_) | CommandError::NotFound(_) => {
                Exit::Invalid
            }
            CommandError::NotDone(_) => Exit::NotAsWanted,
            CommandError::Start(_) => Exit::Unreachable,
        }
    }
}
