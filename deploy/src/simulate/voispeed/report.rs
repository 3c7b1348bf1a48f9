//! Rows of the call reports and of the list of current calls, and the bodies that hold them.

use std::fmt::Write;

use trunklog_storage::event::Source;

use super::super::model::{Call, Direction};
use super::super::truth::Truth;
use super::super::wire::Script;
use super::{Parties, Times, UNANSWERED, disposition, local, parties};

/// Table 1: entity types.
const USER: i64 = 0;
const GATEWAY: i64 = 2;
const MAILBOX: i64 = 8;
/// What a report shows where there was no answer.
const NO_TIME: &str = "1899-12-30 00:00:00";

/// Plays one call that only reports know.
pub fn play(call: &mut Call, script: &mut Script) {
    if call.chance(0.4) { of_user(call, script) } else { of_company(call, script) }
}

/// Whose report a row stands in.
pub struct Side<'a> {
    /// The user's extension.
    pub extension: &'a str,
    /// The other party.
    pub number: &'a str,
    /// They called the user.
    pub inbound: bool,
}

fn of_user(call: &mut Call, script: &mut Script) {
    let agent = call.agent();
    let inbound = call.direction != Direction::Out;
    call.direction = if inbound { Direction::In } else { Direction::Out };
    let number = format!("02{}", call.subscriber());
    let answered = call.chance(0.71);
    let times = Times::of(call, answered, 0);
    let (code, outcome) = outcome(call, answered);
    let group = (inbound && call.chance(0.3)).then(|| call.one(&["Vendite", "Supporto", "Amministrazione"]));
    let side = Side { extension: &agent.extension, number: &number, inbound };
    let row = user_row(call, &side, &call.number(), &times, code, group);
    script.report(times.end + 60, "get_user_call_report", row);

    let mut truth = Truth::new(Source::Voispeed, &call.number());
    times.state(&mut truth);
    truth
        .text("disposition", disposition(outcome, call.direction))
        .text("disposition_raw", &code.to_string())
        .text("endpoint", &agent.extension)
        .seconds("ring_ms", call.ring)
        .text_if("queue", group);
    if answered {
        truth.seconds("talk_ms", call.talk);
    }
    let (from, to) =
        if inbound { (number.as_str(), agent.extension.as_str()) } else { (agent.extension.as_str(), number.as_str()) };
    truth.text("direction", call.direction.as_str()).party("from", from).party("to", to);
    script.truths.push(truth);
}

/// One row of `get_user_call_report`.
pub fn user_row(call: &Call, side: &Side<'_>, id: &str, times: &Times, code: i64, group: Option<&str>) -> String {
    let answer = times.answer.map_or(NO_TIME.to_owned(), |at| local(at, call.zone));
    row(&[
        ("id", &format!("7{id}")),
        ("callid", id),
        ("start_time", &local(times.start, call.zone)),
        ("answer_time", &answer),
        ("duration", &(times.end - times.start).to_string()),
        ("outcome", &code.to_string()),
        ("direction", if side.inbound { "0" } else { "1" }),
        ("my_number", side.extension),
        ("remote_number", side.number),
        ("group_name", group.unwrap_or_default()),
    ])
}

fn outcome(call: &mut Call, answered: bool) -> (i64, &'static str) {
    if answered {
        return (1, "answered");
    }
    call.weighted(&UNANSWERED.map(|(code, outcome, weight)| ((code, outcome), weight)))
}

/// Seconds of a call as `get_call_report` splits them.
struct Spent {
    ivr: i64,
    queue: i64,
    hold: i64,
}

fn of_company(call: &mut Call, script: &mut Script) {
    let agents = call.agents(2);
    let parties = parties(call, &agents[0].extension, &agents[1].extension);
    let answered = call.chance(0.71);
    let inbound = call.direction == Direction::In;
    let spent = Spent {
        ivr: if inbound && call.chance(0.4) { call.between(3, 30) } else { 0 },
        queue: if inbound && call.chance(0.3) { call.between(5, 60) } else { 0 },
        hold: if answered && call.talk > 10 && call.chance(0.2) { call.between(1, 8) } else { 0 },
    };
    let times = Times::of(call, answered, spent.ivr + spent.queue);
    let (code, known) = outcome(call, answered);
    let mailbox = !answered && inbound && code == 5 && call.chance(0.3);
    let external = call.chance(0.15).then(|| format!("crm-{}", call.number()));
    if call.chance(0.2) {
        let row = current_row(call, &parties, (agents[0].user, agents[1].user), &times);
        script.report(times.end - 1, "get_current_calls", row);
    }
    let callee = if mailbox { (3, MAILBOX) } else { callee(call, agents[0].user, agents[1].user) };
    let connected = (answered || mailbox).then_some(callee);
    let caller = caller(call, agents[0].user);
    let texts = Texts {
        start: local(times.start, call.zone),
        total: times.end - times.start,
        talk: times.answer.map_or(0, |at| times.end - at),
        entities: [Some(caller), Some(callee), connected],
        connected: if inbound { &agents[0].extension } else { &parties.to },
        external: external.as_deref(),
    };
    script.report(times.end + 60, "get_call_report", company_row(call, &parties, &spent, &texts, code));

    let mut truth = Truth::new(Source::Voispeed, &call.number());
    times.state(&mut truth);
    truth
        .party("from", &parties.from)
        .party("to", &parties.to)
        .seconds("ring_ms", call.ring)
        .seconds("talk_ms", texts.talk)
        .seconds("hold_ms", spent.hold)
        .seconds("ivr_ms", spent.ivr)
        .seconds("queue_ms", spent.queue)
        .text_if("external_id", external.as_deref());
    if mailbox {
        truth.text("disposition", "voicemail");
    } else {
        truth.text("disposition", disposition(known, call.direction)).text("disposition_raw", &code.to_string());
    }
    truth.text("direction", call.direction.as_str()).text_if("own_number", parties.own.as_deref());
    script.truths.push(truth);
}

