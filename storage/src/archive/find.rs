//! Looking for calls and recordings by what is known of them, for the archive's own workers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use datafusion::prelude::{Expr, col, lit};

use super::arrivals::{Arrivals, arrivals};
use super::compact::{day_names, in_days};
use super::snapshot::{Part, stored_rows};
use super::{Archive, Inner};
use crate::call::CallState;
use crate::error::Error;
use crate::event::Id;
use crate::lake::{self, Pinned};
use crate::recording::RecordingState;
use crate::rows::{Keyed, KeyedCall, KeyedRecording, State};

/// Who is behind the log for longer than this does not say what recordings there are.
const CATCH_UP: Duration = Duration::from_secs(60);

impl Archive {
    /// Whether bytes of this recording were acknowledged before.
    ///
    /// # Errors
    /// If an index cannot be read.
    pub fn knows_recording(&self, recording_id: &str) -> Result<bool, Error> {
        self.inner.advance()?;
        self.inner.sequencer.lock().recordings.knows(recording_id)
    }

    /// The recording of this id, as a snapshot taken now would show it. Cheap: players ask for one piece after the other.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn recording(&self, recording_id: &str) -> Result<Option<KeyedRecording>, Error> {
        self.inner.advance()?;
        let (table, day, fresh) = {
            let sequencer = self.inner.sequencer.lock();
            let recordings = &sequencer.recordings;
            match recordings.overlay.get(recording_id) {
                Some(entry) if !entry.lacks_stored => return Ok(Some(entry.keyed.clone())),
                Some(entry) => (Arc::clone(&recordings.table), entry.keyed.day, Some(entry.keyed.clone())),
                None => {
                    let Some(day) = recordings.home(recording_id)? else { return Ok(None) };
                    (Arc::clone(&recordings.table), day, None)
                }
            }
        };
        let remembered = self.inner.looked_up.lock().get(&table, recording_id);
        let stored = match remembered {
            Some(stored) => Some(stored),
            None => self.stored_recording(table, recording_id, day).await?,
        };
        Ok(match (stored, fresh) {
            (Some(mut stored), Some(fresh)) => {
                Arc::make_mut(&mut stored.state).merge((*fresh.state).clone());
                Some(stored)
            }
            (stored, fresh) => stored.or(fresh),
        })
    }

    /// The row in the final tier of its home day.
    async fn stored_recording(&self, table: Arc<Pinned>, id: &str, day: i32) -> Result<Option<KeyedRecording>, Error> {
        let filter = in_days(&day_names(&[day])).and(lake::read::is_whole()).and(col("recording_id").eq(lit(id)));
        let pinned = Arc::clone(&table);
        // Planning a read is no work for the threads that serve.
        let read = |inner: Arc<Inner>| async move { lake::read::states(&inner.session, &pinned, filter).await };
        let found = self.in_background(read).await?.into_iter().next();
        if let Some(found) = &found {
            self.inner.looked_up.lock().remember(table, found.clone());
        }
        Ok(found)
    }

    /// The calls of these ids, legs of other calls included. Cheap for few: only their home days are read.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn calls_of(&self, ids: &HashSet<Id>) -> Result<Vec<KeyedCall>, Error> {
        self.inner.advance_in_foreground().await?;
        let (mut found, mut fresh, mut days) = (Vec::new(), HashMap::new(), HashSet::new());
        let (table, wanted) = {
            let sequencer = self.inner.sequencer.lock();
            let calls = &sequencer.calls;
            let mut wanted = HashSet::new();
            for id in ids {
                let entry = calls.overlay.get(id);
                let day = match entry {
                    Some(entry) if !entry.lacks_stored => {
                        found.push(entry.keyed.clone());
                        continue;
                    }
                    Some(entry) => {
                        fresh.insert(id.clone(), entry.keyed.clone());
                        Some(entry.keyed.day)
                    }
                    None => calls.home(id)?,
                };
                if let Some(day) = day {
                    days.insert(day);
                    wanted.insert(id.clone());
                }
            }
            (Arc::clone(&calls.table), wanted)
        };
        if !wanted.is_empty() {
            let days: Vec<i32> = days.into_iter().collect();
            // Planning a read is no work for the threads that serve.
            let read =
                |inner: Arc<Inner>| async move { stored_rows::<CallState>(&inner, &table, &wanted, Some(&days)).await };
            for mut stored in self.in_background(read).await? {
                if let Some(fresh) = fresh.remove(&stored.id) {
                    Arc::make_mut(&mut stored.state).merge((*fresh.state).clone());
                }
                found.push(stored);
            }
        }
        found.extend(fresh.into_values());
        Ok(found)
    }

    /// Every recording whose bytes are acknowledged from now on, in log order. What comes is what that message said.
    pub fn subscribe_recordings(&self) -> Arrivals<RecordingState> {
        let (announcer, arrivals) = arrivals(|recording: &KeyedRecording| recording.state.stored.is_some());
        self.inner.sequencer.lock().recording_subscribers.push(announcer);
        arrivals
    }

    /// What messages say of calls from now on, in log order, as far as `wants` holds. It is asked under the archive's
    /// lock, so it must be quick.
    pub fn subscribe_calls(&self, wants: fn(&KeyedCall) -> bool) -> Arrivals<CallState> {
        let (announcer, arrivals) = arrivals(wants);
        self.inner.sequencer.lock().call_subscribers.push(announcer);
        arrivals
    }

    /// Whether the bytes of this recording were looked at; `None` when memory does not tell.
    pub fn is_probed(&self, recording_id: &str) -> Option<bool> {
        self.inner.advance().ok()?;
        let sequencer = self.inner.sequencer.lock();
        let entry = sequencer.recordings.overlay.get(recording_id)?;
        Some(entry.keyed.state.probed().is_some())
    }

    /// Threads of lower priority, for work that nobody waits for.
    ///
    /// # Errors
    /// `Closed` when the archive is closing.
    pub fn background(&self) -> Result<tokio::runtime::Handle, Error> {
        let background = self.inner.background.lock();
        background.as_ref().map(|background| background.lower.handle().clone()).ok_or(Error::Closed)
    }

    /// The calls for which `matches` is true. `filter` is over the stored columns and only skips stored rows.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn find_calls(
        &self,
        filter: Expr,
        matches: impl Fn(&KeyedCall) -> bool + Send + Sync,
    ) -> Result<Vec<KeyedCall>, Error> {
        let snapshot = self.snapshot().await?;
        self.find(&snapshot.calls, filter, matches).await
    }

    /// The recordings for which `matches` is true. `filter` is over the stored columns and only skips stored rows.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn find_recordings(
        &self,
        filter: Expr,
        matches: impl Fn(&KeyedRecording) -> bool + Send + Sync,
    ) -> Result<Vec<KeyedRecording>, Error> {
        let snapshot = self.snapshot().await?;
        self.find(&snapshot.recordings, filter, matches).await
    }

    async fn find<S: State>(
        &self,
        part: &Part<S>,
        filter: Expr,
        matches: impl Fn(&Keyed<S>) -> bool + Send + Sync,
    ) -> Result<Vec<Keyed<S>>, Error> {
        let is_final = lake::read::is_whole();
        let mut found = lake::read::states(&self.inner.session, &part.table, is_final.and(filter)).await?;
        found.retain(|keyed| !part.overlay.contains(&keyed.id) && matches(keyed));
        found.extend(part.overlay.entries().map(|entry| &entry.keyed).filter(|keyed| matches(keyed)).cloned());
        Ok(found)
    }

    /// The keys in object storage that recordings refer to, without `#offset+length`. With everything that any node
    /// acknowledged: what is missing here is taken away.
    ///
    /// # Errors
    /// If a table cannot be read; `Unavailable` when this node is behind the log.
    pub async fn objects(&self) -> Result<HashSet<String>, Error> {
        if !self.inner.log.caught_up(CATCH_UP).await? {
            return Err(Error::Unavailable("this node is behind the log".into()));
        }
        let all = self.find_recordings(lit(true), |_| true).await?;
        let file = |keyed: &KeyedRecording| {
            keyed.state.object().map(|object| object.split('#').next().unwrap_or(object).to_owned())
        };
        Ok(all.iter().filter_map(file).collect())
    }
}
