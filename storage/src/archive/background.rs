//! The background: threads of their own at lower priority, and the loop that folds and compacts on them.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::compact::Scope;
use super::{Archive, Inner};
use crate::error::{Context, Error};
use crate::event::Offset;
use crate::priority::be_nice;

/// Threads for reading and writing files. Each has a heap of its own, in which pages stay of what others freed: with the
/// 512 that are usual, memory grows with the length of a log that is folded. Only loading a version of a table holds one
/// while it needs another, and who does that holds the tables; look-ups read tables that are loaded.
pub(super) const DISK_THREADS: usize = 8;
/// How often days that are over are looked at although nothing arrives.
const LOOK_FOR_QUIET_DAYS: Duration = Duration::from_secs(600);

/// Folding and compaction run on threads of their own at lower priority, so that ingest keeps its latency.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(2)
        .thread_name("background")
        .max_blocking_threads(DISK_THREADS)
        .on_thread_start(be_nice)
        .enable_all()
        .build()
        .context("starting background threads")
}

/// Threads for the folds on the way through a long log, at normal priority: nobody else waits for the processor yet, and
/// reading, which then has a lower one (see [`super::replay`]), is to fill the pauses of the folds, not to hold them up.
pub(super) fn runtime_for_the_start() -> Result<tokio::runtime::Runtime, Error> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("start").max_blocking_threads(DISK_THREADS).enable_all();
    builder.build().context("starting threads for the log's tail")
}

/// Folds by size and age, and compacts after it, until the archive is gone.
pub(super) async fn run(archive: Weak<Inner>) {
    let (mut looked, mut compaction): (_, Option<JoinHandle<()>>) = (Instant::now(), None);
    loop {
        // Who waits keeps neither the archive nor its lock.
        let Some((wake, interval)) =
            archive.upgrade().map(|inner| (Arc::clone(&inner.wake), inner.config.fold_interval))
        else {
            return;
        };
        let _ = tokio::time::timeout(interval.min(Duration::from_secs(5)), wake.notified()).await;
        let Some(inner) = archive.upgrade() else { return };
        if inner.closed.load(Ordering::Acquire) {
            return;
        }
        let taken = inner.advance_in_foreground().await;
        if taken.is_err() && inner.sequencer.lock().has_bad_index() {
            inner.forget_indexes().await;
        }
        let may_compact = compaction.as_ref().is_none_or(JoinHandle::is_finished);
        if may_compact && inner.leads() && inner.left_over.swap(false, Ordering::AcqRel) {
            compaction = Some(tokio::spawn(compact_what_is_due(Arc::clone(&inner))));
        }
        let due = inner.tail_bytes.load(Ordering::Relaxed) >= inner.config.fold_bytes;
        let quiet = looked.elapsed() >= LOOK_FOR_QUIET_DAYS && inner.has_parts();
        if !inner.leads() || !(due || quiet || inner.is_old(interval).await) {
            continue;
        }
        looked = Instant::now();
        // A task of its own, so that a panic in it does not end folding for good.
        let work = Arc::clone(&inner);
        let folded = tokio::spawn(async move { work.fold_and_trim().await }).await;
        let broken = |panic| Err(Error::Corrupt(format!("the fold broke off: {panic}")));
        if let Err(error) = folded.unwrap_or_else(broken) {
            // The tail keeps what could not be folded; ingest stops at its limit, and the next round tries again.
            tracing::error!(%error, "folding failed; it will be tried again");
            metrics::counter!("trunklog_fold_errors_total").increment(1);
            drop(inner);
            tokio::time::sleep(Duration::from_secs(1)).await;
        } else if compaction.as_ref().is_none_or(JoinHandle::is_finished) {
            compaction = Some(tokio::spawn(compact_what_is_due(inner)));
        }
    }
}

/// Beside the folds that follow.
async fn compact_what_is_due(inner: Arc<Inner>) {
    inner.compact_and_tell(Scope::Due).await;
}

/// A fold while a long log is read at the start.
///
/// # Errors
/// As of a fold.
pub(super) async fn fold_on_the_way(inner: Arc<Inner>) -> Result<(), Error> {
    inner.fold_and_trim().await.inspect_err(|error| {
        tracing::error!(%error, "folding on the way failed");
        metrics::counter!("trunklog_fold_errors_total").increment(1);
    })?;
    inner.compact_and_tell(Scope::Crowded).await;
    Ok(())
}

