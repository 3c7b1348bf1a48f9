//! Reading the log at the start, from where the tables end. A long log is folded on the way, so that memory holds but a
//! few folds of it.
//!
//! Decoding, taking in, writing (see [`super::early`]) and folding go on side by side: on two processors, two of them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::runtime::{EnterGuard, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::early::Early;
use super::restore::READ_BYTES;
use super::sequencer::Arrived;
use super::{Archive, Inner, Message, background};
use crate::allocator::AllPages;
use crate::error::Error;
use crate::event::Offset;
use crate::fact::Decoder;
use crate::lake::Effort;
use crate::log::codec;
use crate::priority::be_nice;
use crate::threads;

/// Of a long log so many halves of `fold_bytes` are folded at once: fewer files, fewer commits, fewer calls in parts, and
/// files of `events` that need not be joined.
const HALVES_ON_THE_WAY: u64 = 6;
/// So many are in memory at most, for reading goes on meanwhile.
const HALVES_IN_MEMORY: u64 = 10;

/// Records that are decoded at once: so few that they are still in the processor's caches when they are written.
const DECODED_AT_ONCE: usize = 1024;
/// So many times as many are ahead of those that are taken in: decoding goes on while a fold notes what it did, for which
/// taking in waits, and while one of its threads is put off.
const DECODED_AHEAD: usize = 24;
/// So many times as many are handed to the thread that takes them in, which so never waits to be told of the next.
const HANDED_OVER: usize = 4;
/// So many times as many wait at most until they are written.
const WRITTEN_LATER: usize = 8;

/// Why the log was not read.
#[derive(Debug)]
pub(super) struct Failed {
    pub error: Error,
    /// A fold failed whose messages memory does not have any more: they must be read again.
    pub unfolded: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed { error, unfolded: false }
    }
}

/// A fold under way.
type Fold = JoinHandle<Result<(), Error>>;

impl Archive {
    /// Takes in the log's messages from here on; gives the offset behind the last one. However many they are, memory holds
    /// but a few folds of them: they are folded on the way, and if `early`, written before that. Who does not fold reads
    /// on when another node has.
    pub(super) async fn replay(&self, from: Offset, early: bool) -> Result<Offset, Failed> {
        let reading = Arc::new(Reading::start()?);
        let mut next = from;
        let read = self.read_from(&reading, &mut next, early).await;
        // What was handed over is taken in, and nobody has the archive any more, which may be about to be opened again.
        reading.rest().await;
        read?;
        if next > from {
            tracing::info!(messages = next.0 - from.0, "read the log's tail");
        }
        Ok(next)
    }

    /// Does so from `next` on, which then is behind the last message that was handed over to be taken in.
    async fn read_from(&self, reading: &Arc<Reading>, next: &mut Offset, early: bool) -> Result<(), Failed> {
        let inner = &self.inner;
        let (mut on_the_way, mut fold): (Option<OnTheWay>, Option<Fold>) = (None, None);
        let written_later = Arc::new(Semaphore::new(WRITTEN_LATER));
        let room = || {
            let written_later = Arc::clone(&written_later);
            async { written_later.acquire_owned().await.map_err(|_| Error::Closed) }
        };
        let decoded = decoded(Arc::clone(inner), Arc::clone(reading), *next);
        let with_room = decoded.and_then(|arrived| {
            let room = room();
            async move { Ok((arrived, room.await?)) }
        });
        let handed_over = with_room.map_ok(|(arrived, permit)| {
            *next = Offset(arrived.first.0 + arrived.messages.len() as u64);
            let taking = Arc::clone(inner);
            reading.run(&reading.taking, move || taking.take_in(arrived, permit))
        });
        let mut tails = pin!(handed_over.try_buffered(HANDED_OVER));
        let fold_bytes = inner.config.fold_bytes * HALVES_ON_THE_WAY / 2;
        let most = inner.config.fold_bytes * HALVES_IN_MEMORY / 2;
        while let Some(tail) = tails.try_next().await? {
            if inner.config.read_only {
                continue;
            }
            if !inner.leads() {
                if tail >= inner.config.tail_limit_bytes {
                    break;
                }
                continue;
            }
            // Reading goes on beside a fold, but not beside a swap, which needs memory itself.
            let is_full = tail >= most || inner.compacting.try_lock().is_err();
            if let Some(running) = fold.take_if(|running| is_full || running.is_finished()) {
                self.ended(running).await?;
            }
            if tail >= fold_bytes && fold.is_none() {
                if on_the_way.is_none() {
                    reading.beside_folds.store(true, Ordering::Relaxed);
                    let begun = OnTheWay::begin()?;
                    if early {
                        begun.write_early(inner, room().await?).await?;
                    }
                    on_the_way = Some(begun);
                }
                fold = on_the_way.as_ref().and_then(|on_the_way| on_the_way.fold(inner));
            }
        }
        if let Some(running) = fold {
            self.ended(running).await?;
            inner.sequencer.lock().check()?;
        }
        if let Some(on_the_way) = &on_the_way {
            // Nobody could ask for what is only written, not committed.
            let is_written = inner.sequencer.lock().early_bytes > 0;
            if let Some(last) = is_written.then(|| on_the_way.fold(inner)).flatten() {
                self.ended(last).await?;
            }
            inner.sequencer.lock().early = None;
        }
        Ok(())
    }

    /// Waits for a fold on the way. Its error is logged there; what it did not fold stays in memory, if memory has it.
    async fn ended(&self, fold: Fold) -> Result<(), Failed> {
        let broken = |panic| Err(Error::Corrupt(format!("the fold broke off: {panic}")));
        match fold.await.unwrap_or_else(broken) {
            Err(error) if self.inner.sequencer.lock().early.is_some() => Err(Failed { error, unfolded: true }),
            _ => Ok(()),
        }
    }
}

