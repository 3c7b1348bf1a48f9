//! Placetel notifications: four events, eight ways to hang up.
//!
//! Truth: no message carries a time, so none is stated; talk is what HungUp says.

use trunklog_storage::event::Source;

use super::model::{Call, Direction};
use super::truth::Truth;
use super::wire::{Fields, JSON, KeyForm, Message, Script};

const INBOUND: [(&str, f64); 4] = [("accepted", 0.71), ("missed", 0.16), ("voicemail", 0.09), ("blocked", 0.04)];
const OUTBOUND: [(&str, f64); 6] = [
    ("accepted", 0.71),
    ("missed", 0.10),
    ("busy", 0.07),
    ("canceled", 0.06),
    ("unavailable", 0.03),
    ("congestion", 0.03),
];

/// What all messages of a call say alike.
struct Talk {
    key: String,
    direction: &'static str,
    from: String,
    to: String,
    /// Old messages do not say the direction.
    silent: bool,
    json: bool,
}

/// Plays one call.
pub fn play(call: &mut Call) -> Script {
    let mut script = Script::new(call.index);
    let direction = call.direction;
    match direction {
        Direction::In if call.chance(0.03) => contact_centre(call, &mut script),
        Direction::In => incoming(call, &mut script),
        Direction::Out => outgoing(call, &mut script),
        Direction::Internal => internal(call, &mut script),
    }
    script
}

fn outside(call: &mut Call) -> String {
    let subscriber = call.subscriber();
    match call.between(0, 9) {
        0..=6 => format!("030{subscriber}"),
        7 | 8 => format!("+4989{subscriber}"),
        _ => format!("0221{subscriber}"),
    }
}

fn talk(call: &mut Call, direction: &'static str, from: String, to: String) -> Talk {
    let silent = direction == "in" && call.chance(0.15);
    let json = call.chance(0.05);
    Talk { key: call.hash("placetel"), direction, from, to, silent, json }
}

fn truth(talk: &Talk) -> Truth {
    let mut truth = Truth::new(Source::Placetel, &talk.key);
    truth.text("direction", talk.direction).party("from", &talk.from).party("to", &talk.to);
    let own = if talk.direction == "in" { &talk.to } else { &talk.from };
    truth.text("own_number", own);
    truth
}

fn incoming_talk(call: &mut Call) -> Talk {
    let from = if call.chance(0.08) { "anonymous".to_owned() } else { outside(call) };
    let to = format!("030{}", call.own_subscriber());
    talk(call, "in", from, to)
}

/// A contact centre's number announces its calls and says nothing more about them.
fn contact_centre(call: &mut Call, script: &mut Script) {
    let talk = incoming_talk(call);
    notify(call.start, &talk, "IncomingCall", &[], script);
    let mut truth = truth(&talk);
    truth.text("disposition", "unknown");
    script.truths.push(truth);
}

fn incoming(call: &mut Call, script: &mut Script) {
    let talk = incoming_talk(call);
    let kind = call.weighted(&INBOUND);
    let mut truth = truth(&talk);
    notify(call.start, &talk, "IncomingCall", &[], script);
    let answer = call.start + call.ring;
    let mut duration = 0;
    if kind == "accepted" {
        let peer = call.agent().peer;
        // Until 2020 a bug sent 0; the talk is then what lies between the receipts.
        duration = if call.chance(0.01) { 0 } else { call.talk };
        notify(answer, &talk, "CallAccepted", &[("peer", peer.clone())], script);
        truth.text("endpoint", &peer);
    }
    hang_up(answer + duration, &talk, kind, duration, (script, truth));
}

fn outgoing(call: &mut Call, script: &mut Script) {
    let agent = call.agent();
    let from = format!("030{}", call.own_subscriber());
    let to = outside(call);
    let talk = talk(call, "out", from, to);
    finish_outgoing(call, &talk, &agent.peer, truth(&talk), script);
}

/// Between two SIP users of the same customer: both numbers are SIP ids.
fn internal(call: &mut Call, script: &mut Script) {
    let agents = call.agents(2);
    let (from, to) = (agents[0].peer.clone(), agents[1].peer.clone());
    let talk = talk(call, "out", from.clone(), to.clone());
    let user = |peer: &str| peer.split('@').next().unwrap_or_default().to_owned();
    let mut truth = Truth::new(Source::Placetel, &talk.key);
    truth.text("direction", "internal").party("from", &user(&from)).party("to", &user(&to));
    finish_outgoing(call, &talk, &agents[0].peer, truth, script);
}

/// An answered outgoing call has no CallAccepted.
fn finish_outgoing(call: &mut Call, talk: &Talk, peer: &str, mut truth: Truth, script: &mut Script) {
    let kind = call.weighted(&OUTBOUND);
    notify(call.start, talk, "OutgoingCall", &[("peer", peer.to_owned())], script);
    let duration = if kind == "accepted" { call.talk } else { 0 };
    truth.text("endpoint", peer);
    hang_up(call.start + call.ring + duration, talk, kind, duration, (script, truth));
}

fn hang_up(at: i64, talk: &Talk, kind: &str, duration: i64, (script, mut truth): (&mut Script, Truth)) {
    notify(at, talk, "HungUp", &[("duration", duration.to_string()), ("type", kind.to_owned())], script);
    let disposition = match kind {
        "accepted" => "answered",
        "missed" if talk.direction == "in" => "missed",
        "missed" => "no_answer",
        other => other,
    };
    truth.text("disposition", disposition).text("disposition_raw", kind).text("state", "closed").number("transfers", 0);
    if kind != "accepted" || duration > 0 {
        truth.seconds("talk_ms", duration);
    }
    if kind == "canceled" {
        truth.text("released_by", "caller");
    }
    script.truths.push(truth);
}

fn notify(at: i64, talk: &Talk, event: &str, more: &[(&str, String)], script: &mut Script) {
    let mut fields = Fields::default();
    fields
        .add("event", event)
        .add("from", talk.from.as_str())
        .add("to", talk.to.as_str())
        .add("call_id", talk.key.as_str());
    if !talk.silent {
        fields.add("direction", talk.direction);
    }
    for (name, value) in more {
        fields.add(*name, value.as_str());
    }
    let kind = format!("placetel.{event}");
    let fields = fields.sorted();
    let message = if talk.json {
        Message::post(Source::Placetel, kind, "/placetel", JSON, fields.json())
    } else {
        Message::form(Source::Placetel, kind, "/placetel", &fields)
    };
    script.send(at, message.with_key(KeyForm::Basic));
}
