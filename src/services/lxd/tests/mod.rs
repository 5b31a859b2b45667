//! The client against a transport that answers from a script, and against a socket.

mod answers;
mod double;
mod operations;
mod secure;
mod socket;
mod stream;
mod wire;
