//! What a delivery looks like: the event that the archive stores of it, and a line for programs that read NDJSON.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use trunklog_storage::event::{Event, Headers, Micros, Source};

use super::TENANT;
use super::calls::{Call, Outcome};
use super::deliveries::{Delivery, Step};
use super::random::Random;

const FORM: &str = "application/x-www-form-urlencoded";
const ACCOUNT: &str = "5e1f0c7a9b3d4e6f8091a2b3c4d5e6f7";
const HOOK: &str = "c1d2e3f4a5b60718293a4b5c6d7e8f90";
/// From the year 0 to 1970: Kazoo counts gregorian seconds.
const GREGORIAN: i64 = 62_167_219_200;
/// VOIspeed writes Rome's time, which is this far ahead in summer.
const ROME_IN_SUMMER: Micros = 2 * 3600 * 1_000_000;
/// Writing to a `String` cannot fail.
const WRITTEN: &str = "text takes any text";

/// The message as the archive stores it.
pub fn event(delivery: &Delivery) -> Event {
    let Delivery { call, step, .. } = delivery;
    let key = call_key(call);
    let (kind, path, query, payload) = match call.source {
        Source::Kazoo => (hook_event(*step), "/in/kazoo/hook", None, kazoo(delivery, &key)),
        Source::Virtualpbx => (hook_event(*step), "/in/virtualpbx/hook", None, kazoo(delivery, &key)),
        Source::Voispeed => {
            (user_event(call, *step).1, "/in/voispeed/event", Some(voispeed(delivery, &key)), String::new())
        }
        Source::Planfix => (planfix_event(call, *step), "/in/planfix", None, planfix(call, *step, &key)),
        Source::Placetel | Source::Trunklog => {
            (notification(call, *step), "/in/placetel", None, placetel(call, *step, &key))
        }
    };
    let prefix = if call.source == Source::Voispeed { "voispeed.user" } else { call.source.as_str() };
    let posted = query.is_none();
    Event {
        id: event_id(delivery.received_at, call, delivery.number).into(),
        tenant: TENANT.into(),
        source: call.source,
        kind: format!("{prefix}.{kind}").into(),
        received_at: delivery.received_at,
        subject: Some(key.into()),
        structured: false,
        method: Some(if posted { "POST" } else { "GET" }.into()),
        path: Some(path.into()),
        query: query.map(Into::into),
        headers: Arc::new(headers(call.source, &payload)),
        content_type: posted.then(|| FORM.into()),
        error: None,
        payload: Bytes::from(payload),
    }
}

/// The form that Placetel posts, whatever the call's own system; `None` for what Placetel does not send.
pub fn placetel_body(call: &Call, step: Step) -> Option<String> {
    let sent = match step {
        Step::Begin | Step::End => true,
        Step::Answer => call.is_answered() && call.inbound,
        Step::LegBegin | Step::LegAnswer | Step::LegEnd => false,
    };
    let call = Call { source: Source::Placetel, ..*call };
    sent.then(|| placetel(&call, step, &call_key(&call)))
}

/// Writes the message as one line of NDJSON. Repeats have the `event_id` of the first delivery, and `at` is the time
/// that the message carries, else its receipt.
pub fn write_line(delivery: &Delivery, line: &mut String) {
    let Delivery { call, step, .. } = delivery;
    let carries_time = matches!(call.source, Source::Kazoo | Source::Virtualpbx | Source::Voispeed);
    let at = if carries_time { delivery.sent_at } else { delivery.received_at };
    let (id, key) = (event_id(delivery.sent_at, call, delivery.first()), call_key(call));
    let (from, to) = parties(call);
    let (kind, direction) = (line_type(*step), if call.inbound { "inbound" } else { "outbound" });
    let (source, at, agent) = (call.source, at / 1000, call.agent);
    write!(
        line,
        r#"{{"event_id":"{id}","type":"{kind}","call_id":"{key}","provider":"{source}","at":{at},"direction":"{direction}","from":"{from}","to":"{to}","agent":{agent}"#
    )
    .expect(WRITTEN);
    if *step == Step::End {
        let (outcome, ring, talk) = (call.outcome.as_str(), call.ring / 1000, call.talk / 1000);
        write!(line, r#","outcome":"{outcome}","ring_ms":{ring},"talk_ms":{talk}"#).expect(WRITTEN);
    }
    line.push_str("}\n");
}

/// A UUIDv7 of this time.
fn event_id(at: Micros, call: &Call, number: u64) -> String {
    let mut random = Random::of(call.identity[0], number);
    let (milliseconds, first, second) = (at / 1000, random.bits() & 0xfff, random.bits());
    let variant = 0x8000 | ((second >> 48) & 0x3fff);
    format!(
        "{:08x}-{:04x}-7{first:03x}-{variant:04x}-{:012x}",
        milliseconds >> 16,
        milliseconds & 0xffff,
        second & 0xffff_ffff_ffff
    )
}

/// The system's id of the call.
fn call_key(call: &Call) -> String {
    let [first, second] = call.identity;
    match call.source {
        Source::Kazoo | Source::Virtualpbx => {
            format!("{:012x}-{}@10.1.{}.7", first >> 16, call.index, second % 200)
        }
        Source::Voispeed | Source::Planfix => format!("{}.{}", call.start / 1_000_000, call.index),
        Source::Placetel | Source::Trunklog => {
            let mut more = Random::of(first, second);
            format!("{first:016x}{second:016x}{:016x}{:016x}", more.bits(), more.bits())
        }
    }
}

/// Calling and called number as the system writes them.
fn parties(call: &Call) -> (String, String) {
    // Prime to any power of ten, so that each number outside stays another one.
    let (own, outside) = (call.own, call.outside * 7919);
    let (own, outside) = match call.source {
        Source::Kazoo | Source::Virtualpbx => {
            (format!("+1212555{own:04}"), format!("+1{}", 2_010_000_000 + outside % 7_900_000_000))
        }
        Source::Voispeed => (format!("06{:08}", 30_000_000 + own), format!("347{:07}", outside % 10_000_000)),
        Source::Planfix => (format!("7499{:07}", 2_000_000 + own), format!("7495{:07}", outside % 10_000_000)),
        Source::Placetel | Source::Trunklog => {
            (format!("030{:08}", 20_000_000 + own), format!("0151{:08}", outside % 100_000_000))
        }
    };
    if call.inbound { (outside, own) } else { (own, outside) }
}

fn line_type(step: Step) -> &'static str {
    match step {
        Step::Begin => "call.initiated",
        Step::LegBegin => "leg.initiated",
        Step::LegAnswer => "leg.answered",
        Step::Answer => "call.answered",
        Step::LegEnd => "leg.ended",
        Step::End => "call.ended",
    }
}

