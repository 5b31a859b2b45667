//! What tests of the whole program share.

pub mod proof;
pub mod proxy;
pub mod real;
