//! What is sent, in which order, and what is then true. Most calls end some turns after they began, so that their rows
//! are at rest by then; some end much later, and of some the end comes before the beginning.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::Utc;
use rand::Rng;

use super::script::{self, Message, Stage};

/// Seconds between the start of a call, by its messages, and now.
const AGO: i64 = 120;
const DAY: i64 = 86_400;
/// Days over which calls begin: late ones are stored with those of their day.
const DAYS: i64 = 3;

/// What is known of a call from the messages that were sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Its start was sent.
    pub started: bool,
    /// Its end was sent, with this disposition.
    pub ended: Option<&'static str>,
}

/// The traffic of one test.
#[derive(Default)]
pub struct Traffic {
    calls: u64,
    pads: u64,
    turn: u64,
    held: BTreeMap<u64, Vec<Message>>,
    released: Vec<Arc<Message>>,
}

impl Traffic {
    /// Nothing was sent yet.
    pub fn new() -> Traffic {
        Traffic::default()
    }

    /// Begins so many calls. Gives their messages of this turn, and those of earlier calls whose turn it is.
    pub fn begin(&mut self, calls: u64) -> Vec<Arc<Message>> {
        for _ in 0..calls {
            let number = self.calls;
            self.calls += 1;
            let ago = AGO + DAY * i64::try_from(number).unwrap().rem_euclid(DAYS);
            self.schedule(script::call(number, Utc::now().timestamp() - ago));
        }
        self.turn += 1;
        let later = self.held.split_off(&self.turn);
        let due = std::mem::replace(&mut self.held, later);
        self.release(due.into_values().flatten().collect())
    }

    /// Messages of this many bytes that belong to no call.
    pub fn pad(&mut self, count: u64, bytes: usize) -> Vec<Arc<Message>> {
        let numbers = self.pads..self.pads + count;
        self.pads += count;
        self.release(numbers.map(|number| script::pad(number, bytes)).collect())
    }

    /// All that was held back.
    pub fn rest(&mut self) -> Vec<Arc<Message>> {
        let held = std::mem::take(&mut self.held);
        self.release(held.into_values().flatten().collect())
    }

    /// All that was given out.
    pub fn released(&self) -> &[Arc<Message>] {
        &self.released
    }

    /// What must be known of each call, by source and key, once all that was given out is acknowledged.
    pub fn truth(&self) -> BTreeMap<(&str, &str), Expected> {
        let mut truth = BTreeMap::<_, Expected>::new();
        for message in &self.released {
            let Some((key, stage)) = &message.about else { continue };
            let expected = truth.entry((message.source, key.as_str())).or_default();
            match stage {
                Stage::Start => expected.started = true,
                Stage::Answer => {}
                Stage::End(disposition) => expected.ended = Some(*disposition),
            }
        }
        truth
    }

    fn schedule(&mut self, mut messages: Vec<Message>) {
        let mut random = rand::rng();
        let end = messages.pop().unwrap();
        let (begins, ends) = match random.random_range(0..100) {
            0..30 => (0, 0),
            30..80 => (0, random.random_range(1..4)),
            80..92 => (0, random.random_range(4..60)),
            _ => (random.random_range(1..8), 0),
        };
        self.hold(begins, messages);
        self.hold(ends, vec![end]);
    }

    fn hold(&mut self, turns: u64, messages: Vec<Message>) {
        self.held.entry(self.turn + turns).or_default().extend(messages);
    }

    fn release(&mut self, messages: Vec<Message>) -> Vec<Arc<Message>> {
        let messages: Vec<_> = messages.into_iter().map(Arc::new).collect();
        self.released.extend(messages.iter().cloned());
        messages
    }
}
