//! Opening an archive: lock, recovery, what the tables know, and the log's messages behind it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use datafusion::catalog::TableProvider;
use datafusion::prelude::{SessionContext, col, lit};
use futures::TryStreamExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::duplicates::{Duplicates, KEPT_MESSAGES};
use super::keyer::{Keyer, MADE_KEY};
use super::overlay::{Entry, Overlay};
use super::sequencer::{Arrived, Home, Sequencer, home_key};
use super::tail::Tail;
use super::{Archive, ArchiveConfig, Carry, Inner, Message, Tables};
use crate::call::Seen;
use crate::error::{Context, Error};
use crate::event::{Offset, Source, now};
use crate::fact::{DUPLICATE_WINDOW, Decoder};
use crate::lake::{self, Table};
use crate::log::embedded::EmbeddedLog;
use crate::log::{Bounds, Log, LogConfig, Published, Publisher, codec};

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
        let calls = Table::calls(&directory, log.identity(), state).await?;
        check(&events, &calls, log.bounds())?;
        let mut sequencer = restore(&session, &events, &calls, decoder.as_ref(), &config).await?;
        catch_up(&session, &mut sequencer, log.bounds(), decoder.as_ref()).await?;
        replay(&log, &mut sequencer, decoder.as_ref())?;
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let visible = watch::Sender::new(sequencer.last);
        log.start(publisher(Arc::clone(&arrived), visible.clone()))?;
        let background = background_runtime()?;
        let inner = Arc::new(Inner {
            tail_bytes: AtomicU64::new(sequencer.tail.bytes()),
            in_flight: AtomicU64::default(),
            parts_since: Mutex::new((sequencer.overlay.len() > 0).then(std::time::Instant::now)),
            config,
            decoder,
            log,
            arrived,
            visible,
            sequencer: Mutex::new(sequencer),
            tables: tokio::sync::Mutex::new(Tables { events, calls }),
            session,
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
fn check(events: &Table, calls: &Table, bounds: Bounds) -> Result<(), Error> {
    for (name, watermark) in [("events", events.watermark), ("calls", calls.watermark)] {
        let needs = watermark.map_or(0, |offset| offset.0 + 1);
        if needs > bounds.next.0 {
            let end = bounds.next;
            return Err(Error::Corrupt(format!(
                "table `{name}` has messages up to offset {}, but the log ends before {end}: the log lost data or was replaced",
                needs - 1
            )));
        }
        // What `calls` misses may stand in `events`.
        let at_rest = name == "calls" && events.watermark.is_some_and(|offset| offset.0 + 1 >= bounds.first.0);
        if needs < bounds.first.0 && !at_rest {
            let first = bounds.first;
            return Err(Error::Corrupt(format!(
                "table `{name}` needs the log from offset {needs}, but it begins at {first}"
            )));
        }
    }
    let used = events.watermark.is_none() && calls.watermark.is_none() && (events.version() > 0 || calls.version() > 0);
    if used {
        return Err(Error::Corrupt(
            "the tables were written under another log, and that log is gone; restore `log/` or start with an empty data directory".into(),
        ));
    }
    Ok(())
}

async fn restore(
    session: &SessionContext,
    events: &Table,
    calls: &Table,
    decoder: &dyn Decoder,
    config: &ArchiveConfig,
) -> Result<Sequencer, Error> {
    let ignore_calls = config.ignore_calls;
    let kept = i64::try_from(config.keep_superseded.as_micros()).unwrap_or(i64::MAX);
    let since = now().saturating_sub(kept);
    let (events_table, calls_table) = (events.provider().await?, calls.provider().await?);
    let mut homes: HashMap<u128, Home> = HashMap::new();
    let mut in_final = HashSet::new();
    let damaged = |error: Error| {
        tracing::error!("the table `calls` cannot be read; `trunklog rebuild` makes it again from the messages");
        error
    };
    let stored =
        if ignore_calls { Vec::new() } else { lake::read::homes(session, &calls_table).await.map_err(damaged)? };
    for stored in stored {
        let home = homes.entry(home_key(&stored.call_id)).or_insert(Home { day: stored.day, stored: false });
        home.stored |= stored.is_final;
        if stored.is_final {
            in_final.insert(home_key(&stored.call_id));
        }
    }
    let mut overlay = Overlay::default();
    let mut lacking = HashSet::new();
    let is_part = col("tier").eq(lit("part"));
    let parts = if ignore_calls {
        Vec::new()
    } else {
        lake::read::states(session, &calls_table, is_part).await.map_err(damaged)?
    };
    for part in parts {
        let lacks_stored = in_final.contains(&home_key(&part.call_id));
        if lacks_stored {
            lacking.insert(Arc::clone(&part.call_id));
        }
        let make = || Entry { call: part.clone(), lacks_stored };
        overlay.update(&part.call_id, make, |entry| Arc::make_mut(&mut entry.call.state).merge((*part.state).clone()));
    }
    Ok(Sequencer {
        tail: Tail::default(),
        duplicates: restore_duplicates(session, events, &events_table).await?,
        keyer: if ignore_calls {
            Keyer::default()
        } else {
            restore_keyer(session, &calls_table, &events_table, calls.watermark, decoder).await?
        },
        overlay,
        homes,
        dirty: HashSet::new(),
        lacking,
        last: events.watermark.max(calls.watermark),
        events_watermark: events.watermark,
        calls_watermark: calls.watermark,
        events: events_table,
        calls: calls_table,
        history: calls.history(since).await?,
    })
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
    let mut stored = lake::read::states(session, calls, made).await?;
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

/// Takes in what `calls` misses and the log no longer has: it stands in `events`.
async fn catch_up(
    session: &SessionContext,
    sequencer: &mut Sequencer,
    bounds: Bounds,
    decoder: &dyn Decoder,
) -> Result<(), Error> {
    let needs = sequencer.calls_watermark.map_or(0, |offset| offset.0 + 1);
    if needs >= bounds.first.0 {
        return Ok(());
    }
    let (after, until) = (sequencer.calls_watermark, Some(Offset(bounds.first.0 - 1)));
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
    let watermark = sequencer.events_watermark.min(sequencer.calls_watermark);
    let mut from = Offset(watermark.map_or(0, |offset| offset.0 + 1)).max(log.bounds().first);
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
