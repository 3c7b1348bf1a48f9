//! How many bytes a function is about to make, judged by its arguments: what a function makes is not accounted to any
//! memory pool before it is there.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

/// What one call may make for a batch.
const BATCH_BYTES: u64 = 64 << 20;

/// What one call may make of constants: a constant stands in every row of a batch.
const VALUE_BYTES: u64 = 1 << 20;

/// How much less a regular expression makes in practice than it could.
const SLACK: u64 = 8;

/// Functions whose result can be larger than what they are given.
pub(super) const GROWING: [&str; 13] = [
    "repeat",
    "lpad",
    "rpad",
    "replace",
    "regexp_replace",
    "overlay",
    "concat",
    "concat_ws",
    "to_char",
    "array_repeat",
    "array_resize",
    "array_concat",
    "array_to_string",
];

/// Refuses a call that would make too much.
pub(super) fn check(name: &str, arguments: &ScalarFunctionArgs) -> Result<()> {
    let constant = arguments.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let (rows, limit) = if constant { (1, VALUE_BYTES) } else { (arguments.number_rows, BATCH_BYTES) };
    let mut bytes = made(name, &arguments.args, rows, limit)?;
    for value in arguments.args.iter().filter(|value| matches!(value, ColumnarValue::Scalar(_))) {
        // Many functions begin by putting a constant into every row.
        bytes = bytes.max(total(value, rows)?);
    }
    if bytes > limit {
        let detail = format!("{name}: at most {} MiB are made at once", limit >> 20);
        return Err(DataFusionError::ResourcesExhausted(detail));
    }
    Ok(())
}

fn made(name: &str, arguments: &[ColumnarValue], rows: usize, limit: u64) -> Result<u64> {
    match (name, arguments) {
        ("repeat", [value, count, ..]) => times(value, count, 0, rows),
        ("array_repeat", [value, count, ..]) | ("array_resize", [_, count, value, ..]) => times(value, count, 8, rows),
        ("array_resize", [_, count]) => Ok(sum(counts(count, rows)?).saturating_mul(8)),
        ("lpad" | "rpad", [_, count, ..]) => Ok(sum(counts(count, rows)?)),
        ("replace", [text, from, to]) => replaced(text, from, to, rows, limit),
        ("regexp_replace", [text, _, to, ..]) => {
            let pairs = both(lengths(text, rows)?, lengths(to, rows)?);
            Ok(sum(pairs.map(|(text, to)| text.saturating_add(1).saturating_mul(to.saturating_add(1)))) / SLACK)
        }
        ("array_to_string", [list, separator, ..]) => {
            let pairs = both(Some(elements(list, rows)?), lengths(separator, rows)?);
            Ok(sum(pairs.map(|(elements, separator)| elements.saturating_mul(separator))))
        }
        _ => {
            let mut bytes: u64 = 0;
            for value in arguments {
                bytes = bytes.saturating_add(total(value, rows)?);
            }
            Ok(bytes)
        }
    }
}

/// The value as often as the count says, in every row; at least so many bytes each time.
fn times(value: &ColumnarValue, count: &ColumnarValue, least: u64, rows: usize) -> Result<u64> {
    let counts = counts(count, rows)?;
    match lengths(value, rows)? {
        Some(lengths) => {
            let pairs = lengths.into_iter().zip(counts);
            Ok(sum(pairs.map(|(length, count)| length.max(least).saturating_mul(count))))
        }
        None => Ok(total(value, rows)?.saturating_mul(counts.into_iter().max().unwrap_or(0))),
    }
}

/// Counts occurrences only if the most there could be is too much.
fn replaced(text: &ColumnarValue, from: &ColumnarValue, to: &ColumnarValue, rows: usize, limit: u64) -> Result<u64> {
    let (Some(texts), Some(froms), Some(tos)) = (lengths(text, rows)?, lengths(from, rows)?, lengths(to, rows)?) else {
        return Ok(0);
    };
    let most = texts.iter().zip(&froms).zip(&tos).map(|((text, from), to)| {
        let occurrences = if *from == 0 { text.saturating_add(1) } else { text / from };
        text.saturating_add(occurrences.saturating_mul(*to))
    });
    let most = sum(most);
    if most <= limit {
        return Ok(most);
    }
    let (whole, parts) = (cast(&once(text)?, &DataType::LargeUtf8)?, cast(&once(from)?, &DataType::LargeUtf8)?);
    let (whole, parts) = (whole.as_string::<i64>(), parts.as_string::<i64>());
    let at = |value: &ColumnarValue, row: usize| if matches!(value, ColumnarValue::Scalar(_)) { 0 } else { row };
    let exact = texts.iter().zip(&froms).zip(&tos).enumerate().map(|(row, ((length, part), to))| {
        let occurrences = whole.value(at(text, row)).matches(parts.value(at(from, row))).count() as u64;
        length.saturating_sub(occurrences.saturating_mul(*part)).saturating_add(occurrences.saturating_mul(*to))
    });
    Ok(sum(exact))
}

