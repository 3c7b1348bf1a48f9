//! What a row shows of a state, where that is not plain.

use super::*;
use crate::event::Source;

const START: Micros = 1_767_323_045_000_000;
const SECOND: Micros = 1_000_000;

fn at(second: i64) -> Micros {
    START + second * SECOND
}

fn shown(state: &CallState, source: Source) -> CallRow {
    state.row("acme", source)
}

#[test]
fn a_success_without_a_duration_has_no_talk_of_others() {
    let mut state = CallState::default();
    for (extension, outcome, talk) in [("101", Disposition::Canceled, Some(0)), ("102", Disposition::Answered, None)] {
        let leg = state.leg(extension);
        leg.start(Rank::Receipt, at(0)).mark(Mark::Started).end(Rank::Receipt, at(60)).mark(Mark::Ended);
        leg.outcome(Rank::Message, outcome, "raw");
        if let Some(talk) = talk {
            leg.mark(Mark::CalledOff).number(Number::Talk, Rank::Message, talk);
        }
    }
    let row = shown(&state, Source::Planfix);
    assert_eq!((row.state, row.disposition, row.talk_ms), ("closed", "answered", None));
    assert_eq!(row.legs.iter().map(|leg| leg.disposition).collect::<Vec<_>>(), ["answered_elsewhere", "answered"]);
}

#[test]
fn a_talk_alone_says_nothing_about_ringing() {
    let mut state = CallState::default();
    state.call.end(Rank::Receipt, at(61)).mark(Mark::Ended).outcome(Rank::Message, Disposition::Answered, "accepted");
    state.call.number(Number::Talk, Rank::Message, 61_000);
    let row = shown(&state, Source::Placetel);
    assert_eq!((row.state, row.clock, row.started_at), ("partial", Some("derived"), Some(at(0))));
    assert_eq!((row.answered_at, row.ring_ms, row.talk_ms), (Some(at(0)), None, Some(61_000)));
}

#[test]
fn whoever_hung_up_last_released_the_call() {
    let mut state = CallState::default();
    state.attribute("calling_entity", "2:3");
    state.leg("0:12").answer(Rank::Message, at(5));
    state.released("0:12", Stamp(Rank::Message, at(20)));
    assert_eq!(shown(&state, Source::Voispeed).released_by, "callee");
    state.released("2:3", Stamp(Rank::Message, at(30)));
    assert_eq!(shown(&state, Source::Voispeed).released_by, "caller");
}

#[test]
fn an_extension_that_was_not_taken_does_not_close_the_call() {
    let mut state = CallState::default();
    let first = state.leg("35");
    first.start(Rank::Message, at(0)).mark(Mark::Started).answer(Rank::Message, at(5));
    let second = state.leg("36");
    second.start(Rank::Report, at(0)).mark(Mark::Started).end(Rank::Report, at(5)).mark(Mark::Ended);
    second.outcome(Rank::Report, Disposition::NoAnswer, "5");
    let row = shown(&state, Source::Voispeed);
    assert_eq!((row.state, row.ended_at, row.legs[1].disposition), ("open", None, "answered_elsewhere"));
    state.leg("36").outcome(Rank::Report, Disposition::Busy, "2");
    assert_eq!(shown(&state, Source::Voispeed).legs[1].disposition, "busy");
}

#[test]
fn a_lost_race_alone_does_not_close_the_call() {
    let mut state = CallState::default();
    state.call.mark(Mark::BLeg);
    let lost = state.leg("b1");
    lost.start(Rank::Message, at(0)).mark(Mark::Started).end(Rank::Message, at(5)).mark(Mark::Ended);
    lost.outcome(Rank::Message, Disposition::AnsweredElsewhere, "LOSE_RACE");
    assert_eq!(shown(&state, Source::Kazoo).state, "open");
    let won = state.leg("b2");
    won.start(Rank::Message, at(0)).mark(Mark::Started).end(Rank::Message, at(65)).mark(Mark::Ended);
    won.outcome(Rank::Message, Disposition::Answered, "NORMAL_CLEARING").number(Number::Talk, Rank::Message, 60_000);
    let row = shown(&state, Source::Kazoo);
    assert_eq!((row.state, row.disposition, row.talk_ms), ("closed", "answered", Some(60_000)));
}

