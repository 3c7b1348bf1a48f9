//! Calls across messages that do not share an id: the linker decides which belong together, and writes each decision
//! into the log.
//!
//! ```text
//!  messages ──▶ sequencer ──▶ arrivals ──▶ linker ──▶ trunklog.link, trunklog.unlink ──▶ log
//!                  ▲                                                                     │
//!                  └─────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! [`kazoo`] makes B-legs that did not name their A-leg legs of its call; [`voispeed`] lets two views of one
//! conversation name each other. What is remembered here only says where to look: a decision rests on the calls as
//! they are in the archive, and is not made again when nothing changed. A rebuild obeys the decisions without thinking.

mod kazoo;
mod lookup;
mod message;
mod numbers;
mod recent;
mod sighting;
mod stirred;
#[cfg(test)]
mod tests;
mod voispeed;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use datafusion::prelude::{Expr, col, lit};
use datafusion::scalar::ScalarValue;
use tokio::task::AbortHandle;

use crate::archive::{Archive, Arrivals};
use crate::call::{CallState, Seen};
use crate::error::Error;
use crate::event::{Micros, Offset, Source, now};
use crate::rows::KeyedCall;

pub use lookup::call_of_leg;
pub use message::{Bond, CallLinked, End};
pub(crate) use numbers::are_same;

/// How far back calls are taken up at the start.
const OPEN_FOR: Micros = 24 * 3600 * 1_000_000;
/// … but only those that were heard of in the last messages: this bounds what a search reads.
const RECENT_MESSAGES: u64 = 100_000;
/// Calls that are taken up at once, at the start or after some were missed.
const TAKEN_UP: usize = 10_000;
/// How often calls that have become quiet are looked for.
const ROUND: Duration = Duration::from_millis(500);
/// After a search that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Starts linking, until the archive is closed or it is aborted.
///
/// # Errors
/// `Closed` when the archive is closing.
pub fn start(archive: &Archive) -> Result<AbortHandle, Error> {
    // Before anything is appended: what comes from now on is told.
    let arrivals = archive.subscribe_calls(may_want_a_link);
    Ok(archive.background()?.spawn(run(archive.clone(), arrivals)).abort_handle())
}

/// Whether what a message said of its call may ask for a link.
fn may_want_a_link(call: &KeyedCall) -> bool {
    match call.source {
        Source::Kazoo | Source::Virtualpbx => kazoo::concerns(call),
        Source::Voispeed => true,
        Source::Placetel | Source::Planfix | Source::Trunklog => false,
    }
}

