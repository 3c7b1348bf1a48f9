//! How well a call fits a recording: a pure function of the two.

use crate::event::Micros;
use crate::linker::are_same;
use crate::recording::Text;
use crate::rows::{KeyedCall, KeyedRecording};

/// Less than this is no link.
const LEAST: f64 = 0.6;

/// What speaks for a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fit {
    /// `name` (the file bears the call's id) or `numbers` (numbers, time and length).
    pub rule: &'static str,
    /// From 0 to 1; never 1, which is for ids that the sender gave.
    pub confidence: f64,
}

/// The file name without its extension.
pub(super) fn stem(recording: &KeyedRecording) -> Option<&str> {
    let name = recording.state.get(Text::Name)?;
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem).trim_end_matches('.');
    (!stem.is_empty()).then_some(stem)
}

/// When the recording began: as the sender says, else its length before its receipt.
pub(super) fn began(recording: &KeyedRecording) -> Micros {
    let state = &recording.state;
    let length = state.length_ms().unwrap_or_default() * 1000;
    state.started_at.unwrap_or_else(|| state.received_at().unwrap_or_default() - length)
}

/// How well this call fits; `None` if it does not.
pub(super) fn fit(recording: &KeyedRecording, call: &KeyedCall) -> Option<Fit> {
    if stem(recording).is_some_and(|stem| *stem == *call.key) {
        return Some(Fit { rule: "name", confidence: 0.95 });
    }
    let row = call.state.row(&call.tenant, call.source);
    let state = &recording.state;
    let same = |ours: Option<&str>, theirs: Option<&str>| Some(are_same(ours?, theirs?));
    let from = same(state.get(Text::From), row.from_number.as_deref());
    let to = same(state.get(Text::To), row.to_number.as_deref())
        .map(|fits| fits || same(state.get(Text::To), row.own_number.as_deref()) == Some(true));
    if from == Some(false) || to == Some(false) {
        return None;
    }
    let numbers = [from, to].into_iter().flatten().count();
    let numbers = match numbers {
        0 => return None,
        1 => 0.3,
        _ => 0.5,
    };
    let begun = began(recording);
    let answered = row.answered_at.or(row.started_at)?;
    let apart = (begun - answered).abs();
    let within = row.started_at.is_some_and(|start| begun >= start - 5_000_000)
        && row.ended_at.is_none_or(|end| begun <= end + 5_000_000);
    let exact_clock = state.started_at.is_some();
    let time = match apart {
        ..=5_000_000 if exact_clock => 0.3,
        ..=60_000_000 => 0.2,
        _ if within => 0.1,
        _ => return None,
    };
    let length = match (state.length_ms(), row.talk_ms.or(row.duration_ms)) {
        (Some(ours), Some(theirs)) if (ours - theirs).abs() <= 2_000.max(theirs / 20) => 0.15,
        (Some(ours), Some(theirs)) if ours > theirs + 5_000 => -0.2,
        _ => 0.0,
    };
    let confidence: f64 = numbers + time + length;
    (confidence >= LEAST).then_some(Fit { rule: "numbers", confidence: confidence.min(0.95) })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::call::{CallState, Disposition, Mark, Rank, Text as CallText};
    use crate::event::{Offset, Source};
    use crate::recording::RecordingState;
    use crate::rows::Keyed;

    const SECOND: Micros = 1_000_000;
    const START: Micros = 1_767_323_045 * SECOND;

    fn recording(name: &str, from: &str, to: &str, started_at: Option<Micros>, length_ms: i64) -> KeyedRecording {
        let mut state = RecordingState {
            stored: Some(((START + 70 * SECOND, Offset(5)), "objects/recordings/t/d/r".to_owned())),
            started_at,
            duration_ms: Some(length_ms),
            ..RecordingState::default()
        };
        state.text(Text::Name, name).text(Text::From, from).text(Text::To, to);
        keyed("r", state)
    }

    fn call(key: &str, from: &str, to: &str, started_at: Micros) -> KeyedCall {
        let mut state = CallState::default();
        state.call.text(CallText::From, Rank::Message, from).text(CallText::To, Rank::Message, to);
        state.call.start(Rank::Message, started_at).answer(Rank::Message, started_at + 10 * SECOND);
        state.call.end(Rank::Message, started_at + 70 * SECOND).mark(Mark::Ended);
        state.call.outcome(Rank::Message, Disposition::Answered, "");
        keyed(key, state)
    }

    fn keyed<S>(key: &str, state: S) -> Keyed<S> {
        Keyed {
            tenant: "t".into(),
            source: Source::Placetel,
            id: key.into(),
            key: key.into(),
            day: 0,
            state: Arc::new(state),
        }
    }

    #[test]
    fn a_name_that_is_a_call_id_fits_best() {
        let named = recording("abc.mp3", "", "", None, 60_000);
        assert_eq!(fit(&named, &call("abc", "1", "2", 0)).map(|fit| fit.rule), Some("name"));
        assert_eq!(fit(&named, &call("abd", "1", "2", START)), None);
    }

    #[test]
    fn numbers_time_and_length_count_together() {
        let whole = recording("x.mp3", "+493012345", "030 98765", Some(START + 10 * SECOND), 60_000);
        let fits = |call: &KeyedCall| fit(&whole, call).map(|fit| (fit.confidence * 100.0).round());
        assert_eq!(fits(&call("a", "03012345", "493098765", START)), Some(95.0));
        assert_eq!(fits(&call("b", "03012345", "493098765", START - 40 * SECOND)), Some(85.0));
        assert_eq!(fits(&call("c", "03012346", "493098765", START)), None);
        assert_eq!(fits(&call("d", "03012345", "493098765", START - 3600 * SECOND)), None);
    }

    #[test]
    fn one_number_wants_time_and_length_besides() {
        let half = recording("x.mp3", "+493012345", "", Some(START + 10 * SECOND), 60_000);
        assert!(fit(&half, &call("a", "03012345", "2", START)).is_some());
        let vague = recording("x.mp3", "+493012345", "", None, 5_000);
        assert_eq!(fit(&vague, &call("a", "03012345", "2", START)), None);
        let none = recording("x.mp3", "", "", Some(START), 60_000);
        assert_eq!(fit(&none, &call("a", "1", "2", START)), None);
    }

    #[test]
    fn short_numbers_must_be_equal() {
        assert!(are_same("23", "23") && !are_same("23", "123") && are_same("ann@a.sip", "ann@b.sip"));
        assert!(are_same("0049 30 12345", "+493012345") && !are_same("anonymous", "12345"));
    }
}
