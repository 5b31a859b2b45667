//! The language of `Disk.spec.match`: which disks of a machine are meant.
//!
//! It is the language LXD filters with, as users of MicroCloud know it: `[!] FIELD OP VALUE`,
//! joined by `&&` and `||`, evaluated from left to right without precedence or parentheses. Words
//! are separated by spaces; a value with spaces is quoted.

use std::fmt;

/// The fields of a disk.
pub const FIELDS: &[&str] = &[
    "id",
    "device",
    "model",
    "type",
    "read_only",
    "mounted",
    "size",
    "removable",
    "wwn",
    "numa_node",
    "device_path",
    "block_size",
    "firmware_version",
    "rpm",
    "serial",
    "device_id",
    "pci_address",
    "usb_address",
    "device_fs_uuid",
    "used_by",
];

/// Fields that hold a number; `size` takes suffixes.
const NUMBERS: &[&str] = &["size", "numa_node", "block_size", "rpm"];

/// Fields that are true or false.
const BOOLEANS: &[&str] = &["read_only", "mounted", "removable"];

/// A filter that parses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The clauses, from left to right.
    pub clauses: Vec<Clause>,
}

/// One comparison of a [`Filter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// How it is joined to what stands left of it; `And` for the first.
    pub join: Join,
    /// Whether it is negated.
    pub negated: bool,
    /// The field, one of [`FIELDS`].
    pub field: String,
    /// The comparison.
    pub operator: Operator,
    /// The value, without its quotes.
    pub value: String,
}

/// How clauses are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// `&&`
    And,
    /// `||`
    Or,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `==`; for text a regular expression that must fit the whole value, in any case.
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// Why a filter does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    /// What is wrong, in lower case.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FilterError {}

fn error(message: impl Into<String>) -> FilterError {
    FilterError {
        message: message.into(),
        help: None,
    }
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        let words = words(text)?;
        let mut words = words.into_iter().peekable();
        let mut clauses = Vec::new();
        let mut join = Join::And;
        loop {
            let mut negated = false;
            while words.next_if(|w| w == "!").is_some() {
                negated = !negated;
            }
            let Some(field) = words.next() else {
                let message = match clauses.is_empty() {
                    true => "the filter is empty",
                    false => "the filter ends where another comparison must follow",
                };
                return Err(error(message));
            };
            check_field(&field)?;
            let operator = words.next().ok_or_else(|| {
                error(format!(
                    "the filter ends after `{field}`; a comparison must follow"
                ))
            })?;
            let operator = operator_of(&operator, &field)?;
            let value = words.next().ok_or_else(|| {
                error(format!(
                    "the filter ends after `{field}`; a value must follow"
                ))
            })?;
            check_value(&field, operator, &value)?;
            clauses.push(Clause {
                join,
                negated,
                field,
                operator,
                value,
            });
            join = match words.next().as_deref() {
                None => return Ok(Filter { clauses }),
                Some("&&") => Join::And,
                Some("||") => Join::Or,
                Some(other) => {
                    let mut wrong = error(format!("`{other}` stands where `&&` or `||` must be"));
                    wrong.help = Some(match other {
                        "and" | "&" => "write `&&`".to_owned(),
                        "or" | "|" => "write `||`".to_owned(),
                        _ => "a value with spaces is quoted".to_owned(),
                    });
                    return Err(wrong);
                }
            };
        }
    }
}

fn check_field(field: &str) -> Result<(), FilterError> {
    if FIELDS.contains(&field) {
        return Ok(());
    }
    let help = match super::check::nearest(field, FIELDS) {
        Some(near) => format!("did you mean `{near}`?"),
        None if field.starts_with('!') => "write a space after `!`".to_owned(),
        None if field.starts_with('(') => {
            "there are no parentheses: it is read from left to right".to_owned()
        }
        None => format!("fields are {}", super::check::listed(FIELDS)),
    };
    Err(FilterError {
        message: format!("a disk has no field `{field}`"),
        help: Some(help),
    })
}

fn operator_of(text: &str, field: &str) -> Result<Operator, FilterError> {
    Ok(match text {
        "==" => Operator::Equal,
        "!=" => Operator::NotEqual,
        "<" => Operator::Less,
        "<=" => Operator::AtMost,
        ">" => Operator::Greater,
        ">=" => Operator::AtLeast,
        _ => {
            return Err(FilterError {
                message: format!("`{text}` after `{field}` is no comparison"),
                help: Some("one of == != < <= > >=, with spaces around it".to_owned()),
            });
        }
    })
}

fn check_value(field: &str, operator: Operator, value: &str) -> Result<(), FilterError> {
    let wrong = |what: &str| {
        error(format!(
            "`{field}` is compared with {what}, not with `{value}`"
        ))
    };
    if field == "size" {
        return match crate::catalog::parse_size(value) {
            Some(_) => Ok(()),
            None => Err(wrong("a size such as 100GiB")),
        };
    }
    if NUMBERS.contains(&field) {
        return value
            .parse::<u64>()
            .map(|_| ())
            .map_err(|_| wrong("a number"));
    }
    if BOOLEANS.contains(&field) && !matches!(value, "true" | "false") {
        return Err(wrong("true or false"));
    }
    if !matches!(operator, Operator::Equal | Operator::NotEqual) {
        return Err(FilterError {
            message: format!("`{field}` has no order"),
            help: Some("compare it with == or !=".to_owned()),
        });
    }
    Ok(())
}

/// The words of a filter; quotes join words.
fn words(text: &str) -> Result<Vec<String>, FilterError> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        if first.is_whitespace() {
            continue;
        }
        let mut word = String::new();
        if matches!(first, '"' | '\'') {
            loop {
                match chars.next() {
                    Some(c) if c == first => break,
                    Some(c) => word.push(c),
                    None => return Err(error(format!("the quote {first} is not closed"))),
                }
            }
        } else {
            word.push(first);
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                word.push(c);
            }
        }
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_are_read_from_left_to_right() {
        let filter = Filter::parse("size >= 100GiB && ! type == 'nvme or so' || mounted == false")
            .expect("a filter");
        let read: Vec<(Join, bool, &str, Operator, &str)> = filter
            .clauses
            .iter()
            .map(|c| {
                (
                    c.join,
                    c.negated,
                    c.field.as_str(),
                    c.operator,
                    c.value.as_str(),
                )
            })
            .collect();
        assert_eq!(
            read,
            [
                (Join::And, false, "size", Operator::AtLeast, "100GiB"),
                (Join::And, true, "type", Operator::Equal, "nvme or so"),
                (Join::Or, false, "mounted", Operator::Equal, "false"),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            ("", "the filter is empty"),
            (
                "size",
                "the filter ends after `size`; a comparison must follow",
            ),
            (
                "size >",
                "the filter ends after `size`; a value must follow",
            ),
            ("size = 1GiB", "`=` after `size` is no comparison"),
            (
                "size >= big",
                "`size` is compared with a size such as 100GiB, not with `big`",
            ),
            ("sise >= 1GiB", "a disk has no field `sise`"),
            (
                "rpm == fast",
                "`rpm` is compared with a number, not with `fast`",
            ),
            (
                "mounted == no",
                "`mounted` is compared with true or false, not with `no`",
            ),
            ("model > A", "`model` has no order"),
            (
                "type == ssd and size > 1GiB",
                "`and` stands where `&&` or `||` must be",
            ),
            (
                "type == ssd &&",
                "the filter ends where another comparison must follow",
            ),
            ("model == 'a", "the quote ' is not closed"),
        ] {
            assert_eq!(Filter::parse(text).expect_err(text).message, message);
        }
    }
}
