//! What Kazoo's messages mean, with the values that the vendors print.

use std::sync::Arc;

use bytes::Bytes;
use trunklog_storage::call::{CallState, Disposition, Mark, Number, Rank, Ranked, Stamp, Text};
use trunklog_storage::event::{Event, Source, new_event_id};
use trunklog_storage::fact::{CallRef, Decoded, SHORT_WINDOW};
use trunklog_storage::sorted_map::SortedMap;

use super::{debug, decode};
use crate::settings::TenantSettings;

const RECEIVED: i64 = 1_767_000_000_000_000;
const ACCOUNT: &str = "00000000000000000000000000000001";

fn event(kind: &str, query: &str, content_type: &str, body: &str) -> Event {
    Event {
        id: new_event_id(),
        tenant: "acme".into(),
        source: if kind.starts_with("virtualpbx") { Source::Virtualpbx } else { Source::Kazoo },
        kind: kind.into(),
        received_at: RECEIVED,
        subject: None,
        structured: false,
        method: Some(if body.is_empty() { "GET" } else { "POST" }.into()),
        path: Some("/in/kazoo/pivot".into()),
        query: (!query.is_empty()).then(|| query.into()),
        headers: Arc::new(SortedMap::from([("x-hook-id".into(), "h1".into())])),
        content_type: (!content_type.is_empty()).then(|| content_type.into()),
        error: None,
        payload: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn decoded(event: &Event) -> Decoded {
    decode(event, &TenantSettings::default())
}

fn get(kind: &str, query: &str) -> Decoded {
    decoded(&event(kind, query, "", ""))
}

fn form(kind: &str, body: &str) -> Decoded {
    decoded(&event(kind, "", "application/x-www-form-urlencoded", body))
}

fn json(kind: &str, body: &str) -> Decoded {
    decoded(&event(kind, "", "application/json", body))
}

fn fact(decoded: &Decoded) -> (&str, &CallState) {
    assert_eq!(decoded.error, None);
    match &decoded.fact {
        Some((CallRef::Key(key), state)) => (key, state),
        other => panic!("no fact under a key: {other:?}"),
    }
}

fn attribute<'a>(state: &'a CallState, name: &str) -> Option<&'a str> {
    state.attributes.get(name).map(|value| value.1.as_str())
}

#[test]
fn pivot_requests_read_alike_in_every_encoding() {
    let pairs = "Call-ID=4f1c9d%4010.1.2.3&Account-ID=00000000000000000000000000000001&From=1001&From-Realm=acme.sip\
        &To=2002&To-Realm=acme.sip&Request=2002&Request-Realm=acme.sip&Call-Status=ringing&Api-Version=4.x\
        &Direction=inbound&Caller-ID-Name=Ann+B&Caller-ID-Number=%2B35316877779&User-ID[]=u1&User-ID[]=u2&Language=en-us\
        &Digits[custom_name]=1234";
    let body = r#"{"Call-ID":"4f1c9d@10.1.2.3","Account-ID":"00000000000000000000000000000001","From":"1001",
        "From-Realm":"acme.sip","To":"2002","To-Realm":"acme.sip","Request":"2002","Request-Realm":"acme.sip",
        "Call-Status":"ringing","Api-Version":"4.x","Direction":"inbound","Caller-ID-Name":"Ann B",
        "Caller-ID-Number":"+35316877779","User-ID":["u1","u2"],"Language":"en-us","Digits":{"custom_name":1234}}"#;
    let by_query = get("kazoo.pivot", pairs);
    let all = [&by_query, &form("kazoo.pivot", pairs), &json("kazoo.pivot", body)];
    for one in all {
        let (key, state) = fact(one);
        assert_eq!((key, one.kind.as_str(), one.window), ("4f1c9d@10.1.2.3", "kazoo.pivot", SHORT_WINDOW));
        assert_eq!(one.call_key.as_deref(), Some("4f1c9d@10.1.2.3"));
        assert_eq!(state, fact(&by_query).1);
        assert_eq!(one.fingerprint, by_query.fingerprint);
    }
    let (_, state) = fact(&by_query);
    assert_eq!(state.call.start, Some(Stamp(Rank::Receipt, RECEIVED)));
    assert_eq!(state.call.get(Text::From), Some("+35316877779"));
    assert_eq!(state.call.get(Text::To), Some("2002"));
    assert_eq!(state.call.get(Text::CallerName), Some("Ann B"));
    assert_eq!(state.call.get(Text::Endpoint), Some("u1"));
    assert_eq!(state.dtmf["custom_name"].1, "1234");
    assert_eq!(attribute(state, "account_id"), Some(ACCOUNT));
    assert_eq!(attribute(state, "user_id"), Some("u1,u2"));
    assert!(state.call.has(Mark::Pivot) && state.call.has(Mark::Started));
}

