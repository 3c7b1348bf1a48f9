//! Every form of upload in protocols.md 1.3: what its URL says, and what the message means.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use trunklog_storage::call::{self, CallState, Mark, Rank, Stamp};
use trunklog_storage::event::{Event, Source, new_event_id};
use trunklog_storage::fact::{CallRef, Decoded};
use trunklog_storage::recording::message::{UPLOAD_TYPE, Upload};
use trunklog_storage::recording::{RecordingState, Text};
use trunklog_storage::sorted_map::SortedMap;

use super::decode;
use super::target::{Sent, Target, below, uploaded_as};

const RECEIVED: i64 = 1_767_000_000_000_000;
/// 63903000000 gregorian seconds.
const START: i64 = 1_735_780_800_000_000;
const ID: &str = "4f1c9d@10.1.2.3";
const RECORDING: &str = "202501-0123456789abcdef0123456789abcdef";
const UUID: &str = "0b8f1c36-7c3e-4f0e-9f1d-5d2f6a7b8c9d";
/// As Kazoo 4.0 sends it.
const QUERY: &str = "from=1001%40acme.sip&to=2002%40acme.sip&caller_id_name=Ann+B&caller_id_number=1001\
    &call_id=4f1c9d%4010.1.2.3&cdr_id=202501-4f1c9d%4010.1.2.3&interaction_id=63903000000-0a1b2c3d\
    &account_id=00000000000000000000000000000001";

fn target(path: &str, query: Option<&str>) -> Target {
    Target::of(&Sent { path, query, received_at: RECEIVED, ..Sent::default() })
}

fn of_url(url: &str) -> Target {
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    target(path, query)
}

#[test]
fn every_form_of_url_names_file_and_call() {
    let mp3 = "call_recording_4f1c9d@10.1.2.3.mp3";
    let rest = "from=1001%40a&to=2002%40a";
    let uuid_file = format!("{UUID}.wav");
    let cases: Vec<(String, &str, Option<&str>)> = vec![
        // 3.x
        ("call_recording_4f1c9d%4010.1.2.3.mp3".into(), mp3, Some(ID)),
        ("0001/user/call_recording_4f1c9d%4010.1.2.3.mp3".into(), mp3, Some(ID)),
        ("/call_recording_4f1c9d%4010.1.2.3.mp3".into(), mp3, Some(ID)),
        ("call_recording_abc.mp3".into(), "call_recording_abc.mp3", Some("abc")),
        ("call%5Frecording_abc.mp3".into(), "call_recording_abc.mp3", Some("abc")),
        // 4.0 and later; the field is preferred
        (format!("call_recording_4f1c9d%4010.1.2.3.mp3?{QUERY}"), mp3, Some(ID)),
        ("call_recording_abc.mp3?call_id=def".into(), "call_recording_abc.mp3", Some("def")),
        ("call_recording_abc.mp3?call_id=&from=".into(), "call_recording_abc.mp3", Some("abc")),
        ("call_recording_abc.mp3?call_id=a%2Bb%20c+d".into(), "call_recording_abc.mp3", Some("a+b c d")),
        // The base URL has a query: last parameter `k=v`, `k=`, `k`
        (format!("kzr?x=1&recording=call_recording_4f1c9d%4010.1.2.3.mp3&{rest}"), mp3, Some(ID)),
        (format!("kzr?file=call_recording_4f1c9d%4010.1.2.3.mp3&{rest}"), mp3, Some(ID)),
        (format!("?k=call_recording_4f1c9d%4010.1.2.3.mp3&{rest}"), mp3, Some(ID)),
        (format!("a/b.php?call_recording_4f1c9d%4010.1.2.3.mp3&{rest}"), mp3, Some(ID)),
        (format!("kzr?x=1/call_recording_4f1c9d%4010.1.2.3.mp3&{rest}"), mp3, Some(ID)),
        // An older 4.0: a second question mark
        (format!("kzr?x=call_recording_4f1c9d%4010.1.2.3.mp3?{rest}"), mp3, Some(ID)),
        (format!("kzr?x=call_recording_abc.mp3?{QUERY}"), "call_recording_abc.mp3", Some(ID)),
        // master: two dots
        ("call_recording_4f1c9d%4010.1.2.3..mp3".into(), "call_recording_4f1c9d@10.1.2.3..mp3", Some(ID)),
        // No extension, or what looks like one
        ("call_recording_4f1c9d%4010.1.2.3".into(), "call_recording_4f1c9d@10.1.2.3", Some(ID)),
        ("call_recording_.mp3".into(), "call_recording_.mp3", None),
        // record_caller
        ("4f1c9d%4010.1.2.3.mp3".into(), "4f1c9d@10.1.2.3.mp3", Some(ID)),
        ("voicemail/0001/box/4f1c9d@10.1.2.3.wav".into(), "4f1c9d@10.1.2.3.wav", Some(ID)),
        (uuid_file.clone(), uuid_file.as_str(), Some(UUID)),
        ("A1b2.c3d4-e5f60718.mp3".into(), "A1b2.c3d4-e5f60718.mp3", Some("A1b2.c3d4-e5f60718")),
        ("greeting.mp3".into(), "greeting.mp3", None),
        ("voicemail_greeting_message.mp3".into(), "voicemail_greeting_message.mp3", None),
        (
            "plan/0001/x/f00df00df00df00d_test_credentials_file.txt".into(),
            "f00df00df00df00d_test_credentials_file.txt",
            None,
        ),
        // The vendor's receiver behind its rewrite rule
        ("kzr/index.php?recording=4f1c9d@10.1.2.3.mp3".into(), "4f1c9d@10.1.2.3.mp3", Some(ID)),
        ("kzr/index.php?recording=abc.mp3".into(), "abc.mp3", Some("abc")),
        ("kzr?recording=abc.mp3".into(), "abc.mp3", None),
        // Nothing to go by
        (String::new(), "", None),
        ("folder/".into(), "folder", None),
    ];
    for (url, name, call_id) in cases {
        let found = of_url(&url);
        assert_eq!((found.name.as_str(), found.call_id.as_deref()), (name, call_id), "{url}");
    }
}

