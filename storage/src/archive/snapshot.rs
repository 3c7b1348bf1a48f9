//! One unchanging view of everything up to one offset: pinned tables, and what memory has that they have not.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::ViewTable;
use datafusion::prelude::{col, lit};
use futures::TryStreamExt;

use super::compact::{day_names, in_days};
use super::duplicates::Duplicates;
use super::overlay::Overlay;
use super::projection::{Placement, Projected, Projection};
use super::restore::{load_parts, restore_keyer};
use super::sequencer::{Arrived, Sequencer};
use super::tail::TailView;
use super::{Archive, Inner, Message};
use crate::call::CallState;
use crate::error::Error;
use crate::event::{Id, Micros, Offset, now};
use crate::fact::Decoder;
use crate::lake::{self, Pinned, Version};
use crate::recording::RecordingState;
use crate::rows::{Keyed, State, day_name};

/// One view of the archive; cheap to clone, unchanging, usable for as long as superseded files are kept.
#[derive(Clone)]
pub struct Snapshot {
    /// The last offset it contains; `None` for an empty archive.
    pub offset: Option<Offset>,
    /// When it was taken, or the time it stands for.
    pub time: Micros,
    pub(super) calls: Part<CallState>,
    pub(super) recordings: Part<RecordingState>,
    events: Arc<dyn TableProvider>,
    pub(super) stored_events: Arc<Pinned>,
    /// Of the stored messages only those up to here count; `None` for all of them.
    pub stored_until: Option<Offset>,
    pub(super) tail: TailView,
    pub(super) decoder: Arc<dyn Decoder>,
}

/// One projection as a snapshot sees it.
#[derive(Clone)]
pub(super) struct Part<S: State> {
    pub table: Arc<Pinned>,
    pub overlay: Overlay<S>,
    pub placement: Placement,
}

impl<S: State> Part<S> {
    fn of(projection: &Projection<S>) -> Part<S> {
        Part {
            table: Arc::clone(&projection.table),
            overlay: projection.overlay.clone(),
            placement: projection.placement.clone(),
        }
    }

    pub fn superseded(&self) -> Superseded {
        let overlay = self.overlay.clone();
        Superseded { contains: Arc::new(move |id| overlay.contains(id)), days: None }
    }

    /// The same, knowing the days: the homes of now are those of this table.
    fn superseded_now(&self) -> Superseded {
        let days: BTreeSet<i32> = self.overlay.entries().map(|entry| entry.keyed.day).collect();
        Superseded { days: Some(days.into_iter().map(day_name).collect()), ..self.superseded() }
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Snapshot")
            .field("offset", &self.offset)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

/// Those whose rows in a table are superseded by what is in memory.
#[derive(Clone)]
pub struct Superseded {
    contains: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    days: Option<Vec<String>>,
}

impl std::fmt::Debug for Superseded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Superseded").finish_non_exhaustive()
    }
}

impl Superseded {
    /// Whether the stored rows of this id must be left out.
    pub fn contains(&self, id: &str) -> bool {
        (self.contains)(id)
    }

    /// The days, as `day` names them, outside of which no stored row must be left out; `None` if that is not known.
    pub fn days(&self) -> Option<&[String]> {
        self.days.as_deref()
    }
}

impl Snapshot {
    fn superseded<S: State>(&self, part: &Part<S>) -> Superseded {
        let is_of_now = self.stored_until.is_none();
        if is_of_now { part.superseded_now() } else { part.superseded() }
    }

    /// The `calls` table as stored (with `fold`, `day` and `tier`).
    pub fn calls_stored(&self) -> Arc<dyn TableProvider> {
        self.calls.table.whole()
    }

    /// Whole calls that win over stored ones.
    ///
    /// # Errors
    /// If rows cannot be made, which would be a defect.
    pub fn calls_fresh(&self) -> Result<Vec<RecordBatch>, Error> {
        self.calls.overlay.rows(self.decoder.as_ref())
    }

    /// Which stored calls the fresh ones supersede.
    pub fn calls_superseded(&self) -> Superseded {
        self.superseded(&self.calls)
    }

    /// The `recordings` table as stored (with `fold`, `day` and `tier`).
    pub fn recordings_stored(&self) -> Arc<dyn TableProvider> {
        self.recordings.table.whole()
    }

    /// Whole recordings that win over stored ones.
    ///
    /// # Errors
    /// If rows cannot be made, which would be a defect.
    pub fn recordings_fresh(&self) -> Result<Vec<RecordBatch>, Error> {
        self.recordings.overlay.rows(self.decoder.as_ref())
    }

