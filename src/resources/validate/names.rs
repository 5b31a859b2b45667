//! What things may be called.

use crate::resources::object::Kind;

/// The project that holds what this program must remember.
pub const OWN_PROJECT: &str = "microcloud";

/// The longest name of an interface the kernel takes, in bytes.
pub const LONGEST_INTERFACE: usize = 15;

/// The longest name of anything else.
const LONGEST: usize = 63;

/// Why a name cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct BadName {
    pub message: String,
    pub help: Option<String>,
}

fn bad(message: String, help: impl Into<String>) -> Result<(), BadName> {
    Err(BadName {
        message,
        help: Some(help.into()),
    })
}

/// Checks the name of a resource of a kind.
pub fn check(kind: Kind, name: &str) -> Result<(), BadName> {
    if name.is_empty() {
        return bad("a name must not be empty".to_owned(), "write a name");
    }
    if name.chars().count() > LONGEST {
        return bad(
            format!("the name has {} characters", name.chars().count()),
            format!("at most {LONGEST}"),
        );
    }
    match kind {
        Kind::Member => host(name),
        Kind::Project => project(name),
        _ => general(name),
    }
}

/// A host name without its domain: it is LXD's name, OVN's and Ceph's as well.
pub fn host(name: &str) -> Result<(), BadName> {
    if name == "none" {
        return bad(
            "`none` cannot be the name of a member".to_owned(),
            "LXD keeps it for itself",
        );
    }
    if name.contains('.') {
        let short = name.split('.').next().unwrap_or_default();
        return bad(
            format!("`{name}` is a name with a domain"),
            format!("write the short host name: `{short}`"),
        );
    }
    if let Some(c) = name
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && *c != '-')
    {
        return bad(
            format!("`{name}` is no host name: it holds {}", shown(c)),
            "host names hold letters, digits and dashes",
        );
    }
    if name.starts_with('-') || name.ends_with('-') {
        return bad(
            format!("`{name}` is no host name: it begins or ends with a dash"),
            "host names begin and end with a letter or a digit",
        );
    }
    if name.bytes().all(|b| b.is_ascii_digit()) {
        return bad(
            format!("`{name}` is no host name: it is a number"),
            "host names hold a letter",
        );
    }
    Ok(())
}

/// The name of a network interface.
pub fn interface(name: &str) -> Result<(), BadName> {
    if name.is_empty() {
        return bad(
            "an interface must have a name".to_owned(),
            "write one such as enp5s0",
        );
    }
    if name.len() > LONGEST_INTERFACE {
        return bad(
            format!("`{name}` has {} characters", name.len()),
            format!("interfaces have at most {LONGEST_INTERFACE}"),
        );
    }
    if let Some(c) = name
        .chars()
        .find(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':'))
    {
        return bad(
            format!("`{name}` is no interface: it holds {}", shown(c)),
            "write one such as enp5s0",
        );
    }
    if matches!(name, "." | "..") {
        return bad(
            format!("`{name}` is no interface"),
            "write one such as enp5s0",
        );
    }
    Ok(())
}

fn project(name: &str) -> Result<(), BadName> {
    if let Some(c) = name.chars().find(|c| matches!(c, '_' | '\'' | '"' | '*')) {
        return bad(
            format!("a project's name must not hold {}", shown(c)),
            "write a dash",
        );
    }
    general(name)
}

fn general(name: &str) -> Result<(), BadName> {
    let forbidden = |c: &char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(
                c,
                '/' | '\\'
                    | ':'
                    | '"'
                    | '\''
                    | '?'
                    | '&'
                    | '+'
                    | '$'
                    | '*'
                    | '='
                    | '~'
                    | '%'
                    | '#'
                    | ','
            )
    };
    if let Some(c) = name.chars().find(forbidden) {
        return bad(
            format!("a name must not hold {}", shown(c)),
            "use letters, digits, dashes, dots and underscores",
        );
    }
    if matches!(name, "." | "..") || name.starts_with('-') {
        return bad(
            format!("`{name}` cannot be a name"),
            "begin with a letter or a digit",
        );
    }
    Ok(())
}

fn shown(c: char) -> String {
    match c {
        ' ' => "a space".to_owned(),
        c if c.is_control() || c.is_whitespace() => format!("U+{:04X}", c as u32),
        c => format!("`{c}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_like_hosts() {
        for good in ["micro01", "a", "A-1", "1a"] {
            assert_eq!(check(Kind::Member, good), Ok(()), "{good}");
        }
        for wrong in [
            "",
            "none",
            "a.b",
            "-a",
            "a-",
            "a_b",
            "12",
            "é",
            "a b",
            &"a".repeat(64),
        ] {
            assert!(check(Kind::Member, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_names_are_what_the_services_take() {
        for good in ["default", "UPLINK", "remote-fs", "a.b_c", "0", "é"] {
            assert_eq!(check(Kind::Profile, good), Ok(()), "{good}");
        }
        for wrong in ["a/b", "a b", "..", "-a", "a:b", "*", "a\tb"] {
            assert!(check(Kind::Profile, wrong).is_err(), "{wrong}");
        }
        assert!(check(Kind::Project, "a_b").is_err());
        assert_eq!(interface("enp5s0f1np1.100"), Ok(()));
        assert!(interface("enp5s0f1np1.1000").is_err());
    }
}
