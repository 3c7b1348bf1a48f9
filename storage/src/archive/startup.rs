//! Opening an archive: lock, recovery, what the tables know, and the log's messages behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use datafusion::catalog::TableProvider;
use datafusion::prelude::{SessionContext, col, lit};
use futures::TryStreamExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::duplicates::{Duplicates, KEPT_MESSAGES};
use super::keyer::{Keyer, MADE_KEY};
use super::projection::{Home, Projection, home_key};
use super::sequencer::{Arrived, Sequencer};
use super::{Archive, ArchiveConfig, Carry, Inner, Message, Tables};
use crate::call::{CallState, Seen};
use crate::error::{Context, Error};
use crate::event::{Offset, Source, now};
use crate::fact::{DUPLICATE_WINDOW, Decoder};
use crate::lake::{self, Table};
use crate::log::embedded::EmbeddedLog;
use crate::log::{Bounds, Log, LogConfig, Published, Publisher, codec};
use crate::rows::State;

/// Stored messages that are looked through for the last one of each call without an id.
const RECENT_MESSAGES: u64 = 20_000;
/// Read back from the log at once.
const READ_BYTES: usize = 8 << 20;

impl Archive {
    /// Opens or makes the archive in `config.data_dir`, recovers, and starts folding in the background.
    ///
    /// # Errors
    /// `Conflict` when another process has it, `Corrupt` when log and tables contradict each other.
    pub async fn open(config: ArchiveConfig, decoder: Arc<dyn Decoder>) -> Result<Archive, Error> {
        let log = EmbeddedLog::open(LogConfig {
            directory: config.data_dir.join("log"),
            segment_bytes: config.segment_bytes,
            queue_limit: config.queue_limit,
            min_free_bytes: config.min_free_bytes,
        })?;
        let directory = config.data_dir.join("tables");
        std::fs::create_dir_all(&directory).context(format!("making `{}`", directory.display()))?;
        crate::log_sync_directory(&config.data_dir)?;
        let whole = std::fs::canonicalize(&config.data_dir).context("finding the data directory")?;
        if let Some(parent) = whole.parent() {
            crate::log_sync_directory(parent)?;
        }
        let session = lake::session();
        let state = Arc::new(session.state());
        let events = Table::events(&directory, log.identity(), Arc::clone(&state)).await?;
        let calls = Table::calls(&directory, log.identity(), Arc::clone(&state)).await?;
        let recordings = Table::recordings(&directory, log.identity(), state).await?;
        let tables = Tables { events, calls, recordings };
        check(&tables, log.bounds())?;
        let mut sequencer = restore(&session, &tables, decoder.as_ref(), &config).await?;
        catch_up(&session, &mut sequencer, log.bounds(), decoder.as_ref()).await?;
        replay(&log, &mut sequencer, decoder.as_ref())?;
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let visible = watch::Sender::new(sequencer.last);
        log.start(publisher(Arc::clone(&arrived), visible.clone()))?;
        let background = background_runtime()?;
        let inner = Arc::new(Inner {
            tail_bytes: AtomicU64::new(sequencer.tail.bytes()),
            in_flight: AtomicU64::default(),
            config,
            decoder,
            log,
            arrived,
            visible,
            sequencer: Mutex::new(sequencer),
            tables: tokio::sync::Mutex::new(tables),
            session,
            looked_up: Mutex::default(),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
            background: Mutex::default(),
        });
        background.spawn(super::fold::run(Arc::downgrade(&inner)));
        *inner.background.lock() = Some(background);
        Ok(Archive { inner })
    }
}

