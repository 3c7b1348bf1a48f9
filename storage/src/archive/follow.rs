//! Several nodes over one log and one set of tables: who leads folds, the others follow.
//!
//! ```text
//!            lease is free                         lease lost, or handed over
//!   follows ───────────────▶ refreshes ─▶ leads ───────────────────────────▶ refreshes ─▶ follows
//!      │  another node committed │
//!      └────────▶ refreshes ─────┘
//! ```
//!
//! To refresh is what a start does, with messages that memory has: the tables as they are now, and what the log has
//! behind them. So nothing that a node knew of folds and swaps outlives the moment in which another one made them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures::TryStreamExt;

use super::duplicates::Duplicates;
use super::landed::remember;
use super::restore::{Known, Restored, complete_homes, restore};
use super::sequencer::{Arrived, Sequencer};
use super::snapshot::arrival;
use super::store::NOTED_AT_ONCE;
use super::store::Tables;
use super::tail::TailView;
use super::{Archive, Inner, Message};
use crate::error::Error;
use crate::event::Offset;
use crate::fact::decode_safely;
use crate::lake::{self, Right};
use crate::lease::{Candidate, Lease};
use crate::rows::LoggedEvent;

/// How often a node looks whether the lease is free, and whether tables have changed.
const LOOK: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(1) };
/// Who handed the lease over leaves it to others for so long, or until one has taken it.
const REST: Duration = if cfg!(test) { Duration::from_secs(2) } else { Duration::from_secs(10) };
/// So many messages are taken in at the moment of the exchange; of more, those before them are taken in first.
const AT_ONCE: usize = 256;

/// Follows and leads until the archive is gone.
pub(super) async fn run(archive: Weak<Inner>, mut candidate: Option<Candidate>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(inner) = archive.upgrade() else { return };
        if inner.closed.load(Ordering::Acquire) {
            return;
        }
        // A task of its own, so that a panic in it does not end following for good.
        let (work, mut looking) = (Arc::clone(&inner), candidate.take());
        let looked = tokio::spawn(async move {
            let looked = work.look(looking.as_mut()).await;
            (looked, looking)
        });
        match looked.await {
            Ok((looked, again)) => {
                candidate = again;
                if let Err(error) = looked {
                    tracing::warn!(%error, "cannot follow the tables; it will be tried again");
                }
            }
            Err(panic) => {
                tracing::error!(%panic, "following the tables broke off");
                candidate = inner.candidate().unwrap_or_default();
            }
        }
    }
}

impl Inner {
    /// What this node knows does not fit the tables: it refreshes at the next look. So it is when another node folded
    /// although this one had the lease, as one does that was held up in the middle of a commit.
    pub(super) fn fits_no_more(&self) {
        self.unfit.store(true, Ordering::Release);
    }

    /// Whether this node folds.
    pub(super) fn leads(&self) -> bool {
        *self.leading.borrow()
    }

    /// # Errors
    /// `Conflict` when another node folds.
    pub(super) fn check_leads(&self) -> Result<(), Error> {
        if self.leads() { Ok(()) } else { Err(Error::Conflict("this node follows; another one folds".into())) }
    }

    /// For the lease, if this node may lead and others may, too.
    pub(super) fn candidate(&self) -> Result<Option<Candidate>, Error> {
        match &self.config.bucket {
            Some(bucket) if self.config.leads => Candidate::new(bucket, &self.config.data_dir).map(Some),
            _ => Ok(None),
        }
    }

    async fn look(&self, candidate: Option<&mut Candidate>) -> Result<(), Error> {
        if self.leads() {
            let lease = self.lease.lock().clone();
            if let Some(lease) = lease.filter(|lease| !lease.lost().is_cancelled()) {
                if self.unfit.load(Ordering::Acquire) {
                    self.refresh(Right::Leased(lease)).await?;
                }
                return self.flush_if_asked().await;
            }
            self.step_down();
            return self.refresh(Right::Nobody).await;
        }
        if let Some(candidate) = candidate
            && !self.rests(candidate).await?
            && let Some(lease) = candidate.try_take().await?
        {
            return self.lead(lease).await;
        }
        let tables = self.tables.lock().await;
        let is_stale = self.unfit.load(Ordering::Acquire) || tables.have_newer().await?;
        drop(tables);
        if is_stale { self.refresh(Right::Nobody).await } else { Ok(()) }
    }

