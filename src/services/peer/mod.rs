//! Another member's agent: identity, pinned TLS, and a client.
