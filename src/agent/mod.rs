//! The daemon of one member.
