//! Kazoo (IP Telecoms) and VirtualPBX: pivot requests, one set of webhooks per leg, recordings, and debug documents.
//!
//! Truth: with webhooks every time stands in a message; a call of which only pivot requests are sent stays open.

mod hook;
mod pivot;
mod recording;

use trunklog_storage::event::Source;

use super::model::{Agent, Call, Direction};
use super::truth::Truth;
use super::wire::Script;
use hook::{Format, Leg, Release};
use recording::Conversation;

/// The account that all simulated Kazoo messages name.
const ACCOUNT: &str = "5e1f0c7a9b3d4e6f8091a2b3c4d5e6f7";
const REALM: &str = "acme.sip.example";
const CARRIER: &str = "carrier.example";

/// What is sent of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Hooks,
    PivotAndHooks,
    PivotOnly,
    PivotAndDebug,
    DebugOnly,
}

/// Who talks to whom, as all messages of the call say it.
struct Parties {
    key: String,
    direction: Direction,
    from: String,
    to: String,
    name: &'static str,
    /// Whose device calls (not on calls from outside).
    caller: Option<Agent>,
}

/// A way for a call to end: cause, SIP code, the archive's outcome, Q.850 cause.
#[derive(Clone, Copy)]
struct Ending {
    cause: &'static str,
    sip: Option<i64>,
    outcome: &'static str,
    q850: Option<i64>,
}

const fn ending(cause: &'static str, sip: i64, outcome: &'static str, q850: i64) -> Ending {
    // Causes beyond Q.850 are given as 0.
    let q850 = if q850 == 0 { None } else { Some(q850) };
    Ending { cause, sip: Some(sip), outcome, q850 }
}

const ANSWERED: Ending = ending("NORMAL_CLEARING", 200, "answered", 16);
const OTHERWISE: [(Ending, f64); 12] = [
    (ending("NO_ANSWER", 480, "no_answer", 19), 8.0),
    (ending("NO_USER_RESPONSE", 408, "no_answer", 18), 3.0),
    (Ending { sip: None, outcome: "no_answer", ..ANSWERED }, 3.0),
    (ending("USER_BUSY", 486, "busy", 17), 6.0),
    (ending("CALL_REJECTED", 603, "rejected", 21), 2.0),
    (ending("ORIGINATOR_CANCEL", 487, "canceled", 0), 4.0),
    (ending("USER_NOT_REGISTERED", 480, "unavailable", 0), 1.0),
    (ending("SUBSCRIBER_ABSENT", 480, "unavailable", 20), 0.5),
    (ending("UNALLOCATED_NUMBER", 404, "unavailable", 1), 1.0),
    (ending("NO_ROUTE_DESTINATION", 404, "unavailable", 3), 0.5),
    (ending("NORMAL_CIRCUIT_CONGESTION", 503, "congestion", 34), 1.0),
    (ending("OUTGOING_CALL_BARRED", 403, "not_allowed", 52), 0.5),
];

/// Plays one call.
pub fn play(call: &mut Call) -> Script {
    let mut script = Script::new(call.index);
    let sent = what_is_sent(call);
    if !matches!(sent, Sent::Hooks | Sent::PivotAndHooks) {
        call.direction = Direction::In;
    }
    let parties = parties(call);
    match sent {
        Sent::Hooks => with_hooks(call, &parties, Vec::new(), &mut script),
        Sent::PivotAndHooks => {
            let digits = if parties.direction == Direction::In {
                pivot::visits(call, &parties, &mut script)
            } else {
                Vec::new()
            };
            with_hooks(call, &parties, digits, &mut script);
        }
        Sent::PivotOnly => pivot_only(call, &parties, &mut script),
        Sent::PivotAndDebug => {
            pivot_only(call, &parties, &mut script);
            pivot::debug(call, &parties, &mut script);
        }
        Sent::DebugOnly => debug_only(call, &parties, &mut script),
    }
    if call.chance(0.005) {
        hook::object_changed(call, &mut script);
    }
    script
}

fn what_is_sent(call: &mut Call) -> Sent {
    let virtualpbx = [
        (Sent::Hooks, 0.35),
        (Sent::PivotAndHooks, 0.30),
        (Sent::PivotOnly, 0.10),
        (Sent::PivotAndDebug, 0.20),
        (Sent::DebugOnly, 0.05),
    ];
    let kazoo = [(Sent::Hooks, 0.55), (Sent::PivotAndHooks, 0.38), (Sent::PivotOnly, 0.07)];
    if call.source == Source::Virtualpbx { call.weighted(&virtualpbx) } else { call.weighted(&kazoo) }
}

