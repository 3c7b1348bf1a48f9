//! Planfix events: a leg per extension, groups with `Canceled` for those who lost, recordings announced.
//!
//! Truth: no message carries a time, so none is stated; talk is the duration of the one `Success`.

use trunklog_storage::event::Source;

use super::model::{Call, Direction};
use super::truth::Truth;
use super::wire::{Fields, KeyForm, Message, Script};

const OUTBOUND: [(&str, &str, f64); 6] = [
    ("Success", "answered", 0.71),
    ("NoAnswer", "no_answer", 0.14),
    ("Busy", "busy", 0.08),
    ("NotAvailable", "unavailable", 0.03),
    ("NotAvaliable", "unavailable", 0.02),
    ("NotAllowed", "not_allowed", 0.02),
];

/// What all messages of a call say alike.
struct Talk {
    key: String,
    inbound: bool,
    phone: String,
    diversion: Option<String>,
    field: KeyForm,
}

/// How one extension's part ends.
struct Completion<'a> {
    extension: &'a str,
    status: &'a str,
    /// `None`: sent empty.
    duration: Option<i64>,
    recorded: bool,
    link: Option<String>,
}

/// Plays one call.
pub fn play(call: &mut Call) -> Script {
    let mut script = Script::new(call.index);
    let inbound = call.direction != Direction::Out;
    let group = if inbound && call.chance(0.25) { call.between(2, 4) as usize } else { 1 };
    let talk = talk(call, inbound, group);
    if inbound && call.chance(0.08) {
        contact(call.start, &talk, &mut script);
    }
    match (inbound, group) {
        (false, _) => outgoing(call, &talk, &mut script),
        (true, 1) => single(call, &talk, &mut script),
        (true, size) => ring_group(call, &talk, size, &mut script),
    }
    script
}

fn talk(call: &mut Call, inbound: bool, group: usize) -> Talk {
    let plus = if call.chance(0.3) { "+" } else { "" };
    let phone = format!("{plus}7495{}", call.subscriber());
    // The sample of the vendor's paper lacks it; a group would have no own number then.
    let diversion = (group > 1 || !call.chance(0.1)).then(|| format!("7495{}", call.own_subscriber()));
    let key = format!("{}.{}", call.start, call.number());
    let field = KeyForm::Field(if call.chance(0.1) { "token" } else { "planfix_token" });
    Talk { key, inbound, phone, diversion, field }
}

fn truth(talk: &Talk, extension: &str) -> Truth {
    let mut truth = Truth::new(Source::Planfix, &talk.key);
    let own = talk.diversion.as_deref();
    if talk.inbound {
        truth.text("direction", "in").party("from", &talk.phone).party("to", own.unwrap_or(extension));
    } else {
        truth.text("direction", "out").party("from", extension).party("to", &talk.phone);
    }
    truth.text_if("own_number", own).text("state", "closed").number("transfers", 0);
    truth
}

/// One extension rings.
fn single(call: &mut Call, talk: &Talk, script: &mut Script) {
    let agents = call.agents(2);
    let (extension, second) = (agents[0].extension.as_str(), agents[1].extension.as_str());
    let mut truth = truth(talk, extension);
    let answer = call.start + call.ring;
    event(call.start, talk, "INCOMING", extension, script);
    let (status, disposition) = call.weighted(&[
        (("Success", "answered"), 0.71),
        (("Missed", "missed"), 0.22),
        (("Canceled", "canceled"), 0.04),
        (("Cancelled", "canceled"), 0.03),
    ]);
    truth.text("disposition", disposition).text("disposition_raw", status);
    if status != "Success" {
        truth.text("endpoint", extension).text("recording_state", "none").number("talk_ms", 0);
        let done = Completion { extension, status, duration: Some(0), recorded: false, link: None };
        completed(call, answer, talk, &done, script);
        script.truths.push(truth);
        return;
    }
    // Some switches never say who accepted; a second acceptance is a transfer.
    let silent = call.chance(0.04);
    let transferred = !silent && talk.diversion.is_some() && call.talk >= 10 && call.chance(0.07);
    if !silent {
        event(answer, talk, "ACCEPTED", extension, script);
    }
    let last = if transferred { second } else { extension };
    if transferred {
        event(answer + call.talk / 2, talk, "ACCEPTED", second, script);
        truth.number("transfers", 1);
    }
    success(call, talk, last, (truth, script));
}