/// The bytes of a value over all rows.
fn total(value: &ColumnarValue, rows: usize) -> Result<u64> {
    if let Some(lengths) = lengths(value, rows)? {
        return Ok(sum(lengths));
    }
    let array = once(value)?;
    let size = array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
    let times = if matches!(value, ColumnarValue::Scalar(_)) { rows } else { 1 };
    Ok((size as u64).saturating_mul(times as u64))
}

/// The bytes in each row; `None` for nested values.
fn lengths(value: &ColumnarValue, rows: usize) -> Result<Option<Vec<u64>>> {
    let array = once(value)?;
    let lengths = match array.data_type() {
        DataType::Null => vec![0; array.len()],
        DataType::Boolean => vec![1; array.len()],
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => numbers(&length(&array)?)?,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => numbers(&length(&array)?)?,
        kind if kind.is_primitive() => vec![8; array.len()],
        _ => return Ok(None),
    };
    Ok(Some(spread(value, lengths, rows)))
}

/// The elements in each row.
fn elements(value: &ColumnarValue, rows: usize) -> Result<Vec<u64>> {
    let array = once(value)?;
    let elements = match array.data_type() {
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => numbers(&length(&array)?)?,
        _ => vec![0; array.len()],
    };
    Ok(spread(value, elements, rows))
}

fn counts(value: &ColumnarValue, rows: usize) -> Result<Vec<u64>> {
    Ok(spread(value, numbers(&once(value)?)?, rows))
}

/// A constant as an array of one.
fn once(value: &ColumnarValue) -> Result<ArrayRef> {
    value.to_array(1)
}

fn spread(value: &ColumnarValue, numbers: Vec<u64>, rows: usize) -> Vec<u64> {
    match value {
        ColumnarValue::Scalar(_) => vec![numbers.first().copied().unwrap_or(0); rows],
        ColumnarValue::Array(_) => numbers,
    }
}

/// NULL and what is negative as 0.
fn numbers(array: &ArrayRef) -> Result<Vec<u64>> {
    let array = cast(array, &DataType::Int64)?;
    let numbers = array.as_primitive::<Int64Type>().iter();
    Ok(numbers.map(|number| number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)).collect())
}

fn both(left: Option<Vec<u64>>, right: Option<Vec<u64>>) -> impl Iterator<Item = (u64, u64)> {
    left.unwrap_or_default().into_iter().zip(right.unwrap_or_default())
}

fn sum(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{LargeStringArray, StringArray};
    use datafusion::common::ScalarValue;

    use super::*;

    fn text(text: &str) -> ColumnarValue {
        ColumnarValue::Scalar(ScalarValue::Utf8(Some(text.to_owned())))
    }

    fn number(number: i64) -> ColumnarValue {
        ColumnarValue::Scalar(ScalarValue::Int64(Some(number)))
    }

    #[test]
    fn estimates_what_is_made() {
        let column = ColumnarValue::Array(Arc::new(LargeStringArray::from(vec![Some("abc"), None, Some("aa")])));
        let made = |name: &str, arguments: &[ColumnarValue], limit| made(name, arguments, 3, limit).expect("a number");
        assert_eq!(made("repeat", &[column.clone(), number(7)], 100), 35);
        assert_eq!(made("repeat", &[column.clone(), number(-7)], 100), 0);
        assert_eq!(made("lpad", &[column.clone(), number(5)], 100), 15);
        assert_eq!(made("array_repeat", &[text("x"), number(2)], 100), 48);
        let column = ColumnarValue::Array(Arc::new(StringArray::from(vec!["abc", "", "aa"])));
        assert_eq!(made("concat", &[column.clone(), text("xy")], 100), 11);
        assert_eq!(made("replace", &[column.clone(), text("a"), text("xyz")], 100), 20);
        assert_eq!(made("replace", &[column, text("a"), text("xyz")], 1), 11);
    }
}