/// What the archive keeps of a request's headers.
fn headers(source: Source, payload: &str) -> Headers {
    let mut headers = Headers::new();
    let mut set = |name: &str, value: String| headers.insert(name.into(), value.into());
    set("host", "calls.acme.example".to_owned());
    if !payload.is_empty() {
        set("content-type", FORM.to_owned());
        set("content-length", payload.len().to_string());
    }
    if matches!(source, Source::Kazoo | Source::Virtualpbx) {
        set("x-hook-id", HOOK.to_owned());
        set("x-account-id", ACCOUNT.to_owned());
    }
    headers
}

fn notification(call: &Call, step: Step) -> &'static str {
    match step {
        Step::Answer | Step::LegAnswer => "CallAccepted",
        Step::End | Step::LegEnd => "HungUp",
        Step::Begin | Step::LegBegin if call.inbound => "IncomingCall",
        Step::Begin | Step::LegBegin => "OutgoingCall",
    }
}

/// Fields by name, as Placetel sends them.
fn placetel(call: &Call, step: Step, key: &str) -> String {
    let (from, to) = parties(call);
    let direction = if call.inbound { "in" } else { "out" };
    let mut form = format!("call_id={key}&direction={direction}");
    if step == Step::End {
        write!(form, "&duration={}", call.talk / 1_000_000).expect(WRITTEN);
    }
    write!(form, "&event={}&from={from}", notification(call, step)).expect(WRITTEN);
    if step != Step::End && (step == Step::Answer || !call.inbound) {
        write!(form, "&peer=7777{:03}ab%40fpbx.de", call.agent).expect(WRITTEN);
    }
    write!(form, "&to={to}").expect(WRITTEN);
    if step == Step::End {
        write!(form, "&type={}", placetel_type(call)).expect(WRITTEN);
    }
    form
}

/// Calls from outside are accepted or missed.
fn placetel_type(call: &Call) -> &'static str {
    match call.outcome {
        Outcome::Answered => "accepted",
        Outcome::Busy if !call.inbound => "busy",
        Outcome::Failed if !call.inbound => "congestion",
        Outcome::Canceled if !call.inbound => "canceled",
        _ => "missed",
    }
}

fn hook_event(step: Step) -> &'static str {
    match step {
        Step::Begin | Step::LegBegin => "channel_create",
        Step::Answer | Step::LegAnswer => "channel_answer",
        Step::End | Step::LegEnd => "channel_destroy",
    }
}

fn kazoo(delivery: &Delivery, key: &str) -> String {
    let Delivery { call, step, sent_at, .. } = delivery;
    let ((from, to), event) = (parties(call), hook_event(*step));
    let (from, to) = (from.replace('+', "%2B"), to.replace('+', "%2B"));
    let key = key.replace('@', "%40");
    let mut form = format!("hook_event={event}&account_id={ACCOUNT}&authorizing_type=device");
    write!(form, "&owner_id={:032x}", u128::from(call.agent) * 0x9e37_79b9_7f4a_7c15).expect(WRITTEN);
    if step.is_of_leg() {
        write!(form, "&call_direction=outbound&call_id=b-{key}&other_leg_call_id={key}").expect(WRITTEN);
    } else {
        write!(form, "&call_direction=inbound&call_id={key}").expect(WRITTEN);
    }
    write!(form, "&caller_id_number={from}&callee_id_number={to}&request={to}%40acme.sip.example").expect(WRITTEN);
    write!(form, "&from={from}%40acme.sip.example&to={to}%40acme.sip.example").expect(WRITTEN);
    write!(form, "&timestamp={}", sent_at / 1_000_000 + GREGORIAN).expect(WRITTEN);
    if event == "channel_destroy" {
        let cause = match call.outcome {
            Outcome::Answered => "NORMAL_CLEARING",
            Outcome::NoAnswer => "NO_ANSWER",
            Outcome::Busy => "USER_BUSY",
            Outcome::Failed => "NORMAL_TEMPORARY_FAILURE",
            Outcome::Canceled => "ORIGINATOR_CANCEL",
        };
        let (ring, talk) = (call.ring / 1_000_000, call.talk / 1_000_000);
        write!(form, "&hangup_cause={cause}&duration_seconds={}", ring + talk).expect(WRITTEN);
        write!(form, "&ringing_seconds={ring}&billing_seconds={talk}").expect(WRITTEN);
    }
    form
}