#[test]
fn a_mailbox_answers_but_nobody_talks() {
    let mut state = CallState::default();
    let call = &mut state.call;
    call.mark(Mark::ALeg).start(Rank::Message, at(0)).mark(Mark::Started).answer(Rank::Message, at(20));
    call.end(Rank::Message, at(50)).mark(Mark::Ended).mark(Mark::Voicemail);
    call.outcome(Rank::Message, Disposition::Answered, "NORMAL_CLEARING").number(Number::Talk, Rank::Message, 30_000);
    let leg = state.leg("b1");
    leg.start(Rank::Message, at(0)).mark(Mark::Started).end(Rank::Message, at(20)).mark(Mark::Ended);
    leg.outcome(Rank::Message, Disposition::NoAnswer, "NO_ANSWER");
    let row = shown(&state, Source::Kazoo);
    assert_eq!((row.disposition, row.talk_ms, row.legs[0].answered_at), ("voicemail", None, None));
}

#[test]
fn colleagues_call_each_other() {
    let mut state = CallState::default();
    for (extension, direction) in [("35", "out"), ("36", "in")] {
        let leg = state.leg(extension);
        leg.text(Text::Direction, Rank::Message, direction).answer(Rank::Message, at(5));
        state.call.text(Text::Direction, Rank::Message, direction);
    }
    let row = shown(&state, Source::Voispeed);
    assert_eq!((row.direction.as_str(), row.transfers), ("internal", 0));
    let mut state = CallState::default();
    state.attribute("calling_entity", "0:7");
    state.leg("0:8").start(Rank::Message, at(0));
    assert_eq!(shown(&state, Source::Voispeed).direction, "internal");
}

#[test]
fn a_mailbox_that_was_connected_is_no_answer() {
    let mut state = CallState::default();
    let call = &mut state.call;
    call.start(Rank::Message, at(0)).mark(Mark::Started).answer(Rank::Message, at(20));
    call.end(Rank::Message, at(50)).mark(Mark::Ended).outcome(Rank::Message, Disposition::Answered, "1");
    state.leg("0:7").start(Rank::Message, at(0)).mark(Mark::Started);
    state.leg("8:3").answer(Rank::Message, at(20));
    let row = shown(&state, Source::Voispeed);
    assert_eq!((row.state, row.disposition, row.talk_ms), ("closed", "voicemail", None));
    assert_eq!(row.legs.iter().find(|leg| leg.leg_key == "8:3").map(|leg| leg.disposition), Some("voicemail"));
    state.leg("0:7").answer(Rank::Message, at(30));
    assert_eq!(shown(&state, Source::Voispeed).disposition, "answered");
}

#[test]
fn a_leg_that_talked_before_it_was_called_off_handed_the_call_on() {
    let mut state = CallState::default();
    let first = state.leg("101");
    first.start(Rank::Receipt, at(0)).mark(Mark::Started).answer(Rank::Receipt, at(5));
    first.end(Rank::Receipt, at(30)).mark(Mark::Ended).mark(Mark::CalledOff);
    first.outcome(Rank::Message, Disposition::Canceled, "Cancelled").number(Number::Talk, Rank::Message, 0);
    // Alone it is what its sender says it is.
    let alone = shown(&state, Source::Planfix);
    assert_eq!((alone.state, alone.disposition, alone.transfers), ("closed", "canceled", 0));
    let second = state.leg("102");
    second.answer(Rank::Receipt, at(30)).end(Rank::Receipt, at(65)).mark(Mark::Ended);
    second.outcome(Rank::Message, Disposition::Answered, "Success").number(Number::Talk, Rank::Message, 35_000);
    let row = shown(&state, Source::Planfix);
    assert_eq!(
        (row.disposition, row.transfers, row.ended_at, row.talk_ms),
        ("answered", 1, Some(at(65)), Some(35_000))
    );
    assert_eq!((row.legs[0].disposition, row.legs[0].talk_ms), ("answered", None));
}

#[test]
fn an_answer_at_an_unknown_time_leaves_the_ringing_unknown() {
    let mut state = CallState::default();
    state.call.start(Rank::Receipt, at(0)).mark(Mark::Started).end(Rank::Receipt, at(80)).mark(Mark::Ended);
    state.call.outcome(Rank::Message, Disposition::Answered, "accepted");
    let row = shown(&state, Source::Placetel);
    assert_eq!((row.disposition, row.answered_at, row.ring_ms, row.talk_ms), ("answered", None, None, None));
    state.call.number(Number::Ring, Rank::Report, 9_000);
    assert_eq!(shown(&state, Source::Placetel).ring_ms, Some(9_000));
}