fn parties(call: &mut Call) -> Parties {
    let key = format!("{}-{}-{}@10.1.{}.{}", &call.hash("kazoo")[..12], call.seed, call.index, call.index % 200, 7);
    let country = call.one(&["+4930", "+4989", "+1212"]);
    let outside = format!("{country}{}", call.subscriber());
    let own = format!("+4930{}", call.own_subscriber());
    let direction = call.direction;
    let agents = call.agents(2);
    let (from, to, name, caller) = match direction {
        Direction::In if call.chance(0.06) => ("anonymous".to_owned(), own, "Anonymous", None),
        Direction::In => (outside, own, call.name(), None),
        Direction::Out => (own, outside, agents[0].name, Some(agents[0].clone())),
        Direction::Internal => {
            (agents[0].extension.clone(), agents[1].extension.clone(), agents[0].name, Some(agents[0].clone()))
        }
    };
    Parties { key, direction, from, to, name, caller }
}

fn known(call: &Call, parties: &Parties) -> Truth {
    let mut truth = Truth::new(call.source, &parties.key);
    truth.party("from", &parties.from).party("to", &parties.to).text("caller_name", parties.name);
    truth
}

/// Direction is a guess then, and nothing ever ends the call.
fn pivot_only(call: &mut Call, parties: &Parties, script: &mut Script) {
    let digits = pivot::visits(call, parties, script);
    let mut truth = known(call, parties);
    truth.text("direction", "in").text("own_number", &parties.to).text("disposition", "unknown").digits(&digits);
    script.truths.push(truth);
}

fn debug_only(call: &mut Call, parties: &Parties, script: &mut Script) {
    pivot::debug(call, parties, script);
    let mut truth = known(call, parties);
    truth.text("disposition", "unknown");
    script.truths.push(truth);
}

/// When the parts of a call happen (Unix seconds).
struct Times {
    start: i64,
    answer: i64,
    end: i64,
    billed: i64,
}

fn with_hooks(call: &mut Call, parties: &Parties, digits: Vec<(String, String)>, script: &mut Script) {
    let answered = call.chance(0.71);
    let ending = if answered { ANSWERED } else { call.weighted(&OTHERWISE) };
    let billed = if answered { call.talk } else { 0 };
    let start = call.start;
    let answer = start + call.ring;
    let times = Times { start, answer, end: answer + billed, billed };
    let format = Format::choose(call);
    let a_leg = a_leg(call, parties);
    let a_release = Release { cause: ending.cause, sip: ending.sip, ringing: call.ring, billed, end: times.end };

    hook::created(call, format, &a_leg, times.start, script);
    let endpoint = match parties.direction {
        Direction::In => to_agents(call, &times, ending, (format, &a_leg), script),
        Direction::Out | Direction::Internal => {
            to_one(call, parties, &times, ending, (format, &a_leg), script);
            Endpoint { name: parties.caller.as_ref().map(|agent| agent.owner.clone()), transfers: 0 }
        }
    };
    if answered {
        hook::answered(call, format, &a_leg, times.answer, script);
    }
    hook::destroyed(call, format, &a_leg, times.start, &a_release, script);
    let owner = endpoint.name.clone();
    let mut truth = truth(call, parties, &times, ending, (endpoint, digits));
    if answered {
        let talk = Conversation { answer: times.answer, end: times.end, owner: owner.as_deref() };
        recording::uploads(call, parties, &talk, &mut truth, script);
    } else {
        truth.text("recording_state", "none");
    }
    script.truths.push(truth);
}

/// Who took the call, as far as that is beyond doubt.
struct Endpoint {
    name: Option<String>,
    transfers: i64,
}

fn truth(
    call: &Call,
    parties: &Parties,
    times: &Times,
    ending: Ending,
    (endpoint, digits): (Endpoint, Vec<(String, String)>),
) -> Truth {
    let mut truth = known(call, parties);
    let inbound = parties.direction == Direction::In;
    let outcome = if ending.outcome == "no_answer" && inbound { "missed" } else { ending.outcome };
    let raw = ending.sip.map_or(ending.cause.to_owned(), |code| format!("{} sip:{code}", ending.cause));
    truth
        .text("direction", parties.direction.as_str())
        .text("disposition", outcome)
        .text("disposition_raw", &raw)
        .text("state", "closed")
        .text("clock", "pbx")
        .time("started_at", times.start)
        .time("ended_at", times.end)
        .seconds("duration_ms", times.end - times.start)
        .seconds("ring_ms", call.ring)
        .seconds("talk_ms", times.billed)
        .number("transfers", endpoint.transfers)
        .digits(&digits);
    if outcome == "answered" {
        truth.time("answered_at", times.answer);
    }
    if let Some(cause) = ending.q850 {
        truth.number("cause_q850", cause);
    }
    if let Some(code) = ending.sip {
        truth.number("sip_status", code);
    }
    if ending.outcome == "canceled" {
        truth.text("released_by", "caller");
    }
    match parties.direction {
        Direction::In => truth.text("own_number", &parties.to),
        Direction::Out => truth.text("own_number", &parties.from),
        Direction::Internal => &mut truth,
    };
    // Of an internal call both sides are our own people; which one is "the" endpoint the papers leave open.
    if parties.direction != Direction::Internal {
        truth.text_if("endpoint", endpoint.name.as_deref());
    }
    truth
}