async fn run(archive: Archive, mut arrivals: Arrivals<CallState>) {
    let mut linker = Linker::default();
    // At the start, and whenever more came than the queue holds.
    let mut search = true;
    loop {
        while let Some(call) = arrivals.try_next() {
            linker.note(&call);
        }
        let before = archive.visible();
        search |= arrivals.take_missed();
        if !search {
            linker.complete = linker.heard.max(linker.complete);
        } else {
            match linker.search(&archive).await {
                Ok(()) => {
                    search = false;
                    linker.complete = before.max(linker.complete);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot look for calls to link");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        linker.round(&archive).await;
        match tokio::time::timeout(ROUND, arrivals.next()).await {
            Ok(Some(call)) => linker.note(&call),
            Ok(None) => return,
            Err(_) => {}
        }
    }
}

/// Who says what is said of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// A message: it tells what stands in it, and nothing of what was decided before.
    ByMessage,
    /// The archive: it tells all that is known.
    ByArchive,
}

/// What is remembered of the calls of late.
#[derive(Debug, Default)]
struct Linker {
    legs: kazoo::Legs,
    book: voispeed::Book,
    /// The last message that it was told of.
    heard: Option<Offset>,
    /// Nothing was missed up to here.
    complete: Option<Offset>,
    rounded: Option<Instant>,
}

impl Linker {
    fn note(&mut self, call: &KeyedCall) {
        self.heard = self.heard.max(call.state.seen.map(|seen| seen.last_offset));
        self.take_up(call, Told::ByMessage);
    }

    fn take_up(&mut self, call: &KeyedCall, told: Told) {
        match call.source {
            Source::Kazoo | Source::Virtualpbx => self.legs.note(call, told, Instant::now()),
            Source::Voispeed => self.book.note(call, Instant::now()),
            Source::Placetel | Source::Planfix | Source::Trunklog => {}
        }
    }

    /// Decides, but not more often than every [`ROUND`].
    async fn round(&mut self, archive: &Archive) {
        let at = Instant::now();
        if self.rounded.is_some_and(|last| at.saturating_duration_since(last) < ROUND) {
            return;
        }
        self.rounded = Some(at);
        self.legs.round(archive, at).await;
        self.book.round(archive, at).await;
        metrics::gauge!("trunklog_linker_calls").set((self.legs.len() + self.book.len()) as f64);
    }

    /// Takes up the calls of the last day, and those that it was not told of.
    async fn search(&mut self, archive: &Archive) -> Result<(), Error> {
        let recent = archive.visible().map_or(0, |last| last.0.saturating_sub(RECENT_MESSAGES));
        let window = match self.complete {
            Some(complete) => Window { since: Micros::MIN, from: Offset(recent.max(complete.0)) },
            None => Window { since: now() - OPEN_FOR, from: Offset(recent) },
        };
        let taken = AtomicUsize::new(0);
        let within_limit = || taken.fetch_add(1, Ordering::Relaxed) < TAKEN_UP;
        let kazoo = source_in(&[Source::Kazoo, Source::Virtualpbx]);
        // The direction of a leg without a call is its own.
        let alone = col("direction").in_list(vec![lit("out"), lit("unknown")], false);
        let wanted = |call: &KeyedCall| is_kazoo(call) && window.has(call) && kazoo::is_orphan(call) && within_limit();
        for call in archive.find_calls(kazoo.clone().and(alone).and(window.filter()), wanted).await? {
            self.take_up(&call, Told::ByArchive);
        }
        let unnamed = self.legs.unnamed();
        if !unnamed.is_empty() {
            let naming = |call: &KeyedCall| is_kazoo(call) && window.has(call) && kazoo::names_one_of(call, &unnamed);
            for call in archive.find_calls(kazoo.and(window.filter()), naming).await? {
                self.take_up(&call, Told::ByArchive);
            }
        }
        let of_kazoo = taken.swap(0, Ordering::Relaxed);
        let wanted = |call: &KeyedCall| call.source == Source::Voispeed && window.has(call) && within_limit();
        for call in archive.find_calls(source_in(&[Source::Voispeed]).and(window.filter()), wanted).await? {
            self.take_up(&call, Told::ByArchive);
        }
        if of_kazoo.max(taken.load(Ordering::Relaxed)) > TAKEN_UP {
            tracing::warn!(
                limit = TAKEN_UP,
                "more calls than the linker takes up at once; the others stay as they are"
            );
        }
        Ok(())
    }
}

/// Calls that were heard of lately, by the clock and by the log.
#[derive(Clone, Copy)]
struct Window {
    since: Micros,
    from: Offset,
}

impl Window {
    fn filter(self) -> Expr {
        let since = lit(ScalarValue::TimestampMicrosecond(Some(self.since), Some("UTC".into())));
        let from = lit(self.from.0.cast_signed());
        col("last_received_at").gt_eq(since).and(col("last_offset").gt_eq(from))
    }

    fn has(self, call: &KeyedCall) -> bool {
        let within = |seen: Seen| seen.last_received_at >= self.since && seen.last_offset >= self.from;
        call.state.seen.is_some_and(within)
    }
}

fn is_kazoo(call: &KeyedCall) -> bool {
    matches!(call.source, Source::Kazoo | Source::Virtualpbx)
}

fn source_in(sources: &[Source]) -> Expr {
    col("source").in_list(sources.iter().map(|source| lit(source.as_str())).collect(), false)
}
