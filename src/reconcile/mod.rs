//! The controller: world, plan, admit, apply, status.
