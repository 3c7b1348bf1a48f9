//! The vendor's printed values, the aliases that are really sent, and what is invalid.

use trunklog_storage::call::{Ranked, Stamp};
use trunklog_storage::event::Source;

use super::*;
use crate::sources::fixture::{AT, posted};

fn decoded(body: &str) -> Decoded {
    decode(&posted(Source::Planfix, "planfix.post", body), &TenantSettings::default())
}

fn fact(decoded: &Decoded) -> &CallState {
    &decoded.fact.as_ref().expect("a fact").1
}

#[test]
fn the_vendors_sample() {
    let decoded = decoded(
        "cmd=event&type=out&event=COMPLETED&phone=79101234567&ext=102&callid=D10D0EB124F4E64AF4EA-1511&duration=124\
         &is_recorded=1&status=Success&record_link=https%3A%2F%2Flink%2Ffile.mp3&planfix_token=REDACTED\
         &data_utm_source=site.io&data_utm_medium=banner",
    );
    assert_eq!(decoded.kind, "planfix.COMPLETED");
    assert_eq!(decoded.call_key.as_deref(), Some("D10D0EB124F4E64AF4EA-1511"));
    let state = fact(&decoded);
    assert_eq!((state.call.get(Text::From), state.call.get(Text::To)), (Some("102"), Some("79101234567")));
    assert_eq!(state.call.get(Text::OwnNumber), None);
    assert!(state.call.has(Mark::RecordingExpected));
    let leg = &state.legs["102"];
    assert_eq!(leg.outcome, Some(Ranked(Rank::Message, Disposition::Answered)));
    assert_eq!(leg.get_number(Number::Talk), Some(124_000));
    assert_eq!(leg.end, Some(Stamp(Rank::Receipt, AT)));
    let attributes: Vec<(&str, &str)> =
        state.attributes.iter().map(|(name, value)| (name.as_str(), value.1.as_str())).collect();
    let expected = [("record_link", "https://link/file.mp3"), ("utm_medium", "banner"), ("utm_source", "site.io")];
    assert_eq!(attributes, expected);
}

#[test]
fn an_incoming_call_and_its_answer() {
    let incoming = "cmd=event&type=in&event=INCOMING&phone=79990001122&diversion=74950001122&ext=102&callid=A1-77";
    let first = decoded(incoming);
    let state = fact(&first);
    assert_eq!(state.legs["102"].start, Some(Stamp(Rank::Receipt, AT)));
    assert!(state.legs["102"].has(Mark::Started));
    assert_eq!((state.call.get(Text::From), state.call.get(Text::To)), (Some("79990001122"), Some("74950001122")));
    assert_eq!(state.call.get(Text::GroupNumber), Some("74950001122"));
    let second = decoded(&incoming.replace("INCOMING", "ACCEPTED"));
    assert_eq!(fact(&second).legs["102"].answer, Some(Stamp(Rank::Receipt, AT)));
    assert_ne!(first.fingerprint, second.fingerprint);
}

#[test]
fn every_status() {
    let statuses = [
        ("Success", Disposition::Answered),
        ("Missed", Disposition::NoAnswer),
        ("NoAnswer", Disposition::NoAnswer),
        ("Canceled", Disposition::Canceled),
        ("Cancelled", Disposition::Canceled),
        ("Busy", Disposition::Busy),
        ("NotAvailable", Disposition::Unavailable),
        ("NotAvaliable", Disposition::Unavailable),
        ("NotAllowed", Disposition::NotAllowed),
        ("SUCCESS", Disposition::Answered),
        ("Novelty", Disposition::Unknown),
    ];
    for (status, outcome) in statuses {
        let body = format!("cmd=event&type=in&event=COMPLETED&phone=7&ext=1&callid=c&duration=&status={status}");
        let decoded = decoded(&body);
        let leg = &fact(&decoded).legs["1"];
        assert_eq!(leg.outcome, Some(Ranked(Rank::Message, outcome)), "{status}");
        assert_eq!(leg.has(Mark::CalledOff), outcome == Disposition::Canceled, "{status}");
        assert_eq!(leg.get_number(Number::Talk), None, "{status}");
        assert_eq!(leg.get(Text::DispositionRaw), Some(status));
    }
}

#[test]
fn a_record() {
    let decoded = decoded("cmd=record&callid=D10&record_link=https%3A%2F%2Flink%2Ffile.mp3&is_temp=1");
    assert_eq!(decoded.kind, "planfix.record");
    let state = fact(&decoded);
    assert!(state.call.has(Mark::RecordingExpected) && state.legs.is_empty());
    assert_eq!(state.attributes["is_temp"].1, "1");
}

#[test]
fn invalid_parameters() {
    for (body, kind) in [
        ("planfix_token=REDACTED", "planfix.unknown"),
        ("cmd=makeCall&from=101", "planfix.unknown"),
        ("cmd=event&type=in&event=RINGING&phone=7&callid=c", "planfix.unknown"),
        ("cmd=event&type=in&event=INCOMING&phone=7", "planfix.INCOMING"),
        ("cmd=event&type=up&event=INCOMING&phone=7&callid=c", "planfix.INCOMING"),
        ("cmd=event&type=in&event=INCOMING&callid=c", "planfix.INCOMING"),
        ("cmd=record&callid=c", "planfix.record"),
        ("cmd=record&record_link=x", "planfix.record"),
        ("cmd=%", "planfix.unknown"),
    ] {
        let decoded = decoded(body);
        assert!(decoded.error.is_some() && decoded.fact.is_none(), "{body}");
        assert_eq!(decoded.kind, kind, "{body}");
    }
}