    /// Whether this node leaves the lease to others: for a while, or until one has it.
    async fn rests(&self, candidate: &Candidate) -> Result<bool, Error> {
        let rests = self.rests_until.lock().is_some_and(|until| Instant::now() < until);
        if rests && !candidate.is_taken().await? {
            return Ok(true);
        }
        self.rests_until.lock().take();
        Ok(false)
    }

    async fn lead(&self, lease: Arc<Lease>) -> Result<(), Error> {
        if let Err(error) = self.refresh(Right::Leased(Arc::clone(&lease))).await {
            lease.release().await;
            return Err(error);
        }
        *self.lease.lock() = Some(lease);
        self.leading.send_replace(true);
        tracing::info!(partition = self.partition(), "this node folds from now on");
        self.wake.notify_one();
        Ok(())
    }

    fn step_down(&self) {
        self.leading.send_replace(false);
        self.lease.lock().take();
        tracing::info!(partition = self.partition(), "this node follows from now on");
    }

    /// The sequencer over the tables as they are now. Another node's fold that has reached only some of them is waited
    /// for, unless this node is to go on with it.
    pub(super) async fn refresh(&self, right: Right) -> Result<(), Error> {
        if self.ignoring.load(Ordering::Acquire) {
            return Err(Error::Conflict("the projections are about to be rebuilt".into()));
        }
        let _alone = self.compacting.lock().await;
        let mut tables = self.tables.lock().await;
        let goes_on = matches!(right, Right::Leased(_));
        // Until the end of this, whatever breaks it off; nor is anything committed until then.
        self.fits_no_more();
        tables.take_up().await?;
        if !(goes_on || tables.agree()) {
            return Ok(());
        }
        let fresh = match self.over(&mut tables).await {
            // A block of an index, perhaps: what was made again from the tables can be read, or they are damaged.
            Err(error @ Error::Corrupt(_)) => {
                tracing::warn!(%error, "the indexes are made again");
                tables.forget_indexes()?;
                self.over(&mut tables).await?
            }
            fresh => fresh?,
        };
        self.exchange(fresh).await?;
        tables.permit(&right);
        self.unfit.store(false, Ordering::Release);
        tables.measure();
        Ok(())
    }

    /// A sequencer over these tables that has taken in what they have.
    async fn over(&self, tables: &mut Tables) -> Result<Sequencer, Error> {
        let known = {
            let sequencer = self.sequencer.lock();
            Known { calls: sequencer.calls.history.clone(), recordings: sequencer.recordings.history.clone() }
        };
        let decoder = self.decoder.as_ref();
        let mut restored = restore(&self.session, tables, decoder, &self.config, Some(known)).await?;
        let Restored { sequencer, after } = &mut restored;
        let Some(last) = sequencer.last else { return Ok(restored.sequencer) };
        let (begins_behind, tail) = self.tail().await?;
        let has_all = begins_behind <= *after && tail.last() >= Some(last);
        if has_all {
            self.feed(sequencer, &tail, Some(last)).await?;
        } else {
            let events = Arc::clone(&sequencer.events);
            let mut stream = std::pin::pin!(lake::read::messages(&self.session, &events, *after, last));
            while let Some(messages) = stream.try_next().await? {
                for stored in messages {
                    sequencer.take(arrival(stored.offset, Message::new(stored.event, decoder)));
                }
            }
            sequencer.check()?;
        }
        let mut sequencer = restored.sequencer;
        complete_homes(&mut tables.calls, &mut sequencer.calls)?;
        complete_homes(&mut tables.recordings, &mut sequencer.recordings)?;
        if tables.agree() && sequencer.keyed == Some(last) {
            note_what_is_stored(tables, &mut sequencer, last)?;
        }
        let keep = self.config.keep_superseded;
        remember(&mut sequencer.calls, tables.calls.table.pinned(), keep);
        remember(&mut sequencer.recordings, tables.recordings.table.pinned(), keep);
        Ok(sequencer)
    }

    /// The offset that the tail begins behind, and the tail.
    async fn tail(&self) -> Result<(Option<Offset>, TailView), Error> {
        let sequencer = Arc::clone(&self.sequencer);
        let tail = move || {
            let sequencer = sequencer.lock();
            (sequencer.events_watermark, sequencer.tail.view())
        };
        self.foreground.run(tail).await
    }

