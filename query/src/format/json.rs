//! Values as JSON, and the two JSON forms of an answer.

use std::io::Write;

use arrow::array::{Array, AsArray, RecordBatch, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use trunklog_storage::event::format_time;

use super::Encoder;
use crate::error::QueryError;
use crate::moment::AsOf;

/// The name of a column's type in answers.
pub fn type_name(kind: &DataType) -> &'static str {
    match kind {
        DataType::Boolean => "bool",
        kind if kind.is_integer() => "int64",
        kind if kind.is_numeric() => "float64",
        DataType::Timestamp(..) => "timestamp",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "binary",
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => "list",
        DataType::ListView(_) | DataType::LargeListView(_) => "list",
        DataType::Struct(_) => "struct",
        DataType::Map(..) => "map",
        DataType::Dictionary(_, value) => type_name(value),
        _ => "string",
    }
}

/// Writes a string in quotes.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail, nor can a string be unserialisable.
    let _ = serde_json::to_writer(out, text);
}

/// Writes one value.
pub fn write_value(out: &mut Vec<u8>, array: &dyn Array, row: usize) {
    macro_rules! number {
        ($kind:ty) => {{
            let _ = write!(out, "{}", array.as_primitive::<$kind>().value(row));
        }};
    }
    if array.is_null(row) {
        return out.extend_from_slice(b"null");
    }
    match array.data_type() {
        DataType::Null => out.extend_from_slice(b"null"),
        DataType::Boolean => {
            let _ = write!(out, "{}", array.as_boolean().value(row));
        }
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => write_float(out, array.as_primitive::<Float16Type>().value(row).to_f64()),
        DataType::Float32 => write_float(out, f64::from(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => write_float(out, array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => write_text(out, array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => write_text(out, array.as_string::<i64>().value(row)),
        DataType::Utf8View => write_text(out, array.as_string_view().value(row)),
        DataType::Binary => write_bytes(out, array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => write_bytes(out, array.as_binary::<i64>().value(row)),
        DataType::BinaryView => write_bytes(out, array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => write_bytes(out, array.as_fixed_size_binary().value(row)),
        DataType::Timestamp(unit, _) => write_time(out, micros(array, row, *unit)),
        DataType::Date32 => write_date(out, i64::from(array.as_primitive::<Date32Type>().value(row))),
        DataType::List(_) => write_list(out, &array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => write_list(out, &array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => write_list(out, &array.as_fixed_size_list().value(row)),
        DataType::Struct(_) => write_struct(out, array.as_struct(), row),
        DataType::Map(..) => write_map(out, &array.as_map().value(row)),
        DataType::Dictionary(_, value) => write_cast(out, array, row, value),
        DataType::Date64 => write_cast(out, array, row, &DataType::Date32),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            write_cast(out, array, row, &DataType::Float64);
        }
        _ => write_text(out, &display(array, row)),
    }
}

/// Writes a row as an object.
pub fn write_object(out: &mut Vec<u8>, batch: &RecordBatch, row: usize) {
    out.push(b'{');
    write_members(out, batch, row);
    out.push(b'}');
}

/// Writes a row as an array.
pub fn write_array(out: &mut Vec<u8>, batch: &RecordBatch, row: usize) {
    out.push(b'[');
    for (index, column) in batch.columns().iter().enumerate() {
        separate(out, index);
        write_value(out, column, row);
    }
    out.push(b']');
}

/// Writes `"name":value,…` without the braces.
pub fn write_members(out: &mut Vec<u8>, batch: &RecordBatch, row: usize) {
    for (index, (field, column)) in batch.schema_ref().fields().iter().zip(batch.columns()).enumerate() {
        separate(out, index);
        write_text(out, field.name());
        out.push(b':');
        write_value(out, column, row);
    }
}

fn write_struct(out: &mut Vec<u8>, array: &StructArray, row: usize) {
    out.push(b'{');
    for (index, (field, column)) in array.fields().iter().zip(array.columns()).enumerate() {
        separate(out, index);
        write_text(out, field.name());
        out.push(b':');
        write_value(out, column, row);
    }
    out.push(b'}');
}

fn write_map(out: &mut Vec<u8>, entries: &StructArray) {
    let (keys, values) = (entries.column(0), entries.column(1));
    out.push(b'{');
    for row in 0..entries.len() {
        separate(out, row);
        match keys.as_string_opt::<i32>() {
            Some(keys) => write_text(out, keys.value(row)),
            None => write_text(out, &display(keys, row)),
        }
        out.push(b':');
        write_value(out, values, row);
    }
    out.push(b'}');
}

fn write_list(out: &mut Vec<u8>, values: &dyn Array) {
    out.push(b'[');
    for row in 0..values.len() {
        separate(out, row);
        write_value(out, values, row);
    }
    out.push(b']');
}

fn separate(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}

/// JSON has neither NaN nor infinity.
fn write_float(out: &mut Vec<u8>, value: f64) {
    let _ = serde_json::to_writer(out, &value.is_finite().then_some(value));
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

fn write_time(out: &mut Vec<u8>, micros: i64) {
    let _ = write!(out, "\"{}\"", format_time(micros));
}

fn write_date(out: &mut Vec<u8>, days: i64) {
    let date = days.checked_mul(86_400).and_then(|seconds| DateTime::<Utc>::from_timestamp(seconds, 0));
    match date {
        Some(date) => {
            let _ = write!(out, "\"{}\"", date.date_naive());
        }
        None => out.extend_from_slice(b"null"),
    }
}

fn write_cast(out: &mut Vec<u8>, array: &dyn Array, row: usize, kind: &DataType) {
    match cast(&array.slice(row, 1), kind) {
        Ok(plain) => write_value(out, &plain, 0),
        Err(_) => write_text(out, &display(array, row)),
    }
}

fn micros(array: &dyn Array, row: usize, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row).saturating_mul(1_000_000),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row).saturating_mul(1_000),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000),
    }
}

fn display(array: &dyn Array, row: usize) -> String {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options);
    formatter.ok().and_then(|formatter| formatter.value(row).try_to_string().ok()).unwrap_or_default()
}

/// `{"columns":…,"rows":…,"as_of":…}`.
pub(super) struct Document {
    head: Vec<u8>,
    rows: bool,
    as_of: AsOf,
}

impl Document {
    pub(super) fn new(schema: &Schema, as_of: AsOf) -> Document {
        let mut head = b"{\"columns\":[".to_vec();
        for (index, field) in schema.fields().iter().enumerate() {
            separate(&mut head, index);
            head.extend_from_slice(b"{\"name\":");
            write_text(&mut head, field.name());
            let _ = write!(head, ",\"type\":\"{}\"}}", type_name(field.data_type()));
        }
        head.extend_from_slice(b"],\"rows\":[");
        Document { head, rows: false, as_of }
    }
}

impl Encoder for Document {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        let mut out = std::mem::take(&mut self.head);
        for row in 0..batch.num_rows() {
            separate(&mut out, usize::from(self.rows));
            self.rows = true;
            write_array(&mut out, batch, row);
        }
        Ok(out)
    }

    fn finish(&mut self) -> Result<Vec<u8>, QueryError> {
        let mut out = std::mem::take(&mut self.head);
        let _ = write!(out, "],\"as_of\":{}}}", self.as_of.to_json());
        Ok(out)
    }
}

/// An object per row and line.
pub(super) struct Lines {
    names: Vec<Vec<u8>>,
}

impl Lines {
    pub(super) fn new(schema: &Schema) -> Lines {
        let name = |name: &str| {
            let mut out = Vec::new();
            write_text(&mut out, name);
            out.push(b':');
            out
        };
        Lines { names: schema.fields().iter().map(|field| name(field.name())).collect() }
    }
}

impl Encoder for Lines {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        let mut out = Vec::new();
        for row in 0..batch.num_rows() {
            out.push(b'{');
            for (index, (name, column)) in self.names.iter().zip(batch.columns()).enumerate() {
                separate(&mut out, index);
                out.extend_from_slice(name);
                write_value(&mut out, column, row);
            }
            out.extend_from_slice(b"}\n");
        }
        Ok(out)
    }

    fn finish(&mut self) -> Result<Vec<u8>, QueryError> {
        Ok(Vec::new())
    }
}