#[test]
fn old_and_twiml_names_are_the_same_fields() {
    let old =
        get("virtualpbx.pivot", "ApiVersion=2013-05-01&ToRealm=a.sip&To=3004&FromRealm=a.sip&From-User=u&Call-ID=c1");
    assert_eq!(old.kind, "virtualpbx.pivot");
    let (_, state) = fact(&old);
    assert_eq!((state.call.get(Text::From), state.call.get(Text::To)), (Some("u"), Some("3004")));
    assert_eq!(attribute(state, "to_realm"), Some("a.sip"));
    assert_eq!(attribute(state, "api_version"), Some("2013-05-01"));
    let twiml = get(
        "kazoo.pivot",
        "CallSid=c2&AccountSid=a&CallerName=Joe&CallerNumber=0123&Digits=42&RecordingUrl=http%3A%2F%2Fr",
    );
    let (key, state) = fact(&twiml);
    assert_eq!((key, state.call.get(Text::From), state.call.get(Text::CallerName)), ("c2", Some("0123"), Some("Joe")));
    assert_eq!(state.dtmf["default"].1, "42");
    assert!(state.call.has(Mark::RecordingExpected));
}

#[test]
fn unknown_variables_are_kept_and_secrets_are_not() {
    let (_, state) = {
        let decoded = get(
            "kazoo.pivot",
            "Call-ID=c&Custom-Application-Vars[crm]=77&Custom-SIP-Headers[X-Foo]=bar&api_token=s&myvar=1",
        );
        let (key, state) = fact(&decoded);
        (key.to_owned(), state.clone())
    };
    assert_eq!(attribute(&state, "crm"), Some("77"));
    assert_eq!(attribute(&state, "Custom-SIP-Headers[X-Foo]"), Some("bar"));
    assert_eq!(attribute(&state, "myvar"), Some("1"));
    assert_eq!(attribute(&state, "api_token"), None);
}

#[test]
fn pivot_requests_without_a_call_are_quarantined() {
    for query in ["From=1", "Call-ID=", "Call-ID=%zz", "Call-ID=%ff"] {
        let decoded = get("kazoo.pivot", query);
        assert!(decoded.error.is_some() && decoded.fact.is_none(), "{query}");
        assert_eq!(decoded.kind, "kazoo.pivot");
    }
}

#[test]
fn the_a_leg_is_the_call() {
    let create = "hook_event=channel_create&call_id=a%4010.1.2.3&call_direction=inbound&timestamp=63930000000\
        &caller_id_number=%2B35316877779&caller_id_name=Ann&request=2002%40acme.sip&to=2002%40acme.sip\
        &custom_channel_vars[resource_type]=offnet-origination&other_leg_call_id=b&account_id=00000000000000000000000000000001\
        &interaction_id=63930000000-0a1b2c3d&authorizing_type=resource&authorizing_id=res1";
    let decoded = form("kazoo.hook", create);
    let (key, state) = fact(&decoded);
    assert_eq!((key, decoded.kind.as_str()), ("a@10.1.2.3", "kazoo.channel_create"));
    assert_eq!(decoded.occurred_at, Some(1_762_780_800_000_000));
    assert_eq!(state.call.start, Some(Stamp(Rank::Message, 1_762_780_800_000_000)));
    assert!(state.call.has(Mark::ALeg) && state.call.has(Mark::ALegByResource) && state.call.has(Mark::Started));
    assert_eq!(state.call.get(Text::To), Some("2002"));
    assert_eq!(state.call.get(Text::Endpoint), None);
    assert_eq!(attribute(state, "other_leg_call_id"), Some("b"));
    assert_eq!(attribute(state, "interaction_id"), Some("63930000000-0a1b2c3d"));
}

