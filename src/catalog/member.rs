//! Configuration of cluster members.

use super::row::{Row, text};

pub const KEYS: &[Row] = &[text("scheduler.instance").default("all")];
