//! What a report says, before it is given a form.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use serde_json::{Map, Value, json};
use trunklog_storage::event::Micros;

use super::definition::Definition;
use super::table::{Column, Table};
use crate::format::json::{write_array, write_text};
use crate::moment::AsOf;

/// A report's rows with what must be known of them.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The rows.
    pub table: Table,
    /// All parameters, and what the report says beside its rows.
    pub params: Map<String, Value>,
    /// Open calls of the interval.
    pub open: u64,
    /// What columns left out.
    unknown: BTreeMap<String, u64>,
    /// When it will be another one although nothing is heard.
    pub changes_at: Option<Micros>,
}

impl Answer {
    /// An answer that left nothing out.
    pub fn new(table: Table, params: Map<String, Value>, open: u64) -> Answer {
        Answer { table, params, open, unknown: BTreeMap::new(), changes_at: None }
    }

    /// Says how many rows a column left out.
    pub fn unknown(&mut self, column: &str, rows: u64) {
        let has = self.table.columns.iter().any(|known| known.name == column);
        if rows > 0 && has {
            self.unknown.insert(column.to_owned(), rows);
        }
    }

    /// The body with these rows but for what it was read at, which alone does not make another answer.
    pub fn body(&self, definition: &Definition, batch: &RecordBatch) -> Vec<u8> {
        let mut out = b"{\"name\":".to_vec();
        write_text(&mut out, definition.name);
        out.extend_from_slice(format!(",\"version\":{},\"columns\":", definition.version).as_bytes());
        let columns: Vec<Value> = self.table.columns.iter().map(Column::to_json).collect();
        out.extend_from_slice(Value::Array(columns).to_string().as_bytes());
        out.extend_from_slice(b",\"rows\":[");
        for row in 0..batch.num_rows() {
            if row > 0 {
                out.push(b',');
            }
            write_array(&mut out, batch, row);
        }
        let rest = format!(
            "],\"params\":{},\"n_open\":{},\"n_unknown\":{}",
            json!(self.params),
            self.open,
            json!(self.unknown)
        );
        out.extend_from_slice(rest.as_bytes());
        out
    }

    /// It is another one from this time on, if not earlier.
    pub fn no_later_than(mut self, changes_at: Option<Micros>) -> Answer {
        self.changes_at = [self.changes_at, changes_at].into_iter().flatten().min();
        self
    }

    /// The whole body, read at this moment.
    pub fn close(mut body: Vec<u8>, as_of: AsOf) -> Vec<u8> {
        body.extend_from_slice(format!(",\"as_of\":{}}}", as_of.to_json()).as_bytes());
        body
    }
}
