//! What a load amounts to, so that whoever folds it can be checked.

use serde_json::{Value, json};

use super::deliveries::{Delivery, Step};

/// Counts and sums over deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Deliveries.
    pub messages: u64,
    /// Of them those that repeat an earlier one.
    pub repeats: u64,
    /// Of them the late ones.
    pub late: u64,
    /// Calls whose beginning was delivered.
    pub calls: u64,
    /// Of the calls whose end was delivered those that were answered.
    pub answered: u64,
    /// Their talk in milliseconds.
    pub talk_ms: i64,
}

impl Tally {
    /// Takes up one more.
    pub fn add(&mut self, delivery: &Delivery) {
        self.messages += 1;
        self.late += u64::from(delivery.late);
        if delivery.is_repeat() {
            self.repeats += 1;
            return;
        }
        match delivery.step {
            Step::Begin => self.calls += 1,
            Step::End if delivery.call.is_answered() => {
                self.answered += 1;
                self.talk_ms += delivery.call.talk / 1000;
            }
            _ => {}
        }
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "messages": self.messages,
            "repeats": self.repeats,
            "late": self.late,
            "calls": self.calls,
            "answered": self.answered,
            "talk_ms": self.talk_ms,
        })
    }
}
