//! What is there and how to change it: one room per service.

pub mod ceph;
pub mod host;
pub mod lxd;
pub mod ovn;
pub mod peer;
