//! When a call is looked at: once nothing has been heard of it for a moment.
//!
//! Messages of one call come in bursts. A decision in the middle of one would rest on half of what is said, and would
//! change a row between two deliveries of the same message.

use std::time::{Duration, Instant};

/// Nothing must have been heard for so long …
const QUIET: Duration = Duration::from_secs(1);
/// … unless it goes on for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether something was heard that nobody has looked at yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stirred(Option<(Instant, Instant)>);

impl Stirred {
    /// Something was heard.
    pub fn stir(&mut self, at: Instant) {
        let since = self.0.map_or(at, |(since, _)| since);
        self.0 = Some((since, at));
    }

    /// Nothing is going on: either all was looked at, or it is time to.
    pub fn is_settled(&self, at: Instant) -> bool {
        self.0.is_none_or(|(since, last)| {
            at.saturating_duration_since(last) >= QUIET || at.saturating_duration_since(since) >= PATIENCE
        })
    }

    /// Whether it is time to look; then it has been looked at.
    pub fn take_due(&mut self, at: Instant) -> bool {
        let due = self.0.is_some() && self.is_settled(at);
        if due {
            self.0 = None;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_at_once_when_quiet_or_after_long() {
        let start = Instant::now();
        let mut stirred = Stirred::default();
        assert!(!stirred.take_due(start) && stirred.is_settled(start));
        stirred.stir(start);
        assert!(!stirred.take_due(start + QUIET / 2) && !stirred.is_settled(start + QUIET / 2));
        assert!(stirred.take_due(start + QUIET) && !stirred.take_due(start + QUIET));
        let mut busy = Stirred::default();
        for step in 0..=20 {
            busy.stir(start + QUIET / 2 * step);
        }
        assert!(busy.take_due(start + PATIENCE), "even if it never is quiet");
    }
}
