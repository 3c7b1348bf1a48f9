//! User events: what each extension sees.

use trunklog_storage::event::Source;

use super::super::model::{Agent, Call, Direction};
use super::super::truth::Truth;
use super::super::wire::{Fields, KeyForm, Message, Script};
use super::{Times, local, report};

/// What the events of a call share.
struct Talk {
    key: Option<String>,
    number: String,
    own: Option<String>,
    /// The vendor's guide lost the name of the field for the dialled number.
    own_name: &'static str,
    by_form: bool,
}

/// Plays one call.
pub fn play(call: &mut Call, script: &mut Script) {
    let inbound = call.direction != Direction::Out;
    call.direction = if inbound { Direction::In } else { Direction::Out };
    let size = if inbound && call.chance(0.2) { call.between(2, 4) as usize } else { 1 };
    let agents = call.agents(size);
    let own = (inbound && (size > 1 || !call.chance(0.1))).then(|| format!("06{}", call.own_subscriber()));
    let key = (!call.without_ids || size > 1 || !call.chance(0.3)).then(|| call.number());
    let talk = Talk {
        key,
        number: format!("02{}", call.subscriber()),
        own,
        own_name: call.one(&["called", "did", "to"]),
        by_form: call.chance(0.15),
    };
    let starts = if inbound { (8, "incoming_call") } else { (9, "outgoing_call") };
    for agent in &agents {
        event(call, &talk, starts, agent, call.start, script);
    }
    let answered = call.chance(0.71);
    let times = Times::of(call, answered, 0);
    let mut truth = truth(&talk, &agents[0], inbound);
    times.state(&mut truth);
    truth.seconds("ring_ms", call.ring);
    let code = if answered {
        talked(call, &talk, &agents, &times, (&mut *script, &mut truth))
    } else {
        unanswered(call, &talk, &agents, &times, (&mut *script, &mut truth))
    };
    if size == 1 && talk.key.is_some() && call.chance(0.2) {
        truth.text("disposition_raw", &code.to_string());
        let colleague = report::Side { extension: &agents[0].extension, number: &talk.number, inbound };
        let row = report::user_row(call, &colleague, &call.number(), &times, code, None);
        script.report(times.end + 60, "get_user_call_report", row);
    }
    if !inbound && call.chance(0.03) {
        command_failed(call, &agents[0], script);
    }
    if talk.key.is_some() {
        script.truths.push(truth);
    }
}

fn truth(talk: &Talk, agent: &Agent, inbound: bool) -> Truth {
    let mut truth = Truth::new(Source::Voispeed, talk.key.as_deref().unwrap_or_default());
    let extension = agent.extension.as_str();
    if inbound {
        let to = talk.own.as_deref().unwrap_or(extension);
        truth.text("direction", "in").party("from", &talk.number).party("to", to);
        truth.text_if("own_number", talk.own.as_deref());
    } else {
        truth.text("direction", "out").party("from", extension).party("to", &talk.number);
    }
    truth
}

/// Answered by the first; the others of a group stop ringing or report a lost call.
fn talked(
    call: &mut Call,
    talk: &Talk,
    agents: &[Agent],
    times: &Times,
    (script, truth): (&mut Script, &mut Truth),
) -> i64 {
    let answer = times.answer.unwrap_or(times.start);
    event(call, talk, (14, "call_answered"), &agents[0], answer, script);
    for other in &agents[1..] {
        if call.chance(0.7) {
            event(call, talk, (12, "lost_call"), other, answer, script);
        }
    }
    let (last, released_by) =
        call.weighted(&[(((16, "call_disconnect_out"), "ext"), 0.5), (((17, "call_disconnect_in"), "remote"), 0.5)]);
    event(call, talk, last, &agents[0], times.end, script);
    truth
        .text("disposition", "answered")
        .text("disposition_raw", last.1)
        .text("released_by", released_by)
        .text("endpoint", &agents[0].extension)
        .seconds("talk_ms", times.end - answer)
        .number("transfers", 0);
    1
}

fn unanswered(
    call: &mut Call,
    talk: &Talk,
    agents: &[Agent],
    times: &Times,
    (script, truth): (&mut Script, &mut Truth),
) -> i64 {
    let inbound = call.direction == Direction::In;
    let rejected = agents.len() == 1 && call.chance(0.3);
    let last = if rejected { (15, "call_rejected") } else { (12, "lost_call") };
    for agent in agents {
        event(call, talk, last, agent, times.end, script);
    }
    let mailbox = inbound && !rejected && agents.len() == 1 && call.chance(0.3);
    if mailbox {
        event(call, talk, (10, "new_voicemail"), &agents[0], times.end + 20, script);
    } else {
        truth.text("disposition_raw", last.1);
    }
    let disposition = match (mailbox, rejected, inbound) {
        (true, ..) => "voicemail",
        (_, true, _) => "rejected",
        (_, _, true) => "missed",
        (_, _, false) => "no_answer",
    };
    truth.text("disposition", disposition).number("transfers", 0);
    if let [only] = agents {
        truth.text("endpoint", &only.extension);
    }
    if rejected { 3 } else { 5 }
}

/// A request made through the PBX's services failed; concerns no call.
fn command_failed(call: &Call, agent: &Agent, script: &mut Script) {
    let mut fields = Fields::default();
    fields
        .add("event_type", "2")
        .add("event", "1")
        .add("event_name", "cmd_failed")
        .add("ext", agent.extension.as_str())
        .add("request_id", call.number())
        .add("error_code", "4")
        .add("error_msg", "user not available");
    send("cmd_failed", false, &fields, call.start, script);
}

fn event(call: &Call, talk: &Talk, (code, name): (i64, &str), agent: &Agent, at: i64, script: &mut Script) {
    let mut fields = Fields::default();
    fields
        .add("event_type", "2")
        .add("event", code.to_string())
        .add("event_name", name)
        .add("ext", agent.extension.as_str())
        .add("number", talk.number.as_str());
    if code == 8 {
        fields.add_some(talk.own_name, talk.own.as_deref());
    }
    fields.add_some("usercallid", talk.key.as_deref()).add("datetime", local(at, call.zone));
    send(name, talk.by_form, &fields, at, script);
}

fn send(name: &str, by_form: bool, fields: &Fields, at: i64, script: &mut Script) {
    let kind = format!("voispeed.user.{name}");
    let message = if by_form {
        Message::form(Source::Voispeed, kind, "/voispeed/event", fields)
    } else {
        Message::get(Source::Voispeed, kind, "/voispeed/event", fields).with_key(KeyForm::Path)
    };
    script.send(at, message);
}
