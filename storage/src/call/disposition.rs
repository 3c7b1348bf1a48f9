//! How a call or leg ended, in the archive's words.

use serde::{Deserialize, Serialize};

/// The outcome of a call or leg. The order is that of preference: of several legs' outcomes (or of equally well
/// known ones) the greater is the call's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Disposition {
    /// Not known, or the call is still open.
    Unknown,
    /// Someone else took the call; a leg's outcome only.
    AnsweredElsewhere,
    /// A technical failure without a better name.
    Failed,
    /// Congestion in the network.
    Congestion,
    /// No line was free.
    NoLine,
    /// The caller may not call that number.
    NotAllowed,
    /// The call was blocked.
    Blocked,
    /// Do not disturb.
    Dnd,
    /// The endpoint was not registered or could not be reached.
    Unavailable,
    /// The caller gave up.
    Canceled,
    /// Nobody answered; shown as `missed` for inbound calls.
    NoAnswer,
    /// The called side refused.
    Rejected,
    /// The called side was busy.
    Busy,
    /// The call went to a mailbox.
    Voicemail,
    /// The call was answered.
    Answered,
}

impl Disposition {
    /// The value in tables; `inbound` makes `no_answer` `missed`.
    pub fn as_str(self, inbound: bool) -> &'static str {
        match self {
            Disposition::Unknown => "unknown",
            Disposition::AnsweredElsewhere => "answered_elsewhere",
            Disposition::Failed => "failed",
            Disposition::Congestion => "congestion",
            Disposition::NoLine => "no_line",
            Disposition::NotAllowed => "not_allowed",
            Disposition::Blocked => "blocked",
            Disposition::Dnd => "dnd",
            Disposition::Unavailable => "unavailable",
            Disposition::Canceled => "canceled",
            Disposition::NoAnswer if inbound => "missed",
            Disposition::NoAnswer => "no_answer",
            Disposition::Rejected => "rejected",
            Disposition::Busy => "busy",
            Disposition::Voicemail => "voicemail",
            Disposition::Answered => "answered",
        }
    }
}