    /// Which stored recordings the fresh ones supersede.
    pub fn recordings_superseded(&self) -> Superseded {
        self.superseded(&self.recordings)
    }

    /// The `events` table as stored (with `day`).
    pub fn events_stored(&self) -> Arc<dyn TableProvider> {
        Arc::clone(&self.events)
    }

    /// The messages that are not in the table yet.
    ///
    /// # Errors
    /// If rows cannot be made, which would be a defect.
    pub fn events_fresh(&self) -> Result<Vec<RecordBatch>, Error> {
        self.tail.rows()
    }
}

impl Archive {
    /// Everything acknowledged before this call.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        if let Some(snapshot) = self.snapshot_at_once()? {
            return Ok(snapshot);
        }
        complete::<CallState>(&self.inner).await?;
        complete::<RecordingState>(&self.inner).await?;
        match self.snapshot_at_once()? {
            Some(snapshot) => Ok(snapshot),
            // Others came to lack theirs meanwhile, and under load always will.
            None => self.snapshot_of_now().await,
        }
    }

    /// The same, with what memory lacks now read for this snapshot alone.
    pub(super) async fn snapshot_of_now(&self) -> Result<Snapshot, Error> {
        let inner = &self.inner;
        let (snapshot, mut calls, mut recordings) = {
            let mut sequencer = inner.sequencer.lock();
            inner.advance_locked(&mut sequencer)?;
            let seen = take(&sequencer, Arc::clone(&inner.decoder));
            (seen, sequencer.calls.seen(), sequencer.recordings.seen())
        };
        let (days_of_calls, days_of_recordings) = (calls.lacking_days(), recordings.lacking_days());
        supply_lacking(inner, &mut calls, Some(&days_of_calls)).await?;
        supply_lacking(inner, &mut recordings, Some(&days_of_recordings)).await?;
        Ok(Snapshot { calls: Part::of(&calls), recordings: Part::of(&recordings), ..snapshot })
    }

    /// The same, if no table need be read for it.
    ///
    /// # Errors
    /// `Poisoned` when nothing more is taken in.
    pub fn snapshot_at_once(&self) -> Result<Option<Snapshot>, Error> {
        let inner = &self.inner;
        let mut sequencer = inner.sequencer.lock();
        inner.advance_locked(&mut sequencer)?;
        let lacks = !(sequencer.calls.lacking.is_empty() && sequencer.recordings.lacking.is_empty());
        Ok((!lacks).then(|| take(&sequencer, Arc::clone(&inner.decoder))))
    }

    /// The archive as it was at this offset, inclusive.
    ///
    /// # Errors
    /// `Gone` when the tables of that time are no longer known or kept.
    pub async fn snapshot_as_of(&self, offset: Offset) -> Result<Snapshot, Error> {
        let current = self.snapshot().await?;
        if current.offset.is_none_or(|last| last <= offset) {
            return Ok(current);
        }
        let inner = &self.inner;
        let (calls, recordings) = as_of(inner, &current, offset).await?;
        let filtered = inner.session.read_table(current.stored_events.whole())?;
        let filtered = filtered.filter(col("offset").lt_eq(lit(offset.0.cast_signed())))?;
        Ok(Snapshot {
            offset: Some(offset),
            time: current.time,
            calls,
            recordings,
            events: Arc::new(ViewTable::new(filtered.into_unoptimized_plan(), None)),
            stored_events: current.stored_events,
            stored_until: Some(offset),
            tail: current.tail.until(offset),
            decoder: Arc::clone(&inner.decoder),
        })
    }
}

fn take(sequencer: &Sequencer, decoder: Arc<dyn Decoder>) -> Snapshot {
    Snapshot {
        offset: sequencer.last,
        time: now(),
        calls: Part::of(&sequencer.calls),
        recordings: Part::of(&sequencer.recordings),
        events: sequencer.events.whole(),
        stored_events: Arc::clone(&sequencer.events),
        stored_until: None,
        tail: sequencer.tail.view(),
        decoder,
    }
}

/// Reads the final rows that entries in memory lack.
async fn complete<S: Projected>(inner: &Inner) -> Result<(), Error> {
    let (lacking, days, table) = {
        let sequencer = inner.sequencer.lock();
        let projection = S::of(&sequencer);
        if projection.lacking.is_empty() {
            return Ok(());
        }
        (projection.lacking.clone(), projection.lacking_days(), Arc::clone(&projection.table))
    };
    let stored = stored_rows(inner, &table, &lacking, Some(&days)).await?;
    let sequencer = Arc::clone(&inner.sequencer);
    let supply = move || {
        let mut sequencer = sequencer.lock();
        let projection = S::of_mut(&mut sequencer);
        // If a fold or swap came between, what was read may be of before it: the caller tries again.
        if Arc::ptr_eq(&projection.table, &table) {
            projection.supply(stored);
            projection.lacking.retain(|id| !lacking.contains(id));
        }
    };
    inner.foreground.run(supply).await
}

