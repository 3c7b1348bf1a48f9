//! Whether a report answers what it must: columns in their order, rows by what tells them apart, values to the last
//! bit that a sum of floats has.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde_json::Value;
use trunklog_tests::reports::Report;

use super::brute::Expected;

/// The first difference.
pub fn difference(expected: &Expected, report: &Report) -> Option<String> {
    if expected.columns != report.columns {
        return Some(format!("columns {:?}, expected {:?}", report.columns, expected.columns));
    }
    let (wanted, found) = match (by_key(&expected.rows, expected.keys), by_key(&report.rows, expected.keys)) {
        (Ok(wanted), Ok(found)) => (wanted, found),
        (Err(twice), _) | (_, Err(twice)) => return Some(format!("a row stands twice: {twice}")),
    };
    if let Some((key, row)) = wanted.iter().find(|(key, _)| !found.contains_key(*key)) {
        return Some(format!("no row {key}; expected {row:?}"));
    }
    for (key, row) in &found {
        let Some(right) = wanted.get(key) else { return Some(format!("too much: {row:?}")) };
        for (position, column) in report.columns.iter().enumerate() {
            if !same(&right[position], &row[position]) {
                return Some(format!("{key} {column}: {}, expected {}", row[position], right[position]));
            }
        }
    }
    if expected.open.is_some_and(|open| open != report.open) {
        return Some(format!("n_open is {}, expected {:?}", report.open, expected.open));
    }
    let wrong = expected.unknown.iter().find(|(column, number)| report.unknown_of(column) != *number);
    if let Some((column, number)) = wrong {
        return Some(format!("n_unknown of {column} is {}, expected {number}", report.unknown_of(column)));
    }
    let zero = report.unknown.iter().find(|(_, number)| number.as_i64() == Some(0));
    zero.map(|(column, _)| format!("n_unknown names {column}, of which everything is known"))
}

/// The longest or shortest calls: as many as there are, each as it is, and no other one longer (or shorter).
pub fn extreme_difference(all: &Expected, report: &Report, limit: usize, longest: bool) -> Option<String> {
    let talk = all.columns.len() - 1;
    let mut talks: Vec<i64> = all.rows.iter().filter_map(|row| row[talk].as_i64()).collect();
    talks.sort_unstable();
    if longest {
        talks.reverse();
    }
    talks.truncate(limit);
    let found: Vec<i64> = report.column("talk_ms").iter().filter_map(Value::as_i64).collect();
    if found != talks {
        return Some(format!("talk_ms {found:?}, expected {talks:?}"));
    }
    let ids: Vec<&Value> = report.rows.iter().map(|row| &row[0]).collect();
    let rows = all.rows.iter().filter(|row| ids.contains(&&row[0])).cloned().collect();
    difference(&Expected { rows, ..all.clone() }, report)
}

/// Whether values stand in falling order.
pub fn falls(values: &[Value]) -> bool {
    values.windows(2).all(|pair| match (pair[0].as_i64(), pair[1].as_i64()) {
        (Some(first), Some(second)) => first >= second,
        _ => pair[0].as_str() >= pair[1].as_str(),
    })
}

/// Equal, where floats are sums that may be added in any order, and times are equal if they are the same instant with
/// the same offset.
pub fn same(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Number(left), Value::Number(right)) if left.is_f64() || right.is_f64() => {
            let (left, right) = (left.as_f64().unwrap(), right.as_f64().unwrap());
            (left - right).abs() <= 1e-9 * left.abs().max(right.abs())
        }
        (Value::String(left), Value::String(right)) => {
            left == right || time(left).is_some() && time(left) == time(right)
        }
        (left, right) => left == right,
    }
}

fn time(text: &str) -> Option<(i64, i32)> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some((time.timestamp_micros(), time.offset().local_minus_utc()))
}

/// Rows under what tells them apart; the key that stands twice, if one does.
fn by_key(rows: &[Vec<Value>], keys: usize) -> Result<BTreeMap<String, &Vec<Value>>, String> {
    let mut all = BTreeMap::new();
    for row in rows {
        let cells = row[..keys].iter().map(|cell| match cell.as_str().and_then(time) {
            Some((at, offset)) => format!("{at}@{offset}"),
            None => cell.to_string(),
        });
        let key = cells.collect::<Vec<String>>().join("|");
        if all.insert(key.clone(), row).is_some() {
            return Err(key);
        }
    }
    Ok(all)
}
