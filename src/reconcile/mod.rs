//! The controller: what is wanted and what is there become plans, plans become steps, steps are
//! done, and everything is told.
//!
//! `world` is all that was observed, `memory` what must be remembered, `desired` what is wanted;
//! `plan`, `safety` and `admit` are pure; `observe`, `apply` and `store` talk to the services;
//! `queue` and `controller` decide when.

pub mod admit;
pub mod apply;
pub mod breaker;
pub mod clock;
pub mod controller;
pub mod desired;
pub mod history;
pub mod memory;
pub mod observe;
pub mod placement;
pub mod plan;
pub mod queue;
pub mod safety;
pub mod secrets;
pub mod status;
pub mod store;
pub mod world;

pub use controller::Controller;