fn caller(call: &Call, agent: u64) -> (u64, i64) {
    if call.direction == Direction::In { (7, GATEWAY) } else { (agent, USER) }
}

fn callee(call: &Call, agent: u64, colleague: u64) -> (u64, i64) {
    match call.direction {
        Direction::In => (agent, USER),
        Direction::Out => (7, GATEWAY),
        Direction::Internal => (colleague, USER),
    }
}

struct Texts<'a> {
    start: String,
    total: i64,
    talk: i64,
    /// Calling, called and connected entity: id and type.
    entities: [Option<(u64, i64)>; 3],
    /// Number of the one who talked.
    connected: &'a str,
    external: Option<&'a str>,
}

fn company_row(call: &Call, parties: &Parties, spent: &Spent, texts: &Texts<'_>, code: i64) -> String {
    let named = |entity: Option<(u64, i64)>| {
        entity.map_or_else(Default::default, |(id, kind)| (id.to_string(), kind.to_string()))
    };
    let [calling, called, connected] = texts.entities.map(named);
    let internal = if call.direction == Direction::Internal { "1" } else { "0" };
    // The guide's texts of these two look swapped; the types of the entities say the same without doubt.
    let gateway = if call.direction == Direction::Internal { "" } else { "7" };
    let connected_number = if texts.talk == 0 { "" } else { texts.connected };
    row(&[
        ("id", &call.number()),
        ("start_time", &texts.start),
        ("duration", &texts.total.to_string()),
        ("outcome", &code.to_string()),
        ("calling_id", &calling.0),
        ("calling_type", &calling.1),
        ("calling_number", &parties.from),
        ("called_id", &called.0),
        ("called_type", &called.1),
        ("called_number", &parties.to),
        ("connected_id", &connected.0),
        ("connected_type", &connected.1),
        ("connected_number", connected_number),
        ("ring_time", &call.ring.to_string()),
        ("hold_time", &spent.hold.to_string()),
        ("ivr_time", &spent.ivr.to_string()),
        ("talk_time", &texts.talk.to_string()),
        ("queue_time", &spent.queue.to_string()),
        ("call_ref_id", ""),
        ("external_id", texts.external.unwrap_or_default()),
        (if call.direction == Direction::In { "gateway_in" } else { "gateway_out" }, gateway),
        ("internal", internal),
    ])
}

/// The call as it appeared in the list of current calls.
fn current_row(call: &Call, parties: &Parties, (agent, colleague): (u64, u64), times: &Times) -> String {
    let (calling, called) = (caller(call, agent), callee(call, agent, colleague));
    row(&[
        ("id", &call.number()),
        ("start_time", &local(times.start, call.zone)),
        ("calling_id", &calling.0.to_string()),
        ("calling_type", &calling.1.to_string()),
        ("calling_number", &parties.from),
        ("called_id", &called.0.to_string()),
        ("called_type", &called.1.to_string()),
        ("called_number", &parties.to),
        ("recording", "0"),
        ("p2p", "0"),
        ("codec", "PCMA"),
    ])
}

fn row(fields: &[(&str, &str)]) -> String {
    let mut xml = String::from("<call>");
    for (name, value) in fields {
        // Writing to a string cannot fail.
        let _ = write!(xml, "<{name}>{}</{name}>", value.replace('&', "&amp;").replace('<', "&lt;"));
    }
    xml.push_str("</call>");
    xml
}

/// A report with these rows.
pub fn body(rows: &[String]) -> String {
    let rows = rows.concat();
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<result><outcome>0</outcome>{rows}</result>\n")
}
