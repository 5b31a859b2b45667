//! Other programs' files to resources ([`import`]).

pub mod import;
pub mod own;
pub mod written;