impl Archive {
    /// Folds and compacts everything up to now; returns the last offset that is then in the tables. Small files are
    /// joined after it, in the background.
    ///
    /// # Errors
    /// If a table cannot be written; nothing is lost by that.
    pub async fn flush(&self) -> Result<Option<Offset>, Error> {
        if let (false, Some(bucket)) = (self.inner.leads(), self.bucket()) {
            return self.ask_for_flush(bucket).await;
        }
        let until = self.in_background(|inner| async move { inner.fold_and_compact(Scope::Everything).await }).await?;
        self.inner.left_over.store(true, Ordering::Release);
        self.inner.wake.notify_one();
        Ok(until)
    }

    /// Folds without compacting: what the end of a process needs.
    pub(super) async fn fold_now(&self) -> Result<Option<Offset>, Error> {
        self.in_background(|inner| async move { inner.fold_and_trim().await }).await
    }

    /// Runs on the background threads, so that heavy work has their priority whoever asks for it.
    pub(super) async fn in_background<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.background()?.spawn(work(Arc::clone(&self.inner))).await.map_err(|_| Error::Closed)?
    }
}

impl Inner {
    async fn is_old(&self, interval: Duration) -> bool {
        let sequencer = Arc::clone(&self.sequencer);
        let is_old = move || {
            let sequencer = sequencer.lock();
            let oldest = sequencer.tail.oldest();
            oldest.map_or(sequencer.folded() < sequencer.last, |since: Instant| since.elapsed() >= interval)
        };
        self.foreground.run(is_old).await.unwrap_or_default()
    }

    fn has_parts(&self) -> bool {
        let sequencer = self.sequencer.lock();
        !(sequencer.calls.parts_since.is_empty() && sequencer.recordings.parts_since.is_empty())
    }

    /// Folds everything that has arrived, then lets the log go of what is in every table.
    pub(super) async fn fold_and_trim(&self) -> Result<Option<Offset>, Error> {
        let mut tables = self.tables.lock().await;
        self.fold_into(&mut tables).await
    }

    pub(super) async fn fold_into(&self, tables: &mut super::store::Tables) -> Result<Option<Offset>, Error> {
        self.check_writable()?;
        self.check_leads()?;
        // What could not be taken in stays in the log; what was can be folded. Usually whoever appended took it in.
        if !self.arrived.lock().is_empty() {
            let _ = self.advance();
        }
        let until = self.met(self.store.fold(tables).await)?;
        if let Some(until) = until.filter(|_| !self.ignoring.load(Ordering::Acquire)) {
            self.log.trim(Offset(until.0 + 1))?;
        }
        Ok(until)
    }

    /// An index cannot be read: no more is taken in until a restart, which makes the indexes again.
    pub(super) async fn forget_indexes(&self) {
        let mut tables = self.tables.lock().await;
        if let Err(error) = tables.forget_indexes() {
            tracing::error!(%error, "the indexes cannot be removed: remove `index/` before the restart");
        }
    }

    pub(super) async fn fold_and_compact(&self, scope: Scope) -> Result<Option<Offset>, Error> {
        let until = self.fold_and_trim().await?;
        self.compact(scope).await?;
        Ok(until)
    }

    async fn compact_and_tell(&self, scope: Scope) {
        if let Err(error) = self.compact(scope).await {
            tracing::error!(%error, "compaction failed; it will be tried again after the next fold");
            metrics::counter!("trunklog_compaction_errors_total").increment(1);
        }
    }

    pub(super) async fn compact(&self, scope: Scope) -> Result<(), Error> {
        self.check_leads()?;
        if self.ignoring.load(Ordering::Acquire) { Ok(()) } else { self.met(self.store.compact(scope).await) }
    }

    /// What wrote to the tables and met another node's commit, has found out that this node does not fit them.
    fn met<T>(&self, written: Result<T, Error>) -> Result<T, Error> {
        written.inspect_err(|error| {
            if matches!(error, Error::Conflict(_)) {
                self.fits_no_more();
            }
        })
    }
}