#[test]
fn b_legs_go_under_the_call_they_name() {
    let body = r#"{"hook_event":"channel_destroy","call_id":"b","other_leg_call_id":"a","call_direction":"outbound",
        "timestamp":63930000020,"owner_id":"u7","hangup_cause":"USER_BUSY","hangup_code":"sip:486","billing_seconds":0,
        "ringing_seconds":8,"duration_seconds":20,"is_internal_leg":false,
        "custom_channel_vars":{"resource_type":"offnet-termination"}}"#;
    let decoded = json("kazoo.hook", body);
    let (key, state) = fact(&decoded);
    assert_eq!((key, decoded.kind.as_str()), ("a", "kazoo.channel_destroy"));
    assert!(state.call.has(Mark::BLeg) && state.call.has(Mark::BLegByResource) && !state.call.has(Mark::Ended));
    let leg = &state.legs["b"];
    assert_eq!(leg.end, Some(Stamp(Rank::Message, 1_762_780_820_000_000)));
    assert_eq!(leg.outcome, Some(Ranked(Rank::Message, Disposition::Busy)));
    assert_eq!(leg.get(Text::DispositionRaw), Some("USER_BUSY sip:486"));
    assert_eq!((leg.get_number(Number::CauseQ850), leg.get_number(Number::SipStatus)), (Some(17), Some(486)));
    assert_eq!((leg.get_number(Number::Talk), leg.get_number(Number::Ring)), (Some(0), Some(8000)));
    assert_eq!(leg.get(Text::Endpoint), Some("u7"));
}

#[test]
fn final_kinds_decode_like_provisional_ones() {
    let body = "hook_event=channel_answer&call_id=a&timestamp=63930000005";
    let (first, again) = (form("kazoo.hook", body), form("kazoo.channel_answer", body));
    assert_eq!((first.kind, first.fingerprint), (again.kind, again.fingerprint));
}

#[test]
fn a_second_question_mark_is_an_ampersand() {
    let decoded = get("kazoo.hook", "x=y?hook_event=channel_answer&call_id=a&timestamp=63930000005");
    let (key, state) = fact(&decoded);
    assert_eq!((key, decoded.kind.as_str()), ("a", "kazoo.channel_answer"));
    assert_eq!(state.call.answer, Some(Stamp(Rank::Message, 1_762_780_805_000_000)));
}

#[test]
fn insane_times_are_not_believed() {
    for time in ["-1", "59926608000", "99999999999999999999", "soon", ""] {
        let decoded = form(
            "kazoo.hook",
            &format!("hook_event=channel_destroy&call_id=a&hangup_cause=NORMAL_CLEARING&timestamp={time}"),
        );
        let (_, state) = fact(&decoded);
        assert_eq!(decoded.occurred_at, None, "{time}");
        assert_eq!(state.call.end, Some(Stamp(Rank::Receipt, RECEIVED)), "{time}");
    }
}

