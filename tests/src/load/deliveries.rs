//! Messages by arrival: ordinary jitter, repeats, and the few that come hours late. Holds only what is under way.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::iter::Peekable;

use trunklog_storage::event::{Micros, Source};

use super::calls::{Call, Calls, Settings};
use super::random::Random;

const SECOND: f64 = 1e6;
const JITTER_SECONDS: f64 = 0.35;
const REPEATED: f64 = 0.01;
const REPEAT_SECONDS: f64 = 20.0;
const LATE: f64 = 0.005;
const LATE_SECONDS: (f64, f64) = (600.0, 72.0 * 3600.0);
/// Deliveries of a call are numbered below this.
const DELIVERIES_OF_A_CALL: u64 = 16;
/// The B-leg starts so much later.
const DIALLED: Micros = 300_000;

/// What a message says about its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It begins.
    Begin,
    /// The B-leg begins.
    LegBegin,
    /// The B-leg is answered.
    LegAnswer,
    /// It is answered.
    Answer,
    /// The B-leg ends.
    LegEnd,
    /// It ends.
    End,
}

impl Step {
    const ALL: [Step; 6] = [Step::Begin, Step::LegBegin, Step::LegAnswer, Step::Answer, Step::LegEnd, Step::End];

    /// Whether it is about the B-leg.
    pub fn is_of_leg(self) -> bool {
        matches!(self, Step::LegBegin | Step::LegAnswer | Step::LegEnd)
    }

    /// When this call's system sends it, if it does.
    fn sent_at(self, call: &Call) -> Option<Micros> {
        let answered = call.is_answered();
        // Placetel never says that an outgoing call was answered.
        let says_answer = answered && (call.source != Source::Placetel || call.inbound);
        match self {
            Step::Begin => Some(call.start),
            Step::LegBegin => call.bridged.then_some(call.start + DIALLED),
            Step::LegAnswer => call.bridged.then_some(call.answer().max(call.start + DIALLED)),
            Step::Answer => says_answer.then_some(call.answer()),
            Step::LegEnd => call.bridged.then_some(call.end()),
            Step::End => Some(call.end()),
        }
    }
}

/// Which messages are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All.
    All,
    /// Those that are not late.
    Main,
    /// Those that are.
    Late,
}

/// One arrival of a message.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// When it arrives.
    pub received_at: Micros,
    /// When it was sent: the time that it carries, if its system writes any.
    pub sent_at: Micros,
    /// No other delivery has it; a repeat has that of the first delivery and 1.
    pub number: u64,
    /// About which call.
    pub call: Call,
    /// What it says.
    pub step: Step,
    /// Later than anybody waits.
    pub late: bool,
}

impl Delivery {
    /// Another delivery of a message that has arrived before.
    pub fn is_repeat(&self) -> bool {
        self.number % 2 == 1
    }

    /// Number of the first delivery of the same message.
    pub fn first(&self) -> u64 {
        self.number & !1
    }
}

impl PartialEq for Delivery {
    fn eq(&self, other: &Delivery) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Delivery {}

impl PartialOrd for Delivery {
    fn partial_cmp(&self, other: &Delivery) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The earliest is the greatest, as a heap gives that first.
impl Ord for Delivery {
    fn cmp(&self, other: &Delivery) -> Ordering {
        (other.received_at, other.number).cmp(&(self.received_at, self.number))
    }
}

/// All deliveries of a part by arrival.
#[derive(Debug)]
pub struct Deliveries {
    calls: Peekable<Calls>,
    part: Part,
    under_way: BinaryHeap<Delivery>,
}

impl Deliveries {
    /// Those of these settings.
    pub fn new(settings: Settings, part: Part) -> Deliveries {
        Deliveries { calls: Calls::new(settings).peekable(), part, under_way: BinaryHeap::new() }
    }

    /// How many messages wait for their time.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    fn send(&mut self, call: Call, mut random: Random) {
        let base = call.index * DELIVERIES_OF_A_CALL;
        for (number, step) in Step::ALL.into_iter().enumerate() {
            let Some(sent_at) = step.sent_at(&call) else { continue };
            let late = random.chance(LATE);
            let delay = random.exponential(JITTER_SECONDS)
                + if late { random.log_uniform(LATE_SECONDS.0, LATE_SECONDS.1) } else { 0.0 };
            let repeat = random.chance(REPEATED).then(|| random.exponential(REPEAT_SECONDS));
            let wanted = match self.part {
                Part::All => true,
                Part::Main => !late,
                Part::Late => late,
            };
            if !wanted {
                continue;
            }
            let received_at = sent_at + (delay * SECOND) as Micros;
            let number = base + 2 * number as u64;
            let first = Delivery { received_at, sent_at, number, call, step, late };
            self.under_way.push(first);
            if let Some(later) = repeat {
                let received_at = received_at + (later * SECOND) as Micros;
                self.under_way.push(Delivery { received_at, number: number + 1, ..first });
            }
        }
    }
}

impl Iterator for Deliveries {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        loop {
            let next_start = self.calls.peek().map(|(call, _)| call.start);
            let earliest = self.under_way.peek().map(|delivery| delivery.received_at);
            // No message of a call arrives before the call starts.
            let ready = earliest.is_some_and(|at| next_start.is_none_or(|start| at < start));
            if ready {
                return self.under_way.pop();
            }
            let (call, random) = self.calls.next()?;
            self.send(call, random);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SETTINGS: Settings = Settings { calls: 50_000, days: 5, from: 1_788_220_800_000_000, seed: 2 };

    #[test]
    fn deliveries_come_by_arrival_with_their_shares_of_trouble() {
        let mut deliveries = Deliveries::new(SETTINGS, Part::All);
        let (mut all, mut longest) = (Vec::new(), 0);
        while let Some(delivery) = deliveries.next() {
            longest = longest.max(deliveries.under_way());
            all.push(delivery);
        }
        assert!(all.windows(2).all(|pair| pair[0].received_at <= pair[1].received_at));
        let share = |count: usize| count as f64 / all.len() as f64;
        assert!((2.3..2.8).contains(&(all.len() as f64 / 50_000.0)), "{}", all.len());
        assert!((0.008..0.012).contains(&share(all.iter().filter(|delivery| delivery.is_repeat()).count())));
        assert!((0.004..0.006).contains(&share(all.iter().filter(|delivery| delivery.late).count())));
        assert!(longest < 3_000, "{longest} messages were under way");
    }

    #[test]
    fn a_repeat_follows_its_first_delivery() {
        let mut seen = HashSet::new();
        for delivery in Deliveries::new(SETTINGS, Part::All) {
            assert!(seen.insert(delivery.number));
            assert!(!delivery.is_repeat() || seen.contains(&delivery.first()));
            assert!(delivery.received_at >= delivery.sent_at);
        }
    }

    #[test]
    fn main_and_late_are_all() {
        let numbers =
            |part| -> HashSet<u64> { Deliveries::new(SETTINGS, part).map(|delivery| delivery.number).collect() };
        let (main, late) = (numbers(Part::Main), numbers(Part::Late));
        assert!(main.is_disjoint(&late));
        assert_eq!(main.union(&late).copied().collect::<HashSet<u64>>(), numbers(Part::All));
    }
}