fn a_leg(call: &mut Call, parties: &Parties) -> Leg {
    let mut leg = Leg::new(parties.key.clone(), "inbound", &parties.from, parties.name, &parties.to);
    match &parties.caller {
        None => {
            leg.from_realm = CARRIER;
            // The carrier is told by either field; some switches send only one.
            let sign = call.between(0, 2);
            leg.resource_type = (sign != 0).then_some("offnet-origination");
            leg.by_resource = sign != 1;
        }
        Some(agent) => leg.agent = Some(agent.clone()),
    }
    leg
}

/// Rings one agent, or a group of which one wins; sometimes hands the caller on to a second.
fn to_agents(call: &mut Call, times: &Times, ending: Ending, a: (Format, &Leg), script: &mut Script) -> Endpoint {
    let (format, a_leg) = a;
    let size = call.weighted(&[(1_usize, 0.7), (2, 0.1), (3, 0.12), (4, 0.08)]);
    let agents = call.agents(size + 1);
    let answered = times.billed > 0;
    let transfers = answered && times.billed >= 20 && call.chance(0.08);
    let first_talk = if transfers { times.billed / 2 } else { times.billed };
    let b_leg = |number: usize| {
        let agent = &agents[number];
        let id = format!("b{number}-{}", a_leg.id);
        let mut leg = Leg::new(id, "outbound", &a_leg.from, a_leg.name, &agent.extension);
        leg.other = Some(a_leg.id.clone());
        leg.agent = Some(agent.clone());
        leg
    };
    for number in 0..size {
        hook::created(call, format, &b_leg(number), times.start, script);
    }
    if answered {
        hook::answered(call, format, &b_leg(0), times.answer, script);
        hook::bridged(call, format, (a_leg, &b_leg(0)), times.answer, script);
    }
    for number in (0..size).rev() {
        let lost = answered && number > 0;
        let (cause, sip) = if lost { ("LOSE_RACE", None) } else { (ending.cause, ending.sip) };
        let billed = if lost { 0 } else { first_talk };
        let release = Release { cause, sip, ringing: call.ring, billed, end: times.answer + billed };
        hook::destroyed(call, format, &b_leg(number), times.start, &release, script);
    }
    if transfers {
        handed_on(call, times, times.answer + first_talk, (format, &b_leg(size)), script);
    }
    let name = (!transfers && (answered || size == 1)).then(|| agents[0].owner.clone());
    Endpoint { name, transfers: i64::from(transfers) }
}

fn handed_on(call: &mut Call, times: &Times, at: i64, second: (Format, &Leg), script: &mut Script) {
    let (format, leg) = second;
    let ringing = (times.end - at).min(3) - 1;
    let answer = at + ringing;
    hook::created(call, format, leg, at, script);
    hook::answered(call, format, leg, answer, script);
    let release =
        Release { cause: ANSWERED.cause, sip: ANSWERED.sip, ringing, billed: times.end - answer, end: times.end };
    hook::destroyed(call, format, leg, at, &release, script);
}

/// One B-leg: to a carrier, or to a colleague.
fn to_one(call: &mut Call, parties: &Parties, times: &Times, ending: Ending, a: (Format, &Leg), script: &mut Script) {
    let (format, a_leg) = a;
    let mut leg = Leg::new(format!("b0-{}", a_leg.id), "outbound", &parties.from, parties.name, &parties.to);
    leg.other = Some(a_leg.id.clone());
    if parties.direction == Direction::Out {
        leg.resource_type = Some("offnet-termination");
        leg.by_resource = true;
    } else {
        leg.agent = call.agents(1).pop();
    }
    hook::created(call, format, &leg, times.start, script);
    if times.billed > 0 {
        hook::answered(call, format, &leg, times.answer, script);
        hook::bridged(call, format, (a_leg, &leg), times.answer, script);
    }
    let release =
        Release { cause: ending.cause, sip: ending.sip, ringing: call.ring, billed: times.billed, end: times.end };
    hook::destroyed(call, format, &leg, times.start, &release, script);
}