/// More ids than this are picked out of what is read: a condition of thousands would be walked in recursion.
const LISTED_IDS: usize = 64;

/// The final rows of these ids.
pub(super) async fn stored_rows<S: State>(
    inner: &Inner,
    table: &Arc<dyn TableProvider>,
    wanted: &HashSet<Id>,
    days: Option<&[i32]>,
) -> Result<Vec<Keyed<S>>, Error> {
    let mut filter = lake::read::is_whole();
    if wanted.len() <= LISTED_IDS {
        filter = filter.and(col(S::ID).in_list(wanted.iter().map(|id| lit(id.to_string())).collect(), false));
    }
    if let Some(days) = days.filter(|days| days.len() <= LISTED_IDS) {
        filter = in_days(&day_names(days)).and(filter);
    }
    lake::read::states_of(&inner.session, table, filter, |id| wanted.contains(id)).await
}

/// The version of the table to which nothing later than the offset has come, with its parts.
async fn version_as_of<S: Projected>(inner: &Inner, offset: Offset) -> Result<Projection<S>, Error> {
    let Version { watermark, number, .. } = {
        let sequencer = inner.sequencer.lock();
        let mut versions = S::of(&sequencer).history.iter().rev();
        let known = versions.find(|version| version.watermark.is_none_or(|mark| mark <= offset));
        *known.ok_or_else(|| Error::Gone(format!("the archive as of offset {offset}")))?
    };
    let table = S::lane(&mut *inner.tables.lock().await).table.provider_at(number).await?;
    // A home day is for ever, so the index of now serves; that a row is there already only costs a look-up.
    let homes = S::of(&inner.sequencer.lock()).homes.clone();
    let mut projection = Projection::new(table, watermark, homes);
    load_parts(&inner.session, &mut projection).await?;
    Ok(projection)
}

/// Both projections as of the offset: an earlier version of each table, and the messages since, whole.
async fn as_of(
    inner: &Inner,
    current: &Snapshot,
    offset: Offset,
) -> Result<(Part<CallState>, Part<RecordingState>), Error> {
    let calls = version_as_of::<CallState>(inner, offset).await?;
    let recordings = version_as_of::<RecordingState>(inner, offset).await?;
    let decoder = inner.decoder.as_ref();
    let keyer = restore_keyer(&inner.session, &calls.table, &current.stored_events, calls.watermark, decoder).await?;
    let (keyed, watermark) = (calls.watermark, calls.watermark.min(recordings.watermark));
    let no_duplicates = Duplicates::unasked(Some(offset));
    let mut then = Sequencer::new(Arc::clone(&current.stored_events), Some(offset), calls, recordings, no_duplicates);
    (then.keyer, then.keyed) = (keyer, keyed);
    let mut stream = std::pin::pin!(lake::read::messages(&inner.session, &current.stored_events, watermark, offset));
    while let Some(messages) = stream.try_next().await? {
        for stored in messages {
            then.take(arrival(stored.offset, Message::new(stored.event, decoder)));
        }
    }
    let tail: Vec<_> = current.tail.events().filter(|logged| logged.offset <= offset).cloned().collect();
    for logged in tail.into_iter().filter(|logged| watermark.is_none_or(|mark| logged.offset > mark)) {
        then.take(arrival(logged.offset, Message::new((*logged.event).clone(), decoder)));
    }
    then.check()?;
    supply_lacking(inner, &mut then.calls, None).await?;
    supply_lacking(inner, &mut then.recordings, None).await?;
    Ok((Part::of(&then.calls), Part::of(&then.recordings)))
}

async fn supply_lacking<S: State>(
    inner: &Inner,
    projection: &mut Projection<S>,
    days: Option<&[i32]>,
) -> Result<(), Error> {
    if !projection.lacking.is_empty() {
        let stored = stored_rows(inner, &projection.table, &projection.lacking.clone(), days).await?;
        projection.supply(stored);
    }
    Ok(())
}

pub(super) fn arrival(first: Offset, message: Message) -> Arrived {
    Arrived { first, messages: vec![message], duplicate: Arc::new([AtomicBool::new(false)]) }
}
