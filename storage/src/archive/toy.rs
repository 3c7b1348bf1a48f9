//! A decoder of small text messages, for the tests of the archive, and times to put into them.

use crate::call::{CallState, Disposition, Mark, Rank, Text};
use crate::event::{Event, Micros, Source};
use crate::fact::{Decoded, Decoder};

/// Noon of 2026-01-01.
pub(crate) const NOON: Micros = 1_767_268_800_000_000;
pub(super) const HOUR: Micros = 3_600_000_000;

/// Understands `key|what|time`.
pub(crate) struct Toy;

impl Decoder for Toy {
    fn decode(&self, event: &Event) -> Decoded {
        let text = String::from_utf8_lossy(&event.payload);
        let parts: Vec<&str> = text.split('|').collect();
        let [key, what, time] = parts[..] else { return Decoded::quarantined(event, "toy", "not a toy message") };
        assert_ne!(key, "panic", "this message makes the decoder panic");
        let mut state = CallState::default();
        let at: Micros = time.parse().unwrap_or_default();
        match what {
            "start" => state.call.start(Rank::Message, at).mark(Mark::Started).text(Text::From, Rank::Message, key),
            "answer" => state.leg("1").answer(Rank::Receipt, event.received_at),
            _ => state.call.end(Rank::Receipt, event.received_at).mark(Mark::Ended).outcome(
                Rank::Message,
                Disposition::Answered,
                what,
            ),
        };
        let mut decoded = Decoded::new("toy", &[text.as_bytes()]);
        decoded.occurred_at = Some(at);
        decoded.about(key, state);
        decoded
    }

    fn e164(&self, _: &str, _: Source, _: &str) -> Option<String> {
        None
    }

    fn timeout(&self, _: &str, _: Source, _: bool) -> Micros {
        Micros::MAX
    }
}