#[test]
fn the_fields_of_a_query_are_read() {
    let text = |text: &str| Some(text.to_owned());
    let v40 = of_url(&format!("call_recording_4f1c9d%4010.1.2.3.mp3?{QUERY}"));
    let expected = Target {
        name: "call_recording_4f1c9d@10.1.2.3.mp3".to_owned(),
        call_id: text(ID),
        from: text("1001@acme.sip"),
        to: text("2002@acme.sip"),
        caller_id_name: text("Ann B"),
        caller_id_number: text("1001"),
        cdr_id: text("202501-4f1c9d@10.1.2.3"),
        interaction_id: text("63903000000-0a1b2c3d"),
        account_id: text("00000000000000000000000000000001"),
        ..Target::default()
    };
    assert_eq!(v40, expected);
    let v43 = format!(
        "call_recording_x.mp3?{QUERY}&owner_id=u7&start=63903000000&duration_ms=22225&recording_id={RECORDING}"
    );
    let more = Target {
        name: "call_recording_x.mp3".to_owned(),
        owner_id: text("u7"),
        start: Some(START),
        duration_ms: Some(22_225),
        recording_id: text(RECORDING),
        ..expected
    };
    assert_eq!(of_url(&v43), more);
    let conference = Target { conference_id: text("room"), conference_recording: text("true"), ..more };
    assert_eq!(of_url(&format!("{v43}&conference_recording=true&conference_id=room")), conference);
    let second = of_url("kzr?from=configured&x=call_recording_x.mp3?from=sent&caller_id_name=J%C3%B6rg%20A&to=");
    assert_eq!((second.from, second.to, second.caller_id_name), (text("sent"), None, text("Jörg A")));
    let insane = of_url("call_recording_x.mp3?start=12&duration_ms=-1");
    assert_eq!((insane.start, insane.duration_ms), (None, None));
    assert_eq!(of_url("0001/202501-0123456789abcdef/x.mp3").recording_id, text("202501-0123456789abcdef"));
    assert_eq!(of_url("0001/202501-xyz/x.mp3").recording_id, None);
}

