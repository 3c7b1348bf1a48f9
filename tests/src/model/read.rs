//! What a snapshot shows, as lines of JSON: rows of calls and recordings with where they are stored, and messages.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use datafusion::catalog::TableProvider;
use datafusion::prelude::{DataFrame, Expr, SessionConfig, SessionContext, cast, ident};
use serde_json::Value;
use trunklog_storage::archive::Snapshot;

/// A row of a table of states.
pub(super) struct Stored {
    pub id: String,
    pub day: String,
    pub tier: String,
    pub line: String,
}

/// A session that reads strings as strings.
pub(super) fn session() -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(2);
    config.options_mut().execution.parquet.schema_force_view_types = false;
    SessionContext::new_with_config(config)
}

/// Every stored row of all tiers, with the columns of `schema`.
pub(super) async fn stored(
    session: &SessionContext,
    table: Arc<dyn TableProvider>,
    schema: &SchemaRef,
    id: &str,
) -> Vec<Stored> {
    let mut columns: Vec<Expr> = schema.fields().iter().map(|field| column(field.name(), field.data_type())).collect();
    let shown: Vec<usize> = (0..columns.len()).collect();
    columns.extend(["day", "tier"].map(|name| column(name, &DataType::Utf8)));
    let batches = session.read_table(table).unwrap().select(columns).unwrap().collect().await.unwrap();
    let mut rows = Vec::new();
    for batch in batches {
        let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        let (ids, days, tiers) = (text(id), text("day"), text("tier"));
        for (row, line) in lines(&batch.project(&shown).unwrap()).into_iter().enumerate() {
            let text = |column: &arrow::array::StringArray| column.value(row).to_owned();
            rows.push(Stored { id: text(&ids), day: text(&days), tier: text(&tiers), line });
        }
    }
    rows
}

/// Partition columns come back as dictionaries, strings in files of others as views.
fn column(name: &str, kind: &DataType) -> Expr {
    match kind {
        DataType::Utf8 => cast(ident(name), DataType::Utf8).alias(name),
        _ => ident(name).alias(name),
    }
}

/// Rows with their id.
pub(super) fn fresh(batches: &[RecordBatch], id: &str) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for batch in batches {
        let ids = batch.column_by_name(id).unwrap().as_string::<i32>();
        rows.extend(lines(batch).into_iter().enumerate().map(|(row, line)| (ids.value(row).to_owned(), line)));
    }
    rows
}

/// A line of JSON for each row, nulls included.
pub(super) fn lines(batch: &RecordBatch) -> Vec<String> {
    let mut text = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut text);
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
}

/// Every message, stored or not, in no order. Times are whole microseconds, the payload is hex. `headers` may be long
/// and are left out unless asked for.
pub(super) async fn events(session: &SessionContext, snapshot: &Snapshot, headers: bool) -> Vec<Value> {
    let mut frames: Vec<DataFrame> = vec![session.read_table(snapshot.events_stored()).unwrap()];
    let fresh = snapshot.events_fresh().unwrap();
    if !fresh.is_empty() {
        frames.push(session.read_batches(fresh).unwrap());
    }
    let mut found = Vec::new();
    for frame in frames {
        let columns = event_columns(headers);
        for batch in frame.select(columns).unwrap().collect().await.unwrap() {
            found.extend(lines(&batch).iter().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }
    found
}

fn event_columns(headers: bool) -> Vec<Expr> {
    const TEXTS: [&str; 13] = [
        "tenant",
        "source",
        "type",
        "event_id",
        "call_key",
        "subject",
        "method",
        "path",
        "query",
        "content_type",
        "fingerprint",
        "duplicate_of",
        "error",
    ];
    let texts = TEXTS.map(|name| column(name, &DataType::Utf8)).into_iter();
    let times = ["received_at", "occurred_at"].map(|name| cast(ident(name), DataType::Int64).alias(name)).into_iter();
    let others = ["partition", "offset", "payload", "quarantined"].map(|name| ident(name).alias(name)).into_iter();
    texts.chain(times).chain(others).chain(headers.then(|| ident("headers").alias("headers"))).collect()
}
