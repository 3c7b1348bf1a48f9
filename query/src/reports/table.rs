//! The rows of an answer, and as a record batch.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use compact_str::CompactString;
use serde_json::{Value, json};
use trunklog_storage::event::Micros;
use trunklog_storage::schema;

use super::cells::Key;
use crate::error::QueryError;
use crate::format::json::type_name;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    Whole,
    Float,
    Time,
}

impl Type {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        type_name(&self.data_type())
    }

    fn data_type(self) -> DataType {
        match self {
            Type::Text => DataType::Utf8,
            Type::Whole => DataType::Int64,
            Type::Float => DataType::Float64,
            Type::Time => schema::timestamp(),
        }
    }
}

/// A column of a report.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub name: String,
    pub kind: Type,
    pub unit: Option<&'static str>,
    /// `formula/version`.
    pub formula: &'static str,
    pub text: &'static str,
}

impl Column {
    /// As answers and the catalogue describe it.
    pub fn to_json(&self) -> Value {
        json!({ "name": self.name, "type": self.kind.name(), "unit": self.unit, "formula_id": self.formula })
    }
}

/// A column described in a constant.
pub(crate) const fn column(
    name: &'static str,
    kind: Type,
    unit: Option<&'static str>,
    formula: &'static str,
    text: &'static str,
) -> StaticColumn {
    StaticColumn { name, kind, unit, formula, text }
}

/// A column as the catalogue has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StaticColumn {
    pub name: &'static str,
    pub kind: Type,
    pub unit: Option<&'static str>,
    pub formula: &'static str,
    pub text: &'static str,
}

impl From<StaticColumn> for Column {
    fn from(column: StaticColumn) -> Column {
        let StaticColumn { name, kind, unit, formula, text } = column;
        Column { name: name.to_owned(), kind, unit, formula, text }
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Whole(i64),
    Float(f64),
    Text(CompactString),
    Time(Micros),
}

impl Cell {
    /// A number that may be unknown.
    pub fn whole(value: Option<i64>) -> Cell {
        value.map_or(Cell::Null, Cell::Whole)
    }

    /// A count.
    pub fn count(value: u64) -> Cell {
        Cell::Whole(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// A text that may be unknown.
    pub fn text(value: Option<&str>) -> Cell {
        value.map_or(Cell::Null, |text| Cell::Text(text.into()))
    }

    /// A time that may be unknown.
    pub fn time(value: Option<Micros>) -> Cell {
        value.map_or(Cell::Null, Cell::Time)
    }

    /// A number that may be unknown.
    pub fn float(value: Option<f64>) -> Cell {
        value.map_or(Cell::Null, Cell::Float)
    }

    /// A fraction; null when there is nothing that it could be a fraction of.
    pub fn ratio(part: u64, whole: u64) -> Cell {
        if whole == 0 { Cell::Null } else { Cell::Float(part as f64 / whole as f64) }
    }
}

impl From<&Key> for Cell {
    fn from(key: &Key) -> Cell {
        match key {
            Key::Whole(number) => Cell::Whole(*number),
            Key::Text(text) => Cell::Text(text.clone()),
            Key::Null => Cell::Null,
        }
    }
}

/// A whole answer's rows.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
}

/// The schema of these columns.
pub(crate) fn schema_of(columns: &[Column]) -> SchemaRef {
    let field = |column: &Column| Field::new(&column.name, column.kind.data_type(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

impl Table {
    /// The rows in Arrow's form.
    pub fn batch(&self) -> Result<RecordBatch, QueryError> {
        let columns = self.columns.iter().enumerate().map(|(at, column)| self.array(at, column.kind));
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        Ok(RecordBatch::try_new_with_options(schema_of(&self.columns), columns.collect(), &options)?)
    }

    fn array(&self, at: usize, kind: Type) -> ArrayRef {
        let cells = || self.rows.iter().map(move |row| &row[at]);
        match kind {
            Type::Text => Arc::new(StringArray::from_iter(cells().map(|cell| match cell {
                Cell::Text(text) => Some(text.as_str()),
                _ => None,
            }))),
            Type::Whole => Arc::new(Int64Array::from_iter(cells().map(|cell| match cell {
                Cell::Whole(number) => Some(*number),
                _ => None,
            }))),
            Type::Float => Arc::new(Float64Array::from_iter(cells().map(|cell| match cell {
                Cell::Float(number) => Some(*number),
                Cell::Whole(number) => Some(*number as f64),
                _ => None,
            }))),
            Type::Time => {
                let times = TimestampMicrosecondArray::from_iter(cells().map(|cell| match cell {
                    Cell::Time(at) | Cell::Whole(at) => Some(*at),
                    _ => None,
                }));
                Arc::new(times.with_timezone("UTC"))
            }
        }
    }
}

/// Greatest first, then by group.
pub(crate) fn most_first(left: (u64, &[Key]), right: (u64, &[Key])) -> Ordering {
    right.0.cmp(&left.0).then_with(|| left.1.cmp(right.1))
}
