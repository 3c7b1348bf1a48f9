//! The vendor's printed values, and what senders do besides.

use trunklog_storage::call::{Ranked, Stamp};
use trunklog_storage::event::Source;

use super::*;
use crate::sources::fixture::{AT, posted};

const CALL: &str = "f4591ba315d81671d7a06c2a3b4f963dafd119de39cb26edd8a6476676b2f447";

fn decoded(body: &str) -> Decoded {
    decode(&posted(Source::Placetel, "placetel.notify", body), &TenantSettings::default())
}

fn fact(decoded: &Decoded) -> &CallState {
    &decoded.fact.as_ref().expect("a fact").1
}

#[test]
fn an_incoming_call() {
    let decoded = decoded(&format!("call_id={CALL}&direction=in&event=IncomingCall&from=022129191999&to=022129191999"));
    assert_eq!((decoded.kind.as_str(), decoded.call_key.as_deref()), ("placetel.IncomingCall", Some(CALL)));
    assert!(decoded.error.is_none());
    let call = &fact(&decoded).call;
    assert_eq!(call.start, Some(Stamp(Rank::Receipt, AT)));
    assert!(call.has(Mark::Started));
    assert_eq!(call.get(Text::From), Some("022129191999"));
    assert_eq!(call.get(Text::OwnNumber), Some("022129191999"));
    assert_eq!(call.get(Text::Direction), Some("in"));
}

#[test]
fn an_outgoing_call_has_a_leg() {
    let decoded = decoded("event=OutgoingCall&from=030111&to=23&peer=7777aaaaaaa%40fpbx.de&call_id=c1&direction=out");
    let state = fact(&decoded);
    assert_eq!(state.legs["7777aaaaaaa@fpbx.de"].get(Text::Endpoint), Some("7777aaaaaaa@fpbx.de"));
    assert_eq!(state.call.get(Text::OwnNumber), Some("030111"));
}

#[test]
fn an_accepted_call() {
    let decoded = decoded(&format!("event=CallAccepted&from=anonymous&to=0222222222&call_id={CALL}&peer=p%40h"));
    let state = fact(&decoded);
    assert_eq!(state.call.answer, Some(Stamp(Rank::Receipt, AT)));
    assert_eq!(state.legs["p@h"].answer, Some(Stamp(Rank::Receipt, AT)));
    // Without a direction it is `in`, as a guess.
    assert_eq!(state.call.text[&Text::Direction], Ranked(Rank::Guess, "in".into()));
}

#[test]
fn every_hangup_type() {
    let types = [
        ("accepted", Disposition::Answered),
        ("missed", Disposition::NoAnswer),
        ("voicemail", Disposition::Voicemail),
        ("blocked", Disposition::Blocked),
        ("busy", Disposition::Busy),
        ("canceled", Disposition::Canceled),
        ("unavailable", Disposition::Unavailable),
        ("congestion", Disposition::Congestion),
        ("novelty", Disposition::Unknown),
    ];
    for (name, outcome) in types {
        let decoded = decoded(&format!("event=HungUp&from=1&to=2&call_id=c&type={name}&duration=0"));
        let call = &fact(&decoded).call;
        assert!(decoded.error.is_none() && call.has(Mark::Ended), "{name}");
        assert_eq!(call.end, Some(Stamp(Rank::Receipt, AT)), "{name}");
        assert_eq!(call.outcome, Some(Ranked(Rank::Message, outcome)), "{name}");
        assert_eq!(call.get(Text::DispositionRaw), Some(name));
        // 0 is known for every type but accepted.
        assert_eq!(call.get_number(Number::Talk), (name != "accepted").then_some(0), "{name}");
    }
}

#[test]
fn durations() {
    let talk = |duration: &str| {
        let decoded = decoded(&format!("event=HungUp&call_id=c&type=accepted&duration={duration}"));
        fact(&decoded).call.get_number(Number::Talk)
    };
    assert_eq!(talk("61"), Some(61_000));
    assert_eq!([talk("-5"), talk("99999999999999999999"), talk(""), talk("x")], [None; 4]);
}

#[test]
fn internal_calls_are_between_sip_users() {
    let decoded = decoded("event=OutgoingCall&direction=out&from=7777aaa%40fpbx.de&to=7777bbb%40fpbx.de&call_id=c");
    let call = &fact(&decoded).call;
    assert_eq!(call.get(Text::Direction), Some("internal"));
    assert_eq!(call.get(Text::From), Some("7777aaa"));
}

#[test]
fn what_is_quarantined() {
    for (body, kind) in [
        ("event=Nothing&call_id=c", "placetel.unknown"),
        ("from=1", "placetel.unknown"),
        ("event=HungUp&from=1", "placetel.HungUp"),
        ("event=HungUp&call_id=%zz", "placetel.unknown"),
        ("event=HungUp&call_id=%ff", "placetel.unknown"),
        ("{\"event\":[[", "placetel.unknown"),
    ] {
        let decoded = decoded(body);
        assert!(decoded.error.is_some() && decoded.fact.is_none(), "{body}");
        assert_eq!(decoded.kind, kind, "{body}");
    }
}

#[test]
fn the_first_of_duplicate_fields_counts() {
    let decoded = decoded("event=HungUp&event=IncomingCall&call_id=a&call_id=b&type=missed");
    assert_eq!((decoded.kind.as_str(), decoded.call_key.as_deref()), ("placetel.HungUp", Some("a")));
}

#[test]
fn repeats_have_one_fingerprint() {
    let body = "event=IncomingCall&call_id=c&from=1&to=2";
    assert_eq!(decoded(body).fingerprint, decoded(body).fingerprint);
    assert_ne!(decoded(body).fingerprint, decoded("event=IncomingCall&call_id=c&from=1&to=3").fingerprint);
}

#[test]
fn json_says_the_same() {
    let decoded = decoded(r#"{"event":"HungUp","call_id":"c","type":"accepted","duration":61,"to":"030"}"#);
    assert_eq!(fact(&decoded).call.get_number(Number::Talk), Some(61_000));
}
