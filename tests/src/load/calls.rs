//! Calls by start: who calls whom, when, how long it rings and how it ends. Plain code.
//!
//! Arrivals are uniform within the hour, hours and days of the week have their weights; ringing and talk are
//! log-normal; numbers are used as unevenly as Zipf's law says.

use trunklog_storage::event::{Micros, Source};

use super::random::Random;

/// Weights of the hours of a day (UTC).
const HOURS: [f64; 24] = [
    0.20, 0.12, 0.08, 0.07, 0.10, 0.25, 0.80, 2.2, 4.6, 7.6, 8.8, 8.6, 6.9, 7.8, 8.7, 8.4, 7.6, 6.0, 3.9, 2.6, 1.9,
    1.3, 0.8, 0.4,
];
/// Weights of the days from Monday on.
const WEEKDAYS: [f64; 7] = [1.06, 1.04, 1.0, 1.0, 0.95, 0.34, 0.20];
const HOUR: Micros = 3600 * 1_000_000;
/// The first day of the epoch was a Thursday.
const WEEKDAY_OF_EPOCH: i64 = 3;
/// Which systems calls come over.
const SOURCES: [(Source, f64); 5] = [
    (Source::Placetel, 0.80),
    (Source::Kazoo, 0.06),
    (Source::Virtualpbx, 0.02),
    (Source::Voispeed, 0.06),
    (Source::Planfix, 0.06),
];
const OUTCOMES: [(Outcome, f64); 5] = [
    (Outcome::Answered, 0.71),
    (Outcome::NoAnswer, 0.16),
    (Outcome::Busy, 0.07),
    (Outcome::Failed, 0.04),
    (Outcome::Canceled, 0.02),
];
const INBOUND: f64 = 0.62;
/// Share of the Kazoo calls whose B-leg is reported too.
const BRIDGED: f64 = 0.3;
const OWN_NUMBERS: u64 = 2_000;
const AGENTS: u64 = 500;
/// Different numbers outside, for each call.
const OUTSIDE_PER_CALL: f64 = 0.15;
const FEWEST_OUTSIDE: u64 = 1_000;
/// A stream of chance that no call has.
const ARRIVALS: u64 = u64::MAX;

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody talked.
    Answered,
    /// It rang in vain.
    NoAnswer,
    /// The line was busy.
    Busy,
    /// The network failed.
    Failed,
    /// The caller gave up.
    Canceled,
}

impl Outcome {
    /// As NDJSON says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::NoAnswer => "no_answer",
            Outcome::Busy => "busy",
            Outcome::Failed => "failed",
            Outcome::Canceled => "canceled",
        }
    }
}

/// What the load is a function of.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Number of calls.
    pub calls: u64,
    /// Days that they are spread over.
    pub days: u32,
    /// First moment, a midnight UTC.
    pub from: Micros,
    /// Same seed, same calls.
    pub seed: u64,
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    /// Number of the call, by start.
    pub index: u64,
    /// The system that reports it.
    pub source: Source,
    /// From outside.
    pub inbound: bool,
    /// How it ends.
    pub outcome: Outcome,
    /// Kazoo: the B-leg is reported too.
    pub bridged: bool,
    /// Whole milliseconds.
    pub start: Micros,
    /// Until the answer, or the end of a call that nobody answered.
    pub ring: Micros,
    /// Whole seconds (as most systems count), 0 of a call that nobody answered.
    pub talk: Micros,
    /// Which own number.
    pub own: u64,
    /// Which number outside.
    pub outside: u64,
    /// Who takes or makes it.
    pub agent: u64,
    /// What its ids are made of.
    pub identity: [u64; 2],
}

impl Call {
    /// The call of this number that starts then, and what else its chance decides.
    pub fn new(settings: &Settings, index: u64, start: Micros) -> (Call, Random) {
        let mut random = Random::of(settings.seed, index);
        let source = random.weighted(&SOURCES);
        let outcome = random.weighted(&OUTCOMES);
        let answered = outcome == Outcome::Answered;
        let inbound = random.chance(INBOUND);
        let ring = (random.log_normal(8.0, 0.6).min(60.0) * 1000.0) as Micros * 1000;
        let talk = random.log_normal(95.0, 1.15).clamp(1.0, 4.0 * 3600.0) as Micros * 1_000_000;
        let outside = ((settings.calls as f64 * OUTSIDE_PER_CALL) as u64).max(FEWEST_OUTSIDE);
        let call = Call {
            index,
            source,
            inbound,
            outcome,
            bridged: answered && matches!(source, Source::Kazoo | Source::Virtualpbx) && random.chance(BRIDGED),
            start,
            ring,
            talk: if answered { talk } else { 0 },
            own: random.zipf(OWN_NUMBERS, 1.0),
            outside: random.zipf(outside, 0.8),
            agent: random.below(AGENTS),
            identity: [random.bits(), random.bits()],
        };
        (call, random)
    }

