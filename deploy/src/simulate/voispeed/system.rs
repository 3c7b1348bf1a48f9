//! System (extended) events: what the PBX sees of one communication, with IVR callbacks, holds, diversions, transfers.

use trunklog_storage::event::Source;

use super::super::model::{Agent, Call, Direction};
use super::super::truth::Truth;
use super::super::wire::{Fields, KeyForm, Message, Script};
use super::{Parties, Times, UNANSWERED, disposition, local, parties};

/// Table 1: entity types.
const USER: i64 = 0;
const GATEWAY: i64 = 2;
const IVR_SECONDS: i64 = 6;

/// What the events of a communication share.
struct Talk {
    key: String,
    parties: Parties,
    external: Option<String>,
    start: i64,
}

/// Plays one call.
pub fn play(call: &mut Call, script: &mut Script) {
    let agents = call.agents(4);
    let parties = parties(call, &agents[0].extension, &agents[1].extension);
    let external = call.chance(0.15).then(|| format!("crm-{}", call.number()));
    let talk = Talk { key: call.number(), parties, external, start: call.start };
    let mut truth = Truth::new(Source::Voispeed, &talk.key);
    truth
        .party("from", &talk.parties.from)
        .party("to", &talk.parties.to)
        .text_if("own_number", talk.parties.own.as_deref())
        .text_if("external_id", talk.external.as_deref());
    call_in(call, &talk, &agents, script);
    let before = if call.direction == Direction::In && call.chance(0.35) {
        ivr(call, &talk, (&mut *script, &mut truth))
    } else {
        0
    };
    let answered = call.chance(0.71);
    let times = Times::of(call, answered, before);
    let mut callee = callee(call, &agents);
    call_out(call, &talk, &callee, call.start + before, script);
    if callee.kind == USER && call.chance(0.06) {
        callee = divert(call, &talk, (&callee, &agents[2]), call.start + before, script);
    } else {
        // Whether a diversion counts as a transfer the papers leave open.
        truth.number("transfers", 0);
    }
    times.state(&mut truth);
    truth.text("direction", call.direction.as_str());
    if answered {
        talked(call, &talk, &agents, (&callee, &times), (&mut *script, &mut truth));
    } else {
        unanswered(call, &talk, (&callee, &times), (&mut *script, &mut truth));
    }
    script.truths.push(truth);
}

/// The entity that is called: an agent of ours, or a line to the outside.
struct Callee {
    id: u64,
    kind: i64,
    number: String,
}

fn callee(call: &Call, agents: &[Agent]) -> Callee {
    let user = |agent: &Agent| Callee { id: agent.user, kind: USER, number: agent.extension.clone() };
    match call.direction {
        Direction::In => user(&agents[0]),
        Direction::Internal => user(&agents[1]),
        Direction::Out => Callee { id: 7, kind: GATEWAY, number: String::new() },
    }
}

/// The entity that calls: id and type.
fn caller(call: &Call, agents: &[Agent]) -> (u64, i64) {
    if call.direction == Direction::In { (7, GATEWAY) } else { (agents[0].user, USER) }
}

fn call_in(call: &Call, talk: &Talk, agents: &[Agent], script: &mut Script) {
    let (id, kind) = caller(call, agents);
    let mut fields = start(talk, 1, "call_in");
    fields
        .add("calling", talk.parties.from.as_str())
        .add("called", talk.parties.to.as_str())
        .add("calling_id", id.to_string())
        .add("calling_type", kind.to_string());
    send(call, "call_in", fields, talk.start, script);
}

fn call_out(call: &Call, talk: &Talk, callee: &Callee, at: i64, script: &mut Script) {
    let mut fields = start(talk, 3, "call_out");
    fields
        .add("calling", talk.parties.from.as_str())
        .add("called", talk.parties.to.as_str())
        .add("called_id", callee.id.to_string())
        .add("called_type", callee.kind.to_string());
    send(call, "call_out", fields, at, script);
    let mut fields = start(talk, 2, "call_progress");
    fields.add("sender_id", callee.id.to_string()).add("sender_type", callee.kind.to_string());
    send(call, "call_progress", fields, at, script);
}

/// A callback of an IVR node; the caller presses a key.
fn ivr(call: &mut Call, talk: &Talk, (script, truth): (&mut Script, &mut Truth)) -> i64 {
    let (menu, node, input) = (call.between(1, 9), call.between(0, 3), call.between(0, 9).to_string());
    let mut fields = Fields::default();
    if call.chance(0.7) {
        fields.add("license_id", "L1").add("domain", "acme.it");
    } else {
        fields.add("companyid", "L1");
    }
    fields
        .add("ivrid", menu.to_string())
        .add("nodeid", node.to_string())
        .add("callid", talk.key.as_str())
        .add("calling", talk.parties.from.as_str())
        .add("called", talk.parties.to.as_str())
        .add("input", input.as_str())
        .add("tag", "-1");
    let message = Message::get(Source::Voispeed, "voispeed.ivr", "/voispeed/ivr", &fields).with_key(KeyForm::Path);
    script.send(call.start + IVR_SECONDS - 1, message);
    truth.digits(&[(format!("{menu}/{node}"), input)]);
    IVR_SECONDS
}