/// Several extensions ring at once.
fn ring_group(call: &mut Call, talk: &Talk, size: usize, script: &mut Script) {
    let agents = call.agents(size);
    let mut truth = truth(talk, &agents[0].extension);
    truth.text_if("queue", talk.diversion.as_deref());
    let answer = call.start + call.ring;
    for agent in &agents {
        event(call.start, talk, "INCOMING", &agent.extension, script);
    }
    let answered = call.chance(0.75);
    let status = match (answered, call.chance(0.5)) {
        (false, _) => "Missed",
        (true, false) => "Canceled",
        (true, true) => "Cancelled",
    };
    let first_lost = usize::from(answered);
    for agent in &agents[first_lost..] {
        let done = Completion { extension: &agent.extension, status, duration: Some(0), recorded: false, link: None };
        completed(call, answer, talk, &done, script);
    }
    if answered {
        event(answer, talk, "ACCEPTED", &agents[0].extension, script);
        truth.text("disposition", "answered").text("disposition_raw", "Success");
        success(call, talk, &agents[0].extension, (truth, script));
    } else {
        truth.text("disposition", "missed").text("disposition_raw", "Missed").text("recording_state", "none");
        truth.number("talk_ms", 0);
        script.truths.push(truth);
    }
}

fn outgoing(call: &mut Call, talk: &Talk, script: &mut Script) {
    let agent = call.agent();
    let extension = agent.extension.as_str();
    let mut truth = truth(talk, extension);
    let (status, disposition) = call.weighted(&OUTBOUND.map(|(status, outcome, weight)| ((status, outcome), weight)));
    truth.text("disposition", disposition).text("disposition_raw", status);
    event(call.start, talk, "OUTGOING", extension, script);
    let answer = call.start + call.ring;
    if status == "Success" {
        event(answer, talk, "ACCEPTED", extension, script);
        success(call, talk, extension, (truth, script));
        return;
    }
    truth.text("endpoint", extension).text("recording_state", "none").number("talk_ms", 0);
    let done = Completion { extension, status, duration: Some(0), recorded: false, link: None };
    completed(call, answer, talk, &done, script);
    script.truths.push(truth);
}

/// The conversation ends; the truth gets what only this message says.
fn success(call: &mut Call, talk: &Talk, extension: &str, (mut truth, script): (Truth, &mut Script)) {
    let duration = if call.chance(0.05) { None } else { Some(call.talk) };
    let recorded = call.chance(0.55);
    let later = recorded && call.chance(0.5);
    let link = format!("https://pbx.acme.example/recording/{}.mp3", talk.key);
    let end = call.start + call.ring + call.talk;
    let announced = (recorded && !later).then(|| link.clone());
    let done = Completion { extension, status: "Success", duration, recorded, link: announced };
    completed(call, end, talk, &done, script);
    if later {
        record(call, end + 5, talk, &link, script);
    }
    truth.text("endpoint", extension).text("recording_state", if recorded { "expected" } else { "none" });
    if let Some(duration) = duration {
        truth.seconds("talk_ms", duration);
    }
    script.truths.push(truth);
}

fn fields(talk: &Talk, name: &str, extension: &str) -> Fields {
    let mut fields = Fields::default();
    fields
        .add("type", if talk.inbound { "in" } else { "out" })
        .add("event", name)
        .add("phone", talk.phone.as_str())
        .add_some("diversion", talk.diversion.as_deref())
        .add("ext", extension)
        .add("callid", talk.key.as_str());
    fields
}

fn event(at: i64, talk: &Talk, name: &str, extension: &str, script: &mut Script) {
    let mut fields = fields(talk, name, extension);
    fields.add("cmd", "event");
    post(at, talk, format!("planfix.{name}"), &fields, script);
}

fn completed(call: &mut Call, at: i64, talk: &Talk, done: &Completion<'_>, script: &mut Script) {
    let mut fields = fields(talk, "COMPLETED", done.extension);
    fields
        .add("duration", done.duration.map(|seconds| seconds.to_string()).unwrap_or_default())
        .add("status", done.status)
        .add("is_recorded", if done.recorded { "1" } else { "0" })
        .add_some("record_link", done.link.as_deref());
    if call.chance(0.2) {
        fields.add("data_utm_source", call.one(&["ads", "newsletter", "google maps"]));
    }
    fields.add("cmd", "event");
    post(at, talk, "planfix.COMPLETED".to_owned(), &fields, script);
}

fn record(call: &mut Call, at: i64, talk: &Talk, link: &str, script: &mut Script) {
    let mut fields = Fields::default();
    fields.add("cmd", "record").add("callid", talk.key.as_str()).add("record_link", link);
    if call.chance(0.3) {
        fields.add("is_temp", call.one(&["0", "1"]));
    }
    post(at, talk, "planfix.record".to_owned(), &fields, script);
}

/// Asks who calls; the archive answers and stores nothing.
fn contact(at: i64, talk: &Talk, script: &mut Script) {
    let mut fields = Fields::default();
    fields.add("cmd", "contact").add("phone", talk.phone.as_str()).add("callid", talk.key.as_str());
    let mut message = Message::form(Source::Planfix, "planfix.contact", "/planfix", &fields).with_key(talk.field);
    message.stored = false;
    script.send(at, message);
}

fn post(at: i64, talk: &Talk, kind: String, fields: &Fields, script: &mut Script) {
    script.send(at, Message::form(Source::Planfix, kind, "/planfix", fields).with_key(talk.field));
}