    /// Whether anybody talked.
    pub fn is_answered(&self) -> bool {
        self.outcome == Outcome::Answered
    }

    /// When it is answered, if it is.
    pub fn answer(&self) -> Micros {
        self.start + self.ring
    }

    /// When it ends.
    pub fn end(&self) -> Micros {
        self.answer() + self.talk
    }
}

/// All calls by start, each with the rest of its chance.
#[derive(Debug)]
pub struct Calls {
    settings: Settings,
    random: Random,
    /// Sum of all weights.
    total: f64,
    /// Sum of the weights of the hours up to and with the present one.
    weight: f64,
    hour: i64,
    /// How much of the present hour has gone, from 0 to 1.
    position: f64,
    left_in_hour: u64,
    index: u64,
}

impl Calls {
    /// Those of these settings.
    pub fn new(settings: Settings) -> Calls {
        let total = (0..i64::from(settings.days) * 24).map(|hour| weight(&settings, hour)).sum();
        Calls {
            settings,
            random: Random::of(settings.seed, ARRIVALS),
            total,
            weight: 0.0,
            hour: -1,
            position: 0.0,
            left_in_hour: 0,
            index: 0,
        }
    }

    fn next_hour(&mut self) {
        self.hour += 1;
        self.weight += weight(&self.settings, self.hour);
        self.position = 0.0;
        let last = self.hour + 1 >= i64::from(self.settings.days) * 24;
        let calls = self.settings.calls;
        let until = if last { calls } else { (calls as f64 * self.weight / self.total).round() as u64 };
        self.left_in_hour = until.min(calls).saturating_sub(self.index);
    }
}

fn weight(settings: &Settings, hour: i64) -> f64 {
    let day = settings.from.div_euclid(24 * HOUR) + hour / 24;
    HOURS[(hour % 24) as usize] * WEEKDAYS[(day + WEEKDAY_OF_EPOCH).rem_euclid(7) as usize]
}

impl Iterator for Calls {
    type Item = (Call, Random);

    fn next(&mut self) -> Option<(Call, Random)> {
        if self.index >= self.settings.calls || self.settings.days == 0 {
            return None;
        }
        while self.left_in_hour == 0 {
            self.next_hour();
        }
        // The next of so many moments that are uniform over the rest of the hour.
        let survives = (1.0 - self.random.uniform()).powf(1.0 / self.left_in_hour as f64);
        self.position = 1.0 - (1.0 - self.position) * survives;
        self.left_in_hour -= 1;
        let milliseconds = (self.position * 3_600_000.0).min(3_599_999.0) as Micros;
        let start = self.settings.from + self.hour * HOUR + milliseconds * 1000;
        let call = Call::new(&self.settings, self.index, start);
        self.index += 1;
        Some(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-09-01T00:00:00Z, a Tuesday.
    const FROM: Micros = 1_788_220_800_000_000;

    #[test]
    fn calls_are_as_many_as_wanted_in_order_and_by_the_weights() {
        let settings = Settings { calls: 100_000, days: 14, from: FROM, seed: 1 };
        let calls: Vec<Call> = Calls::new(settings).map(|(call, _)| call).collect();
        assert_eq!(calls.len(), 100_000);
        assert!(calls.windows(2).all(|pair| pair[0].start <= pair[1].start));
        assert!(calls.iter().all(|call| (FROM..FROM + 14 * 24 * HOUR).contains(&call.start)));
        let on = |day: i64| calls.iter().filter(|call| (call.start - FROM) / (24 * HOUR) == day).count() as f64;
        // Sunday, then Monday.
        assert!((on(5) / on(6) - 0.20 / 1.06).abs() < 0.02, "{} {}", on(5), on(6));
        let answered = calls.iter().filter(|call| call.is_answered()).count();
        assert!((70_000..72_000).contains(&answered), "{answered}");
        assert!(calls.iter().all(|call| call.is_answered() == (call.talk >= 1_000_000)));
    }

    #[test]
    fn the_same_seed_makes_the_same_calls() {
        let made = |seed| -> Vec<Call> {
            Calls::new(Settings { calls: 500, days: 2, from: FROM, seed }).map(|(call, _)| call).collect()
        };
        assert_eq!(made(3), made(3));
        assert_ne!(made(3), made(4));
    }
}
