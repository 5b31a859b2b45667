//! What tests of the whole program share.

pub mod proxy;
pub mod real;
