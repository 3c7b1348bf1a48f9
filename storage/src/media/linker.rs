//! Finds the calls of recordings whose sender named none, and writes each decision into the log.
//!
//! A recording is looked at when it arrives and again while it is young, because the call that fits may still be on
//! its way or not over yet. The last decision wins; a better call takes a recording over from a worse one. Nothing
//! stored is rewritten, and a rebuild obeys the decisions without thinking again.

mod score;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use datafusion::prelude::{col, lit};
use datafusion::scalar::ScalarValue;

use crate::archive::Archive;
use crate::error::Error;
use crate::event::{Event, Id, Micros, call_id, now};
use crate::linker::call_of_leg;
use crate::recording::Text;
use crate::recording::message::{self, Linked};
use crate::rows::{KeyedCall, KeyedRecording};
use score::{Fit, fit};

/// How long a recording may still get another call.
const OPEN_FOR: Micros = 24 * 3600 * 1_000_000;
/// Rounds over the recordings that are open.
const ROUND: Duration = Duration::from_secs(2);
/// A recording may begin this long after its call (longer calls than this are rare), or before the PBX said so.
const BEFORE: Micros = 4 * 3600 * 1_000_000;
const AFTER: Micros = 60 * 1_000_000;
/// A call must fit this much better to take a recording over.
const BETTER_BY: f64 = 0.05;
/// Recordings without a call that are followed at the same time; the oldest are left as they are.
const OPEN_LIMIT: usize = 10_000;

/// A recording that may get a call, or another one.
struct Open {
    recording: KeyedRecording,
    /// When it is looked at next.
    due: Micros,
}

/// Links until the archive is closed.
pub(super) async fn run(archive: Archive) {
    let mut arrivals = archive.subscribe_recordings();
    let mut open: HashMap<Id, Open> = HashMap::new();
    // At the start, and whenever more came than the queue holds.
    let mut search = true;
    loop {
        search |= arrivals.take_missed();
        if search {
            let recent = col("received_at").gt_eq(time(now() - OPEN_FOR)).and(col("link").not_eq(lit("id")));
            match archive.find_recordings(recent, is_open).await {
                Ok(found) => {
                    found.into_iter().for_each(|recording| note(&mut open, recording));
                    search = false;
                }
                Err(error) => tracing::warn!(%error, "cannot look for recordings without a call"),
            }
        }
        while let Some(recording) = arrivals.try_next() {
            if is_open(&recording) {
                note(&mut open, recording);
            }
        }
        round(&archive, &mut open).await;
        tokio::time::sleep(ROUND).await;
    }
}

fn is_open(recording: &KeyedRecording) -> bool {
    let received_at = recording.state.received_at().unwrap_or_default();
    recording.state.get(Text::CallKey).is_none() && received_at > now() - OPEN_FOR
}

fn note(open: &mut HashMap<Id, Open>, recording: KeyedRecording) {
    if open.len() >= OPEN_LIMIT
        && let Some(oldest) = open.values().min_by_key(|open| open.recording.state.received_at())
    {
        let oldest = oldest.recording.id.clone();
        open.remove(&oldest);
    }
    open.insert(recording.id.clone(), Open { recording, due: 0 });
}

/// Looks at every recording that is due; the older it is, the rarer.
async fn round(archive: &Archive, open: &mut HashMap<Id, Open>) {
    let at = now();
    open.retain(|_, open| is_open(&open.recording));
    let due: Vec<Id> = open.iter().filter(|(_, open)| open.due <= at).map(|(id, _)| id.clone()).collect();
    for id in due {
        // What is known may have grown: a probe, or a decision before a restart.
        let known = match archive.recording(&id).await {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(%error, "cannot look for the call of a recording");
                continue;
            }
        };
        if let Some(entry) = open.get_mut(&id) {
            let recording = known.unwrap_or_else(|| entry.recording.clone());
            if let Err(error) = decide(archive, &recording).await {
                tracing::warn!(%error, recording = %id, "cannot link a recording");
            }
            let age = at - recording.state.received_at().unwrap_or(at);
            entry.due = at + (age / 10).max(1_000_000);
        }
    }
}

