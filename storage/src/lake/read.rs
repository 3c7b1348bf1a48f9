//! The archive's own reads of the stored tables: states, homes, recent fingerprints, messages in order.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use datafusion::catalog::TableProvider;
use datafusion::prelude::{DataFrame, Expr, SessionContext, cast, col, lit};
use futures::{Stream, StreamExt, TryStreamExt};

use crate::error::Error;
use crate::event::{Event, Headers, Id, Micros, Offset, Source};
use crate::rows::{Keyed, PART, State, decode_state, parse_day};

/// A message of the `events` table, with what the fold had found out.
pub struct StoredEvent {
    /// The message.
    pub event: Event,
    /// Its offset.
    pub offset: Offset,
}

fn text<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a arrow::array::StringArray, Error> {
    let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    column.ok_or_else(|| Error::Corrupt(format!("column `{name}` is missing or not text")))
}

fn missing(name: &str) -> Error {
    Error::Corrupt(format!("column `{name}` is missing or of another type"))
}

fn optional(array: &arrow::array::StringArray, row: usize) -> Option<String> {
    array.is_valid(row).then(|| array.value(row).to_owned())
}

fn source(name: &str) -> Result<Source, Error> {
    Source::parse(name).ok_or_else(|| Error::Corrupt(format!("source `{name}` is unknown")))
}

fn as_text(name: &str) -> Expr {
    cast(col(name), arrow::datatypes::DataType::Utf8).alias(name)
}

fn scan(
    session: &SessionContext,
    table: &Arc<dyn TableProvider>,
    filter: Option<Expr>,
    columns: Vec<Expr>,
) -> Result<DataFrame, Error> {
    let frame = session.read_table(Arc::clone(table))?;
    let frame = if let Some(filter) = filter { frame.filter(filter)? } else { frame };
    Ok(frame.select(columns)?)
}

/// The id and home day (days since 1970-01-01) of every row, or of those that match, a batch at a time.
pub async fn homes<S: State>(
    session: &SessionContext,
    table: &Arc<dyn TableProvider>,
    filter: Option<Expr>,
) -> Result<impl Stream<Item = Result<Vec<(Id, i32)>, Error>> + use<S>, Error> {
    let frame = scan(session, table, filter, vec![col(S::ID), as_text("day")])?;
    let stream = frame.execute_stream().await?;
    Ok(stream.map(|batch| {
        let batch = batch?;
        let (ids, days) = (text(&batch, S::ID)?, text(&batch, "day")?);
        let home = |row| Ok((Id::from(ids.value(row)), parse_day(days.value(row)).ok_or_else(|| missing("day"))?));
        (0..batch.num_rows()).map(home).collect()
    }))
}

/// The states of the stored rows that match.
pub async fn states<S: State>(
    session: &SessionContext,
    table: &Arc<dyn TableProvider>,
    filter: Expr,
) -> Result<Vec<Keyed<S>>, Error> {
    states_of(session, table, filter, |_| true).await
}

/// The states of the stored rows that match and whose id is wanted; others are not decoded.
pub async fn states_of<S: State>(
    session: &SessionContext,
    table: &Arc<dyn TableProvider>,
    filter: Expr,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Keyed<S>>, Error> {
    let mut columns = vec![col("tenant"), col("source"), col(S::ID), as_text("day"), col("fold")];
    if S::KEY != S::ID {
        columns.push(col(S::KEY));
    }
    let mut stream = scan(session, table, Some(filter), columns)?.execute_stream().await?;
    let mut states = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        let (tenants, sources) = (text(&batch, "tenant")?, text(&batch, "source")?);
        let (ids, keys, days) = (text(&batch, S::ID)?, text(&batch, S::KEY)?, text(&batch, "day")?);
        let folds = batch
            .column_by_name("fold")
            .and_then(|column| column.as_binary_opt::<i32>())
            .ok_or_else(|| missing("fold"))?;
        for row in (0..batch.num_rows()).filter(|row| is_wanted(ids.value(*row))) {
            states.push(Keyed {
                tenant: tenants.value(row).into(),
                source: source(sources.value(row))?,
                id: ids.value(row).into(),
                key: keys.value(row).into(),
                day: parse_day(days.value(row)).ok_or_else(|| missing("day"))?,
                state: Arc::new(decode_state(folds.value(row))?),
            });
        }
    }
    Ok(states)
}

/// What holds for rows that are whole, whether shown or not.
pub fn is_whole() -> Expr {
    col("tier").not_eq(lit(PART))
}

/// The highest receipt time in `events`.
pub async fn latest_receipt(session: &SessionContext, events: &Arc<dyn TableProvider>) -> Result<Micros, Error> {
    let frame = session.read_table(Arc::clone(events))?;
    let latest = datafusion::functions_aggregate::expr_fn::max(col("received_at"));
    let found = frame.aggregate(vec![], vec![latest.alias("received_at")])?.collect().await?;
    let time = |batch: &RecordBatch| {
        let times = batch.column(0).as_primitive_opt::<TimestampMicrosecondType>()?;
        (!times.is_empty() && times.is_valid(0)).then(|| times.value(0))
    };
    Ok(found.iter().filter_map(time).max().unwrap_or_default())
}

