//! What is known of the services' configuration keys.
