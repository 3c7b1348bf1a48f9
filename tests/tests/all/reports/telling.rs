//! How telephone systems tell of a call that is over: their messages with the times at which they would have come.

use rand::Rng;
use rand::rngs::StdRng;

use super::plot::{Message, Outcome, Plot, Way};
use super::zone::{SECOND, utc_text};

/// From the year 0 to 1970: Kazoo counts gregorian seconds.
const GREGORIAN: i64 = 62_167_219_200;

/// VOIspeed's report: one row that has all. Only it knows how long a call waited in its queue, and says so if asked to.
pub fn voispeed_report(dice: &mut StdRng, plot: &Plot, key: &str, queue_time: bool) -> Vec<Message> {
    let timeout = plot.outcome == Outcome::NoAnswer && plot.queue.is_some() && dice.random_bool(0.2);
    let outcome = match plot.outcome {
        Outcome::Answered | Outcome::Voicemail => "1",
        Outcome::Busy => "2",
        Outcome::NoAnswer | Outcome::Canceled if timeout => "5 timeout",
        Outcome::NoAnswer | Outcome::Canceled => "5",
        Outcome::Failed => ["3", "4", "6", "7"][dice.random_range(0..4_usize)],
    };
    let (calling_type, called_type) = match plot.way {
        Way::In if plot.queue.is_some() => ("2", "1"),
        Way::In => ("2", "0"),
        Way::Out => ("0", "2"),
        Way::Internal => ("0", "0"),
    };
    let (from, to) = plot.parties();
    let from = if plot.way == Way::Out { plot.endpoint } else { from };
    let mut fields = vec![
        ("id", key.to_owned()),
        ("start_time", utc_text(plot.start)),
        ("outcome", outcome.to_owned()),
        ("duration", (plot.ring + plot.talk).to_string()),
        ("calling_type", calling_type.to_owned()),
        ("calling_number", from.to_owned()),
        ("called_type", called_type.to_owned()),
        ("called_number", to.to_owned()),
    ];
    if plot.talk > 0 {
        fields.push(("answer_time", utc_text(plot.answer())));
        let connected = if plot.outcome == Outcome::Voicemail { "8" } else { "0" };
        fields.push(("connected_type", connected.to_owned()));
        fields.push(("connected_number", plot.endpoint.to_owned()));
        if dice.random_bool(0.7) {
            fields.push(("talk_time", plot.talk.to_string()));
        }
    }
    if dice.random_bool(0.5) {
        fields.push(("ring_time", plot.ring.to_string()));
    }
    if let Some(queue) = plot.queue {
        fields.push(("called_desc", queue.to_owned()));
        if queue_time && dice.random_bool(0.5) {
            fields.push(("queue_time", (plot.ring / 2).to_string()));
        }
    }
    if dice.random_bool(0.2) {
        fields.push(("recording", "1".to_owned()));
    }
    let elements: String = fields.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
    let at = plot.end() + dice.random_range(1..90_i64) * SECOND;
    vec![Message::row(at, "voispeed.call_report", format!("<call>{elements}</call>"))]
}

/// VOIspeed's system events of a call to the outside: only they know when it rang there.
pub fn voispeed_events(dice: &mut StdRng, plot: &Plot, key: &str) -> Vec<Message> {
    let (answer, end) = (plot.answer() + 3 * SECOND, plot.end() + 3 * SECOND);
    let outcome = match plot.outcome {
        Outcome::Answered | Outcome::Voicemail => "1",
        Outcome::Busy => "2",
        Outcome::NoAnswer | Outcome::Canceled => "5",
        Outcome::Failed => "6",
    };
    let event = |name: &str, at: i64, more: &[(&str, &str)]| {
        let time = utc_text(at);
        let mut fields = vec![("event_type", "1"), ("event_name", name), ("call_id", key), ("datetime", time.as_str())];
        fields.extend(more);
        Message::form(at + SECOND, "voispeed.system.event", &fields)
    };
    let (line, caller) = (("sender_type", "2"), [("calling_type", "0"), ("calling_id", "7"), ("called_type", "2")]);
    let (parties, line_id) = ([("calling", plot.endpoint), ("called", plot.other.as_str())], [("called_id", "9")]);
    let rings = plot.start + SECOND + dice.random_range(0..20_i64) * SECOND / 10;
    let mut messages = vec![
        event("call_in", plot.start, &[caller.as_slice(), parties.as_slice()].concat()),
        event("call_out", plot.start + SECOND, &[caller.as_slice(), parties.as_slice(), line_id.as_slice()].concat()),
    ];
    if dice.random_bool(0.8) {
        messages.push(event("call_progress", rings, &[line, ("sender_id", "9")]));
    }
    let mut response = vec![line, ("sender_id", "9"), ("outcome", outcome)];
    if plot.answered() {
        response.extend([("connected_type", "2"), ("connected_id", "9")]);
    }
    messages.push(event("call_response", answer, &response));
    messages.push(event("call_terminated", end, &[("outcome", outcome)]));
    messages
}

