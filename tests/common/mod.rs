//! What tests of the whole program share.

pub mod adopted;
pub mod ovn;
pub mod proof;
pub mod proxy;
pub mod random;
pub mod raw;
pub mod real;
pub mod session;
pub mod terminal;
pub mod whole;
