//! Comparison of what is with what was expected, where the expectation says only what it cares about.

use serde_json::Value;

/// `None` if `actual` is as `expected`, else where it differs.
///
/// Objects: every expected field; lists: the same length, element by element; `"*"`: anything but null;
/// `"~text"`: a text that contains `text`; all else: equal.
pub fn difference(expected: &Value, actual: &Value) -> Option<String> {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => expected.iter().find_map(|(name, value)| {
            let found = actual.get(name).unwrap_or(&Value::Null);
            difference(value, found).map(|text| format!("{name}: {text}"))
        }),
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            let mut pairs = expected.iter().zip(actual).enumerate();
            pairs.find_map(|(index, (expected, actual))| {
                difference(expected, actual).map(|text| format!("[{index}] {text}"))
            })
        }
        (Value::String(pattern), actual) if pattern == "*" && !actual.is_null() => None,
        (Value::String(pattern), Value::String(text)) if pattern.starts_with('~') && text.contains(&pattern[1..]) => {
            None
        }
        (expected, actual) if expected == actual => None,
        (expected, actual) => Some(format!("expected {expected}, found {actual}")),
    }
}