/// Kazoo's webhooks: the A-leg and the leg to whoever is called, and a second one where the call is handed on.
pub fn kazoo(dice: &mut StdRng, plot: &Plot, key: &str) -> Vec<Message> {
    let cause = match plot.outcome {
        Outcome::Answered => "NORMAL_CLEARING",
        Outcome::NoAnswer | Outcome::Voicemail => "NO_ANSWER",
        Outcome::Busy => "USER_BUSY",
        Outcome::Canceled => "ORIGINATOR_CANCEL",
        Outcome::Failed => FAILURES[dice.random_range(0..FAILURES.len())],
    };
    let talk = if plot.answered() { plot.talk } else { 0 };
    let (end, says_ring) = (plot.answer() + talk * SECOND, dice.random_bool(0.5));
    let b_key = format!("{key}-b");
    let (a_leg, b_leg) = match plot.way {
        Way::In => (("resource_type", "offnet-origination"), ("owner_id", plot.endpoint)),
        Way::Out => (("owner_id", plot.endpoint), ("resource_type", "offnet-termination")),
        Way::Internal => (("owner_id", plot.endpoint), ("owner_id", "109")),
    };
    let a_leg = [("call_id", key), ("call_direction", "inbound"), a_leg];
    let b_leg = [("call_id", b_key.as_str()), ("other_leg_call_id", key), ("call_direction", "outbound"), b_leg];
    let mut messages = vec![
        hook(plot, "channel_create", plot.start, &a_leg),
        hook(plot, "channel_create", plot.start + SECOND / 4, &b_leg),
    ];
    let (ring, billed, length) = (plot.ring.to_string(), talk.to_string(), (plot.ring + talk).to_string());
    let mut ending =
        vec![("hangup_cause", cause), ("billing_seconds", billed.as_str()), ("duration_seconds", length.as_str())];
    if says_ring {
        ending.push(("ringing_seconds", ring.as_str()));
    }
    if talk > 0 {
        messages.push(hook(plot, "channel_answer", plot.answer(), &a_leg));
        messages.push(hook(plot, "channel_answer", plot.answer(), &b_leg));
        if plot.way == Way::In && dice.random_bool(0.2) {
            messages.extend(handed_on(plot, key, &ending));
        }
    }
    messages.push(hook(plot, "channel_destroy", end, &[b_leg.as_slice(), ending.as_slice()].concat()));
    messages.push(hook(plot, "channel_destroy", end, &[a_leg.as_slice(), ending.as_slice()].concat()));
    messages
}

/// Wrong numbers, failures of the network, and what is delivered all the same.
const FAILURES: [&str; 8] = [
    "UNALLOCATED_NUMBER",
    "NUMBER_CHANGED",
    "INVALID_NUMBER_FORMAT",
    "NORMAL_CIRCUIT_CONGESTION",
    "NETWORK_OUT_OF_ORDER",
    "CALL_REJECTED",
    "SUBSCRIBER_ABSENT",
    "BEARERCAPABILITY_NOTAVAIL",
];

