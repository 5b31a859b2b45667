//! The language of `Disk.match`: MicroCloud's filters over a machine's disks.
//!
//! `[!] FIELD OP VALUE [&& | ||] …`, read from left to right without precedence. Operators are
//! `==`, `!=`, `<`, `>`, `<=`, `>=`. Text is compared as a case-insensitive regular expression
//! that covers the whole value unless it holds `^` or `$`; sizes take suffixes (`100GiB`); text
//! with spaces stands in quotes. Unlike MicroCloud's, unknown fields and leftovers are errors.

use regex::{Regex, RegexBuilder};

/// What kind of value a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldType {
    Text,
    Size,
    Number,
    Bool,
}

/// The fields a filter may name.
const FIELDS: [(&str, FieldType); 15] = [
    ("id", FieldType::Text),
    ("device_id", FieldType::Text),
    ("device_path", FieldType::Text),
    ("model", FieldType::Text),
    ("type", FieldType::Text),
    ("serial", FieldType::Text),
    ("wwn", FieldType::Text),
    ("pci_address", FieldType::Text),
    ("size", FieldType::Size),
    ("block_size", FieldType::Number),
    ("rpm", FieldType::Number),
    ("rotational", FieldType::Bool),
    ("read_only", FieldType::Bool),
    ("removable", FieldType::Bool),
    ("mounted", FieldType::Bool),
];

/// A filter that was understood.
#[derive(Debug, Clone)]
pub struct Filter {
    clauses: Vec<Clause>,
}

#[derive(Debug, Clone)]
struct Clause {
    /// Whether it is joined to what is before it by `||` rather than `&&`.
    or: bool,
    negated: bool,
    field: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Text { equal: bool, pattern: Pattern },
    Number { op: Op, value: u64 },
    Bool { equal: bool, value: bool },
}

#[derive(Debug, Clone)]
enum Pattern {
    Regex(Regex),
    Exact(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Equal,
    NotEqual,
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
}

/// A filter that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadFilter {
    /// The byte in the filter's text where it stops making sense.
    pub at: usize,
    /// Why.
    pub message: String,
}

fn bad<T>(at: usize, message: impl Into<String>) -> Result<T, BadFilter> {
    Err(BadFilter {
        at,
        message: message.into(),
    })
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// It makes no sense; the error says where and why.
    pub fn parse(text: &str) -> Result<Filter, BadFilter> {
        let tokens = tokens(text)?;
        let mut clauses = Vec::new();
        let mut rest = tokens.as_slice();
        let mut or = false;
        loop {
            let mut negated = false;
            while let [(_, token), tail @ ..] = rest {
                if token != "!" {
                    break;
                }
                negated = !negated;
                rest = tail;
            }
            let [(at, field), (op_at, op), (value_at, value), tail @ ..] = rest else {
                let at = rest.first().map_or(text.len(), |(at, _)| *at);
                return bad(
                    at,
                    "a condition is a field, an operator and a value, such as size >= 100GiB",
                );
            };
            clauses.push(Clause {
                or,
                negated,
                field: field.clone(),
                test: test((*at, field), (*op_at, op), (*value_at, value))?,
            });
            match tail {
                [] => return Ok(Filter { clauses }),
                [(at, word), tail @ ..] => {
                    or = match word.as_str() {
                        "&&" => false,
                        "||" => true,
                        other => {
                            return bad(*at, format!("expected && or ||, found `{other}`"));
                        }
                    };
                    rest = tail;
                }
            }
        }
    }

    /// Whether a disk is meant; `field` gives its values as text.
    pub fn matches(&self, field: &dyn Fn(&str) -> Option<String>) -> bool {
        self.clauses.iter().fold(true, |before, clause| {
            let value = field(&clause.field);
            let holds = clause.test.holds(value.as_deref()) != clause.negated;
            if clause.or {
                before || holds
            } else {
                before && holds
            }
        })
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Test::Text { equal, pattern } => {
                let value = value.unwrap_or_default();
                let found = match pattern {
                    Pattern::Regex(regex) => regex.is_match(value),
                    Pattern::Exact(text) => value.eq_ignore_ascii_case(text),
                };
                found == *equal
            }
            Test::Number { op, value: wanted } => {
                let Some(value) = value.and_then(|v| v.parse::<u64>().ok()) else {
                    return false;
                };
                match op {
                    Op::Equal => value == *wanted,
                    Op::NotEqual => value != *wanted,
                    Op::Less => value < *wanted,
                    Op::Greater => value > *wanted,
                    Op::LessOrEqual => value <= *wanted,
                    Op::GreaterOrEqual => value >= *wanted,
                }
            }
            Test::Bool {
                equal,
                value: wanted,
            } => (value == Some("true")) == (*wanted == *equal),
        }
    }
}

