//! Folding: the tail and the changed states into the tables, each with its own watermark.
//!
//! A call or recording that has no row yet is appended whole (to the tier `final`), which reads nothing and rewrites
//! nothing; of one that has a row a part is appended, and [`super::compact`] merges the two later. Rows of calls of which
//! more is to be expected go into files of their own, and those calls stay in memory: the next fold replaces these files,
//! so that such a call gets no parts. After a restart they are rows like all others. So most calls are written once. All
//! rows of a table go in one commit with the log's offset; then the index of home days is told.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::atomic;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio_util::task::AbortOnDropHandle;

use super::ahead::{FETCHED_AT_ONCE, fetch_states};
use super::duplicates::{Duplicates, Stored};
use super::early::{self, Early};
use super::keyer::Keyer;
use super::lock::Lock;
use super::overlay::Entry;
use super::projection::{Attempt, Dirty, Outlook, Projected, home_entry};
use super::sequencer::Sequencer;
use super::store::{Store, Tables};
use super::tail::TailView;
use crate::call::CallState;
use crate::error::Error;
use crate::event::{Id, Micros, Offset};
use crate::fact::Decoder;
use crate::lake::{self, Effort, Table, Writer};
use crate::recording::RecordingState;
use crate::rows::{self, FINAL, Keyed, PART, State};

/// Rows per record batch that is written: few enough that its buffers are used again, not mapped anew.
pub(super) const BATCH_ROWS: usize = 2048;

/// States that were gathered: dirty again unless their rows get as far as a commit, whatever ends the fold.
struct Pending<'a, S: Projected> {
    store: &'a Store,
    /// The table lacks the messages up to this fold's end.
    behind: bool,
    attempt: Arc<Attempt>,
    /// Their rows, in the making.
    files: Option<Files>,
    /// There is nothing to commit, or what became of the commit is for [`Store::settle`] to find out.
    handed_over: bool,
    states: PhantomData<S>,
}

impl<S: Projected> Drop for Pending<'_, S> {
    fn drop(&mut self) {
        if !self.handed_over {
            S::of_mut(&mut self.store.sequencer.lock()).give_back(&self.attempt);
        }
    }
}

/// States whose rows are to be written.
struct Changed<S> {
    /// Whole ones that will hardly change again.
    settled: Vec<Placed<S>>,
    /// Whole ones that will most likely, and that the next fold writes again.
    provisional: Vec<Placed<S>>,
    /// Other whole ones.
    unsure: Vec<Placed<S>>,
    /// Those that have a row that stays.
    parts: Vec<Placed<S>>,
}

/// A state with what its row's place follows from.
struct Placed<S> {
    partition: (i32, bool),
    time: Option<Micros>,
    keyed: Keyed<S>,
}

impl<S: State> Placed<S> {
    fn of(keyed: Keyed<S>) -> Placed<S> {
        let time = S::time(&keyed);
        Placed::at(time, keyed)
    }

    fn at(time: Option<Micros>, keyed: Keyed<S>) -> Placed<S> {
        Placed { partition: partition(&keyed), time, keyed }
    }
}

impl<S: Projected> Changed<S> {
    /// `latest` is the highest receipt time of all messages, `most` how many may be provisional.
    fn new(whole: &[&Entry<S>], parts: &[&Entry<S>], latest: Micros, most: usize) -> Changed<S> {
        let parts = parts.iter().map(|entry| Placed::of(entry.keyed.clone())).collect();
        let mut changed = Changed { settled: Vec::new(), provisional: Vec::new(), unsure: Vec::new(), parts };
        let mut changing = Vec::new();
        for some in whole.chunks(FETCHED_AT_ONCE) {
            fetch_states(some.iter().map(|entry| &entry.keyed));
            for entry in some {
                let (time, outlook) = S::outlook(&entry.keyed, latest);
                let placed = Placed::at(time, entry.keyed.clone());
                match outlook {
                    Outlook::Settled => changed.settled.push(placed),
                    Outlook::Changing { heard } => changing.push((Reverse(heard), placed)),
                    Outlook::Unsure => changed.unsure.push(placed),
                }
            }
        }
        if changing.len() > most {
            // Those heard of last are the likeliest to change.
            changing.sort_by(|one, other| (one.0, &one.1.keyed.id).cmp(&(other.0, &other.1.keyed.id)));
            changed.unsure.extend(changing.split_off(most).into_iter().map(|(_, placed)| placed));
        }
        changed.provisional.extend(changing.into_iter().map(|(_, placed)| placed));
        changed
    }
}

