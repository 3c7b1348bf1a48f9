//! Two rows, column by column: inside legs leg by leg, inside maps key by key.

use serde::Serialize;
use serde_json::{Map, Value};

use super::merge::Pair;
use super::{Change, Difference, Shape};
use crate::error::Error;

/// The column whose elements are compared one by one, and what tells them apart.
const LEGS: (&str, &str) = ("legs", "leg_key");

/// One value that would change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ColumnChange {
    /// The column; for a field of a leg `legs.<field>`.
    pub name: String,
    /// Which element of the column: the key of a leg, the key of a map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    /// As it is now.
    pub before: Value,
    /// As it would be.
    pub after: Value,
}

impl ColumnChange {
    fn new(name: &str, element: Option<&str>, before: &Value, after: &Value) -> ColumnChange {
        let element = element.map(str::to_owned);
        ColumnChange { name: name.to_owned(), element, before: before.clone(), after: after.clone() }
    }
}

/// What differs between the rows of a pair.
pub(super) fn difference(shape: &Shape, pair: Pair) -> Result<Difference, Error> {
    let (before, after) = (row(pair.before.as_deref())?, row(pair.after.as_deref())?);
    let change = match (&before, &after) {
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        _ => Change::Changed,
    };
    let identity = ["tenant", "source", shape.key];
    let [tenant, source, key] = identity.map(|name| {
        let of = |row: &Option<Map<String, Value>>| row.as_ref()?.get(name)?.as_str().map(str::to_owned);
        of(&after).or_else(|| of(&before)).unwrap_or_default()
    });
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    let names = shape.schema.fields().iter().map(|field| field.name().as_str());
    let compared = names.filter(|name| change == Change::Changed || !(identity.contains(name) || *name == shape.id));
    let columns = compared.flat_map(|name| column(name, value(&before, name), value(&after, name))).collect();
    Ok(Difference { table: shape.name, change, id: pair.id, key, tenant, source, columns })
}

fn row(line: Option<&[u8]>) -> Result<Option<Map<String, Value>>, Error> {
    let parse = |line| serde_json::from_slice(line);
    line.map(parse).transpose().map_err(|error| Error::Corrupt(format!("a row cannot be read: {error}")))
}

fn value<'a>(row: &'a Map<String, Value>, name: &str) -> &'a Value {
    row.get(name).unwrap_or(&Value::Null)
}

fn column(name: &str, before: &Value, after: &Value) -> Vec<ColumnChange> {
    if before == after {
        return Vec::new();
    }
    let inside = match (before, after) {
        (Value::Array(before), Value::Array(after)) if name == LEGS.0 => legs(before, after),
        (Value::Object(before), Value::Object(after)) => {
            let each = keys(before.keys(), after.keys()).map(|key| (key, value(before, key), value(after, key)));
            let changed = each.filter(|(_, before, after)| before != after);
            changed.map(|(key, before, after)| ColumnChange::new(name, Some(key.as_str()), before, after)).collect()
        }
        _ => Vec::new(),
    };
    // Elements in another order, or two with one key: then the column as a whole.
    if inside.is_empty() { vec![ColumnChange::new(name, None, before, after)] } else { inside }
}

/// All keys, in the order of the first, then those that only the second has.
fn keys<'a, K: PartialEq + 'a>(
    before: impl Iterator<Item = &'a K> + Clone + 'a,
    after: impl Iterator<Item = &'a K> + 'a,
) -> impl Iterator<Item = &'a K> {
    let known = before.clone();
    before.chain(after.filter(move |key| !known.clone().any(|before| before == *key)))
}

fn legs(before: &[Value], after: &[Value]) -> Vec<ColumnChange> {
    let key = |leg: &Value| leg[LEGS.1].as_str().unwrap_or_default().to_owned();
    let (keys_before, keys_after): (Vec<_>, Vec<_>) =
        (before.iter().map(key).collect(), after.iter().map(key).collect());
    let mut changes = Vec::new();
    for leg in keys(keys_before.iter(), keys_after.iter()) {
        let find = |keys: &[String], legs: &[Value]| {
            keys.iter().position(|key| key == leg).map_or(Value::Null, |index| legs[index].clone())
        };
        match (find(&keys_before, before), find(&keys_after, after)) {
            (Value::Object(before), Value::Object(after)) => {
                for field in keys(before.keys(), after.keys()) {
                    let (before, after) = (value(&before, field), value(&after, field));
                    if before != after {
                        let name = format!("{}.{field}", LEGS.0);
                        changes.push(ColumnChange::new(&name, Some(leg.as_str()), before, after));
                    }
                }
            }
            (before, after) if before != after => {
                changes.push(ColumnChange::new(LEGS.0, Some(leg.as_str()), &before, &after));
            }
            _ => {}
        }
    }
    changes
}
