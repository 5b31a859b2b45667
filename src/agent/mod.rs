//! The daemon of one member.

pub mod api;