#[test]
fn a_storage_plan_names_its_account_in_the_path() {
    let (account, owner) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    for (path, accounts) in [
        (format!("plan/{account}/{RECORDING}/x.mp3"), vec![account]),
        (format!("plan/{account}/{owner}/{RECORDING}/x.mp3"), vec![owner, account]),
        (format!("{account}//{owner}/{RECORDING}/x.mp3"), vec![owner, account]),
        (format!("{account}/a/b/{RECORDING}/x.mp3"), vec![]),
        (format!("plan/{account}/202501-xyz/x.mp3"), vec![]),
        (format!("{account}/x.mp3"), vec![]),
        (format!("plan/0001/{RECORDING}/x.mp3"), vec![]),
    ] {
        assert_eq!(of_url(&path).path_accounts, accounts, "{path}");
    }
}

#[test]
fn a_document_says_what_the_url_does_not() {
    let document = json!({
        "_id": "202501-0123456789abcdef", "call_id": "of-document", "from": "1@a", "to": "2@a", "start": 63_903_000_000_i64,
        "duration": 61, "name": "call_recording_named.mp3", "owner_id": "u", "pvt_account_id": "0001"
    });
    let of = |path, query| {
        Target::of(&Sent { path, query, metadata: Some(&document), received_at: RECEIVED, ..Sent::default() })
    };
    let silent = of("", None);
    assert_eq!(silent.name, "call_recording_named.mp3");
    assert_eq!((silent.start, silent.duration_ms), (Some(START), Some(61_000)));
    assert_eq!(silent.recording_id.as_deref(), Some("202501-0123456789abcdef"));
    assert_eq!((silent.owner_id.as_deref(), silent.account_id.as_deref()), (Some("u"), Some("0001")));
    assert_eq!(of("a/call_recording_x.mp3", None).call_id.as_deref(), Some("x"));
    // A name that only looks like a call id says less than the document.
    assert_eq!(of(UUID, None).call_id.as_deref(), Some("of-document"));
    let told = of("x.mp3", Some("call_id=c&from=9%40b&duration_ms=5&recording_id=r"));
    assert_eq!((told.call_id.as_deref(), told.from.as_deref(), told.duration_ms), (Some("c"), Some("9@b"), Some(5)));
    assert_eq!((told.recording_id.as_deref(), told.to.as_deref()), (Some("r"), Some("2@a")));
    let part = Target::of(&Sent { part_name: Some("call_recording_p@h.wav"), ..Sent::default() });
    assert_eq!((part.name.as_str(), part.call_id.as_deref()), ("call_recording_p@h.wav", Some("p@h")));
    let broken = json!("no object");
    assert_eq!(Target::of(&Sent { path: "a.mp3", metadata: Some(&broken), ..Sent::default() }).name, "a.mp3");
}

#[test]
fn hostile_names_are_harmless() {
    let long = format!("{}é.mp3", "x".repeat(4096));
    let cut = format!("{}é.mp3", "x".repeat(254));
    let (whole, shorter) = ("x".repeat(255), "x".repeat(254));
    for (path, name) in [
        ("../../etc/passwd", "passwd"),
        ("..%2F..%2Fetc%2Fpasswd", ".._.._etc_passwd"),
        ("..%5C..%5Cwin.ini", ".._.._win.ini"),
        ("call_recording_a%2F..%2F..%2Fb.mp3", "call_recording_a_.._.._b.mp3"),
        ("..", "__"),
        ("a/%2E", "_"),
        ("a%00b%0D%0A%1b[31m%7F.mp3", "a_b___[31m_.mp3"),
        ("%E2%80%AE3pm.exe", "_3pm.exe"),
        ("%FF%FE.mp3", "\u{fffd}\u{fffd}.mp3"),
        ("100%.mp3", "100%.mp3"),
        (long.as_str(), whole.as_str()),
        (cut.as_str(), shorter.as_str()),
    ] {
        assert_eq!(target(path, None).name, name, "{path}");
    }
    // Names that differ only by case or Unicode form stay two: nothing is looked up by name.
    for (one, other) in [("call_recording_A.mp3", "call_recording_a.mp3"), ("%C3%A9.mp3", "e%CC%81.mp3")] {
        assert_ne!(recording(&upload(one, None)).0, recording(&upload(other, None)).0);
    }
}