fn talked(
    call: &mut Call,
    talk: &Talk,
    agents: &[Agent],
    (callee, times): (&Callee, &Times),
    (script, truth): (&mut Script, &mut Truth),
) {
    let answer = times.answer.unwrap_or(times.start);
    let number = if callee.kind == USER { callee.number.as_str() } else { talk.parties.to.as_str() };
    let (caller, caller_kind) = caller(call, agents);
    let mut fields = response(talk, callee, 1);
    fields
        .add("calling_id", caller.to_string())
        .add("calling_type", caller_kind.to_string())
        .add("called_id", callee.id.to_string())
        .add("called_type", callee.kind.to_string())
        .add("connected_id", callee.id.to_string())
        .add("connected_type", callee.kind.to_string())
        .add("connected_number", number);
    send(call, "call_response", fields, answer, script);
    if times.end - answer >= 20 && callee.kind == USER {
        match call.between(0, 9) {
            0 | 1 => hold(call, talk, callee, times, (&mut *script, &mut *truth)),
            2 => transfer(call, talk, (callee, &agents[3]), times, (&mut *script, &mut *truth)),
            _ => {}
        }
    }
    let mut fields = start(talk, 5, "disconnect_in");
    fields.add("sender_id", callee.id.to_string()).add("sender_type", callee.kind.to_string());
    send(call, "disconnect_in", fields, times.end, script);
    terminated(call, talk, 1, times.end, script);
    truth
        .text("disposition", "answered")
        .text("disposition_raw", "1")
        .text("released_by", "callee")
        .seconds("ring_ms", call.ring)
        .seconds("talk_ms", times.end - answer);
}

fn unanswered(
    call: &mut Call,
    talk: &Talk,
    (callee, times): (&Callee, &Times),
    (script, truth): (&mut Script, &mut Truth),
) {
    let (code, outcome) = call.weighted(&UNANSWERED.map(|(code, outcome, weight)| ((code, outcome), weight)));
    send(call, "call_response", response(talk, callee, code), times.end, script);
    let mut fields = start(talk, 6, "disconnect_out");
    fields.add("recipient_id", callee.id.to_string()).add("recipient_type", callee.kind.to_string());
    send(call, "disconnect_out", fields, times.end, script);
    terminated(call, talk, code, times.end, script);
    truth.text("disposition", disposition(outcome, call.direction)).text("disposition_raw", &code.to_string());
    truth.seconds("ring_ms", call.ring);
}

fn hold(call: &mut Call, talk: &Talk, callee: &Callee, times: &Times, (script, truth): (&mut Script, &mut Truth)) {
    let held = times.answer.unwrap_or(times.start) + 5;
    let length = call.between(2, 10);
    for (code, name, at) in [(11, "call_held", held), (12, "call_retrieved", held + length)] {
        let mut fields = start(talk, code, name);
        fields.add("user_id", callee.id.to_string());
        send(call, name, fields, at, script);
    }
    truth.seconds("hold_ms", length);
}

/// The agent hands the caller over to the colleague with whom it talks in another communication, which ends.
fn transfer(
    call: &Call,
    talk: &Talk,
    (callee, to): (&Callee, &Agent),
    times: &Times,
    (script, truth): (&mut Script, &mut Truth),
) {
    let at = times.answer.unwrap_or(times.start) + 12;
    let mut fields = start(talk, 7, "call_transfer");
    fields
        .add("sender_id", callee.id.to_string())
        .add("sender_type", callee.kind.to_string())
        .add("recipient_id", to.user.to_string())
        .add("recipient_type", USER.to_string())
        .add("refer_id", format!("{}9", talk.key));
    send(call, "call_transfer", fields, at, script);
    if truth.states("transfers") {
        truth.number("transfers", 1);
    }
}

/// The called user sends the call on to a colleague, who rings instead.
fn divert(call: &Call, talk: &Talk, (callee, to): (&Callee, &Agent), at: i64, script: &mut Script) -> Callee {
    let mut fields = start(talk, 9, "call_divert");
    fields
        .add("sender_id", callee.id.to_string())
        .add("sender_type", callee.kind.to_string())
        .add("recipient_id", to.user.to_string())
        .add("recipient_type", USER.to_string());
    send(call, "call_divert", fields, at, script);
    Callee { id: to.user, kind: USER, number: to.extension.clone() }
}

fn response(talk: &Talk, callee: &Callee, outcome: i64) -> Fields {
    let mut fields = start(talk, 4, "call_response");
    fields
        .add("sender_id", callee.id.to_string())
        .add("sender_type", callee.kind.to_string())
        .add("outcome", outcome.to_string());
    fields
}

fn terminated(call: &Call, talk: &Talk, outcome: i64, at: i64, script: &mut Script) {
    let mut fields = start(talk, 10, "call_terminated");
    fields.add("outcome", outcome.to_string());
    send(call, "call_terminated", fields, at, script);
}

fn start(talk: &Talk, code: i64, name: &str) -> Fields {
    let mut fields = Fields::default();
    fields
        .add("event_type", "1")
        .add("event", code.to_string())
        .add("event_name", name)
        .add("call_id", talk.key.as_str())
        .add_some("extid", talk.external.as_deref());
    fields
}

fn send(call: &Call, name: &str, mut fields: Fields, at: i64, script: &mut Script) {
    fields.add("datetime", local(at, call.zone));
    let kind = format!("voispeed.system.{name}");
    script.send(at, Message::get(Source::Voispeed, kind, "/voispeed/event", &fields).with_key(KeyForm::Path));
}
