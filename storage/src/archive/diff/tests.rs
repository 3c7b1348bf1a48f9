//! Rows in memory against rows in memory: what comes out is what differs, whichever way it is read.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::json;

use super::merge::Pair;
use super::*;

fn shape() -> Shape {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let talk = Field::new("talk_ms", DataType::Int64, true);
    let fields = vec![text("tenant"), text("source"), text("call_id"), text("call_key"), text("from_number"), talk];
    Shape { name: "calls", id: "call_id", key: "call_key", schema: Arc::new(Schema::new(fields)) }
}

/// Rows of these numbers in a jumbled order, whose `talk_ms` is what `talk` says.
fn batch(numbers: impl Iterator<Item = u64>, talk: impl Fn(u64) -> Option<i64>) -> RecordBatch {
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_by_key(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let text = |make: &dyn Fn(u64) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(numbers.iter().map(|number| make(*number))))
    };
    let columns: Vec<ArrayRef> = vec![
        text(&|_| "acme".to_owned()),
        text(&|_| "kazoo".to_owned()),
        text(&|number| format!("{number:08x}")),
        text(&|number| format!("key-{number}")),
        text(&|number| format!("+4930{number}")),
        Arc::new(Int64Array::from_iter(numbers.iter().map(|number| talk(*number)))),
    ];
    RecordBatch::try_new(shape().schema, columns).expect("columns as the schema says")
}

fn sides(scratch: &Path, before: Vec<RecordBatch>, after: Vec<RecordBatch>) -> Sides {
    let session = session(scratch).expect("a session");
    let (one, two) = before.split_at(1);
    let frame = |batches: &[RecordBatch]| rows::held(&session, &shape().schema, batches.to_vec()).expect("a table");
    Sides { shape: shape(), before: vec![frame(one), frame(two)], after: vec![frame(&after)] }
}

async fn listed(sides: Sides, differing: Differing) -> Vec<Difference> {
    sides.differences(differing).try_collect().await.expect("rows that can be read")
}

#[tokio::test]
async fn rows_that_come_go_and_change_are_found_in_many() {
    let scratch = tempfile::tempdir().expect("a directory");
    let talk = |number: u64| (!number.is_multiple_of(3)).then_some(number as i64);
    let other = |number: u64| if number == 777 { Some(1) } else { talk(number) };
    let make = || {
        let before = vec![batch(0..20_000, talk), batch(20_000..30_000, talk)];
        sides(scratch.path(), before, vec![batch((1..30_001).filter(|number| *number != 25_000), other)])
    };
    let (compared, differing) = make().compare().await.expect("compared");
    assert_eq!(compared, Compared { before: 30_000, after: 29_999 });
    assert!(matches!(&differing, Differing::These(ids) if ids.len() == 4));
    let few = listed(make(), differing).await;
    let found: Vec<_> = few.iter().map(|found| (found.key.as_str(), found.change)).collect();
    let changes = [Change::Removed, Change::Changed, Change::Removed, Change::Added];
    assert_eq!(found, ["key-0", "key-777", "key-25000", "key-30000"].into_iter().zip(changes).collect::<Vec<_>>());
    let change = ColumnChange { name: "talk_ms".into(), element: None, before: json!(null), after: json!(1) };
    assert_eq!(few[1].columns, [change]);
    let columns: Vec<_> = few[0].columns.iter().map(|change| (&*change.name, change.after.is_null())).collect();
    assert_eq!(columns, [("from_number", true)], "of a row that goes, what is not NULL");
    assert_eq!(listed(make(), Differing::Many).await, few, "and the same when all rows are read whole");
}

#[tokio::test]
async fn equal_rows_and_empty_sides_differ_in_nothing() {
    let scratch = tempfile::tempdir().expect("a directory");
    let talk = |number: u64| Some(number as i64);
    let same = sides(scratch.path(), vec![batch(0..10, talk), batch(10..20, talk)], vec![batch(0..20, talk)]);
    let (compared, differing) = same.compare().await.expect("compared");
    assert_eq!(compared, Compared { before: 20, after: 20 });
    assert!(listed(same, differing).await.is_empty());
    let empty = sides(scratch.path(), vec![batch(0..0, talk)], Vec::new());
    let (compared, differing) = empty.compare().await.expect("compared");
    assert_eq!(compared, Compared::default());
    assert!(listed(empty, differing).await.is_empty());
}

fn compare(before: serde_json::Value, after: serde_json::Value) -> Vec<(String, Option<String>)> {
    let names = ["legs", "attributes"].map(|name| Field::new(name, DataType::Utf8, true));
    let shape = Shape { schema: Arc::new(Schema::new(names.to_vec())), ..shape() };
    let line = |row: serde_json::Value| Some(row.to_string().into_bytes());
    let pair = Pair { id: "a".to_owned(), before: line(before), after: line(after) };
    let found = columns::difference(&shape, pair).expect("JSON");
    found.columns.into_iter().map(|change| (change.name, change.element)).collect()
}

#[test]
fn legs_are_compared_inside() {
    let leg = |key: &str, talk: i64| json!({"leg_key": key, "endpoint": "10", "talk_ms": talk});
    let found = compare(json!({"legs": [leg("a", 1), leg("b", 2)]}), json!({"legs": [leg("a", 5), leg("c", 2)]}));
    let expected = [("legs.talk_ms", "a"), ("legs", "b"), ("legs", "c")];
    assert_eq!(found, expected.map(|(name, leg)| (name.to_owned(), Some(leg.to_owned()))));
    let turned = compare(json!({"legs": [leg("a", 1), leg("b", 2)]}), json!({"legs": [leg("b", 2), leg("a", 1)]}));
    assert_eq!(turned, [("legs".to_owned(), None)], "another order is a difference of the whole column");
}

#[test]
fn maps_are_compared_inside() {
    let before = json!({"legs": [], "attributes": {"a": "1", "b": "2"}});
    let found = compare(before, json!({"legs": [], "attributes": {"b": "2", "c": "3"}}));
    assert_eq!(found, ["a", "c"].map(|key| ("attributes".to_owned(), Some(key.to_owned()))));
}