/// Folding and compaction run on threads of their own at lower priority, so that ingest keeps its latency.
fn background_runtime() -> Result<tokio::runtime::Runtime, Error> {
    let lower = || {
        // A priority that cannot be lowered costs latency, nothing else.
        let _ = rustix::process::nice(10);
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(2)
        .thread_name("background")
        .on_thread_start(lower)
        .enable_all()
        .build()
        .context("starting background threads")
}

fn publisher(arrived: Arc<Mutex<Vec<Arrived>>>, visible: watch::Sender<Option<Offset>>) -> Publisher {
    Box::new(move |Published { first, batch }| {
        let count = batch.records.len() as u64;
        let carry = batch.carry.and_then(|carry| carry.downcast::<Carry>().ok());
        let Some(carry) = carry else {
            tracing::error!(%first, "a batch came without its messages; it will be read at the next start");
            return;
        };
        arrived.lock().push(Arrived { first, messages: carry.messages, duplicate: carry.duplicate });
        visible.send_replace(Some(Offset(first.0 + count - 1)));
    })
}

/// A table must not be ahead of the log, and the log must still have what a table needs.
fn check(tables: &Tables, bounds: Bounds) -> Result<(), Error> {
    let Tables { events, calls, recordings } = tables;
    let named = [("events", events), ("calls", calls), ("recordings", recordings)];
    for (name, watermark) in named.map(|(name, table)| (name, table.watermark)) {
        let needs = watermark.map_or(0, |offset| offset.0 + 1);
        if needs > bounds.next.0 {
            let end = bounds.next;
            return Err(Error::Corrupt(format!(
                "table `{name}` has messages up to offset {}, but the log ends before {end}: the log lost data or was replaced",
                needs - 1
            )));
        }
        // What a projection misses may stand in `events`.
        let at_rest = name != "events" && events.watermark.is_some_and(|offset| offset.0 + 1 >= bounds.first.0);
        if needs < bounds.first.0 && !at_rest {
            let first = bounds.first;
            return Err(Error::Corrupt(format!(
                "table `{name}` needs the log from offset {needs}, but it begins at {first}"
            )));
        }
    }
    let without = named.iter().all(|(_, table)| table.watermark.is_none());
    if without && named.iter().any(|(_, table)| table.version() > 0) {
        return Err(Error::Corrupt(
            "the tables were written under another log, and that log is gone; restore `log/` or start with an empty data directory".into(),
        ));
    }
    Ok(())
}

async fn restore(
    session: &SessionContext,
    tables: &Tables,
    decoder: &dyn Decoder,
    config: &ArchiveConfig,
) -> Result<Sequencer, Error> {
    let events = tables.events.provider().await?;
    let calls = restore_projection(session, &tables.calls, config).await?;
    let recordings = restore_projection(session, &tables.recordings, config).await?;
    let duplicates = restore_duplicates(session, &tables.events, &events).await?;
    let keyer = if config.ignore_projections {
        Keyer::default()
    } else {
        restore_keyer(session, &calls.table, &events, calls.watermark, decoder).await?
    };
    let mut sequencer = Sequencer::new(events, tables.events.watermark, calls, recordings);
    sequencer.last = tables.events.watermark.max(tables.calls.watermark).max(tables.recordings.watermark);
    Ok(Sequencer { duplicates, keyer, ..sequencer })
}

/// What the table knows: where everything lives, and the parts.
async fn restore_projection<S: State>(
    session: &SessionContext,
    table: &Table,
    config: &ArchiveConfig,
) -> Result<Projection<S>, Error> {
    let kept = i64::try_from(config.keep_superseded.as_micros()).unwrap_or(i64::MAX);
    let mut projection = Projection::new(table.provider().await?, table.watermark);
    projection.history = table.history(now().saturating_sub(kept)).await?;
    if config.ignore_projections {
        return Ok(projection);
    }
    let damaged = |error: Error| {
        let reason = "cannot be read; `trunklog rebuild` makes it again from the messages";
        tracing::error!("the table `{}` {reason}", table.name());
        error
    };
    load_projection(session, &mut projection).await.map_err(damaged)?;
    projection.parts_since = (projection.overlay.len() > 0).then(std::time::Instant::now);
    Ok(projection)
}

/// Reads homes and parts of the pinned table.
pub(super) async fn load_projection<S: State>(
    session: &SessionContext,
    projection: &mut Projection<S>,
) -> Result<(), Error> {
    for stored in lake::read::homes::<S>(session, &projection.table).await? {
        let home = Home { day: stored.day, stored: false };
        projection.homes.entry(home_key(&stored.id)).or_insert(home).stored |= stored.is_final;
    }
    for part in lake::read::states(session, &projection.table, col("tier").eq(lit("part"))).await? {
        projection.take_part(part);
    }
    Ok(())
}

async fn restore_duplicates(
    session: &SessionContext,
    events: &Table,
    provider: &Arc<dyn TableProvider>,
) -> Result<Duplicates, Error> {
    let mut duplicates = Duplicates::default();
    let from = Offset(events.watermark.map_or(0, |offset| offset.0.saturating_sub(KEPT_MESSAGES)));
    for stored in lake::read::fingerprints(session, provider, now() - DUPLICATE_WINDOW, from).await? {
        let at = (stored.offset, stored.received_at, stored.event_id.as_str());
        duplicates.note(&stored.tenant, stored.source, &stored.fingerprint, DUPLICATE_WINDOW, at);
    }
    Ok(duplicates)
}

/// The calls whose keys were made here, in log order.
pub(super) async fn restore_keyer(
    session: &SessionContext,
    calls: &Arc<dyn TableProvider>,
    events: &Arc<dyn TableProvider>,
    watermark: Option<Offset>,
    decoder: &dyn Decoder,
) -> Result<Keyer, Error> {
    let made = col("source").eq(lit(Source::Voispeed.as_str())).and(col("call_key").like(lit(format!("{MADE_KEY}%"))));
    let mut stored = lake::read::states::<CallState>(session, calls, made).await?;
    let first = |seen: &Option<Seen>| seen.map(|seen| seen.first_offset);
    stored.sort_by_key(|call| first(&call.state.seen));
    let mut keyer = Keyer::default();
    for call in stored {
        let ended = call.state.legs.values().filter_map(|leg| leg.end.map(|end| end.1)).max();
        keyer.restore(&call.tenant, call.source, &call.key, ended);
    }
    let Some(watermark) = watermark.filter(|_| !keyer.is_empty()) else { return Ok(keyer) };
    let recent = Offset(watermark.0.saturating_sub(RECENT_MESSAGES));
    let mut stream = std::pin::pin!(lake::read::messages(session, events, Some(recent), Some(watermark)).await?);
    while let Some(messages) = stream.try_next().await? {
        for stored in messages.into_iter().filter(|stored| stored.event.source == Source::Voispeed) {
            let message = Message::new(stored.event, decoder);
            keyer.remember(&message.event, &message.decoded);
        }
    }
    Ok(keyer)
}

/// Takes in what a projection misses and the log no longer has: it stands in `events`.
async fn catch_up(
    session: &SessionContext,
    sequencer: &mut Sequencer,
    bounds: Bounds,
    decoder: &dyn Decoder,
) -> Result<(), Error> {
    let after = sequencer.calls.watermark.min(sequencer.recordings.watermark);
    let needs = after.map_or(0, |offset| offset.0 + 1);
    if needs >= bounds.first.0 {
        return Ok(());
    }
    let until = Some(Offset(bounds.first.0 - 1));
    let mut stream = std::pin::pin!(lake::read::messages(session, &sequencer.events, after, until).await?);
    while let Some(messages) = stream.try_next().await? {
        for stored in messages {
            sequencer.take(super::snapshot::arrival(stored.offset, Message::new(stored.event, decoder)));
        }
    }
    Ok(())
}

/// Takes in the log's messages behind the tables.
fn replay(log: &EmbeddedLog, sequencer: &mut Sequencer, decoder: &dyn Decoder) -> Result<(), Error> {
    let mut from = Offset(sequencer.folded().map_or(0, |offset| offset.0 + 1)).max(log.bounds().first);
    let mut count = 0_u64;
    loop {
        let records = log.read(from, READ_BYTES)?;
        let Some((last, _)) = records.last() else { break };
        let next = Offset(last.0 + 1);
        for (offset, record) in records {
            let event = codec::decode(&record)?;
            let message = Message::new(event, decoder);
            let duplicate = [AtomicBool::new(false)];
            sequencer.take(Arrived { first: offset, messages: vec![message], duplicate: Arc::new(duplicate) });
            count += 1;
        }
        from = next;
    }
    if count > 0 {
        tracing::info!(messages = count, "read the log's tail");
    }
    Ok(())
}
