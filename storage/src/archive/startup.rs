//! Opening an archive: lock, recovery, what the tables know, and the log's messages behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use datafusion::prelude::SessionContext;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::append::Carry;
use super::foreground::Foreground;
use super::idle::Idle;
use super::lock::Lock;
use super::replay::{Failed, decode};
use super::restore::{catch_up, restore};
use super::sequencer::{Arrived, Sequencer};
use super::store::{Store, Tables};
use super::{Archive, ArchiveConfig, Background, Inner, background, follow, idle};
use crate::error::{Context, Error};
use crate::event::{Micros, Offset, now};
use crate::fact::Decoder;
use crate::lake::{self, Place, Right};
use crate::lease::{Candidate, Lease};
use crate::log::claim::Claim;
use crate::log::embedded::{EmbeddedLog, lock_directory};
use crate::log::kafka::{KafkaConfig, KafkaLog};
use crate::log::{Bounds, Log, LogConfig, Published, Publisher, codec};

/// What other nodes append is not read while the tail is this much longer than its limit: who appends here is refused
/// before.
const TAILS: u64 = 2;
/// Between two looks whether it still is.
const HAS_TOO_MUCH: Duration = Duration::from_millis(20);

/// A try that failed is let go of so often and so long.
const MOMENTS: u32 = 500;
const MOMENT: Duration = Duration::from_millis(20);

/// A start waits for brokers and a bucket that are away.
const WAIT_FOR_SERVERS: Duration = Duration::from_secs(120);

