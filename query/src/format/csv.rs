//! CSV: a header line; NULL empty, the empty string in quotes; nested values as JSON text.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};

use super::Encoder;
use super::json::write_value;
use crate::error::QueryError;

/// Writes the header with the first bytes.
pub struct Csv {
    head: Vec<u8>,
}

impl Csv {
    pub(super) fn new(schema: &Schema) -> Csv {
        let mut head = Vec::new();
        for (index, field) in schema.fields().iter().enumerate() {
            separate(&mut head, index);
            write_text(&mut head, field.name());
        }
        head.push(b'\n');
        Csv { head }
    }
}

impl Encoder for Csv {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        let mut out = std::mem::take(&mut self.head);
        let mut scratch = Vec::new();
        for row in 0..batch.num_rows() {
            for (index, column) in batch.columns().iter().enumerate() {
                separate(&mut out, index);
                write_field(&mut out, column, row, &mut scratch);
            }
            out.push(b'\n');
        }
        Ok(out)
    }

    fn finish(&mut self) -> Result<Vec<u8>, QueryError> {
        Ok(std::mem::take(&mut self.head))
    }
}

fn separate(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}

fn write_field(out: &mut Vec<u8>, array: &dyn Array, row: usize, scratch: &mut Vec<u8>) {
    if array.is_null(row) {
        return;
    }
    if *array.data_type() == DataType::Utf8 {
        return write_text(out, array.as_string::<i32>().value(row));
    }
    scratch.clear();
    write_value(scratch, array, row);
    match scratch.first() {
        Some(b'"') => match serde_json::from_slice::<String>(scratch) {
            Ok(text) => write_text(out, &text),
            Err(_) => out.extend_from_slice(scratch),
        },
        Some(b'{' | b'[') => write_text(out, &String::from_utf8_lossy(scratch)),
        // A number that is none.
        _ if scratch.as_slice() == b"null" => {}
        _ => out.extend_from_slice(scratch),
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let plain = !text.is_empty() && !text.contains(['"', ',', '\n', '\r']) && text.trim() == text;
    if plain {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
