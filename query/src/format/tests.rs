//! Values in every form.

use std::sync::Arc;
use trunklog_storage::position::Position;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, ListArray, MapBuilder, RecordBatch,
    StringArray, StringBuilder, StructArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type};

use super::*;

fn sample() -> RecordBatch {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k");
    map.values().append_value("v");
    map.append(true).expect("an entry");
    map.append(false).expect("none");
    let inner = Field::new("x", DataType::Int64, true);
    let nested: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("s", Arc::new(StringArray::from(vec![Some("a\"b,\u{e9}"), None]))),
        ("i", Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))),
        ("f", Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN)]))),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("t", Arc::new(TimestampMicrosecondArray::from(vec![Some(6), None]).with_timezone("UTC"))),
        ("n", Arc::new(TimestampNanosecondArray::from(vec![Some(-1), None]))),
        ("d", Arc::new(Date32Array::from(vec![Some(1), None]))),
        ("y", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None]))),
        ("l", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None]))),
        ("r", Arc::new(StructArray::from(vec![(Arc::new(inner), nested)]))),
        ("m", Arc::new(map.finish())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("a batch")
}

fn encode(format: Format) -> String {
    let batch = sample();
    let mut encoder =
        format.encoder(batch.schema(), AsOf { offset: Position::unsaid(false), time: 0 }).expect("an encoder");
    let mut out = encoder.batch(&batch).expect("encodes");
    out.extend(encoder.finish().expect("finishes"));
    String::from_utf8(out).expect("text")
}

#[test]
fn json_is_as_documented() {
    let value: serde_json::Value = serde_json::from_str(&encode(Format::Json)).expect("JSON");
    let types: Vec<_> =
        value["columns"].as_array().expect("columns").iter().map(|column| column["type"].clone()).collect();
    let expected =
        ["string", "int64", "float64", "bool", "timestamp", "timestamp", "date", "binary", "list", "struct", "map"];
    assert_eq!(types, expected);
    let first = serde_json::json!([
        "a\"b,\u{e9}", i64::MIN, 1.5, true, "1970-01-01T00:00:00.000006Z", "1969-12-31T23:59:59.999999Z", "1970-01-02",
        "AP8=", [1, null], {"x": 1}, {"k": "v"}
    ]);
    assert_eq!(value["rows"][0], first);
    let second = serde_json::json!([null, null, null, null, null, null, null, null, null, {"x": null}, null]);
    assert_eq!(value["rows"][1], second);
    assert_eq!(value["as_of"]["offset"], serde_json::Value::Null);
}

#[test]
fn ndjson_is_an_object_per_line() {
    let text = encode(Format::Ndjson);
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["m"]["k"], "v");
}

#[test]
fn csv_tells_null_from_empty() {
    let text = encode(Format::Csv);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "s,i,f,b,t,n,d,y,l,r,m");
    assert!(lines[1].starts_with("\"a\"\"b,\u{e9}\",-9223372036854775808,1.5,true,1970-01-01T00:00:00.000006Z,"));
    assert!(lines[1].ends_with(",1970-01-02,AP8=,\"[1,null]\",\"{\"\"x\"\":1}\",\"{\"\"k\"\":\"\"v\"\"}\""));
    assert_eq!(lines[2], ",,,,,,,,,\"{\"\"x\"\":null}\",");
    let empty =
        RecordBatch::try_from_iter([("s", Arc::new(StringArray::from(vec![""])) as ArrayRef)]).expect("a batch");
    let mut encoder =
        Format::Csv.encoder(empty.schema(), AsOf { offset: Position::unsaid(false), time: 0 }).expect("an encoder");
    assert_eq!(encoder.batch(&empty).expect("encodes"), b"s\n\"\"\n");
}

#[test]
fn empty_answers_have_their_columns() {
    for (format, expected) in [(Format::Csv, "s\n"), (Format::Ndjson, "")] {
        let schema = Arc::new(arrow::datatypes::Schema::new(vec![Field::new("s", DataType::Utf8, true)]));
        let mut encoder =
            format.encoder(schema, AsOf { offset: Position::unsaid(false), time: 0 }).expect("an encoder");
        assert_eq!(encoder.finish().expect("finishes"), expected.as_bytes());
    }
}

#[test]
fn binary_forms_can_be_read_back() {
    let batch = sample();
    for format in [Format::Arrow, Format::Parquet] {
        let mut encoder =
            format.encoder(batch.schema(), AsOf { offset: Position::unsaid(false), time: 0 }).expect("an encoder");
        let mut out = encoder.batch(&batch).expect("encodes");
        out.extend(encoder.finish().expect("finishes"));
        let rows: usize = if format == Format::Arrow {
            let reader = arrow::ipc::reader::StreamReader::try_new(out.as_slice(), None).expect("a stream");
            reader.map(|batch| batch.expect("a batch").num_rows()).sum()
        } else {
            let builder =
                parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(out));
            let reader = builder.expect("a file").build().expect("a reader");
            reader.map(|batch| batch.expect("a batch").num_rows()).sum()
        };
        assert_eq!(rows, 2);
    }
}

#[test]
fn objects_need_different_names() {
    let field = Field::new("s", DataType::Utf8, true);
    let schema = Arc::new(arrow::datatypes::Schema::new(vec![field.clone(), field]));
    let as_of = AsOf { offset: Position::unsaid(false), time: 0 };
    for format in Format::ALL {
        let refused = matches!(format.encoder(Arc::clone(&schema), as_of), Err(QueryError::Sql(_)));
        assert_eq!(refused, matches!(format, Format::Ndjson | Format::Parquet), "{format:?}");
    }
}
