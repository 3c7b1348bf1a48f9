//! Answers as bytes: which form a client wants, and encoders that write it batch by batch.

mod binary;
pub mod csv;
pub mod json;
mod negotiate;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use crate::error::QueryError;
use crate::moment::AsOf;

pub use negotiate::negotiate;

/// The forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `{"columns":…,"rows":…,"as_of":…}`.
    Json,
    /// An object per row.
    Ndjson,
    /// A header line, then a line per row.
    Csv,
    /// Arrow IPC stream.
    Arrow,
    /// Parquet.
    Parquet,
}

impl Format {
    /// All of them, the default first.
    pub const ALL: [Format; 5] = [Format::Json, Format::Ndjson, Format::Csv, Format::Arrow, Format::Parquet];

    /// The media type without parameters.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv",
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv; charset=utf-8; header=present",
            other => other.media_type(),
        }
    }

    /// An encoder for an answer with these columns.
    pub fn encoder(self, schema: SchemaRef, as_of: AsOf) -> Result<Box<dyn Encoder>, QueryError> {
        if matches!(self, Format::Ndjson | Format::Parquet) {
            names_differ(&schema)?;
        }
        Ok(match self {
            Format::Json => Box::new(json::Document::new(&schema, as_of)),
            Format::Ndjson => Box::new(json::Lines::new(&schema)),
            Format::Csv => Box::new(csv::Csv::new(&schema)),
            Format::Arrow => Box::new(binary::ArrowStream::new(&schema)?),
            Format::Parquet => Box::new(binary::Parquet::new(schema)?),
        })
    }
}

/// Of two members or columns with one name, readers would show one.
fn names_differ(schema: &Schema) -> Result<(), QueryError> {
    let mut names = HashSet::new();
    match schema.fields().iter().find(|field| !names.insert(field.name())) {
        Some(field) => {
            let name = field.name();
            Err(QueryError::Sql(format!("two columns are called `{name}`; give one an alias")))
        }
        None => Ok(()),
    }
}

/// Turns batches into bytes. What it returns, in order, is the answer.
pub trait Encoder: Send {
    /// The bytes up to the end of this batch; may be empty when the form needs more rows first.
    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, QueryError>;
    /// The rest.
    fn finish(&mut self) -> Result<Vec<u8>, QueryError>;
}
