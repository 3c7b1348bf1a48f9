//! User events: what an extension sees of a call. Each is about the leg of that extension; direction and numbers
//! stand only in the first event of a leg.

use trunklog_storage::call::{CallState, Disposition, Mark, Rank, Stamp, Text, Track};
use trunklog_storage::fact::CallRef;

use super::event::Notice;

/// What the event says about its call; `None` for events that concern no call.
pub(super) fn state(notice: &Notice<'_>) -> Option<CallState> {
    let mut state = CallState::default();
    numbers(&mut state, notice);
    let leg = state.leg(notice.params.text("ext"));
    leg.text(Text::Endpoint, Rank::Message, notice.params.text("ext"));
    let Stamp(rank, at) = notice.stamp;
    match notice.name {
        "incoming_call" | "outgoing_call" => {
            leg.start(rank, at).mark(Mark::Started);
        }
        "call_answered" => {
            leg.answer(rank, at);
        }
        "new_voicemail" => {
            leg.mark(Mark::Voicemail);
        }
        "lost_call" => end(leg, notice, Disposition::NoAnswer),
        "call_rejected" => end(leg, notice, Disposition::Rejected),
        "call_disconnect_out" => {
            end(leg, notice, Disposition::Answered);
            leg.text(Text::ReleasedBy, Rank::Message, "ext");
        }
        "call_disconnect_in" => {
            end(leg, notice, Disposition::Answered);
            leg.text(Text::ReleasedBy, Rank::Message, "remote");
        }
        // A failed command is no call, and transfers are announced but not implemented.
        _ => return None,
    }
    Some(state)
}

/// The call of an event without any id: the open one of this extension and number.
pub(super) fn open(notice: &Notice<'_>) -> CallRef {
    CallRef::Open {
        extension: notice.params.text("ext").to_owned(),
        number: notice.params.text("number").to_owned(),
        starts: matches!(notice.name, "incoming_call" | "outgoing_call"),
        ends: matches!(notice.name, "lost_call" | "call_rejected" | "call_disconnect_out" | "call_disconnect_in"),
    }
}

fn end(leg: &mut Track, notice: &Notice<'_>, outcome: Disposition) {
    let Stamp(rank, at) = notice.stamp;
    leg.end(rank, at).mark(Mark::Ended).outcome(Rank::Message, outcome, notice.name);
}

/// Who called whom. Missed calls and voicemail are inbound by their nature, which counts until the start says so.
fn numbers(state: &mut CallState, notice: &Notice<'_>) {
    let params = notice.params;
    let (ext, number) = (params.text("ext"), params.text("number"));
    let own = params.first(&["called", "did", "to"]).unwrap_or_default();
    let (direction, rank) = match notice.name {
        "incoming_call" => ("in", Rank::Message),
        "outgoing_call" => ("out", Rank::Message),
        "lost_call" | "new_voicemail" => ("in", Rank::Guess),
        _ => return,
    };
    state.leg(ext).text(Text::Direction, rank, direction);
    let call = &mut state.call;
    call.text(Text::Direction, rank, direction);
    if direction == "out" {
        call.text(Text::From, rank, ext).text(Text::To, rank, number);
    } else {
        call.text(Text::From, rank, number).text(Text::OwnNumber, rank, own);
        call.text(Text::To, rank, own).text(Text::To, Rank::Guess, ext);
    }
}