impl<'a, S: Projected> Pending<'a, S> {
    fn new(store: &'a Store, dirty: &Dirty<S>, behind: bool, until: Offset, latest: Micros) -> (Self, Changed<S>) {
        let (whole, parts) = dirty.entries();
        let most = usize::try_from(store.config.overlay_calls).unwrap_or(usize::MAX);
        let changed = Changed::new(&whole, &parts, latest, most);
        let ids = |states: &[Placed<S>]| states.iter().map(|placed| placed.keyed.id.clone()).collect::<Vec<_>>();
        let first = whole.iter().filter(|entry| !entry.stored).map(|entry| &entry.keyed);
        let attempt = Attempt {
            until,
            whole: [ids(&changed.settled), ids(&changed.unsure)].concat(),
            provisional: ids(&changed.provisional),
            parts: ids(&changed.parts),
            homes: first.map(|keyed| home_entry(&keyed.id, keyed.day)).collect(),
            provisional_files: OnceLock::new(),
            first_file: OnceLock::new(),
        };
        let attempt = Arc::new(attempt);
        (Pending { store, behind, attempt, files: None, handed_over: false, states: PhantomData }, changed)
    }

    /// Begins to write the rows into files of the table.
    fn begin(&mut self, table: &Table, changed: Changed<S>) -> Result<(), Error> {
        if self.behind {
            let decoder = Arc::clone(&self.store.decoder);
            let writers = [table.writer(Effort::Fold)?, table.writer(Effort::Fold)?, table.writer(Effort::Fold)?];
            self.files = Some(AbortOnDropHandle::new(tokio::spawn(write_states(writers, changed, decoder))));
        }
        Ok(())
    }
}

/// Files that are being written; given up when dropped.
type Writing<T> = AbortOnDropHandle<Result<T, Error>>;
type Files = Writing<StateFiles>;

/// New files of states.
#[derive(Default)]
struct StateFiles {
    all: Vec<lake::Add>,
    /// Those of them that the next fold replaces.
    provisional: Vec<String>,
}

async fn written<T>(files: Writing<T>) -> Result<T, Error> {
    files.await.map_err(|broken| Error::Corrupt(format!("writing rows broke off: {broken}")))?
}

/// Those that will hardly change again get files of their own, which a compaction then leaves alone, and so do those
/// that the next fold writes again.
async fn write_states<S: Projected>(
    writers: [Writer; 3],
    changed: Changed<S>,
    decoder: Arc<dyn Decoder>,
) -> Result<StateFiles, Error> {
    let mut files = StateFiles::default();
    let [settled, provisional, others] = writers;
    let kinds = [
        (settled, vec![(changed.settled, FINAL)], false),
        (provisional, vec![(changed.provisional, FINAL)], true),
        (others, vec![(changed.unsure, FINAL), (changed.parts, PART)], false),
    ];
    for (mut writer, kinds, is_provisional) in kinds {
        for (states, tier) in kinds {
            let mut states = in_order(states).into_iter().peekable();
            // Each batch is of one partition, and freed when it is written.
            while let Some(partition) = states.peek().map(|first| first.partition) {
                let batch = std::iter::from_fn(|| states.next_if(|next| next.partition == partition));
                let batch: Vec<Keyed<S>> = batch.take(BATCH_ROWS).map(|placed| placed.keyed).collect();
                fetch_states(&batch);
                writer.write(rows::stored(&batch, tier, decoder.as_ref())?).await?;
            }
        }
        let finished = writer.finish().await?;
        if is_provisional {
            files.provisional = finished.iter().map(|add| add.path.clone()).collect();
        }
        files.all.extend(finished);
    }
    Ok(files)
}

