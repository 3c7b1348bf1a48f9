//! A table as one number: SHA-256 over its rows in a canonical encoding, sorted by key.
//!
//! A row is one line of JSON with every column, nulls included, in the schema's order. Calls are hashed as stored
//! (an open call is `open` whatever the clock says), so that two archives of the same messages agree.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use datafusion::catalog::TableProvider;
use datafusion::prelude::{cast, col};
use futures::TryStreamExt;
use sha2::{Digest, Sha256};

use super::snapshot::Part;
use super::{Archive, Snapshot};
use crate::call::LEG;
use crate::error::Error;
use crate::event::hex;
use crate::lake;
use crate::rows::State;
use crate::schema;

/// The hash of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableHash {
    /// `calls`, `events` or `recordings`.
    pub table: String,
    /// Rows.
    pub rows: u64,
    /// Lower-case hex.
    pub sha256: String,
}

type Line = (String, [u8; 32]);

impl Archive {
    /// The hashes of all tables in this snapshot.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn hash(&self, snapshot: &Snapshot) -> Result<Vec<TableHash>, Error> {
        let calls = self.lines_of(&snapshot.calls, snapshot).await?;
        let recordings = self.lines_of(&snapshot.recordings, snapshot).await?;
        let mut events = Vec::new();
        for batch in self.read(snapshot.events_stored(), &schema::events(), None).await? {
            events.extend(lines(&batch, event_key)?);
        }
        for batch in snapshot.events_fresh()? {
            events.extend(lines(&batch, event_key)?);
        }
        Ok(vec![digest("calls", calls), digest("events", events), digest("recordings", recordings)])
    }

    async fn lines_of<S: State>(&self, part: &Part<S>, snapshot: &Snapshot) -> Result<Vec<Line>, Error> {
        let superseded = part.superseded();
        let mut found = Vec::new();
        let filter = lake::read::is_whole();
        for batch in self.read(part.table.whole(), &S::schema(), Some(filter)).await? {
            let ids = batch.column_by_name(S::ID).map(|column| column.as_string::<i32>().clone());
            let is_whole = |row: usize| ids.as_ref().is_none_or(|ids| !superseded.contains(ids.value(row)));
            let lines = lines(&batch, state_key::<S>)?.into_iter().enumerate();
            found.extend(lines.filter(|(row, _)| is_whole(*row) && is_shown(&batch, *row)).map(|(_, line)| line));
        }
        for batch in part.overlay.rows(snapshot.decoder.as_ref())? {
            let lines = lines(&batch, state_key::<S>)?.into_iter().enumerate();
            found.extend(lines.filter(|(row, _)| is_shown(&batch, *row)).map(|(_, line)| line));
        }
        Ok(found)
    }

    async fn read(
        &self,
        table: Arc<dyn TableProvider>,
        schema: &arrow::datatypes::SchemaRef,
        filter: Option<datafusion::prelude::Expr>,
    ) -> Result<Vec<RecordBatch>, Error> {
        let frame = self.inner.session.read_table(table)?;
        let frame = if let Some(filter) = filter { frame.filter(filter)? } else { frame };
        let columns = schema.fields().iter().map(|field| match field.data_type() {
            DataType::Utf8 => cast(col(field.name()), DataType::Utf8).alias(field.name()),
            _ => col(format!("\"{}\"", field.name())).alias(field.name()),
        });
        let stream = frame.select(columns.collect::<Vec<_>>())?.execute_stream().await?;
        Ok(stream.try_collect().await?)
    }
}

/// A row that is a leg of another call is not shown as a call.
fn is_shown(batch: &RecordBatch, row: usize) -> bool {
    let states = batch.column_by_name("state").and_then(|column| column.as_string_opt::<i32>());
    states.is_none_or(|states| states.is_null(row) || states.value(row) != LEG)
}

/// The hash of these rows as a whole table of calls.
#[cfg(test)]
pub(super) fn hash_calls(batch: &RecordBatch) -> TableHash {
    digest("calls", lines(batch, state_key::<crate::call::CallState>).expect("rows that were just made"))
}

fn state_key<S: State>(batch: &RecordBatch, row: usize) -> String {
    ["tenant", "source", S::ID]
        .map(|name| batch.column_by_name(name).map(|column| column.as_string::<i32>().value(row)))
        .map(Option::unwrap_or_default)
        .join("\0")
}

fn event_key(batch: &RecordBatch, row: usize) -> String {
    let offset = batch.column_by_name("offset").map(|column| column.as_primitive::<Int64Type>().value(row));
    format!("{:020}", offset.unwrap_or_default())
}

fn lines(batch: &RecordBatch, key: impl Fn(&RecordBatch, usize) -> String) -> Result<Vec<Line>, Error> {
    let mut text = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut text);
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.enumerate().map(|(row, line)| (key(batch, row), Sha256::digest(line).into())).collect())
}

fn digest(table: &str, mut lines: Vec<Line>) -> TableHash {
    lines.sort_unstable();
    let mut hash = Sha256::new();
    for (key, line) in &lines {
        hash.update(key.as_bytes());
        hash.update(b"\n");
        hash.update(line);
    }
    TableHash { table: table.to_owned(), rows: lines.len() as u64, sha256: hex(&hash.finalize()) }
}
