//! One unchanging view of everything up to one offset: pinned tables, and what memory has that they have not.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::ViewTable;
use datafusion::prelude::{col, lit};
use futures::TryStreamExt;

use super::fold::{day_names, in_days};
use super::overlay::{Entry, Overlay};
use super::sequencer::{Arrived, Sequencer, home_key};
use super::tail::{Tail, TailView};
use super::{Archive, Inner, Message};
use crate::error::Error;
use crate::event::{Micros, Offset, now};
use crate::fact::Decoder;
use crate::lake::{self, Version};

/// One view of the archive; cheap to clone, unchanging, usable for as long as superseded files are kept.
#[derive(Clone)]
pub struct Snapshot {
    /// The last offset it contains; `None` for an empty archive.
    pub offset: Option<Offset>,
    /// When it was taken, or the time it stands for.
    pub time: Micros,
    calls: Arc<dyn TableProvider>,
    events: Arc<dyn TableProvider>,
    overlay: Overlay,
    tail: TailView,
    decoder: Arc<dyn Decoder>,
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

/// The calls whose rows in the tables are superseded by those in memory.
#[derive(Clone, Debug)]
pub struct Superseded(Overlay);

impl Superseded {
    /// Whether the stored rows of this call must be left out.
    pub fn contains(&self, call_id: &str) -> bool {
        self.0.contains(call_id)
    }
}

impl Snapshot {
    /// The `calls` table as stored (with `fold`, `day` and `tier`).
    pub fn calls_stored(&self) -> Option<Arc<dyn TableProvider>> {
        Some(Arc::clone(&self.calls))
    }

    /// Whole calls that win over stored ones.
    ///
    /// # Errors
    /// If rows cannot be made, which would be a defect.
    pub fn calls_fresh(&self) -> Result<Vec<RecordBatch>, Error> {
        self.overlay.rows(self.decoder.as_ref())
    }

    /// Which stored calls the fresh ones supersede.
    pub fn calls_superseded(&self) -> Superseded {
        Superseded(self.overlay.clone())
    }

