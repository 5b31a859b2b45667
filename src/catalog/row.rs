//! The rows of the tables.

use super::{KeyFacts, Scope};

/// One row: a key, or a pattern in which `*` stands for one or more characters.
#[derive(Debug)]
pub struct Row {
    pub key: &'static str,
    pub facts: KeyFacts,
    pub form: Form,
}

/// How values of a key are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Character by character.
    Text,
    /// `true`, `yes`, `on` and `1` are one.
    Bool,
    /// `1GiB` and `1024MiB` are one.
    Size,
    /// Space around commas says nothing.
    List,
    /// Two spellings of an IPv6 address are one.
    Address,
}

/// Keys every object has.
pub const ANY: &[Row] = &[text("user.*"), text("volatile.*").computed()];

/// A key whose values are text.
pub const fn text(key: &'static str) -> Row {
    Row {
        key,
        facts: KeyFacts::UNKNOWN,
        form: Form::Text,
    }
}

/// A key whose values are truth values.
pub const fn bool(key: &'static str) -> Row {
    Row {
        form: Form::Bool,
        ..text(key)
    }
}

/// A key whose values are sizes in bytes.
pub const fn size(key: &'static str) -> Row {
    Row {
        form: Form::Size,
        ..text(key)
    }
}

/// A key whose values are lists with commas.
pub const fn list(key: &'static str) -> Row {
    Row {
        form: Form::List,
        ..text(key)
    }
}

/// A key whose values are addresses or subnets.
pub const fn address(key: &'static str) -> Row {
    Row {
        form: Form::Address,
        ..text(key)
    }
}

impl Row {
    /// Kept per member.
    pub const fn member(mut self) -> Row {
        self.facts.scope = Scope::Member;
        self
    }

    /// Unset means this.
    pub const fn default(mut self, value: &'static str) -> Row {
        self.facts.default = Some(value);
        self
    }

    /// Filled in by the service.
    pub const fn computed(mut self) -> Row {
        self.facts.computed = true;
        self
    }

    /// Fixed after creation.
    pub const fn immutable(mut self) -> Row {
        self.facts.immutable = true;
        self
    }

    /// Not to be seen.
    pub const fn secret(mut self) -> Row {
        self.facts.secret = true;
        self
    }

    /// Whether this row is about `key`.
    pub fn matches(&self, key: &str) -> bool {
        let mut parts = self.key.split('*');
        let Some(mut rest) = parts.next().and_then(|first| key.strip_prefix(first)) else {
            return false;
        };
        let mut parts = parts.peekable();
        while let Some(part) = parts.next() {
            // A `*` stands for at least one character.
            let Some(first) = rest.chars().next() else {
                return false;
            };
            let searched = &rest[first.len_utf8()..];
            if parts.peek().is_none() {
                return part.is_empty() || searched.ends_with(part);
            }
            match searched.find(part) {
                Some(at) => rest = &searched[at + part.len()..],
                None => return false,
            }
        }
        rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_or_more_characters() {
        let row = text("bgp.peers.*.password");
        assert!(row.matches("bgp.peers.a.password") && row.matches("bgp.peers.a.b.password"));
        assert!(!row.matches("bgp.peers..password") && !row.matches("bgp.peers.a.address"));
        assert!(!row.matches("bgp.peers.password"));
        assert!(text("user.*").matches("user.é") && !text("user.*").matches("user."));
        assert!(text("a.b").matches("a.b") && !text("a.b").matches("a.bc"));
    }
}
