//! What VOIspeed's messages mean, with the values that the vendor's guide prints.

use std::sync::Arc;

use bytes::Bytes;
use trunklog_storage::call::{CallState, Disposition, Mark, Number, Rank, Ranked, Stamp, Text};
use trunklog_storage::event::{Event, Source, new_event_id};
use trunklog_storage::fact::{CallRef, DUPLICATE_WINDOW, Decoded, SHORT_WINDOW};

use super::{decode, ivr};
use crate::settings::TenantSettings;

const RECEIVED: i64 = 1_767_000_000_000_000;
/// 2025-01-10 09:15:00 in Rome.
const MORNING: i64 = 1_736_496_900_000_000;

fn event(kind: &str, query: &str, body: &str) -> Event {
    Event {
        id: new_event_id(),
        tenant: "acme".into(),
        source: Source::Voispeed,
        kind: kind.into(),
        received_at: RECEIVED,
        subject: None,
        structured: false,
        method: Some("GET".into()),
        path: Some("/in/voispeed/event".into()),
        query: (!query.is_empty()).then(|| query.into()),
        headers: Arc::default(),
        content_type: (!body.is_empty()).then(|| "text/xml".into()),
        error: None,
        payload: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn notice(query: &str) -> Decoded {
    decode(&event("voispeed.event", query, ""), &TenantSettings::default())
}

fn row(kind: &str, body: &str) -> Decoded {
    decode(&event(kind, "", body), &TenantSettings::default())
}

fn fact(decoded: &Decoded) -> (&str, &CallState) {
    assert_eq!(decoded.error, None);
    match &decoded.fact {
        Some((CallRef::Key(key), state)) => (key, state),
        other => panic!("no fact under a key: {other:?}"),
    }
}

#[test]
fn printed_user_events_go_to_the_open_call() {
    for (query, kind, starts, ends) in [
        ("event_type=2&event=9&event_name=outgoing_call&ext=35", "voispeed.user.outgoing_call", true, false),
        ("event_type=2&event=14&event_name=call_answered&ext=35", "voispeed.user.call_answered", false, false),
        (
            "event_type=2&event=16&event_name=call_disconnect_out&ext=35",
            "voispeed.user.call_disconnect_out",
            false,
            true,
        ),
    ] {
        let decoded = notice(query);
        assert_eq!((decoded.kind.as_str(), decoded.window, decoded.error.as_deref()), (kind, SHORT_WINDOW, None));
        let expected = CallRef::Open { extension: "35".to_owned(), number: String::new(), starts, ends };
        assert_eq!(decoded.fact.map(|(reference, _)| reference), Some(expected));
    }
}

#[test]
fn user_events_are_about_a_leg() {
    let start = notice(
        "event_type=2&event=8&event_name=incoming_call&ext=35&number=0212345678&usercallid=4711&datetime=2025-01-10+09%3A15%3A00&did=0733123123",
    );
    let (key, state) = fact(&start);
    assert_eq!((key, start.occurred_at, start.window), ("4711", Some(MORNING), DUPLICATE_WINDOW));
    assert_eq!(state.legs["35"].start, Some(Stamp(Rank::Message, MORNING)));
    assert_eq!((state.call.get(Text::From), state.call.get(Text::To)), (Some("0212345678"), Some("0733123123")));
    assert_eq!((state.call.get(Text::Direction), state.call.get(Text::OwnNumber)), (Some("in"), Some("0733123123")));
    let end = notice("event_type=2&event=17&ext=35&usercallid=4711");
    assert_eq!(end.kind, "voispeed.user.call_disconnect_in");
    let leg = &fact(&end).1.legs["35"];
    assert_eq!(leg.end, Some(Stamp(Rank::Receipt, RECEIVED)));
    assert_eq!(leg.outcome, Some(Ranked(Rank::Message, Disposition::Answered)));
    assert_eq!(leg.get(Text::ReleasedBy), Some("remote"));
    let lost = notice("event_name=lost_call&ext=35&usercallid=4712&number=02");
    let (_, state) = fact(&lost);
    assert_eq!(state.legs["35"].outcome, Some(Ranked(Rank::Message, Disposition::NoAnswer)));
    assert_eq!(state.call.get(Text::Direction), Some("in"));
    assert!(fact(&notice("event_type=2&event=10&ext=35&usercallid=1")).1.legs["35"].has(Mark::Voicemail));
}

#[test]
fn codes_alone_say_nothing() {
    for query in ["event=8&ext=35", "event_type=2&event=99&ext=35", "event_type=2&event=8", "a=b", "event_name=%zz"] {
        let decoded = notice(query);
        assert_eq!(decoded.kind, "voispeed.unknown", "{query}");
        assert!(decoded.error.is_some() && decoded.fact.is_none(), "{query}");
    }
    assert_eq!(notice("event_type=2&event=10&ext=1&call_id=1").kind, "voispeed.user.new_voicemail");
    assert_eq!(notice("event_type=1&event=10&call_id=1").kind, "voispeed.system.call_terminated");
    assert_eq!(notice("event_type=7&event_name=call_in&call_id=1").kind, "voispeed.system.call_in");
    assert_eq!(notice("event_name=call_transfer&call_id=1&refer_id=2").kind, "voispeed.system.call_transfer");
}

#[test]
fn failed_commands_are_no_calls() {
    let decoded = notice("event_type=2&event=1&event_name=cmd_failed&ext=35&request_id=56732980&error_msg=x");
    assert_eq!((decoded.kind.as_str(), decoded.error.as_deref()), ("voispeed.user.cmd_failed", None));
    assert!(decoded.fact.is_none());
}

#[test]
fn final_kinds_and_aliases_decode_alike() {
    let query = "event_type=2&event=14&event_name=call_answered&ext=35&ucid=4711";
    let mut settings = TenantSettings::default();
    settings.voispeed_alias.insert("usercallid".to_owned(), vec!["ucid".to_owned()]);
    let first = decode(&event("voispeed.event", query, ""), &settings);
    let again = decode(&event("voispeed.user.call_answered", query, ""), &settings);
    assert_eq!(first.call_key.as_deref(), Some("4711"));
    assert_eq!((first.kind, first.fingerprint, first.fact), (again.kind, again.fingerprint, again.fact));
}

#[test]
fn system_events_make_a_call_with_legs() {
    let mut call = CallState::default();
    for query in [
        "event_type=1&event=1&event_name=call_in&call_id=900&calling=0212345678&called=0733123123&calling_id=2&calling_type=2&datetime=2025-01-10+09:15:00",
        "event_type=1&event=3&event_name=call_out&call_id=900&calling=0212345678&called=35&called_id=7&called_type=0&datetime=2025-01-10+09:15:02",
        "event_type=1&event=2&event_name=call_progress&call_id=900&sender_id=7&sender_type=0&datetime=2025-01-10+09:15:03",
        "event_type=1&event=4&event_name=call_response&call_id=900&sender_id=7&sender_type=0&outcome=1&connected_id=7&connected_type=0&connected_number=35&datetime=2025-01-10+09:15:10",
        "event_type=1&event=11&event_name=call_held&call_id=900&user_id=7&datetime=2025-01-10+09:15:20",
        "event_type=1&event=12&event_name=call_retrieved&call_id=900&user_id=7&datetime=2025-01-10+09:15:30",
        "event_type=1&event=7&event_name=call_transfer&call_id=900&sender_id=7&sender_type=0&recipient_id=8&recipient_type=0&refer_id=901&datetime=2025-01-10+09:15:40",
        "event_type=1&event=10&event_name=call_terminated&call_id=900&outcome=1&extid=crm-1&datetime=2025-01-10+09:16:00",
    ] {
        let decoded = notice(query);
        let (key, state) = fact(&decoded);
        assert_eq!(key, "900", "{query}");
        call.merge(state.clone());
    }
    assert_eq!(call.call.start, Some(Stamp(Rank::Message, MORNING)));
    assert_eq!(call.call.answer, Some(Stamp(Rank::Message, MORNING + 10_000_000)));
    assert_eq!(call.call.end, Some(Stamp(Rank::Message, MORNING + 60_000_000)));
    assert_eq!(call.call.outcome, Some(Ranked(Rank::Message, Disposition::Answered)));
    assert_eq!((call.call.get(Text::Direction), call.call.get(Text::To)), (Some("in"), Some("0733123123")));
    assert_eq!(call.legs["0:7"].get(Text::Endpoint), Some("35"));
    assert_eq!(call.legs["0:7"].ringing, Some(Stamp(Rank::Message, MORNING + 3_000_000)));
    assert!(call.legs.contains_key("0:8") && call.related.contains("901") && call.transfers.len() == 1);
    assert_eq!(call.holds.len(), 2);
    assert_eq!(call.call.get(Text::ExternalId), Some("crm-1"));
}

#[test]
fn who_hangs_up_is_noted() {
    let ended = notice("event_type=1&event=5&call_id=9&sender_id=2&sender_type=2&datetime=2025-01-10+09:15:00");
    assert_eq!(fact(&ended).1.releases["2:2"], Stamp(Rank::Message, MORNING));
    let told = notice("event_type=1&event=6&call_id=9&recipient_id=7&recipient_type=0");
    assert!(fact(&told).1.releases.is_empty());
}

#[test]
fn a_commanded_call_is_not_answered_by_its_caller() {
    let decoded = notice(
        "event_type=1&event=4&event_name=call_response&call_id=9&sender_id=2&sender_type=2&calling_id=2&calling_type=2&called_id=5&called_type=3&outcome=1",
    );
    assert!(fact(&decoded).1.call.answer.is_none());
}

const CALLBACK: &str =
    "license_id=MP3026487718&domain=almach1.it&ivrid=9&nodeid=0&callid=10724&calling=35&called=12345&input=1&tag=-1";

#[test]
fn ivr_callbacks_collect_digits() {
    let decoded = decode(&event("voispeed.ivr", CALLBACK, ""), &TenantSettings::default());
    let (key, state) = fact(&decoded);
    assert_eq!((key, decoded.kind.as_str(), decoded.window), ("10724", "voispeed.ivr", SHORT_WINDOW));
    assert_eq!(state.dtmf["9/0"].1, "1");
    assert_eq!(state.call.start, Some(Stamp(Rank::Guess, RECEIVED)));
    assert_eq!((state.call.get(Text::From), state.call.get(Text::To)), (Some("35"), Some("12345")));
    assert!(state.attributes.contains_key("license_id") && !state.attributes.contains_key("tag"));
    let older = "companyid=5&ivrid=9&nodeid=1&callid=10724&calling=35&called=12345&tag=0&input=";
    let decoded = decode(&event("voispeed.ivr", older, ""), &TenantSettings::default());
    assert!(fact(&decoded).1.dtmf.is_empty());
    assert!(decode(&event("voispeed.ivr", "ivrid=9", ""), &TenantSettings::default()).error.is_some());
}

#[test]
fn ivr_answers_are_never_empty() {
    let mut settings = TenantSettings::default();
    assert_eq!(ivr::answer(&settings, "9/0"), "command=0\r\n");
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    settings.voispeed_ivr.insert("*".to_owned(), lines(&["command=1", "node_key=1"]));
    settings.voispeed_ivr.insert("9/0".to_owned(), lines(&["command=2", "recipient_number=385\r\n"]));
    settings.voispeed_ivr.insert("9/1".to_owned(), Vec::new());
    assert_eq!(ivr::answer(&settings, "9/0"), "command=2\r\nrecipient_number=385\r\n");
    assert_eq!(ivr::answer(&settings, "1/1"), "command=1\r\nnode_key=1\r\n");
    assert_eq!(ivr::answer(&settings, "9/1"), "command=0\r\n");
}

#[test]
fn call_reports_close_the_call() {
    let body = "<call><id>10724</id><start_time>2025-01-10 09:15:00</start_time><duration>70</duration><outcome>1</outcome>\
        <calling_id>2</calling_id><calling_type>2</calling_type><calling_number>0212345678</calling_number>\
        <called_id>5</called_id><called_type>1</called_type><called_number>0733123123</called_number>\
        <connected_id>7</connected_id><connected_type>0</connected_type><connected_number>35</connected_number>\
        <ring_time>9</ring_time><hold_time>0</hold_time><ivr_time>1</ivr_time><talk_time>60</talk_time>\
        <queue_time>-3</queue_time><call_ref_id>10700</call_ref_id><external_id>crm-1</external_id></call>";
    let decoded = row("voispeed.call_report", body);
    let (key, state) = fact(&decoded);
    let call = &state.call;
    assert_eq!((key, decoded.kind.as_str(), decoded.occurred_at), ("10724", "voispeed.call_report", Some(MORNING)));
    assert_eq!(call.start, Some(Stamp(Rank::Report, MORNING)));
    assert_eq!(call.end, Some(Stamp(Rank::Report, MORNING + 70_000_000)));
    assert_eq!(call.outcome, Some(Ranked(Rank::Report, Disposition::Answered)));
    assert!(call.has(Mark::Reported) && call.has(Mark::Ended) && call.has(Mark::Started));
    assert_eq!((call.get_number(Number::Talk), call.get_number(Number::Queue)), (Some(60_000), None));
    assert_eq!(
        (call.get(Text::Direction), call.get(Text::Endpoint), call.get(Text::Queue)),
        (Some("in"), Some("35"), Some("5"))
    );
    assert!(state.related.contains("10700"));
    assert_eq!(row("voispeed.call_report", body).fingerprint, decoded.fingerprint);
}

#[test]
fn user_reports_are_a_leg_too() {
    let body = "<call><id>3</id><callid>10724</callid><start_time>2025-01-10 09:15:00</start_time>\
        <answer_time>1899-12-30 00:00:00</answer_time><duration>20</duration><outcome>5</outcome><direction>1</direction>\
        <my_number>35</my_number><remote_number>187</remote_number><local_id>3250</local_id><name>Walter</name>\
        <surname>White</surname></call>";
    let decoded = row("voispeed.user_call_report", body);
    let (key, state) = fact(&decoded);
    assert_eq!((key, state.call.answer), ("10724", None));
    // Another extension may have been answered.
    assert!(state.call.outcome.is_none() && !state.call.has(Mark::Reported) && !state.call.has(Mark::Ended));
    assert_eq!((state.call.get(Text::From), state.call.get(Text::To)), (Some("35"), Some("187")));
    let leg = &state.legs["35"];
    assert_eq!(leg.outcome, Some(Ranked(Rank::Report, Disposition::NoAnswer)));
    assert_eq!(leg.get(Text::EndpointName), Some("White Walter"));
    assert_eq!(leg.get_number(Number::Duration), Some(20_000));
}

#[test]
fn open_rows_stay_open() {
    let current = row(
        "voispeed.current_calls",
        "<call><id>10725</id><start_time>2025-01-10 09:15:00</start_time><calling_type>0</calling_type>\
         <calling_number>35</calling_number><called_type>2</called_type><called_number>187</called_number>\
         <recording>1</recording><p2p>0</p2p><codec>8</codec></call>",
    );
    let (_, state) = fact(&current);
    assert!(!state.call.has(Mark::Reported) && !state.call.has(Mark::Ended) && state.call.has(Mark::RecordingExpected));
    assert_eq!((state.call.get(Text::Direction), state.call.get(Text::Endpoint)), (Some("out"), Some("35")));
    let unknown = row("voispeed.call_report", "<call><id>1</id><outcome>0</outcome></call>");
    assert!(!fact(&unknown).1.call.has(Mark::Ended));
}

#[test]
fn rows_without_an_id_are_quarantined() {
    for (kind, body) in [
        ("voispeed.call_report", "<call><id> </id><outcome>1</outcome></call>"),
        ("voispeed.user_call_report", "<call><id>1</id></call>"),
        ("voispeed.current_calls", "hello"),
        ("voispeed.unknown", "<html></html>"),
    ] {
        assert!(row(kind, body).error.is_some(), "{body}");
    }
}
