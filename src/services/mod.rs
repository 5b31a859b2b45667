//! What is there and how to change it.
