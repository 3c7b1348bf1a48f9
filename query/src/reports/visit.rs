//! A call's visit to a queue, as the view `queue_visits` shows it.

use trunklog_storage::event::Micros;

use super::call::Call;

/// What it is made of.
pub(crate) const READS: [&str; 6] = ["queue", "answered_at", "ended_at", "queue_ms", "disposition_raw", "disposition"];

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    Voicemail,
    Blocked,
    Timeout,
    Abandoned,
    Overflow,
}

/// A visit that ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    /// How long, in milliseconds; a wait that would be negative is not known.
    pub wait_ms: Option<i64>,
    /// How it ended, if that is known.
    pub outcome: Option<Outcome>,
}

impl Visit {
    /// The visit of a call that entered a queue and left it.
    pub fn of(call: &Call<'_>) -> Option<Visit> {
        call.queue?;
        let left_at = call.answered_at.or(call.ended_at)?;
        let waited = |entered: Micros| (left_at >= entered).then(|| (left_at - entered) / 1000);
        let wait_ms = call.queue_ms.or_else(|| call.started_at.and_then(waited));
        Some(Visit { wait_ms, outcome: outcome(call) })
    }
}

fn outcome(call: &Call<'_>) -> Option<Outcome> {
    let timed_out = || call.disposition_raw.is_some_and(|raw| raw.to_lowercase().contains("timeout"));
    Some(match call.disposition {
        "answered" | "answered_elsewhere" => Outcome::Answered,
        "voicemail" => Outcome::Voicemail,
        "blocked" | "not_allowed" => Outcome::Blocked,
        _ if timed_out() => Outcome::Timeout,
        "canceled" | "missed" | "no_answer" => Outcome::Abandoned,
        "unknown" => return None,
        _ => Outcome::Overflow,
    })
}
