//! System events: what the PBX sees of a call between entities. Entities that are called or connected are legs, under
//! `type:id`; the entity that calls is none.

use trunklog_storage::call::{CallState, Disposition, Mark, Rank, Stamp, Text, Track};
use trunklog_storage::event::hex;

use super::codes;
use super::event::Notice;

/// The parameters that name the entity which an event is about.
pub(super) fn entity_parameters(name: &str) -> &'static [&'static str] {
    match name {
        "call_in" => &["calling_type", "calling_id"],
        "call_out" => &["called_type", "called_id"],
        "call_progress" | "call_response" | "disconnect_in" => &["sender_type", "sender_id"],
        "disconnect_out" => &["recipient_type", "recipient_id"],
        "call_transfer" | "call_divert" => &["sender_type", "sender_id", "recipient_type", "recipient_id", "refer_id"],
        "call_held" | "call_retrieved" => &["user_id"],
        _ => &[],
    }
}

/// What the event says about its call; `None` for events that say nothing.
pub(super) fn state(notice: &Notice<'_>) -> Option<CallState> {
    let mut state = CallState::default();
    common(&mut state, notice);
    let Stamp(rank, at) = notice.stamp;
    match notice.name {
        "call_in" => {
            state.call.start(rank, at).mark(Mark::Started);
        }
        "call_out" => {
            state.call.start(rank, at).mark(Mark::Started);
            if let Some(leg) = leg(&mut state, notice, "called", "called") {
                leg.start(rank, at).mark(Mark::Started);
            }
        }
        "call_progress" => {
            state.call.ringing(rank, at);
            if let Some(leg) = leg(&mut state, notice, "sender", "") {
                leg.ringing(rank, at);
            }
        }
        "call_response" => response(&mut state, notice),
        "disconnect_in" => disconnected(&mut state, notice, "sender"),
        "disconnect_out" => disconnected(&mut state, notice, "recipient"),
        "call_transfer" => transferred(&mut state, notice),
        "call_divert" => diverted(&mut state, notice),
        "call_terminated" => terminated(&mut state, notice),
        "call_held" | "call_retrieved" => {
            let party = codes::entity(Some(codes::USER), notice.params.get("user_id")).unwrap_or_default();
            state.hold(hex(&notice.fingerprint), party, notice.name == "call_held", notice.stamp);
        }
        _ => return None,
    }
    Some(state)
}

/// Numbers, direction and names: `call_in` gives them as the caller sent them, later events repeat them per leg.
fn common(state: &mut CallState, notice: &Notice<'_>) {
    let params = notice.params;
    let rank = if notice.name == "call_in" { Rank::Message } else { Rank::Derived };
    let (calling, called) = (params.get("calling_type"), params.get("called_type"));
    let call = &mut state.call;
    call.text(Text::From, rank, params.first(&["calling", "calling_number"]).unwrap_or_default());
    call.text(Text::To, rank, params.first(&["called", "called_number"]).unwrap_or_default());
    call.text(Text::CallerName, Rank::Message, params.text("calling_desc"));
    if let Some(direction) = codes::direction(calling, called) {
        // A gateway that is called may only be the way to a user's mobile, unless it is known who calls.
        let known = direction == "in" || (direction == "out" && calling.is_some());
        call.text(Text::Direction, if known { Rank::Message } else { Rank::Receipt }, direction);
    }
    if notice.name == "call_in" && calling == Some(codes::GATEWAY) {
        call.text(Text::OwnNumber, Rank::Message, params.first(&["called", "called_number"]).unwrap_or_default());
    }
    if called == Some(codes::RING_GROUP) {
        call.text(Text::Queue, Rank::Message, params.first(&["group_name", "called_desc"]).unwrap_or_default());
        call.text(Text::Queue, Rank::Guess, params.text("called_id"));
    }
    if let Some(caller) = codes::entity(calling, params.get("calling_id")) {
        state.attribute("calling_entity", caller);
    }
}

