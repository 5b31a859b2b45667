//! A controller for private clouds: it keeps what LXD or Incus, OVN and Ceph really have
//! equal to what a watched directory of YAML resources says.
//!
//! Data goes one way: sources become [`resources`], [`services`] observe, [`reconcile`] plans
//! the difference, admits what may run together and applies it, and reports. See
//! `docs/architecture.md`.

pub mod agent;
pub mod catalog;
pub mod cli;
pub mod convert;
pub mod reconcile;
pub mod resources;
pub mod sandbox;
pub mod services;
pub mod simulate;
