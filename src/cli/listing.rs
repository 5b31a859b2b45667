//! Lists in the formats that users of MicroCloud and LXD know.

use super::output::{lines, table};
use serde::Serialize;

/// The flag that chooses the format.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct FormatArgs {
    /// How to print it
    #[arg(
        short,
        long,
        visible_short_alias = 'o',
        visible_alias = "output",
        value_enum,
        default_value_t = Format::Table
    )]
    pub format: Format,
}

/// A format of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// The same: tables have no lines here
    Compact,
    /// For programs, without a header
    Csv,
    /// For programs
    Json,
    /// For programs
    Yaml,
}

impl Format {
    /// A list as text: `rows` for people and as CSV, `values` for other programs.
    pub fn text<const N: usize>(
        self,
        header: [&str; N],
        rows: &[[String; N]],
        values: &impl Serialize,
    ) -> String {
        match self {
            Format::Table | Format::Compact => {
                let mut table = table(header);
                for row in rows {
                    table.add_row(row);
                }
                lines(&table, "")
            }
            Format::Csv => rows
                .iter()
                .map(|row| {
                    let fields: Vec<String> = row.iter().map(|field| csv(field)).collect();
                    fields.join(",") + "\n"
                })
                .collect(),
            // Plain data with text keys always encodes.
            Format::Json => serde_json::to_string_pretty(values).unwrap_or_default() + "\n",
            Format::Yaml => serde_yaml::to_string(values).unwrap_or_default(),
        }
    }
}

/// A field of CSV (RFC 4180).
fn csv(field: &str) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_csv_are_quoted_where_they_must_be() {
        let rows = [["a".to_owned(), "b,c".to_owned(), "d\"e".to_owned()]];
        let text = Format::Csv.text(["A", "B", "C"], &rows, &());
        assert_eq!(text, "a,\"b,c\",\"d\"\"e\"\n");
    }
}