impl Archive {
    /// Opens or makes the archive in `config.data_dir`, recovers, and starts folding in the background. Brokers or a
    /// bucket that do not answer are asked again for two minutes.
    ///
    /// # Errors
    /// `Conflict` when another process has it, `Corrupt` when log and tables contradict each other, `Unavailable` when a
    /// server that it rests on does not answer.
    pub async fn open(config: ArchiveConfig, decoder: Arc<dyn Decoder>) -> Result<Archive, Error> {
        let (began, mut early) = (Instant::now(), !config.is_shared());
        loop {
            match Archive::open_once(config.clone(), Arc::clone(&decoder), early).await {
                Err(Failed { error, unfolded: true }) => {
                    tracing::warn!(%error, "the log is read again, and what is not folded stays in memory");
                    early = false;
                }
                Err(Failed { error, .. }) if may_pass(&error, &config) && began.elapsed() < WAIT_FOR_SERVERS => {
                    tracing::warn!(%error, "cannot start yet; it will be tried again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                opened => return opened.map_err(|failed| failed.error),
            }
        }
    }

    /// May write messages of a long log before they are folded.
    pub(super) async fn open_once(
        config: ArchiveConfig,
        decoder: Arc<dyn Decoder>,
        early: bool,
    ) -> Result<Archive, Failed> {
        let Opened { log, lease, candidate } = open_log(&config).await?;
        let directory = config.data_dir.join("tables");
        std::fs::create_dir_all(&directory).context(format!("making `{}`", directory.display()))?;
        crate::log_sync_directory(&config.data_dir)?;
        let whole = std::fs::canonicalize(&config.data_dir).context("finding the data directory")?;
        if let Some(parent) = whole.parent() {
            crate::log_sync_directory(parent)?;
        }
        // What a process that was killed left of its sorting and of a rebuild.
        let spill = config.data_dir.join("spill");
        let _ = std::fs::remove_dir_all(&spill);
        if !config.read_only {
            let _ = std::fs::remove_dir_all(config.data_dir.join(super::rebuild::SCRATCH));
        }
        let session = lake::session(config.sort_bytes, &spill)?;
        if let Some(wrap) = &config.wrap_store {
            // Data files are read past the table's own store.
            session.register_object_store(
                lake::ObjectStoreUrl::local_filesystem().as_ref(),
                wrap(lake::local_files(), ""),
            );
        }
        if let Some(bucket) = &config.bucket {
            session.register_object_store(bucket.root(), bucket.whole());
        }
        let state = Arc::new(session.state());
        let (wrap, bucket) = (config.wrap_store.clone(), config.bucket.as_ref());
        let place = Place {
            directory: &directory,
            identity: log.identity(),
            session: state,
            wrap,
            bucket,
            right: right(&config, lease.as_ref()),
        };
        let mut tables = Tables::open(&place, &config.data_dir.join("index")).await?;
        // Another node may have folded what came since the log was opened.
        log.look().await?;
        check(&tables, log.bounds()).await?;
        is_same_log(&session, &tables, log.as_ref()).await?;
        let place = (&session, decoder.as_ref(), &config, log.as_ref());
        let sequencer = match restored(place, &mut tables).await {
            // A block of an index, perhaps: what was made again from the tables can be read, or they are damaged.
            Err(error @ Error::Corrupt(_)) => {
                tracing::warn!(%error, "the indexes are made again");
                tables.forget_indexes()?;
                restored(place, &mut tables).await?
            }
            restored => restored?,
        };
        let next = Offset(sequencer.last.map_or(0, |offset| offset.0 + 1)).max(log.bounds().first);
        let leads = !config.is_shared() || lease.is_some();
        let (ignoring, idle) = (AtomicBool::new(config.ignore_projections), idle::runtime()?);
        let inner = Arc::new(Inner {
            store: Store {
                config,
                decoder,
                tail_bytes: AtomicU64::new(sequencer.tail.bytes()),
                sequencer: Arc::new(Lock::new(sequencer)),
                foreground: Foreground::start()?,
                tables: tokio::sync::Mutex::new(tables),
                compacting: tokio::sync::Mutex::default(),
                idle: Idle::of(&idle),
                session,
                ignoring,
                alone: AtomicBool::new(true),
            },
            log,
            lease: Mutex::new(lease),
            leading: watch::Sender::new(leads),
            unfit: AtomicBool::new(false),
            rests_until: Mutex::default(),
            arrived: Arc::default(),
            visible: watch::Sender::default(),
            looked_up: Mutex::default(),
            wake: Arc::default(),
            left_over: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            rebuilding: tokio::sync::Mutex::default(),
            in_flight: AtomicU64::default(),
            background: Mutex::new(Some(Background { lower: background::runtime()?, idle })),
        });
        let archive = Archive { inner };
        let next = match archive.replay(next, early).await {
            Ok(next) => next,
            Err(failed) => {
                // Who reads the log has it for a moment, and another try needs it.
                for _ in 0..MOMENTS {
                    if Arc::strong_count(&archive.inner) == 1 {
                        break;
                    }
                    tokio::time::sleep(MOMENT).await;
                }
                if archive.inner.sequencer.lock().has_bad_index() {
                    archive.inner.forget_indexes().await;
                }
                return Err(failed);
            }
        };
        archive.start(next, candidate)?;
        Ok(archive)
    }

    /// Lets messages from here on and the background's folds begin.
    fn start(&self, next: Offset, candidate: Option<Candidate>) -> Result<(), Error> {
        let inner = &self.inner;
        inner.alone.store(false, Ordering::Relaxed);
        inner.visible.send_replace(inner.sequencer.lock().last);
        inner.log.start(next, publisher(inner))?;
        if !inner.config.read_only {
            self.background()?.spawn(background::run(Arc::downgrade(inner)));
            if inner.is_shared() {
                self.background()?.spawn(follow::run(Arc::downgrade(inner), candidate));
            }
        }
        Ok(())
    }
}

/// Whether another try may do. Of a bucket that is away the libraries speak in many ways.
fn may_pass(error: &Error, config: &ArchiveConfig) -> bool {
    match error {
        Error::Unavailable(_) => true,
        Error::Lake(_) | Error::Query(_) => config.bucket.is_some(),
        _ => false,
    }
}

/// What the tables, the indexes and the log's messages up to the last one in a table say.
async fn restored(
    (session, decoder, config, log): (&SessionContext, &dyn Decoder, &ArchiveConfig, &dyn Log),
    tables: &mut Tables,
) -> Result<Sequencer, Error> {
    let mut restored = restore(session, tables, decoder, config, None).await?;
    if !config.ignore_projections
        && let Err(error) = catch_up(session, &mut restored, tables, log, decoder).await
    {
        let bad_index = restored.sequencer.has_bad_index();
        return Err(if bad_index { Error::Corrupt(error.to_string()) } else { error });
    }
    Ok(restored.sequencer)
}

impl Inner {
    /// Whether memory has more messages than it may, of other nodes.
    fn has_too_much(&self) -> bool {
        let limit = self.config.tail_limit_bytes.saturating_mul(TAILS);
        self.tail_bytes.load(Ordering::Relaxed) > limit && !self.closed.load(Ordering::Acquire)
    }
}

/// Takes what has become durable. Batches without their messages are of other nodes, or came back from brokers: nobody
/// waits here to take them in.
fn publisher(inner: &Arc<Inner>) -> Publisher {
    let (arrived, visible) = (Arc::clone(&inner.arrived), inner.visible.clone());
    let (decoder, archive) = (Arc::clone(&inner.decoder), Arc::downgrade(inner));
    Box::new(move |Published { first, batch }| {
        let last = Offset(first.0 + batch.records.len() as u64 - 1);
        match batch.carry.and_then(|carry| carry.downcast::<Carry>().ok()) {
            Some(carry) => {
                arrived.lock().push(Arrived { first, messages: carry.messages, duplicate: carry.duplicate });
                visible.send_replace(Some(last));
            }
            None => {
                let received: Vec<Micros>;
                let records = (first.0..).map(Offset).zip(batch.records).collect();
                match decode(records, decoder.as_ref()) {
                    Ok(messages) => {
                        received = messages.messages.iter().map(|message| message.event.received_at).collect();
                        arrived.lock().push(messages);
                    }
                    Err(error) => {
                        tracing::error!(%error, %first, "records of the log cannot be read; the next start says more");
                        return;
                    }
                }
                // Its error is told to whoever appends or asks.
                let _ = archive.upgrade().map(|inner| inner.advance());
                visible.send_replace(Some(last));
                let at = now();
                for received in received {
                    // The clocks of two nodes may differ.
                    let waited = at.saturating_sub(received).max(0) as f64 / 1e6;
                    metrics::histogram!("trunklog_receipt_to_visible_seconds").record(waited);
                }
                while archive.upgrade().is_some_and(|inner| inner.has_too_much()) {
                    std::thread::sleep(HAS_TOO_MUCH);
                }
            }
        }
    })
}

/// What an archive rests on.
struct Opened {
    log: Box<dyn Log>,
    /// On the tables in a bucket, if it could be had.
    lease: Option<Arc<Lease>>,
    /// Who asks for it later.
    candidate: Option<Candidate>,
}

/// The log that the configuration names. The lease is taken if it is free; with a log of its own a node waits for it.
async fn open_log(config: &ArchiveConfig) -> Result<Opened, Error> {
    let (bucket, data_dir) = (config.bucket.as_ref(), config.data_dir.as_path());
    let directory = data_dir.join("log");
    if let Some(bucket) = bucket {
        bucket.check().await?;
    }
    let candidate = || bucket.filter(|_| config.leads).map(|bucket| Candidate::new(bucket, data_dir)).transpose();
    if let Some(kafka) = &config.kafka {
        std::fs::create_dir_all(&directory).context("making the directory of the log")?;
        let lock = lock_directory(&directory)?;
        let claim = Claim::kafka(&kafka.topic, kafka.partition, kafka.partitions).settle(bucket, data_dir).await?;
        // Before the topic is looked at: who gets the lease must know its end as it is then.
        let mut candidate = candidate()?;
        let lease = match &mut candidate {
            Some(candidate) => candidate.try_take().await?,
            None => None,
        };
        let kafka = KafkaConfig { queue_limit: config.queue_limit, ..kafka.clone() };
        let log = match KafkaLog::open(kafka, claim.identity, lock).await {
            Ok(log) => Box::new(log),
            Err(error) => {
                if let Some(lease) = lease {
                    lease.release().await;
                }
                return Err(error);
            }
        };
        return Ok(Opened { log, lease, candidate });
    }
    let log = EmbeddedLog::open(LogConfig {
        directory,
        segment_bytes: config.segment_bytes,
        queue_limit: config.queue_limit,
        min_free_bytes: config.min_free_bytes,
    })?;
    // Whose log it is not should not wait for the lease first.
    Claim::embedded(log.identity()).settle(bucket, data_dir).await?;
    let lease = match candidate()? {
        Some(candidate) => Some(Lease::acquire(candidate).await?),
        None => None,
    };
    Ok(Opened { log: Box::new(log), lease, candidate: None })
}

fn right(config: &ArchiveConfig, lease: Option<&Arc<Lease>>) -> Right {
    match lease {
        Some(lease) => Right::Leased(Arc::clone(lease)),
        None if config.is_shared() => Right::Nobody,
        None => Right::Alone,
    }
}

/// A topic that was made anew counts from 0 like the one before: the last message that `events` has must be the one that
/// stands there in the log.
async fn is_same_log(session: &SessionContext, tables: &Tables, log: &dyn Log) -> Result<(), Error> {
    let Some(last) = tables.events.watermark.filter(|last| *last >= log.bounds().first) else { return Ok(()) };
    let before = last.0.checked_sub(1).map(Offset);
    let events = tables.events.provider().await?;
    let mut stored = std::pin::pin!(lake::read::messages(session, &events, before, last));
    let Some(stored) = stored.next().await.transpose()?.and_then(|stored| stored.into_iter().last()) else {
        return Ok(());
    };
    let Some((offset, record)) = log.read(last, 1)?.into_iter().next() else { return Ok(()) };
    let logged = codec::decode(&record)?;
    if offset != stored.offset || logged.id != stored.event.id {
        return Err(Error::Corrupt(format!(
            "offset {last} of the log is message `{}`, but `events` has `{}` there: the log was replaced",
            logged.id, stored.event.id
        )));
    }
    Ok(())
}

/// A table must not be ahead of the log, and the log must still have what a table needs.
async fn check(tables: &Tables, bounds: Bounds) -> Result<(), Error> {
    let (events, calls, recordings) = (&tables.events, &tables.calls.table, &tables.recordings.table);
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
    if named.iter().all(|(_, table)| table.watermark.is_none()) {
        for (_, table) in named {
            if !table.rows_by_partition().await?.is_empty() {
                return Err(Error::Corrupt(
                    "the tables were written under another log, and that log is gone; restore `log/` or start with an empty data directory".into(),
                ));
            }
        }
    }
    Ok(())
}
