//! Other programs' files to resources ([`import`]), and a running cluster to resources
//! ([`export`]).

pub mod export;
pub mod import;
pub mod own;
pub mod written;