fn test(
    (field_at, field): (usize, &str),
    (op_at, op): (usize, &str),
    (value_at, value): (usize, &str),
) -> Result<Test, BadFilter> {
    let Some((_, kind)) = FIELDS.iter().find(|(name, _)| *name == field) else {
        let near = FIELDS
            .iter()
            .map(|(name, _)| *name)
            .min_by_key(|n| strsim::levenshtein(n, field));
        let hint = near
            .filter(|n| strsim::levenshtein(n, field) <= 2)
            .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
        return bad(field_at, format!("disks have no field `{field}`{hint}"));
    };
    let op = match op {
        "==" => Op::Equal,
        "!=" => Op::NotEqual,
        "<" => Op::Less,
        ">" => Op::Greater,
        "<=" => Op::LessOrEqual,
        ">=" => Op::GreaterOrEqual,
        other => {
            return bad(
                op_at,
                format!("`{other}` is no operator: ==, !=, <, >, <=, >= are"),
            );
        }
    };
    let equality = matches!(op, Op::Equal | Op::NotEqual);
    match kind {
        FieldType::Text | FieldType::Bool if !equality => bad(
            op_at,
            format!("`{field}` has no order: compare it with == or !="),
        ),
        FieldType::Text => Ok(Test::Text {
            equal: op == Op::Equal,
            pattern: pattern(value),
        }),
        FieldType::Bool => match value {
            "true" | "false" => Ok(Test::Bool {
                equal: op == Op::Equal,
                value: value == "true",
            }),
            other => bad(value_at, format!("`{other}` is neither true nor false")),
        },
        FieldType::Number => match value.parse() {
            Ok(value) => Ok(Test::Number { op, value }),
            Err(_) => bad(value_at, format!("`{value}` is not a whole number")),
        },
        FieldType::Size => match size(value) {
            Some(value) => Ok(Test::Number { op, value }),
            None => bad(value_at, format!("`{value}` is not a size such as 100GiB")),
        },
    }
}

fn pattern(value: &str) -> Pattern {
    let text = if value.contains(['^', '$']) {
        value.to_owned()
    } else {
        format!("^{value}$")
    };
    match RegexBuilder::new(&text)
        .case_insensitive(true)
        .size_limit(1 << 16)
        .build()
    {
        Ok(regex) => Pattern::Regex(regex),
        Err(_) => Pattern::Exact(value.to_owned()),
    }
}

/// Bytes of a size with a suffix of LXD's: `B`, `kB` … `EB`, `KiB` … `EiB`.
pub fn size(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1000_u64.pow(2),
        "GB" => 1000_u64.pow(3),
        "TB" => 1000_u64.pow(4),
        "PB" => 1000_u64.pow(5),
        "EB" => 1000_u64.pow(6),
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "PiB" => 1 << 50,
        "EiB" => 1 << 60,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Words at blanks, quoted text as one word, each with its place.
fn tokens(text: &str) -> Result<Vec<(usize, String)>, BadFilter> {
    let mut tokens = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() {
            continue;
        }
        let mut word = String::new();
        if c == '\'' || c == '"' {
            loop {
                match chars.next() {
                    Some((_, end)) if end == c => break,
                    Some((_, inner)) => word.push(inner),
                    None => return bad(at, "the quote is not closed"),
                }
            }
        } else {
            word.push(c);
            while let Some((_, next)) = chars.next_if(|(_, next)| !next.is_whitespace()) {
                word.push(next);
            }
        }
        tokens.push((at, word));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str) -> bool {
        Filter::parse(filter).expect(filter).matches(&|field| {
            Some(
                match field {
                    "id" => "sdb",
                    "type" => "nvme",
                    "model" => "Fast Disk 9",
                    "size" => "107374182400",
                    "device_id" => "scsi-0_lxd_disk1",
                    "removable" => "false",
                    _ => return None,
                }
                .to_owned(),
            )
        })
    }

    #[test]
    fn it_reads_like_microclouds() {
        assert!(matches("size == 100GiB"));
        assert!(matches("size >= 100GiB && type == nvme"));
        assert!(!matches("size > 100GiB"));
        assert!(matches(
            "TYPE == x || type == NVME".replace("TYPE", "type").as_str()
        ));
        assert!(matches(
            "device_id == *lxd_disk1".replace('*', ".*").as_str()
        ));
        assert!(matches("model == 'fast disk 9'"));
        assert!(matches("! removable == true"));
        assert!(matches("removable != true"));
        assert!(!matches("type == nvm"), "a pattern covers the whole value");
        assert!(matches("type == ^nvm"), "unless it says otherwise");
        assert!(
            matches("type == sata && size == 1B || id == sdb"),
            "left to right"
        );
        assert!(!matches("wwn == x"), "a field the disk lacks is empty");
    }

    #[test]
    fn what_makes_no_sense_says_where() {
        for (filter, at, part) in [
            ("", 0, "a condition is"),
            ("size", 0, "a condition is"),
            ("siize >= 1GiB", 0, "did you mean `size`"),
            ("size => 1GiB", 5, "no operator"),
            ("size >= 1GiBB", 8, "not a size"),
            ("type < nvme", 5, "no order"),
            ("removable == yes", 13, "neither true nor false"),
            ("size >= 1GiB type == nvme", 13, "expected &&"),
            ("model == 'x", 9, "not closed"),
        ] {
            let error = Filter::parse(filter).expect_err(filter);
            assert_eq!(error.at, at, "{filter}");
            assert!(error.message.contains(part), "{filter}: {error}");
        }
    }
}