    /// Takes in the messages of the tail that it has not, up to and including `until`.
    async fn feed(&self, sequencer: &mut Sequencer, tail: &TailView, until: Option<Offset>) -> Result<(), Error> {
        let from = sequencer.keyed.min(sequencer.last);
        let wanted = tail
            .events()
            .filter(|logged| Some(logged.offset) > from && until.is_none_or(|until| logged.offset <= until));
        let wanted: Vec<&LoggedEvent> = wanted.collect();
        for some in wanted.chunks(AT_ONCE) {
            some.iter().for_each(|logged| sequencer.take(self.again(logged)));
            tokio::task::yield_now().await;
        }
        sequencer.check()
    }

    fn again(&self, logged: &LoggedEvent) -> Arrived {
        let event = Arc::clone(&logged.event);
        let decoded = decode_safely(self.decoder.as_ref(), &event);
        arrival(logged.offset, Message::of(event, decoded))
    }

    /// Brings the fresh sequencer up to now and puts it in the place of the one there is.
    async fn exchange(&self, mut fresh: Sequencer) -> Result<(), Error> {
        loop {
            let (_, tail) = self.tail().await?;
            let last = fresh.last;
            if tail.events().filter(|logged| Some(logged.offset) > last).count() < AT_ONCE {
                break;
            }
            self.feed(&mut fresh, &tail, tail.last()).await?;
        }
        let mut before = self.sequencer.lock();
        // One that takes in no more has dropped messages, which only a start reads again.
        self.advance_locked(&mut before)?;
        let (last, tail) = (fresh.last, before.tail.view());
        tail.events().filter(|logged| Some(logged.offset) > last).for_each(|logged| fresh.take(self.again(logged)));
        fresh.check()?;
        // Behind the tail's last message there may be records that the log has twice.
        fresh.last = fresh.last.max(before.last);
        fresh.call_subscribers = std::mem::take(&mut before.call_subscribers);
        fresh.recording_subscribers = std::mem::take(&mut before.recording_subscribers);
        self.tail_bytes.store(fresh.tail.bytes(), Ordering::Relaxed);
        let done = std::mem::replace(&mut *before, fresh);
        drop(before);
        // Freeing many messages takes time that nobody should wait for.
        drop(done);
        Ok(())
    }
}

/// Everything up to here is in all tables: the index of fingerprints gets what it lacks, and the next time begins here.
fn note_what_is_stored(tables: &mut Tables, sequencer: &mut Sequencer, until: Offset) -> Result<(), Error> {
    let latest = sequencer.duplicates.latest();
    let (deliveries, stamp) = sequencer.duplicates.unwritten(until, 0, usize::MAX);
    if tables.fingerprints.until() < Some(until) {
        tables.fingerprints.add(deliveries, until, stamp)?;
    }
    tables.fingerprints.forget(Duplicates::is_gone(latest, until))?;
    sequencer.duplicates.release(until, latest, tables.fingerprints.view());
    while sequencer.duplicates.forget(NOTED_AT_ONCE) {}
    let aside = sequencer.duplicates.aside(latest);
    tables.checkpoint.write(until, sequencer.keyer.clone(), aside)
}

impl Archive {
    /// Whether this node folds, now and whenever that changes.
    pub fn leading(&self) -> tokio::sync::watch::Receiver<bool> {
        self.inner.leading.subscribe()
    }

    /// Ends what this node folds and lets another one go on; for ten seconds this one does not ask for the lease.
    ///
    /// # Errors
    /// `Conflict` when this node does not fold, or there can be no other.
    pub async fn hand_over(&self) -> Result<(), Error> {
        self.in_background(|inner| async move {
            inner.check_leads()?;
            if !inner.is_shared() {
                return Err(Error::Conflict("there is no other node: log and tables belong to this one".into()));
            }
            let lease = {
                // What is being folded or swapped comes to its end.
                let _alone = inner.compacting.lock().await;
                inner.tables.lock().await.permit(&Right::Nobody);
                *inner.rests_until.lock() = Some(Instant::now() + REST);
                let lease = inner.lease.lock().clone();
                inner.step_down();
                lease
            };
            if let Some(lease) = lease {
                lease.release().await;
            }
            inner.refresh(Right::Nobody).await
        })
        .await
    }
}
