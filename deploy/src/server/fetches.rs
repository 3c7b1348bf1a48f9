//! Links and fetches of earlier runs, read from the stored messages: what is left to fetch after a restart.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use async_trait::async_trait;
use bytes::Bytes;
use trunklog_ingest::fetch::{FetchRequest, PastFailure, PastFetch, PastMessages, planfix_link};
use trunklog_query::{Access, Moment, QueryEngine};
use trunklog_storage::event::{Event, EventId, Micros, Source, format_time};

/// Reads the messages of all tenants.
pub struct StoredMessages {
    engine: Arc<QueryEngine>,
}

impl StoredMessages {
    pub fn new(engine: Arc<QueryEngine>) -> StoredMessages {
        StoredMessages { engine }
    }

    /// Takes what `read` finds in each row; the messages themselves are never all in memory.
    async fn collect<T: Send>(
        &self,
        sql: &str,
        read: impl Fn(&RecordBatch, usize) -> Option<T> + Send,
    ) -> Result<Vec<T>, PastFailure> {
        let session = self.engine.session(Access::all(), Moment::Now).await?;
        let mut running = session.start(sql, Vec::new()).await?;
        let mut found = Vec::new();
        while let Some(batch) = running.next().await? {
            found.extend((0..batch.num_rows()).filter_map(|row| read(&batch, row)));
        }
        Ok(found)
    }
}

#[async_trait]
impl PastMessages for StoredMessages {
    async fn planfix_links(&self, from: Micros, until: Micros) -> Result<Vec<FetchRequest>, PastFailure> {
        let sql = format!(
            "SELECT tenant, received_at, query, content_type, payload FROM events \
             WHERE source = 'planfix' AND type IN ('planfix.record', 'planfix.COMPLETED') \
             AND quarantined IS NOT TRUE AND duplicate_of IS NULL AND {}",
            received(from, until)
        );
        self.collect(&sql, |batch, row| planfix_link(&message(batch, row)?)).await
    }

    async fn fetches(&self, from: Micros, until: Micros) -> Result<Vec<PastFetch>, PastFailure> {
        let sql = format!(
            "SELECT tenant, payload FROM system_events \
             WHERE type = 'trunklog.fetch' AND quarantined IS NOT TRUE AND {}",
            received(from, until)
        );
        let read = |batch: &RecordBatch, row: usize| {
            let fetch = serde_json::from_slice(&payload(batch, row)?).ok()?;
            Some(PastFetch { tenant: text(batch, "tenant", row)?, fetch })
        };
        self.collect(&sql, read).await
    }
}

/// In the column's own type, so that files and days are skipped by it.
fn received(from: Micros, until: Micros) -> String {
    let time = |at| format!("arrow_cast('{}', 'Timestamp(Microsecond, Some(\"UTC\"))')", format_time(at));
    format!("received_at >= {} AND received_at < {}", time(from), time(until))
}

/// As much of a Planfix message as is needed to read its fields.
fn message(batch: &RecordBatch, row: usize) -> Option<Event> {
    let received_at = batch.column_by_name("received_at")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    Some(Event {
        id: EventId::new(),
        tenant: text(batch, "tenant", row)?.into(),
        source: Source::Planfix,
        kind: Default::default(),
        received_at: received_at.value(row),
        subject: None,
        structured: false,
        method: None,
        path: None,
        query: text(batch, "query", row).map(Into::into),
        headers: Default::default(),
        content_type: text(batch, "content_type", row).map(Into::into),
        error: None,
        payload: payload(batch, row)?,
    })
}

fn text(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
    column.is_valid(row).then(|| column.value(row).to_owned())
}

fn payload(batch: &RecordBatch, row: usize) -> Option<Bytes> {
    let column = batch.column_by_name("payload")?.as_binary_opt::<i32>()?;
    column.is_valid(row).then(|| Bytes::copy_from_slice(column.value(row)))
}