#[test]
fn the_only_leg_ends_as_its_call_does() {
    let mut state = CallState::default();
    state.call.start(Rank::Receipt, at(0)).mark(Mark::Started).answer(Rank::Receipt, at(20));
    state.leg("").answer(Rank::Receipt, at(20));
    state.call.end(Rank::Receipt, at(45)).mark(Mark::Ended).outcome(Rank::Message, Disposition::Voicemail, "voicemail");
    let row = shown(&state, Source::Placetel);
    assert_eq!((row.disposition, row.legs[0].disposition), ("voicemail", "voicemail"));
    let mut state = CallState::default();
    let leg = state.leg("35");
    leg.start(Rank::Message, at(0)).mark(Mark::Started).end(Rank::Message, at(20)).mark(Mark::Ended);
    leg.outcome(Rank::Message, Disposition::NoAnswer, "lost_call").mark(Mark::Voicemail);
    let row = shown(&state, Source::Voispeed);
    assert_eq!((row.disposition, row.legs[0].disposition), ("voicemail", "voicemail"));
}

#[test]
fn states_that_were_stored_with_long_names_are_read() {
    let stored = serde_json::json!({
        "c": {
            "s": ["Receipt", 5],
            "o": ["Message", "Answered"],
            "t": { "Direction": ["Derived", "in"], "DispositionRaw": ["Report", "accepted"] },
            "n": { "CauseQ850": ["Guess", 16] },
            "m": ["Started", "BLegByResource", "RecordingAvailable"],
        },
    });
    let mut state = CallState::default();
    let call = &mut state.call;
    call.start(Rank::Receipt, 5).outcome(Rank::Message, Disposition::Answered, "");
    call.text(Text::Direction, Rank::Derived, "in").text(Text::DispositionRaw, Rank::Report, "accepted");
    call.number(Number::CauseQ850, Rank::Guess, 16);
    call.mark(Mark::Started).mark(Mark::BLegByResource).mark(Mark::RecordingAvailable);
    let packed = rmp_serde::to_vec_named(&stored).expect("written");
    assert_eq!(rmp_serde::from_slice::<CallState>(&packed).expect("as stored before"), state);
    assert_eq!(serde_json::from_value::<CallState>(stored).expect("as sent before"), state);
    let now = rmp_serde::to_vec_named(&state).expect("written");
    assert_eq!(rmp_serde::from_slice::<CallState>(&now).expect("as stored now"), state);
    assert!(now.len() < packed.len());
}

/// What is written is one letter; the name that was written before is read as the same.
fn expect_short<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(names: &[T]) {
    for name in names {
        let before = serde_json::json!(format!("{name:?}"));
        assert_eq!(&serde_json::from_value::<T>(before).expect("the long name"), name);
        let now = serde_json::to_value(name).expect("written");
        assert_eq!(now.as_str().map(str::len), Some(1), "{name:?}");
        assert_eq!(&serde_json::from_value::<T>(now).expect("the letter"), name);
    }
}

#[test]
fn every_name_of_before_is_read() {
    expect_short(&[Rank::Guess, Rank::Derived, Rank::Receipt, Rank::Message, Rank::Report]);
    expect_short(&[
        Text::Direction,
        Text::From,
        Text::To,
        Text::CallerName,
        Text::OwnNumber,
        Text::Endpoint,
        Text::EndpointName,
        Text::Queue,
        Text::ExternalId,
        Text::ReleasedBy,
        Text::DispositionRaw,
        Text::GroupNumber,
    ]);
    expect_short(&[
        Number::Duration,
        Number::Talk,
        Number::Ring,
        Number::Hold,
        Number::Ivr,
        Number::Queue,
        Number::CauseQ850,
        Number::SipStatus,
    ]);
    expect_short(&super::marks::ALL);
    let seen = Seen { first_received_at: 1, last_received_at: 4, first_offset: Offset(2), last_offset: Offset(3) };
    let before = r#"{"first_received_at":1,"last_received_at":4,"first_offset":2,"last_offset":3}"#;
    assert_eq!(serde_json::from_str::<Seen>(before).expect("the long names"), seen);
    let now = serde_json::to_string(&seen).expect("written");
    assert_eq!((now.as_str(), serde_json::from_str(&now).ok()), (r#"{"f":1,"l":4,"a":2,"z":3}"#, Some(seen)));
}