#[test]
fn other_hooks_are_kept_without_a_fact() {
    let missed = json("kazoo.hook", r#"{"hook_event":"notifications","event_name":"missed_call","call_id":"a"}"#);
    assert_eq!((missed.kind.as_str(), missed.error.as_deref()), ("kazoo.hook", None));
    assert!(missed.fact.is_none());
    let voicemail = json("kazoo.hook", r#"{"hook_event":"voicemail_new","call_id":"a"}"#);
    assert!(fact(&voicemail).1.call.has(Mark::Voicemail));
    assert!(form("kazoo.hook", "a=b").error.is_some());
}

/// The answer that VirtualPBX prints, with its placeholders.
const ANSWER: &str = r#"{
"auth_token": "{AUTH_TOKEN}",
"data": [
{
"call_id": "{CALL_ID}",
"id": "{DEBUG_ID}",
"method": "get",
"req_body": "",
"req_headers": {},
"uri": "<http://your.pivot.server/script.php?Caller-ID-Number=XXXXXXXXXX&Caller-ID-Name=JoeFromIT&Direction=inbound&ApiVersion=2013-05-01&ToRealm=your.pivot.server&To=3004&FromRealm=your.pivot.server&From=user_sov2kt&Account-ID={ACCOUNT_ID}&Call-ID={CALL_ID}>"
},
{
"call_id": "{CALL_ID}",
"id": "{DEBUG_ID}",
"resp_body": "\n {\"module\":\"say\"\n}\n"
},
{
"call_id": "{CALL_ID}",
"id": "{DEBUG_ID}",
"resp_headers": {
"content-length": "342"
},
"resp_status_code": "200"
}
],
"request_id": "{REQUEST_ID}",
"revision": "{REVISION}",
"status": "success"
}"#;

fn split(body: &str) -> Vec<String> {
    let documents = debug::split(&Bytes::copy_from_slice(body.as_bytes())).expect("it can be split");
    documents.iter().map(|document| String::from_utf8_lossy(document).into_owned()).collect()
}

#[test]
fn debug_documents_come_one_by_one() {
    let documents = split(ANSWER);
    assert_eq!(documents.len(), 3);
    assert!(documents[0].starts_with('{') && documents[0].contains("JoeFromIT"));
    let request = json("virtualpbx.debug", &documents[0]);
    let (key, state) = fact(&request);
    assert_eq!((key, request.kind.as_str()), ("{CALL_ID}", "virtualpbx.debug"));
    assert_eq!(state.call.get(Text::From), Some("XXXXXXXXXX"));
    assert_eq!(state.call.get(Text::To), Some("3004"));
    assert_eq!(state.call.start, Some(Stamp(Rank::Guess, RECEIVED)));
    assert!(state.call.has(Mark::Pivot));
    let response = json("virtualpbx.debug", &documents[2]);
    let (key, state) = fact(&response);
    assert_eq!((key, attribute(state, "resp_status_code")), ("{CALL_ID}", Some("200")));
    assert!(state.call.start.is_none() && !state.call.has(Mark::Started));
    assert_ne!(request.fingerprint, response.fingerprint);
}

#[test]
fn debug_bodies_split_in_every_form() {
    assert_eq!(split(r#" {"call_id":"a","id":"1"} "#), [r#"{"call_id":"a","id":"1"}"#]);
    assert_eq!(split(r#"[{"call_id":"a"} , {"call_id":"b"}]"#), [r#"{"call_id":"a"}"#, r#"{"call_id":"b"}"#]);
    assert_eq!(split(r#"{"data":{"name":"Missed Call","uri":"x"}}"#), [r#"{"name":"Missed Call","uri":"x"}"#]);
    assert!(split(r#"{"data":[],"status":"success"}"#).is_empty());
    assert!(split("[]").is_empty());
    assert!(debug::split(&Bytes::from_static(b"<html>")).is_err());
    assert!(debug::split(&Bytes::from_static(b"[{\"call_id\":")).is_err());
}

#[test]
fn odd_debug_documents_are_quarantined() {
    for body in [r#"{"name":"Missed Call","uri":"https://hooks.zapier.com/x/"}"#, "7", "[]", "{", r#"{"call_id":null}"#]
    {
        assert!(json("virtualpbx.debug", body).error.is_some(), "{body}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(json("virtualpbx.debug", &deep).error.is_some());
}

#[test]
fn posted_debug_requests_carry_their_body() {
    let document = r#"{"call_id":"77aa@10.9.8.7","id":"1","method":"post","created":63930000000,"uri":"http://a/p",
        "req_body":"Call-ID=77aa%4010.9.8.7&Caller-ID-Number=1001&Request=3004"}"#;
    let decoded = json("kazoo.debug", document);
    let (_, state) = fact(&decoded);
    assert_eq!((state.call.get(Text::From), state.call.get(Text::To)), (Some("1001"), Some("3004")));
    assert_eq!(state.call.start, Some(Stamp(Rank::Message, 1_762_780_800_000_000)));
}