/// Code and name of a user event.
fn user_event(call: &Call, step: Step) -> (u32, &'static str) {
    match step {
        Step::Begin | Step::LegBegin if call.inbound => (8, "incoming_call"),
        Step::Begin | Step::LegBegin => (9, "outgoing_call"),
        Step::Answer | Step::LegAnswer => (14, "call_answered"),
        Step::End | Step::LegEnd if !call.is_answered() => (12, "lost_call"),
        Step::End | Step::LegEnd if call.agent.is_multiple_of(2) => (16, "call_disconnect_out"),
        Step::End | Step::LegEnd => (17, "call_disconnect_in"),
    }
}

fn voispeed(delivery: &Delivery, key: &str) -> String {
    let Delivery { call, step, sent_at, .. } = delivery;
    let (code, name) = user_event(call, *step);
    let (from, to) = parties(call);
    let (own, outside) = if call.inbound { (to, from) } else { (from, to) };
    let mut query = format!("event_type=2&event={code}&event_name={name}&ext={}&number={outside}", 100 + call.agent);
    if code == 8 {
        write!(query, "&called={own}").expect(WRITTEN);
    }
    let local = DateTime::from_timestamp_micros(sent_at + ROME_IN_SUMMER).unwrap_or_default();
    write!(query, "&usercallid={key}&datetime={}", local.format("%Y-%m-%d+%H%%3A%M%%3A%S")).expect(WRITTEN);
    query
}

fn planfix_event(call: &Call, step: Step) -> &'static str {
    match step {
        Step::Begin | Step::LegBegin if call.inbound => "INCOMING",
        Step::Begin | Step::LegBegin => "OUTGOING",
        Step::Answer | Step::LegAnswer => "ACCEPTED",
        Step::End | Step::LegEnd => "COMPLETED",
    }
}

fn planfix(call: &Call, step: Step, key: &str) -> String {
    let (from, to) = parties(call);
    let (own, outside) = if call.inbound { (to, from) } else { (from, to) };
    let (direction, extension) = (if call.inbound { "in" } else { "out" }, 100 + call.agent);
    let event = planfix_event(call, step);
    let mut form = format!("cmd=event&type={direction}&event={event}&phone={outside}&diversion={own}");
    write!(form, "&callid={key}&ext={extension}").expect(WRITTEN);
    if step == Step::End {
        let status = match call.outcome {
            Outcome::Answered => "Success",
            Outcome::NoAnswer if call.inbound => "Missed",
            Outcome::NoAnswer => "NoAnswer",
            Outcome::Busy => "Busy",
            Outcome::Failed => "NotAvailable",
            Outcome::Canceled => "Canceled",
        };
        write!(form, "&status={status}&duration={}", call.talk / 1_000_000).expect(WRITTEN);
    }
    form.push_str("&planfix_token=REDACTED");
    form
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use trunklog_ingest::{SharedSettings, adapters};
    use trunklog_storage::archive::Message;

    use super::super::{Deliveries, Part, Settings};
    use super::*;

    const SETTINGS: Settings = Settings { calls: 3_000, days: 2, from: 1_788_220_800_000_000, seed: 5 };

    #[test]
    fn every_message_is_understood_and_already_has_its_type_and_subject() {
        let decoder = adapters(SharedSettings::default());
        for delivery in Deliveries::new(SETTINGS, Part::All) {
            let event = event(&delivery);
            let message = Message::new(event.clone(), decoder.as_ref());
            assert_eq!(message.decoded.error, None, "{event:?}");
            assert!(message.decoded.fact.is_some(), "{event:?}");
            assert_eq!((&message.event.kind, &message.event.subject), (&event.kind, &event.subject));
        }
    }

    #[test]
    fn a_line_names_the_first_delivery() {
        for delivery in Deliveries::new(SETTINGS, Part::All).filter(Delivery::is_repeat) {
            let first = Delivery { number: delivery.first(), ..delivery };
            let read = |delivery: &Delivery| -> Value {
                let mut line = String::new();
                write_line(delivery, &mut line);
                serde_json::from_str(&line).expect("a line is JSON")
            };
            assert_eq!(read(&delivery)["event_id"], read(&first)["event_id"]);
            assert_ne!(event(&delivery).id, event(&first).id);
        }
    }
}