/// What the index of recent fingerprints needs of stored messages received since, or at this offset or after, handed
/// over one by one in the order of the log: tenant, source, fingerprint, event id, receipt and offset.
pub async fn fingerprints(
    session: &SessionContext,
    events: &Arc<dyn TableProvider>,
    since: Micros,
    from: Offset,
    mut take: impl FnMut(&str, Source, [u8; 32], (Offset, Micros, &str)) -> Result<(), Error>,
) -> Result<(), Error> {
    let time = lit(datafusion::scalar::ScalarValue::TimestampMicrosecond(Some(since), Some("UTC".into())));
    let filter = col("received_at").gt_eq(time).or(col("offset").gt_eq(lit(from.0.cast_signed())));
    let columns = ["tenant", "source", "fingerprint", "event_id", "received_at", "offset"].map(col).to_vec();
    let sorted = scan(session, events, Some(filter), columns)?.sort(vec![col("offset").sort(true, false)])?;
    let mut stream = sorted.execute_stream().await?;
    while let Some(batch) = stream.try_next().await? {
        let (tenants, sources) = (text(&batch, "tenant")?, text(&batch, "source")?);
        let (prints, ids) = (text(&batch, "fingerprint")?, text(&batch, "event_id")?);
        let (times, offsets) = times_and_offsets(&batch)?;
        for row in 0..batch.num_rows() {
            let print = unhex(prints.value(row)).ok_or_else(|| missing("fingerprint"))?;
            let message = (Offset(offsets.value(row).cast_unsigned()), times.value(row), ids.value(row));
            take(tenants.value(row), source(sources.value(row))?, print, message)?;
        }
    }
    Ok(())
}

/// 32 bytes from 64 hex digits.
fn unhex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

type TimesAndOffsets<'a> = (&'a arrow::array::TimestampMicrosecondArray, &'a arrow::array::Int64Array);

fn times_and_offsets(batch: &RecordBatch) -> Result<TimesAndOffsets<'_>, Error> {
    let times =
        batch.column_by_name("received_at").and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let offsets = batch.column_by_name("offset").and_then(|column| column.as_primitive_opt::<Int64Type>());
    Ok((times.ok_or_else(|| missing("received_at"))?, offsets.ok_or_else(|| missing("offset"))?))
}

/// Messages that are read and sorted at once.
const WINDOW: u64 = 50_000;

/// Stored messages with `after < offset <= until`, in offset order; about as many at once as fit into memory easily.
///
/// # Errors
/// If the table cannot be read, then or while the stream is taken.
pub fn messages(
    session: &SessionContext,
    events: &Arc<dyn TableProvider>,
    after: Option<Offset>,
    until: Offset,
) -> impl Stream<Item = Result<Vec<StoredEvent>, Error>> + Send + use<> {
    let (session, events) = (session.clone(), Arc::clone(events));
    let first = after.map_or(0, |offset| offset.0 + 1);
    let windows = (first..=until.0).step_by(usize::try_from(WINDOW).unwrap_or(usize::MAX));
    futures::stream::iter(windows).then(move |from| {
        let (session, events) = (session.clone(), Arc::clone(&events));
        async move { window(&session, &events, from, until.0.min(from + WINDOW - 1)).await }
    })
}

async fn window(
    session: &SessionContext,
    events: &Arc<dyn TableProvider>,
    from: u64,
    until: u64,
) -> Result<Vec<StoredEvent>, Error> {
    let offset = || col("offset");
    let filter = offset().gt_eq(lit(from.cast_signed())).and(offset().lt_eq(lit(until.cast_signed())));
    let columns = [
        "tenant",
        "source",
        "type",
        "event_id",
        "call_key",
        "received_at",
        "offset",
        "method",
        "path",
        "query",
        "headers",
        "content_type",
        "payload",
        "structured",
        "refused",
    ];
    let mut stream = scan(session, events, Some(filter), columns.map(col).to_vec())?.execute_stream().await?;
    let mut messages = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        messages.extend(decode_messages(&batch)?);
    }
    messages.sort_unstable_by_key(|stored| stored.offset);
    Ok(messages)
}

/// The messages of a batch that has all columns of `events` but the derived ones.
fn decode_messages(batch: &RecordBatch) -> Result<Vec<StoredEvent>, Error> {
    let (tenants, sources, kinds) = (text(batch, "tenant")?, text(batch, "source")?, text(batch, "type")?);
    let (ids, keys, methods) = (text(batch, "event_id")?, text(batch, "call_key")?, text(batch, "method")?);
    let (paths, queries, content_types) = (text(batch, "path")?, text(batch, "query")?, text(batch, "content_type")?);
    let (times, offsets) = times_and_offsets(batch)?;
    let headers =
        batch.column_by_name("headers").and_then(|column| column.as_map_opt()).ok_or_else(|| missing("headers"))?;
    let payloads = batch
        .column_by_name("payload")
        .and_then(|column| column.as_binary_opt::<i32>())
        .ok_or_else(|| missing("payload"))?;
    let structured = batch
        .column_by_name("structured")
        .and_then(|column| column.as_boolean_opt())
        .ok_or_else(|| missing("structured"))?;
    let refused = text(batch, "refused")?;
    let mut messages = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let entries = headers.value(row);
        let (names, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
        let headers: Headers =
            (0..entries.len()).map(|entry| (names.value(entry).into(), values.value(entry).into())).collect();
        messages.push(StoredEvent {
            offset: Offset(offsets.value(row).cast_unsigned()),
            event: Event {
                id: ids.value(row).into(),
                tenant: tenants.value(row).into(),
                source: source(sources.value(row))?,
                kind: kinds.value(row).into(),
                received_at: times.value(row),
                subject: optional(keys, row).map(Into::into),
                structured: structured.is_valid(row) && structured.value(row),
                method: optional(methods, row).map(Into::into),
                path: optional(paths, row).map(Into::into),
                query: optional(queries, row).map(Into::into),
                headers: Arc::new(headers),
                content_type: optional(content_types, row).map(Into::into),
                error: optional(refused, row),
                payload: Bytes::copy_from_slice(payloads.value(row)),
            },
        });
    }
    Ok(messages)
}