#[test]
fn the_upload_route_ends_where_the_name_begins() {
    for (path, rest) in [
        ("/in/kazoo/recordings/a/b.mp3", "a/b.mp3"),
        ("/in/REDACTED/kazoo/recordings/a%40b.mp3", "a%40b.mp3"),
        ("/in/kazoo/recordings//a.mp3", "/a.mp3"),
        ("/in/kazoo/recordings/kazoo/recordings/a.mp3", "kazoo/recordings/a.mp3"),
        ("/in/kazoo/recordings/", ""),
        ("/in/kazoo/recordings", ""),
        ("/in/kazoo/hook", ""),
        ("", ""),
    ] {
        assert_eq!(below(path, Source::Kazoo), rest, "{path}");
    }
    assert_eq!(uploaded_as("a%40b.mp3", Some("x=1?y=2")), "a%40b.mp3?x=1?y=2");
    assert_eq!(uploaded_as("a.mp3", None), "a.mp3");
}

fn event(source: Source, path: &str, query: Option<&str>, upload: &Upload) -> Event {
    Event {
        id: new_event_id(),
        tenant: "acme".into(),
        source,
        kind: format!("{source}.recording").into(),
        received_at: RECEIVED,
        subject: None,
        structured: false,
        method: Some("PUT".into()),
        path: Some(format!("/in/REDACTED/{source}/recordings/{path}").into()),
        query: query.map(Into::into),
        headers: Arc::new(SortedMap::from([("content-type".into(), "audio/mpeg".into())])),
        content_type: Some(UPLOAD_TYPE.into()),
        error: None,
        payload: Bytes::from(serde_json::to_vec(upload).expect("is JSON")),
    }
}

fn bytes_of(sha256: &str) -> Upload {
    Upload {
        sha256: sha256.to_owned(),
        bytes: 48_211,
        object: "objects/recordings/acme/2025-12-29/x".to_owned(),
        media_type: Some("audio/mpeg".to_owned()),
        ..Upload::default()
    }
}

fn upload(path: &str, query: Option<&str>) -> Event {
    event(Source::Kazoo, path, query, &bytes_of("aa"))
}

fn recording(event: &Event) -> (String, RecordingState, Decoded) {
    let mut decoded = decode(event);
    let fact = decoded.recording.take().expect("says something about a recording");
    assert_eq!(fact.source, event.source);
    (fact.id, fact.state, decoded)
}

fn fact(decoded: &Decoded) -> (&str, &CallState) {
    match &decoded.fact {
        Some((CallRef::Key(key), state)) => (key, state),
        other => panic!("no fact under a key: {other:?}"),
    }
}

#[test]
fn an_upload_is_a_recording_and_part_of_its_call() {
    let query = format!("{QUERY}&owner_id=u7&start=63903000000&duration_ms=22225&recording_id={RECORDING}");
    let (id, state, decoded) = recording(&upload("t1/call_recording_4f1c9d%4010.1.2.3.mp3", Some(&query)));
    assert_eq!((decoded.kind.as_str(), decoded.occurred_at, &decoded.error), ("kazoo.recording", Some(START), &None));
    assert_eq!(decoded.call_key.as_deref(), Some(ID));
    let uploaded_as = format!("t1/call_recording_4f1c9d%4010.1.2.3.mp3?{query}");
    for (field, text) in [
        (Text::Name, "call_recording_4f1c9d@10.1.2.3.mp3"),
        (Text::MediaType, "audio/mpeg"),
        (Text::ExternalId, RECORDING),
        (Text::From, "1001"),
        (Text::To, "2002"),
        (Text::Endpoint, "u7"),
        (Text::CallKey, ID),
    ] {
        assert_eq!(state.get(field), Some(text));
    }
    assert_eq!(state.uploaded_as.as_ref().map(|(_, url)| url.as_str()), Some(uploaded_as.as_str()));
    assert!(state.uploads.contains_key(&uploaded_as));
    assert_eq!((state.started_at, state.duration_ms, state.bytes), (Some(START), Some(22_225), 48_211));
    assert_eq!((state.object(), state.link_kind()), (Some("objects/recordings/acme/2025-12-29/x"), "id"));
    let (key, call) = fact(&decoded);
    assert_eq!((key, call.recordings.iter().collect::<Vec<_>>()), (ID, vec![&id]));
    assert!(call.call.has(Mark::RecordingAvailable) && !call.call.has(Mark::Started) && !call.call.has(Mark::Ended));
    assert_eq!((call.call.start, call.call.end, call.call.answer), (Some(Stamp(Rank::Guess, START)), None, None));
    assert_eq!(call.call.get(call::Text::From), Some("1001"));
    assert_eq!(call.call.get(call::Text::CallerName), Some("Ann B"));
    let attribute = |name: &str| call.attributes.get(name).map(|value| value.1.as_str());
    assert_eq!((attribute("cdr_id"), attribute("owner_id")), (Some("202501-4f1c9d@10.1.2.3"), Some("u7")));
    assert_eq!(attribute("interaction_id"), Some("63903000000-0a1b2c3d"));
}