    /// The `events` table as stored (with `day`).
    pub fn events_stored(&self) -> Option<Arc<dyn TableProvider>> {
        Some(Arc::clone(&self.events))
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
        let inner = &self.inner;
        loop {
            let (lacking, days, calls) = {
                let mut sequencer = inner.sequencer.lock();
                inner.advance_locked(&mut sequencer);
                if sequencer.lacking.is_empty() {
                    return Ok(take(&sequencer, Arc::clone(&inner.decoder)));
                }
                (sequencer.lacking.clone(), sequencer.lacking_days(), Arc::clone(&sequencer.calls))
            };
            let stored = stored_rows(inner, &calls, &lacking, Some(&days)).await?;
            let mut sequencer = inner.sequencer.lock();
            if !Arc::ptr_eq(&sequencer.calls, &calls) {
                // A fold or swap came between: what was read may be of before it.
                continue;
            }
            sequencer.supply(stored);
            sequencer.lacking.retain(|id| !lacking.contains(id));
        }
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
        let Version { watermark, number, .. } = {
            let sequencer = inner.sequencer.lock();
            let mut versions = sequencer.history.iter().rev();
            let known = versions.find(|version| version.watermark.is_none_or(|mark| mark <= offset));
            *known.ok_or_else(|| Error::Gone(format!("the calls as of offset {offset}")))?
        };
        let calls = inner.tables.lock().await.calls.provider_at(number).await?;
        let overlay = overlay_as_of(inner, &calls, &current, watermark, offset).await?;
        let filtered = inner.session.read_table(Arc::clone(&current.events))?;
        let filtered = filtered.filter(col("offset").lt_eq(lit(offset.0.cast_signed())))?;
        Ok(Snapshot {
            offset: Some(offset),
            time: current.time,
            calls,
            events: Arc::new(ViewTable::new(filtered.into_unoptimized_plan(), None)),
            overlay,
            tail: current.tail.until(offset),
            decoder: Arc::clone(&inner.decoder),
        })
    }
}

fn take(sequencer: &Sequencer, decoder: Arc<dyn Decoder>) -> Snapshot {
    Snapshot {
        offset: sequencer.last,
        time: now(),
        calls: Arc::clone(&sequencer.calls),
        events: Arc::clone(&sequencer.events),
        overlay: sequencer.overlay.clone(),
        tail: sequencer.tail.view(),
        decoder,
    }
}

/// The final rows of these calls.
async fn stored_rows(
    inner: &Inner,
    calls: &Arc<dyn TableProvider>,
    wanted: &HashSet<Arc<str>>,
    days: Option<&[i32]>,
) -> Result<Vec<crate::rows::KeyedCall>, Error> {
    let ids = wanted.iter().map(|id| lit(id.to_string())).collect();
    let mut filter = col("tier").eq(lit("final")).and(col("call_id").in_list(ids, false));
    if let Some(days) = days {
        filter = in_days(&day_names(days)).and(filter);
    }
    lake::read::states(&inner.session, calls, filter).await
}

/// Parts and messages between a version's watermark and the offset, whole.
async fn overlay_as_of(
    inner: &Inner,
    calls: &Arc<dyn TableProvider>,
    current: &Snapshot,
    watermark: Option<Offset>,
    offset: Offset,
) -> Result<Overlay, Error> {
    let parts = lake::read::states(&inner.session, calls, col("tier").eq(lit("part"))).await?;
    let homes = lake::read::homes(&inner.session, calls).await?;
    let mut then = Sequencer {
        tail: Tail::default(),
        overlay: Overlay::default(),
        duplicates: super::duplicates::Duplicates::default(),
        keyer: super::startup::restore_keyer(&inner.session, calls, &current.events, watermark, inner.decoder.as_ref())
            .await?,
        homes: std::collections::HashMap::new(),
        dirty: HashSet::new(),
        lacking: HashSet::new(),
        last: watermark,
        events_watermark: Some(offset),
        calls_watermark: watermark,
        events: Arc::clone(&current.events),
        calls: Arc::clone(calls),
        history: Vec::new(),
    };
    for home in homes {
        let known = then.homes.entry(home_key(&home.call_id));
        known.or_insert(super::sequencer::Home { day: home.day, stored: false }).stored |= home.is_final;
    }
    for part in parts {
        let lacks_stored = then.homes.get(&home_key(&part.call_id)).is_some_and(|home| home.stored);
        if lacks_stored {
            then.lacking.insert(Arc::clone(&part.call_id));
        }
        let make = || Entry { call: part.clone(), lacks_stored };
        then.overlay
            .update(&part.call_id, make, |entry| Arc::make_mut(&mut entry.call.state).merge((*part.state).clone()));
    }
    let mut stream =
        std::pin::pin!(lake::read::messages(&inner.session, &current.events, watermark, Some(offset)).await?);
    while let Some(messages) = stream.try_next().await? {
        for stored in messages {
            let message = Message::new(stored.event, inner.decoder.as_ref());
            then.take(arrival(stored.offset, message));
        }
    }
    let tail: Vec<_> = current.tail.events().filter(|logged| logged.offset <= offset).cloned().collect();
    for logged in tail.into_iter().filter(|logged| watermark.is_none_or(|mark| logged.offset > mark)) {
        let message = Message { event: (*logged.event).clone(), decoded: (*logged.decoded).clone() };
        then.take(arrival(logged.offset, message));
    }
    if !then.lacking.is_empty() {
        let stored = stored_rows(inner, calls, &then.lacking.clone(), None).await?;
        then.supply(stored);
    }
    Ok(then.overlay)
}

pub(super) fn arrival(first: Offset, message: Message) -> Arrived {
    Arrived { first, messages: vec![message], duplicate: Arc::new([AtomicBool::new(false)]) }
}