/// Another one who takes the call over half-way.
fn handed_on(plot: &Plot, key: &str, ending: &[(&str, &str)]) -> Vec<Message> {
    let second = format!("{key}-c");
    let leg =
        [("call_id", second.as_str()), ("other_leg_call_id", key), ("call_direction", "outbound"), ("owner_id", "108")];
    let middle = plot.answer() + plot.talk * SECOND / 2;
    vec![
        hook(plot, "channel_create", middle, &leg),
        hook(plot, "channel_answer", middle + SECOND / 2, &leg),
        hook(plot, "channel_destroy", plot.end(), &[leg.as_slice(), ending].concat()),
    ]
}

fn hook(plot: &Plot, name: &str, at: i64, more: &[(&str, &str)]) -> Message {
    let time = format!("{}.{:06}", at.div_euclid(SECOND) + GREGORIAN, at.rem_euclid(SECOND));
    let (from, to) = plot.parties();
    let mut fields =
        vec![("hook_event", name), ("timestamp", time.as_str()), ("caller_id_number", from), ("request", to)];
    fields.extend(more);
    Message::form(at + SECOND / 2, "kazoo.hook", &fields)
}

/// Placetel's notifications, which carry no time: they come when things happen.
pub fn placetel(dice: &mut StdRng, plot: &Plot, key: &str) -> Vec<Message> {
    let peer = format!("7777{}ab@fpbx.de", plot.endpoint);
    let (from, to) = plot.parties();
    let (from, to) = if plot.way == Way::Internal { (peer.as_str(), "7777109ab@fpbx.de") } else { (from, to) };
    let (direction, first) = if plot.way == Way::Out { ("out", "OutgoingCall") } else { ("in", "IncomingCall") };
    let common = [("call_id", key), ("from", from), ("to", to), ("direction", direction)];
    let note = |at: i64, more: &[(&str, &str)]| {
        Message::form(at, "placetel.notification", &[common.as_slice(), more].concat())
    };
    let outcome = match plot.outcome {
        Outcome::Answered => "accepted",
        Outcome::NoAnswer => "missed",
        Outcome::Busy => "busy",
        Outcome::Canceled => "canceled",
        Outcome::Voicemail => "voicemail",
        Outcome::Failed => ["congestion", "unavailable", "blocked"][dice.random_range(0..3_usize)],
    };
    let talk = plot.talk.to_string();
    let mut ending = vec![("event", "HungUp"), ("type", outcome)];
    // Of some answered calls nobody says when they were answered, nor how long they took.
    let mute = plot.answered() && plot.way == Way::In && dice.random_bool(0.15);
    let mut messages = vec![note(plot.start, &[("event", first), ("peer", peer.as_str())])];
    if plot.answered() && !mute {
        ending.push(("duration", talk.as_str()));
        if plot.way != Way::Out {
            messages.push(note(plot.answer(), &[("event", "CallAccepted"), ("peer", peer.as_str())]));
        }
    }
    messages.push(note(plot.end(), &ending));
    messages
}

/// Planfix's events of a group of two: one takes the call, or nobody does.
pub fn planfix(plot: &Plot, key: &str) -> Vec<Message> {
    let event = |at: i64, extension: &str, more: &[(&str, &str)]| {
        let mut fields = vec![("cmd", "event"), ("type", "in"), ("callid", key), ("phone", plot.other.as_str())];
        fields.extend([("diversion", plot.own), ("ext", extension)]);
        fields.extend(more);
        Message::form(at, "planfix.event", &fields)
    };
    let talk = plot.talk.to_string();
    let mut messages = Vec::new();
    for (number, extension) in [plot.endpoint, "108"].into_iter().enumerate() {
        messages.push(event(plot.start, extension, &[("event", "INCOMING")]));
        let takes = plot.answered() && number == 0;
        if takes {
            messages.push(event(plot.answer(), extension, &[("event", "ACCEPTED")]));
        }
        let (status, talk) = match plot.outcome {
            Outcome::Answered if takes => ("Success", talk.as_str()),
            Outcome::NoAnswer => ("Missed", "0"),
            _ => ("Canceled", "0"),
        };
        messages.push(event(plot.end(), extension, &[("event", "COMPLETED"), ("status", status), ("duration", talk)]));
    }
    messages
}