impl Inner {
    /// Takes in messages of the log; gives the size in bytes of those that the tables lack. The permit ends when they are
    /// written, if they are before they are folded.
    fn take_in(&self, arrived: Arrived, permit: OwnedSemaphorePermit) -> Result<u64, Error> {
        let mut sequencer = self.sequencer.lock();
        sequencer.take(arrived);
        sequencer.check()?;
        sequencer.write_early(permit);
        let bytes = sequencer.bytes();
        self.tail_bytes.store(bytes, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// The log's messages from here on, in pieces that are decoded ahead.
fn decoded(inner: Arc<Inner>, reading: Arc<Reading>, from: Offset) -> impl Stream<Item = Result<Arrived, Error>> {
    let (threads, decoder) = (Arc::clone(&reading), Arc::clone(&inner.decoder));
    let records = futures::stream::try_unfold(from, move |from| {
        let (inner, threads) = (Arc::clone(&inner), Arc::clone(&threads));
        async move {
            let is_long = threads.beside_folds.load(Ordering::Relaxed);
            let read = move || {
                let records = inner.log.read(from, READ_BYTES)?;
                if is_long {
                    inner.log.passed(from);
                }
                Ok(records)
            };
            let records = threads.run(&threads.reading, read).await?;
            Ok::<_, Error>(records.last().map(|(last, _)| Offset(last.0 + 1)).map(|next| (records, next)))
        }
    });
    let pieces = records.map_ok(|records| futures::stream::iter(pieces(records).map(Ok::<_, Error>))).try_flatten();
    let decoded = pieces.map(move |records| {
        let (decoder, threads) = (Arc::clone(&decoder), Arc::clone(&reading));
        async move {
            let records = records?;
            threads.run(&threads.decoding, move || decode(records, decoder.as_ref())).await
        }
    });
    decoded.buffered(DECODED_AHEAD)
}

/// The records in their order, so many at once.
fn pieces(records: Vec<(Offset, Bytes)>) -> impl Iterator<Item = Vec<(Offset, Bytes)>> {
    let mut records = records.into_iter();
    std::iter::from_fn(move || {
        Some(records.by_ref().take(DECODED_AT_ONCE).collect::<Vec<_>>()).filter(|piece| !piece.is_empty())
    })
}

/// Successive records of the log.
pub(super) fn decode(records: Vec<(Offset, Bytes)>, decoder: &dyn Decoder) -> Result<Arrived, Error> {
    let first = records.first().map(|(first, _)| *first).unwrap_or_default();
    let (mut messages, mut decoding) = (Vec::with_capacity(records.len()), codec::Records::default());
    for (_, record) in records {
        messages.push(Message::new(decoding.decode(&record)?, decoder));
    }
    let duplicate = messages.iter().map(|_| AtomicBool::new(false)).collect();
    Ok(Arrived { first, messages, duplicate })
}

/// The threads that read: at lower priority once folds go on beside them, to fill their pauses.
struct Reading {
    reading: threads::Threads,
    decoding: threads::Threads,
    /// One, to which pieces are handed over in their order.
    taking: threads::Threads,
    beside_folds: Arc<AtomicBool>,
}

impl Reading {
    fn start() -> Result<Reading, Error> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Reading {
            reading: threads::Threads::start("read", 1)?,
            decoding: threads::Threads::start("decode", processors.min(DECODED_AHEAD))?,
            taking: threads::Threads::start("take", 1)?,
            beside_folds: Arc::default(),
        })
    }

    /// Begins the work at once; to be awaited for what it came to.
    fn run<T, W>(&self, threads: &threads::Threads, work: W) -> impl Future<Output = Result<T, Error>> + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce() -> Result<T, Error> + Send + 'static,
    {
        let beside_folds = Arc::clone(&self.beside_folds);
        let work = move || {
            if beside_folds.load(Ordering::Relaxed) {
                be_nice();
            }
            work()
        };
        let mut task = threads.begin(work);
        async move { task.done().await.ok_or(Error::Closed)? }
    }

    /// Waits until those are done that have the archive.
    async fn rest(&self) {
        for threads in [&self.reading, &self.taking] {
            threads.begin(|| ()).done().await;
        }
    }
}

/// What folds need while the log is read: threads, and memory that does not come and go. A runtime must not be dropped
/// where waiting is not allowed.
struct OnTheWay {
    threads: Option<Runtime>,
    _pages: AllPages,
}

impl OnTheWay {
    fn begin() -> Result<OnTheWay, Error> {
        Ok(OnTheWay { threads: Some(background::runtime_for_the_start()?), _pages: AllPages::keep() })
    }

    /// From now on messages are written as they come, those that memory has at once: else this fold and the next one
    /// would both write them.
    async fn write_early(&self, inner: &Inner, permit: OwnedSemaphorePermit) -> Result<(), Error> {
        let writer = inner.tables.lock().await.events.writer(Effort::Fold)?;
        let _here: Option<EnterGuard<'_>> = self.threads.as_ref().map(Runtime::enter);
        let mut sequencer = inner.sequencer.lock();
        sequencer.early = Some(Early::begin(writer));
        sequencer.write_early(permit);
        Ok(())
    }

    fn fold(&self, inner: &Arc<Inner>) -> Option<Fold> {
        self.threads.as_ref().map(|threads| threads.spawn(background::fold_on_the_way(Arc::clone(inner))))
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}