/// The leg of the entity in `<role>_type` and `<role>_id`; `number` is the parameter with its number.
fn leg<'s>(state: &'s mut CallState, notice: &Notice<'_>, role: &str, number: &str) -> Option<&'s mut Track> {
    let params = notice.params;
    let (kind, id) = (params.get(&format!("{role}_type")), params.get(&format!("{role}_id")));
    let leg = state.leg(codes::entity(kind, id)?);
    if codes::is_person(kind) {
        let sent = params.get(&format!("{role}_number"));
        leg.text(Text::Endpoint, Rank::Message, sent.unwrap_or_default());
        leg.text(Text::Endpoint, Rank::Receipt, params.text(number));
        // Only the id is known until the PBX's list of entities is.
        leg.text(Text::Endpoint, Rank::Guess, id.unwrap_or_default());
    }
    leg.text(Text::EndpointName, Rank::Message, params.text(&format!("{role}_desc")));
    Some(leg)
}

/// An entity answered a call that the PBX sent to it, or did not.
fn response(state: &mut CallState, notice: &Notice<'_>) {
    let params = notice.params;
    let sent = params.get("outcome");
    let outcome = match sent {
        Some(code) => codes::outcome(code),
        // Only an accepted call names who is connected.
        None => params.get("connected_id").map(|_| Disposition::Answered),
    };
    let Stamp(rank, at) = notice.stamp;
    let entity = |role: &str| codes::entity(params.get(&format!("{role}_type")), params.get(&format!("{role}_id")));
    let (sender, calling, called) = (entity("sender"), entity("calling"), entity("called"));
    if sender.is_some() && sender == calling && sender != called {
        // A call made by command rings its caller first; that one's answer is not the call's.
        return;
    }
    if outcome == Some(Disposition::Answered) {
        state.call.answer(rank, at);
        let role = if entity("connected").is_some() { "connected" } else { "sender" };
        if let Some(leg) = leg(state, notice, role, "") {
            leg.answer(rank, at);
        }
    } else if let Some(outcome) = outcome
        && let Some(leg) = leg(state, notice, "sender", "")
    {
        // Others may still ring, so this leg's end does not end the call.
        leg.end(rank, at).outcome(Rank::Message, outcome, sent.unwrap_or_default());
    }
}

/// Whether this entity called or was called does not stand in the message, so it makes no leg. Who hung up is
/// the entity that sent its end, not one that was told of it.
fn disconnected(state: &mut CallState, notice: &Notice<'_>, role: &str) {
    let params = notice.params;
    let entity = codes::entity(params.get(&format!("{role}_type")), params.get(&format!("{role}_id")));
    if let Some(entity) = entity.as_deref().filter(|_| notice.name == "disconnect_in") {
        state.released(entity, notice.stamp);
    }
    state.attribute(notice.name, entity.unwrap_or_default());
}

/// The recipient of communication `refer_id` moves into this one.
fn transferred(state: &mut CallState, notice: &Notice<'_>) {
    let refer = notice.params.text("refer_id");
    if !refer.is_empty() {
        state.related.insert(refer.to_owned());
    }
    let Stamp(rank, at) = notice.stamp;
    if let Some(leg) = leg(state, notice, "recipient", "") {
        leg.start(rank, at).answer(rank, at).mark(Mark::Started);
    }
    let recipient = codes::entity(notice.params.get("recipient_type"), notice.params.get("recipient_id"));
    state.transfers.insert(format!("transfer {refer} {}", recipient.unwrap_or_default()));
}

/// The recipient now rings in the sender's place.
fn diverted(state: &mut CallState, notice: &Notice<'_>) {
    let Stamp(rank, at) = notice.stamp;
    if let Some(leg) = leg(state, notice, "recipient", "") {
        leg.start(rank, at).ringing(rank, at).mark(Mark::Started);
    }
    let parts = entity_parameters("call_divert").iter().map(|name| notice.params.text(name));
    state.transfers.insert(format!("divert {}", parts.collect::<Vec<_>>().join(" ").trim_end()));
}

fn terminated(state: &mut CallState, notice: &Notice<'_>) {
    let Stamp(rank, at) = notice.stamp;
    let code = notice.params.text("outcome");
    let call = &mut state.call;
    call.end(rank, at).mark(Mark::Ended).text(Text::DispositionRaw, Rank::Message, code);
    match codes::outcome(code) {
        None | Some(Disposition::Unknown) => {}
        Some(outcome) => {
            call.outcome(Rank::Message, outcome, code);
        }
    }
}
