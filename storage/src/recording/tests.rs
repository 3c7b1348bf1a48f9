//! The laws of the semilattice, and what the columns say.

use proptest::prelude::*;

use super::*;
use crate::call::Rank;

/// States such as messages give, with few different values, so that they collide.
fn states() -> impl Strategy<Value = RecordingState> {
    let moment = (0..4_i64, 0..6_u64).prop_map(|(at, offset)| (at, Offset(offset)));
    let texts = prop::collection::btree_map(
        prop::sample::select(vec![Text::Name, Text::From, Text::CallKey]),
        prop::sample::select(vec!["a", "b", "c"]).prop_map(|text| Ranked(Rank::Message, text.to_owned())),
        0..3,
    );
    let uploads = prop::collection::btree_map((0..40_u8).prop_map(|url| format!("u{url:02}")), moment.clone(), 0..14);
    (texts, uploads, moment, prop::option::of(0..3_i64), 0..4_u8).prop_map(|(text, uploads, at, started_at, kind)| {
        let mut state = RecordingState { text, uploads, started_at, ..RecordingState::default() };
        // One message says one thing and has one receipt, so an offset has one value.
        let at = (i64::try_from(at.1.0 % 4).unwrap_or_default(), at.1);
        let said = format!("{at:?}");
        match kind {
            0 => state.stored = Some((at, said)),
            1 => state.probe = Some((at, Probe { codec: Some(said), ..Probe::default() })),
            2 => state.link = Some((at, Link { call_key: Some(said), confidence: 0.7 })),
            _ => state.uploaded_as = Some((at, said)),
        }
        state
    })
}

fn joined(states: &[&RecordingState]) -> RecordingState {
    states.iter().fold(RecordingState::default(), |mut whole, state| {
        whole.merge((*state).clone());
        whole
    })
}

proptest! {
    #[test]
    fn merging_is_a_join(a in states(), b in states(), c in states()) {
        prop_assert_eq!(joined(&[&a, &b]), joined(&[&b, &a]));
        prop_assert_eq!(joined(&[&joined(&[&a, &b]), &c]), joined(&[&a, &joined(&[&b, &c])]));
        let whole = joined(&[&a, &b, &c]);
        prop_assert_eq!(&joined(&[&whole, &b]), &whole);
        prop_assert!(whole.uploads.len() <= UPLOADS_KEPT);
    }

    #[test]
    fn a_stored_state_comes_back(state in states()) {
        let bytes = rmp_serde::to_vec_named(&state).expect("it is written");
        prop_assert_eq!(rmp_serde::from_slice::<RecordingState>(&bytes).expect("it is read"), state);
    }
}

#[test]
fn ids_tell_parts_apart() {
    let id = |key, external| recording_id("t", Source::Kazoo, key, external, "ab");
    assert_eq!(id("k", None), id("k", Some("")));
    assert_ne!(id("k", Some("1")), id("k1", None));
    assert_ne!(id("k", None), recording_id("u", Source::Kazoo, "k", None, "ab"));
    assert!(id("k", None).len() == 32);
}

#[test]
fn the_senders_id_goes_before_any_decision() {
    let at = |offset| (1, Offset(offset));
    let mut state = RecordingState::default();
    assert_eq!((state.link_kind(), state.call()), ("none", None));
    state.link = Some((at(1), Link { call_key: Some("soft".into()), confidence: 0.7 }));
    assert_eq!((state.link_kind(), state.call()), ("soft", Some(("soft", 0.7))));
    let mut later =
        RecordingState { link: Some((at(2), Link { call_key: None, confidence: 0.7 })), ..Default::default() };
    later.merge(state.clone());
    assert_eq!(later.link_kind(), "none");
    later.text(Text::CallKey, "own");
    assert_eq!((later.link_kind(), later.call()), ("id", Some(("own", 1.0))));
}

#[test]
fn bytes_that_are_no_audio_are_damaged() {
    let mut state = RecordingState { duration_ms: Some(7), ..RecordingState::default() };
    assert_eq!((state.status(), state.length_ms()), ("received", Some(7)));
    state.probe = Some(((1, Offset(1)), Probe { error: Some("no audio".into()), ..Probe::default() }));
    assert_eq!((state.status(), state.length_ms()), ("damaged", Some(7)));
}
