//! What became of a commit: a fold or swap that landed is noted in the index of home days and then in memory, at once
//! or, when its outcome was in doubt or could not be noted, before the next one begins.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::ahead::free;
use super::projection::{HOME_BYTES, Lane, Placement, Projected, Projection, home_entry, home_key};
use super::sequencer::Failure;
use super::store::{Store, Tables};
use crate::error::Error;
use crate::event::Id;
use crate::index::View;
use crate::lake::{Pinned, Version};
use crate::rows::State;

impl Store {
    /// Finds out what became of the last fold and swap of this table and notes it: else rows would be written twice,
    /// or calls stay in memory that need not.
    ///
    /// # Errors
    /// If table or index cannot be read or written; it is then asked again.
    pub(super) async fn settle<S: Projected>(&self, tables: &mut Tables) -> Result<(), Error> {
        let lane = S::lane(tables);
        lane.table.settle().await?;
        if let Some(attempt) = lane.attempt.clone() {
            if lane.table.watermark >= Some(attempt.until) {
                if let Some(first) = attempt.first_file.get()
                    && !lane.table.files().await?.iter().any(|file| file.path == *first)
                {
                    return Err(Error::Conflict(format!("another node folded into `{}`", lane.table.name())));
                }
                self.fold_landed::<S>(tables).await?;
            } else {
                S::of_mut(&mut self.sequencer.lock()).give_back(&attempt);
                S::lane(tables).attempt = None;
            }
        }
        let lane = S::lane(tables);
        if let Some(exchange) = &lane.exchange {
            // Names of files are never used twice, and nothing was committed since.
            if lane.table.files().await?.iter().any(|file| file.path == exchange.path) {
                self.swap_landed::<S>(tables).await?;
            } else {
                (lane.exchange, lane.parted) = (None, None);
            }
        }
        Ok(())
    }

    /// Stops taking in when an index is damaged, so that it is made again: no fold would succeed any more.
    pub(super) fn index_failed(&self, error: Error) -> Error {
        if matches!(error, Error::Corrupt(_)) {
            self.sequencer.lock().failed.get_or_insert_with(|| Failure::Index(error.to_string()));
        }
        error
    }

    /// Notes a fold that has landed.
    pub(super) async fn fold_landed<S: Projected>(&self, tables: &mut Tables) -> Result<(), Error> {
        let lane = S::lane(tables);
        let Some(attempt) = lane.attempt.clone() else { return Ok(()) };
        lane.provisional = attempt.provisional_files.get().cloned().unwrap_or_default();
        lane.homes.add(attempt.homes.clone(), attempt.until, 0).map_err(|error| self.index_failed(error))?;
        let (sequencer, present) = (Arc::clone(&self.sequencer), Present::of(lane, self.config.keep_superseded).await?);
        let at_once = self.noted_at_once();
        let note = move || {
            let mut locked = sequencer.lock();
            let projection = S::of_mut(&mut locked);
            let before = present.show(projection);
            let provisional = attempt.provisional_files.get().map(Vec::as_slice).unwrap_or_default().into();
            projection.placement = Placement { provisional, is_noting: true };
            projection.landed(attempt.until);
            drop(locked);
            let mut done = Vec::with_capacity(attempt.whole.len());
            for ids in attempt.whole.chunks(at_once) {
                done.extend(S::of_mut(&mut sequencer.lock_again()).has_rows(ids));
            }
            for ids in attempt.provisional.chunks(at_once) {
                S::of_mut(&mut sequencer.lock_again()).has_provisional_rows(ids);
            }
            for ids in attempt.parts.chunks(at_once) {
                S::of_mut(&mut sequencer.lock_again()).has_parts(ids);
            }
            S::of_mut(&mut sequencer.lock_again()).placement.is_noting = false;
            (before, done)
        };
        let (before, done) = self.foreground.run(note).await?;
        drop(before);
        free(done);
        let noted = lane.attempt.take();
        if let (Some(parted), Some(attempt)) = (&mut lane.parted, noted) {
            parted.extend(attempt.parts.iter().cloned());
        }
        Ok(())
    }

    /// Notes a swap that has landed.
    pub(super) async fn swap_landed<S: Projected>(&self, tables: &mut Tables) -> Result<(), Error> {
        let lane = S::lane(tables);
        let Some(exchange) = lane.exchange.clone() else { return Ok(()) };
        // Parts of an older version of trunklog may be all there was of a call.
        let (known, mut homes) = (lane.homes.view(), Vec::new());
        for (id, day) in &exchange.with_parts {
            if known.first(home_key(id)).map_err(|error| self.index_failed(error))?.is_none() {
                homes.push(home_entry(id, *day));
            }
        }
        if let Some(until) = lane.homes.until().filter(|_| !homes.is_empty()) {
            homes.sort_unstable();
            homes.dedup();
            lane.homes.add(homes, until, 0).map_err(|error| self.index_failed(error))?;
        }
        let (sequencer, present) = (Arc::clone(&self.sequencer), Present::of(lane, self.config.keep_superseded).await?);
        let (parted, at_once) = (lane.parted.clone().unwrap_or_default(), self.noted_at_once());
        let note = move || {
            let mut locked = sequencer.lock();
            let projection = S::of_mut(&mut locked);
            let before = present.show(projection);
            projection.placement.is_noting = true;
            projection.swapped(&exchange.days);
            drop(locked);
            let merged: HashSet<&Id> = exchange.with_parts.iter().map(|(id, _)| id).collect();
            let merged: Vec<Id> = merged.into_iter().filter(|id| !parted.contains(*id)).cloned().collect();
            let pieces = merged.chunks(at_once);
            let done = pieces.map(|some| S::of_mut(&mut sequencer.lock_again()).has_no_parts(some));
            let done: Vec<_> = done.collect();
            let parted: Vec<Id> = parted.into_iter().collect();
            for some in parted.chunks(at_once) {
                S::of_mut(&mut sequencer.lock_again()).still_has_parts(some);
            }
            S::of_mut(&mut sequencer.lock_again()).placement.is_noting = false;
            (before, done)
        };
        let released = self.foreground.run(note).await?;
        drop(released);
        (lane.exchange, lane.parted) = (None, None);
        Ok(())
    }
}

/// A table and its index as they are after a commit.
pub(super) struct Present {
    table: Arc<Pinned>,
    homes: View<HOME_BYTES>,
    version: Version,
    keep_superseded: Duration,
}

impl Present {
    pub async fn of(lane: &Lane, keep_superseded: Duration) -> Result<Present, Error> {
        let table = lane.table.provider().await?;
        Ok(Present { table, homes: lane.homes.view(), version: lane.table.pinned(), keep_superseded })
    }

    /// Queries read these from now on; gives those of before, to be dropped.
    pub fn show<S: State>(self, projection: &mut Projection<S>) -> (Arc<Pinned>, View<HOME_BYTES>) {
        remember(projection, self.version, self.keep_superseded);
        let table = std::mem::replace(&mut projection.table, self.table);
        (table, std::mem::replace(&mut projection.homes, self.homes))
    }
}

/// Which version of the table belongs to which offset, for reading as of an offset; versions whose files may be gone
/// are forgotten.
pub(super) fn remember<S: State>(projection: &mut Projection<S>, version: Version, keep: Duration) {
    let (at, history) = (version.at, &mut projection.history);
    if history.last().is_none_or(|last| last.number != version.number) {
        history.push(version);
    }
    let kept = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    let gone = history.windows(2).take_while(|pair| pair[1].at < at.saturating_sub(kept)).count();
    history.drain(..gone);
}