/// The messages after this offset.
async fn write_events(mut writer: Writer, tail: TailView, after: Option<Offset>) -> Result<Vec<lake::Add>, Error> {
    let missing = tail.events().filter(|logged| after.is_none_or(|after| logged.offset > after));
    early::write(&mut writer, missing).await?;
    writer.finish().await
}

/// The messages of a fold.
struct Messages {
    /// Those that are being written already; the others come after them.
    early: Option<Early>,
    tail: TailView,
}

/// What a fold begins with, as it was at one moment.
struct Seen {
    until: Offset,
    events: Messages,
    events_behind: bool,
    /// What changed, and whether the table is behind.
    calls: (Dirty<CallState>, bool),
    recordings: (Dirty<RecordingState>, bool),
    keyer: Keyer,
    latest: Micros,
}

impl Seen {
    /// The last offset, if there is nothing to fold. What comes after it goes to `next`, if messages are written early.
    fn of(sequencer: &mut Sequencer, next: Option<Early>) -> Result<Seen, Option<Offset>> {
        let folded = sequencer.folded();
        let until = sequencer.last.filter(|until| folded < Some(*until)).ok_or(sequencer.last)?;
        Ok(Seen {
            until,
            events: Messages { early: std::mem::replace(&mut sequencer.early, next), tail: sequencer.tail.view() },
            events_behind: sequencer.events_watermark.is_none_or(|watermark| watermark < until),
            calls: (sequencer.calls.take_dirty(), sequencer.calls.is_behind(until)),
            recordings: (sequencer.recordings.take_dirty(), sequencer.recordings.is_behind(until)),
            keyer: sequencer.keyer.clone(),
            latest: sequencer.duplicates.latest(),
        })
    }
}

/// The deliveries that the index of fingerprints lacks, and their highest receipt time.
fn unwritten(sequencer: &Lock<Sequencer>, until: Offset, at_once: usize) -> (Vec<Stored>, Micros) {
    let room = sequencer.lock_again().duplicates.in_memory();
    let (mut deliveries, mut stamp) = (Vec::with_capacity(room), Micros::MIN);
    loop {
        let (some, latest) = sequencer.lock_again().duplicates.unwritten(until, deliveries.len(), at_once);
        if some.is_empty() {
            return (deliveries, stamp);
        }
        stamp = stamp.max(latest);
        deliveries.extend(some);
    }
}

/// What there is to fold.
enum Gathered<'a> {
    Work(Box<Work<'a>>),
    /// Everything up to here is in the tables.
    Nothing(Option<Offset>),
}

