//! The operations of a `transact`, and what they give.

use super::value::RowId;
use serde::Deserialize;
use serde_json::{Value, json};

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation(pub(super) Value);

/// A condition: column, function, value; such as `["name", "==", "micro01"]`.
pub type Condition = (&'static str, &'static str, Value);

fn conditions(conditions: &[Condition]) -> Value {
    conditions
        .iter()
        .map(|(column, function, value)| json!([column, function, value]))
        .collect()
}

impl Operation {
    /// Reads columns of the rows that meet all conditions.
    pub fn select(table: &str, of: &[Condition], columns: &[&str]) -> Operation {
        Operation(
            json!({"op": "select", "table": table, "where": conditions(of), "columns": columns}),
        )
    }

    /// Makes a row, known as `name` to the other operations of the transaction.
    pub fn insert(table: &str, name: &str, row: Value) -> Operation {
        Operation(json!({"op": "insert", "table": table, "uuid-name": name, "row": row}))
    }

    /// Sets columns of the rows that meet all conditions.
    pub fn update(table: &str, of: &[Condition], row: Value) -> Operation {
        Operation(json!({"op": "update", "table": table, "where": conditions(of), "row": row}))
    }

    /// Changes columns of the rows that meet all conditions: each is column, mutator, value.
    pub fn mutate(table: &str, of: &[Condition], mutations: &[Condition]) -> Operation {
        Operation(json!({
            "op": "mutate",
            "table": table,
            "where": conditions(of),
            "mutations": conditions(mutations),
        }))
    }

    /// Deletes the rows that meet all conditions.
    pub fn delete(table: &str, of: &[Condition]) -> Operation {
        Operation(json!({"op": "delete", "table": table, "where": conditions(of)}))
    }

    /// Fails the transaction at once unless these columns of the rows that meet all conditions are
    /// exactly these rows: nothing changed since it was read.
    pub fn unless_changed(
        table: &str,
        of: &[Condition],
        columns: &[&str],
        rows: Value,
    ) -> Operation {
        Operation(json!({
            "op": "wait",
            "table": table,
            "where": conditions(of),
            "columns": columns,
            "until": "==",
            "rows": rows,
            "timeout": 0,
        }))
    }
}

/// What one operation gave.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Outcome {
    /// The rows of a `select`.
    #[serde(default)]
    pub rows: Vec<Value>,
    /// How many rows an `update`, `mutate` or `delete` met.
    #[serde(default)]
    pub count: u64,
    /// The row an `insert` made.
    #[serde(default)]
    pub uuid: Option<RowId>,
}