/// Writes a decision if a call fits, and better than the present one.
async fn decide(archive: &Archive, recording: &KeyedRecording) -> Result<(), Error> {
    let fits = fits(archive, recording).await?.into_iter();
    // On equal fits the earlier call by key, so that the decision does not hang on the order of the search.
    let best = fits.max_by(|(left_call, left), (right_call, right)| {
        left.confidence.total_cmp(&right.confidence).then_with(|| right_call.key.cmp(&left_call.key))
    });
    let Some((call, fit)) = best else { return Ok(()) };
    let present = recording.state.call();
    if let Some((key, confidence)) = present {
        let is_no_better = *key == *call.key || fit.confidence < confidence + BETTER_BY;
        if is_no_better && !became_leg_of(archive, recording, key, &call).await? {
            return Ok(());
        }
    }
    let mut events = Vec::new();
    if let Some((key, confidence)) = present {
        events.push(event(recording, "trunklog.unlink", key, &Fit { rule: "better", confidence }));
    }
    events.push(event(recording, "trunklog.link", &call.key, &fit));
    metrics::counter!("trunklog_links_total", "rule" => fit.rule).increment(1);
    archive.append_patiently(&events, None).await
}

/// Whether the call that the recording was linked to has become a leg of this one.
async fn became_leg_of(
    archive: &Archive,
    recording: &KeyedRecording,
    key: &str,
    call: &KeyedCall,
) -> Result<bool, Error> {
    if *key == *call.key {
        return Ok(false);
    }
    let id = call_id(&recording.tenant, recording.source, key);
    Ok(call_of_leg(archive, &id).await?.as_deref() == Some(&*call.id))
}

/// The calls that fit, and how well.
async fn fits(archive: &Archive, recording: &KeyedRecording) -> Result<Vec<(KeyedCall, Fit)>, Error> {
    let mut fits = Vec::new();
    for candidate in candidates(archive, recording).await? {
        let Some(fit) = fit(recording, &candidate) else { continue };
        let call = if candidate.state.leg_of().is_some() { whole(archive, &candidate).await? } else { Some(candidate) };
        fits.extend(call.map(|call| (call, fit)));
    }
    Ok(fits)
}

/// The call that this leg belongs to.
async fn whole(archive: &Archive, leg: &KeyedCall) -> Result<Option<KeyedCall>, Error> {
    let Some(id) = call_of_leg(archive, &leg.id).await? else { return Ok(None) };
    Ok(archive.calls_of(&HashSet::from([id.into()])).await?.pop())
}

fn event(recording: &KeyedRecording, kind: &str, call_key: &str, fit: &Fit) -> Event {
    let linked = Linked {
        source: recording.source,
        recording_id: recording.id.to_string(),
        call_key: call_key.to_owned(),
        rule: fit.rule.to_owned(),
        confidence: fit.confidence,
    };
    message::event(&recording.tenant, kind, Some(call_key), &linked)
}

/// The calls of the recording's tenant and source that began when it could have been made, and those, legs of other
/// calls too, that bear its name.
async fn candidates(archive: &Archive, recording: &KeyedRecording) -> Result<Vec<KeyedCall>, Error> {
    let begun = score::began(recording);
    let (earliest, latest) = (begun - BEFORE, begun + AFTER);
    let stem = score::stem(recording).unwrap_or_default();
    let in_time = col("started_at").gt_eq(time(earliest)).and(col("started_at").lt_eq(time(latest)));
    let filter = col("tenant").eq(lit(&*recording.tenant)).and(in_time.or(col("call_key").eq(lit(stem))));
    let began_then = |call: &KeyedCall| {
        let started_at = call.state.row(&call.tenant, call.source).started_at;
        started_at.is_some_and(|at| (earliest..=latest).contains(&at))
    };
    let may_fit = |call: &KeyedCall| {
        call.tenant == recording.tenant
            && call.source == recording.source
            // A leg is no call; what it says stands in the call that it belongs to.
            && (*call.key == *stem || (call.state.leg_of().is_none() && began_then(call)))
    };
    archive.find_calls(filter, may_fit).await
}

fn time(at: Micros) -> datafusion::prelude::Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into())))
}