#[test]
fn a_recording_is_the_same_only_with_all_that_makes_it() {
    let path = "call_recording_abc.mp3";
    let (id, _, first) = recording(&upload(path, None));
    // Another place and query, the same call and bytes.
    let (again, _, second) = recording(&upload("other/call_recording_abc.wav", Some("x=1")));
    assert_eq!((&id, first.fingerprint), (&again, second.fingerprint));
    let others = [
        event(Source::Kazoo, path, None, &bytes_of("bb")),
        event(Source::Virtualpbx, path, None, &bytes_of("aa")),
        upload(path, Some("recording_id=r")),
        upload("call_recording_abd.mp3", None),
        Event { tenant: "other".into(), ..upload(path, None) },
    ];
    for other in &others {
        let (different, _, decoded) = recording(other);
        assert_ne!(id, different);
        assert_ne!(first.fingerprint, decoded.fingerprint);
    }
    assert_eq!(recording(&others[1]).2.kind, "virtualpbx.recording");
}

#[test]
fn without_a_call_id_it_is_a_recording_without_a_call() {
    let (id, state, decoded) = recording(&upload("box/greeting.mp3", Some("from=1%40a")));
    assert_eq!((&decoded.call_key, &decoded.error, decoded.fact.is_none()), (&None, &None, true));
    assert_eq!(
        (state.link_kind(), state.get(Text::Name), state.get(Text::From)),
        ("none", Some("greeting.mp3"), Some("1"))
    );
    assert_ne!(id, recording(&upload("other/greeting.mp3", None)).0);
    assert_eq!(id, recording(&upload("box/greeting.mp3", Some("from=2%40a"))).0, "its query is not its path");
}

#[test]
fn a_call_id_that_is_too_long_quarantines_but_keeps_the_recording() {
    let query = format!("call_id={}", "a".repeat(1025));
    let (id, state, decoded) = recording(&upload("call_recording_x.mp3", Some(&query)));
    assert!(decoded.error.is_some() && decoded.fact.is_none() && decoded.call_key.is_none());
    assert_eq!((state.link_kind(), state.get(Text::CallKey), state.object().is_some()), ("none", None, true));
    assert!(!id.is_empty());
    let fits = format!("call_id={}", "a".repeat(1024));
    assert!(recording(&upload("call_recording_x.mp3", Some(&fits))).2.error.is_none());
}

#[test]
fn a_storage_plan_is_read_from_document_and_part() {
    let metadata: Value = json!({ "call_id": "multi@h", "from": "1001@acme.sip", "_id": RECORDING });
    let name = Some("call_recording_multi@h.wav".to_owned());
    let sent = Upload { metadata: Some(metadata), name, ..bytes_of("aa") };
    let (_, state, decoded) = recording(&event(Source::Kazoo, "", None, &sent));
    assert_eq!(decoded.call_key.as_deref(), Some("multi@h"));
    assert_eq!(state.get(Text::Name), Some("call_recording_multi@h.wav"));
    assert_eq!((state.get(Text::ExternalId), state.get(Text::From)), (Some(RECORDING), Some("1001")));
}

#[test]
fn what_is_no_upload_is_quarantined() {
    let nonsense = Event { payload: Bytes::from_static(b"nonsense"), ..upload("x.mp3", None) };
    let loaded = Event { structured: true, ..upload("call_recording_x.mp3", None) };
    for event in [nonsense, loaded] {
        let decoded = decode(&event);
        assert!(decoded.error.is_some() && decoded.recording.is_none() && decoded.fact.is_none());
        assert_eq!(decoded.kind, "kazoo.recording");
    }
}
