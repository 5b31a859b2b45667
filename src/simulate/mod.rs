//! A simulated cloud for the same controller.
