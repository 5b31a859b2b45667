//! What is known of the services' configuration keys: plan and diff both read this one table.

/// Where a key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One value for the whole cluster.
    Global,
    /// One value per member.
    Member,
}

/// What is known of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFacts {
    /// Where it is kept.
    pub scope: Scope,
    /// The value the service uses when the key is unset, if it is fixed.
    pub default: Option<&'static str>,
    /// Whether the service fills it in when it is left out or `auto` (generated addresses).
    pub computed: bool,
    /// Whether it cannot change after creation.
    pub immutable: bool,
    /// Whether its value must not be seen.
    pub secret: bool,
}

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    /// The server (`/1.0`).
    Server,
    /// A cluster member.
    Member,
    /// A storage pool of this driver.
    Pool(&'a str),
    /// A network of this type.
    Network(&'a str),
    /// A project.
    Project,
    /// A profile.
    Profile,
    /// A device of a profile, of this type.
    Device(&'a str),
}
