//! Commands of Ceph as its monitors and managers take them: a prefix and arguments, as JSON.

use super::error::CephError;
use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt;

/// Who answers a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A monitor.
    Mon,
    /// The active manager.
    Mgr,
}

/// One command.
#[derive(Clone, PartialEq)]
pub struct Command {
    /// Who answers it.
    pub target: Target,
    arguments: Map<String, Value>,
    input: String,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What goes along may hold keys.
        f.debug_struct("Command")
            .field("prefix", &self.prefix())
            .finish_non_exhaustive()
    }
}

impl Command {
    /// A command for the monitors that answers in JSON where it can.
    pub fn new(prefix: &str) -> Command {
        let mut arguments = Map::new();
        arguments.insert("prefix".to_owned(), prefix.into());
        arguments.insert("format".to_owned(), "json".into());
        Command {
            target: Target::Mon,
            arguments,
            input: String::new(),
        }
    }

    /// A command for the active manager.
    pub fn to_mgr(prefix: &str) -> Command {
        Command {
            target: Target::Mgr,
            ..Command::new(prefix)
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Command {
        self.arguments.insert(name.to_owned(), value.into());
        self
    }

    /// Adds what is read from standard input on the command line, such as a keyring.
    #[must_use]
    pub fn reading(mut self, input: impl Into<String>) -> Command {
        self.input = input.into();
        self
    }

    /// Its words without arguments, such as `osd tree`.
    pub fn prefix(&self) -> &str {
        self.arguments
            .get("prefix")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// An argument's value.
    pub fn argument(&self, name: &str) -> Option<&Value> {
        self.arguments.get(name)
    }

    /// An argument's text; empty when it has none.
    pub fn text(&self, name: &str) -> &str {
        self.argument(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// What goes along.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// As Ceph takes it.
    pub fn json(&self) -> &Map<String, Value> {
        &self.arguments
    }
}

/// Carries commands to a cluster: a process to the real one, a function call to a simulated one.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends a command and gives back its answer, within a deadline of its own.
    ///
    /// # Errors
    /// See [`CephError`].
    async fn send(&self, command: &Command) -> Result<String, CephError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_does_not_show_what_goes_along() {
        let command = Command::new("auth import").reading("key = AQ==");
        assert!(!format!("{command:?}").contains("AQ=="));
        assert_eq!(command.input(), "key = AQ==");
        assert_eq!(command.prefix(), "auth import");
    }
}
