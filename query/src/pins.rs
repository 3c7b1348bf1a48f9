//! Snapshots that cursors still need, kept in memory for a while.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use trunklog_storage::partitions::Snapshot;

use crate::moment::AsOf;

const MOST: usize = 64;
const LIFETIME: Duration = Duration::from_secs(600);

/// The latest snapshots that a cursor was given out for, the oldest use first.
#[derive(Default)]
pub(crate) struct Pins(Mutex<VecDeque<Pin>>);

struct Pin {
    as_of: AsOf,
    used: Instant,
    snapshot: Snapshot,
}

impl Pins {
    pub(crate) fn keep(&self, as_of: AsOf, snapshot: &Snapshot) {
        let mut pins = self.0.lock();
        pins.retain(|pin| pin.as_of != as_of && pin.used.elapsed() < LIFETIME);
        while pins.len() >= MOST {
            pins.pop_front();
        }
        pins.push_back(Pin { as_of, used: Instant::now(), snapshot: snapshot.clone() });
    }

    pub(crate) fn find(&self, as_of: AsOf) -> Option<Snapshot> {
        let pins = self.0.lock();
        let pin = pins.iter().find(|pin| pin.as_of == as_of && pin.used.elapsed() < LIFETIME)?;
        Some(pin.snapshot.clone())
    }
}