/// What a fold writes.
struct Work<'a> {
    until: Offset,
    events: Messages,
    events_behind: bool,
    calls: (Pending<'a, CallState>, Changed<CallState>),
    recordings: (Pending<'a, RecordingState>, Changed<RecordingState>),
    keyer: Keyer,
    /// The highest receipt time of all messages up to the fold's end: what follows must not show in it.
    latest: Micros,
}

impl Store {
    /// Writes what was taken in; returns the last offset that is then in every table.
    ///
    /// # Errors
    /// If a table or index cannot be written or read; nothing is lost by that, and the next fold tries again.
    pub async fn fold(&self, tables: &mut Tables) -> Result<Option<Offset>, Error> {
        let started = Instant::now();
        tables.events.settle().await?;
        self.settle::<CallState>(tables).await?;
        self.settle::<RecordingState>(tables).await?;
        let work = match self.gather(tables).await? {
            Gathered::Work(work) => work,
            Gathered::Nothing(until) => return Ok(until),
        };
        let Work { until, events, events_behind, calls, recordings, keyer, latest } = *work;
        let ignoring = self.ignoring.load(atomic::Ordering::Acquire);
        // The rows are written side by side, but committed one table after the other.
        let (mut calls, changed_calls) = calls;
        let (mut recordings, changed_recordings) = recordings;
        if !ignoring {
            calls.begin(&tables.calls.table, changed_calls)?;
            recordings.begin(&tables.recordings.table, changed_recordings)?;
        }
        let messages = events.tail.messages() + events.early.as_ref().map_or(0, |early| early.messages);
        if events_behind {
            self.fold_events(tables, events, until, latest).await?;
        }
        if ignoring {
            return Ok(Some(until));
        }
        self.fold_states(tables, calls).await?;
        self.fold_states(tables, recordings).await?;
        let aside = self.sequencer.lock().duplicates.aside(latest);
        tables.checkpoint.write(until, keyer, aside)?;
        tables.measure();
        metrics::histogram!("trunklog_fold_seconds").record(started.elapsed().as_secs_f64());
        metrics::counter!("trunklog_folded_messages_total").increment(messages);
        Ok(Some(until))
    }

    async fn gather(&self, tables: &Tables) -> Result<Gathered<'_>, Error> {
        let sequencer = Arc::clone(&self.sequencer);
        let is_early = sequencer.lock().early.is_some();
        let next = if is_early { Some(Early::begin(tables.events.writer(Effort::Fold)?)) } else { None };
        let seen = self.foreground.run(move || Seen::of(&mut sequencer.lock(), next)).await?;
        let Seen { until, events, events_behind, calls, recordings, keyer, latest } = match seen {
            Ok(seen) => seen,
            Err(until) => return Ok(Gathered::Nothing(until)),
        };
        let calls = Pending::new(self, &calls.0, calls.1, until, latest);
        let recordings = Pending::new(self, &recordings.0, recordings.1, until, latest);
        Ok(Gathered::Work(Box::new(Work { until, events, events_behind, calls, recordings, keyer, latest })))
    }

    async fn fold_events(
        &self,
        tables: &mut Tables,
        events: Messages,
        until: Offset,
        latest: Micros,
    ) -> Result<(), Error> {
        // A commit may have landed although the fold then failed: the table says what it has.
        let has = tables.events.watermark;
        let Messages { early, tail } = events;
        let early_bytes = early.as_ref().map_or(0, |early| early.bytes);
        if has.is_none_or(|has| has < until) {
            let writer = match early {
                Some(early) => early.finish(has).await?,
                None => tables.events.writer(Effort::Fold)?,
            };
            let files = write_events(writer, tail, has);
            let files = written(AbortOnDropHandle::new(tokio::spawn(files))).await?;
            tables.events.fold(files, &[], until).await?;
        }
        let (sequencer, at_once) = (Arc::clone(&self.sequencer), self.noted_at_once());
        let (deliveries, stamp) = self.foreground.run(move || unwritten(&sequencer, until, at_once)).await?;
        tables.fingerprints.add(deliveries, until, stamp).map_err(|error| self.index_failed(error))?;
        tables.fingerprints.forget(Duplicates::is_gone(latest, until))?;
        let provider = tables.events.provider().await?;
        let (sequencer, runs) = (Arc::clone(&self.sequencer), tables.fingerprints.view());
        let release = move || {
            let mut locked = sequencer.lock();
            let shown = std::mem::replace(&mut locked.events, provider);
            locked.events_watermark = Some(until);
            let before = locked.duplicates.release(until, latest, runs);
            let released = (shown, before, locked.tail.release(until));
            locked.early_bytes = locked.early_bytes.saturating_sub(early_bytes);
            let bytes = locked.bytes();
            drop(locked);
            while sequencer.lock_again().duplicates.forget(at_once) {}
            (released, bytes)
        };
        let (released, bytes) = self.foreground.run(release).await?;
        self.tail_bytes.store(bytes, atomic::Ordering::Relaxed);
        // Freeing many messages and large files takes time that nobody should wait for.
        drop(released);
        Ok(())
    }

    async fn fold_states<S: Projected>(&self, tables: &mut Tables, mut pending: Pending<'_, S>) -> Result<(), Error> {
        if let Some(files) = pending.files.take() {
            let files = written(files).await?;
            let (lane, attempt) = (S::lane(tables), &pending.attempt);
            if let Some(first) = files.all.first() {
                attempt.first_file.get_or_init(|| first.path.clone());
            }
            attempt.provisional_files.get_or_init(|| files.provisional);
            lane.attempt = Some(Arc::clone(attempt));
            pending.handed_over = true;
            lane.table.fold(files.all, &lane.provisional, attempt.until).await?;
            self.fold_landed::<S>(tables).await?;
        }
        pending.handed_over = true;
        Ok(())
    }
}

