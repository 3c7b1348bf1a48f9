//! VOIspeed: user events, system events with IVR callbacks, and report rows; each call is seen by one of the three,
//! some of the first also by a report under the same id.
//!
//! Truth: local times to the second stand in the messages, so all times are known.

mod report;
mod system;
mod user;

use chrono::{DateTime, LocalResult, TimeZone, Utc};
use chrono_tz::Tz;

use super::model::{Call, Direction};
use super::truth::Truth;
use super::wire::Script;

pub use report::body;

/// Ways for a call to end unanswered: code of table 8, disposition, weight.
const UNANSWERED: [(i64, &str, f64); 7] = [
    (5, "no_answer", 8.0),
    (2, "busy", 4.0),
    (3, "rejected", 2.0),
    (4, "unavailable", 1.0),
    (6, "no_line", 0.5),
    (7, "dnd", 1.0),
    (8, "unavailable", 0.5),
];

/// Plays one call.
pub fn play(call: &mut Call) -> Script {
    let mut script = Script::new(call.index);
    skip_ambiguous_hour(call);
    match call.weighted(&[(0, 0.42), (1, 0.30), (2, 0.28)]) {
        0 => user::play(call, &mut script),
        1 => system::play(call, &mut script),
        _ => report::play(call, &mut script),
    }
    script
}

/// A local time that the clock shows twice (or never) cannot be known to the truth; such calls take place earlier.
fn skip_ambiguous_hour(call: &mut Call) {
    let length = call.ring + call.talk + 240;
    let certain = |at: i64, zone: Tz| there_and_back(at, zone) == Some(at);
    while !(0..=length / 600 + 1).all(|step| certain(call.start + step * 600, call.zone)) {
        call.start -= 4 * 3600;
    }
}

fn there_and_back(at: i64, zone: Tz) -> Option<i64> {
    let local = utc(at).with_timezone(&zone).naive_local();
    match zone.from_local_datetime(&local) {
        LocalResult::Single(time) => Some(time.timestamp()),
        LocalResult::Ambiguous(..) | LocalResult::None => None,
    }
}

fn utc(at: i64) -> DateTime<Utc> {
    DateTime::<Utc>::from_timestamp(at, 0).unwrap_or_default()
}

/// As VOIspeed writes times.
fn local(at: i64, zone: Tz) -> String {
    utc(at).with_timezone(&zone).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Who calls whom.
struct Parties {
    from: String,
    to: String,
    own: Option<String>,
}

fn parties(call: &mut Call, extension: &str, colleague: &str) -> Parties {
    let outside = format!("02{}", call.subscriber());
    let own = format!("06{}", call.own_subscriber());
    match call.direction {
        Direction::In => Parties { from: outside, to: own.clone(), own: Some(own) },
        Direction::Out => Parties { from: extension.to_owned(), to: outside, own: None },
        Direction::Internal => Parties { from: extension.to_owned(), to: colleague.to_owned(), own: None },
    }
}

/// Start, answer and end of a call (Unix seconds).
#[derive(Clone, Copy)]
struct Times {
    start: i64,
    answer: Option<i64>,
    end: i64,
}

impl Times {
    fn of(call: &Call, answered: bool, before_ringing: i64) -> Times {
        let picked = call.start + before_ringing + call.ring;
        let end = if answered { picked + call.talk } else { picked };
        Times { start: call.start, answer: answered.then_some(picked), end }
    }

    fn state(&self, truth: &mut Truth) {
        truth
            .text("state", "closed")
            .text("clock", "pbx")
            .time("started_at", self.start)
            .time("ended_at", self.end)
            .seconds("duration_ms", self.end - self.start);
        if let Some(answer) = self.answer {
            truth.time("answered_at", answer);
        }
    }
}

/// What the archive calls an outcome for a call of this direction.
fn disposition(outcome: &'static str, direction: Direction) -> &'static str {
    if outcome == "no_answer" && direction == Direction::In { "missed" } else { outcome }
}
