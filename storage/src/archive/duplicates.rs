//! Which message is another delivery of which: an index of recent fingerprints, a pure function of the log.
//!
//! Kept are the messages of the last seven days (by the highest receipt time seen so far) and, whatever their times,
//! the last [`KEPT_MESSAGES`]; so memory is bounded and a bulk load of old messages still knows its repeats.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::event::{Micros, Offset, Source};
use crate::fact::DUPLICATE_WINDOW;

/// Messages that are kept whatever their receipt times.
pub(crate) const KEPT_MESSAGES: u64 = 1_000_000;

type Key = [u8; 16];

#[derive(Debug, Clone)]
struct Delivery {
    received_at: Micros,
    event_id: Arc<str>,
}

/// The index.
#[derive(Debug, Default)]
pub(crate) struct Duplicates {
    by_key: HashMap<Key, Vec<Delivery>>,
    order: VecDeque<(Offset, Micros, Key)>,
    latest: Micros,
}

fn key(tenant: &str, source: Source, fingerprint: &str) -> Key {
    let mut hash = Sha256::new();
    for part in [tenant, "\0", source.as_str(), "\0", fingerprint] {
        hash.update(part.as_bytes());
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hash.finalize()[..16]);
    key
}

impl Duplicates {
    /// The event id of the first message in the log of this fingerprint at most `window` away; then remembers this
    /// one. Must be called in log order.
    pub fn note(
        &mut self,
        tenant: &str,
        source: Source,
        fingerprint: &str,
        window: Micros,
        message: (Offset, Micros, &str),
    ) -> Option<Arc<str>> {
        let (offset, received_at, event_id) = message;
        let key = key(tenant, source, fingerprint);
        let deliveries = self.by_key.entry(key).or_default();
        let first = deliveries.iter().find(|delivery| (received_at - delivery.received_at).abs() <= window);
        let original = first.map(|delivery| Arc::clone(&delivery.event_id));
        deliveries.push(Delivery { received_at, event_id: event_id.into() });
        self.order.push_back((offset, received_at, key));
        self.latest = self.latest.max(received_at);
        self.forget(offset);
        original
    }

    fn forget(&mut self, offset: Offset) {
        while let Some(&(oldest, received_at, key)) = self.order.front() {
            let recent = oldest.0 + KEPT_MESSAGES > offset.0 || received_at + DUPLICATE_WINDOW >= self.latest;
            if recent {
                return;
            }
            self.order.pop_front();
            if let Some(deliveries) = self.by_key.get_mut(&key) {
                deliveries.remove(0);
                if deliveries.is_empty() {
                    self.by_key.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Micros = 86_400_000_000;

    fn note(index: &mut Duplicates, offset: u64, day: i64) -> Option<String> {
        let id = format!("event-{offset}");
        let message = (Offset(offset), day * DAY, id.as_str());
        index.note("acme", Source::Placetel, "f", DUPLICATE_WINDOW, message).map(|id| id.to_string())
    }

    #[test]
    fn the_original_is_the_first_within_seven_days() {
        let mut index = Duplicates::default();
        assert_eq!(note(&mut index, 0, 0), None);
        assert_eq!(note(&mut index, 1, 5).as_deref(), Some("event-0"));
        assert_eq!(note(&mut index, 2, 9).as_deref(), Some("event-1"));
        assert_eq!(note(&mut index, 3, 30), None);
    }

    #[test]
    fn tenants_and_sources_are_apart() {
        let mut index = Duplicates::default();
        assert_eq!(index.note("a", Source::Kazoo, "f", 1, (Offset(0), 0, "x")), None);
        assert_eq!(index.note("b", Source::Kazoo, "f", 1, (Offset(1), 0, "y")), None);
        assert_eq!(index.note("a", Source::Virtualpbx, "f", 1, (Offset(2), 0, "z")), None);
    }
}