/// Merges rows of the same id, and sorts.
pub(super) fn merge<S: State>(stored: Vec<Keyed<S>>) -> Vec<Keyed<S>> {
    let mut merged: HashMap<Id, Keyed<S>> = HashMap::with_capacity(stored.len());
    for keyed in stored {
        match merged.get_mut(&keyed.id) {
            Some(known) => Arc::make_mut(&mut known.state).join(Arc::unwrap_or_clone(keyed.state)),
            None => {
                merged.insert(keyed.id.clone(), keyed);
            }
        }
    }
    in_order(merged.into_values().map(Placed::of).collect()).into_iter().map(|placed| placed.keyed).collect()
}

/// By partition, tenant, time and id: the order of rows in files.
fn in_order<S: State>(mut states: Vec<Placed<S>>) -> Vec<Placed<S>> {
    states.sort_unstable_by(|one, other| {
        let (one_is, other_is) = (&one.keyed, &other.keyed);
        let by_tenant = || {
            let same = Arc::ptr_eq(&one_is.tenant, &other_is.tenant);
            if same { Ordering::Equal } else { one_is.tenant.cmp(&other_is.tenant) }
        };
        let by_time = || (one.time, &one_is.id).cmp(&(other.time, &other_is.id));
        one.partition.cmp(&other.partition).then_with(by_tenant).then_with(by_time)
    });
    states
}

/// Where a row goes: its day, and whether it is shown.
fn partition<S: State>(keyed: &Keyed<S>) -> (i32, bool) {
    (keyed.day, keyed.state.is_hidden())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Source;

    /// Calls that were heard of at these times, in microseconds.
    fn entries(heard: &[Micros]) -> Vec<Entry<CallState>> {
        let entry = |(number, heard): (usize, &Micros)| {
            let mut state = CallState::default();
            state.delivered(*heard, Offset(number as u64));
            let id: Id = number.to_string().into();
            let keyed = Keyed {
                tenant: "acme".into(),
                source: Source::Placetel,
                key: id.as_str().into(),
                id,
                day: 0,
                state: Arc::new(state),
            };
            Entry::new(keyed, false)
        };
        heard.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn only_so_many_rows_are_provisional_those_heard_of_last() {
        let entries = entries(&[5, 1, 4, 2, 3]);
        let whole: Vec<&Entry<CallState>> = entries.iter().collect();
        let ids = |states: &[Placed<CallState>]| {
            let mut ids: Vec<String> = states.iter().map(|placed| placed.keyed.id.to_string()).collect();
            ids.sort();
            ids
        };
        let changed = Changed::new(&whole, &[], 10, 3);
        assert_eq!(
            (ids(&changed.provisional), ids(&changed.unsure)),
            (vec!["0".into(), "2".into(), "4".into()], vec!["1".into(), "3".into()])
        );
        let late = Changed::new(&whole, &[], 15_000_000_000, 3);
        assert_eq!(
            (late.provisional.len(), late.unsure.len()),
            (0, 5),
            "nothing was heard of them for over four hours"
        );
    }
}
