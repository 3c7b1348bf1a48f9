//! The plan: which calls take place, when, between whom, and how long they last. Knows no wire format.
//!
//! Everything about call number `i` is a function of the seed and `i` alone (times also of "now"), so that a run can
//! be repeated and a longer run begins with the calls of a shorter one.

use chrono::{DateTime, Datelike, Timelike, Utc};
use chrono_tz::Tz;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{LogNormal, Zipf};
use sha2::{Digest, Sha256};
use trunklog_storage::event::{Source, hex};

/// The generator of all chance in a simulation.
pub type Random = ChaCha8Rng;

/// Calls by hour of the day (UTC), in per cent.
const HOURS: [f64; 24] = [
    0.20, 0.12, 0.08, 0.07, 0.10, 0.25, 0.80, 2.2, 4.6, 7.6, 8.8, 8.6, 6.9, 7.8, 8.7, 8.4, 7.6, 6.0, 3.9, 2.6, 1.9,
    1.3, 0.8, 0.4,
];
/// Calls by day of the week, Monday first, relative to a mean working day.
const WEEKDAYS: [f64; 7] = [1.06, 1.04, 1.0, 1.0, 0.95, 0.34, 0.20];
/// Share of each source.
const SOURCES: [(Source, f64); 5] = [
    (Source::Kazoo, 0.30),
    (Source::Virtualpbx, 0.15),
    (Source::Placetel, 0.25),
    (Source::Voispeed, 0.18),
    (Source::Planfix, 0.12),
];
/// What a call may take besides ringing and talk (IVR, queue, a voice message), in seconds.
const EXTRA_SECONDS: i64 = 180;
const NAMES: [&str; 12] = [
    "Anna Weber",
    "Jürgen Müller",
    "Chiara Rossi",
    "Иван Петров",
    "Lena Brandt",
    "Marco Conti",
    "Ann B",
    "O'Neil, Pat",
    "Sofia Greco",
    "Tom & Co",
    "Ольга Смирнова",
    "Max Schäfer",
];

/// Generator number `stream` of this seed; streams are independent of each other.
pub fn random(seed: u64, stream: u64) -> Random {
    let mut random = Random::seed_from_u64(seed);
    random.set_stream(stream);
    random
}

/// What the plan of a run depends on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// All chance comes from it.
    pub seed: u64,
    /// Every call ends before this time (Unix seconds).
    pub now: i64,
    /// The calls spread over so many days before.
    pub days: u32,
    /// Sources that take part.
    pub sources: Vec<Source>,
    /// The zone in which VOIspeed writes local times.
    pub zone: Tz,
    /// VOIspeed user events may lack their call id, so that the order of arrival matters.
    pub without_ids: bool,
    /// No conversation is longer (seconds).
    pub longest_talk: i64,
    /// Fraction of answered calls whose recording is uploaded, where the source uploads any.
    pub recorded: f64,
}

/// Draws calls.
#[derive(Debug)]
pub struct Planner {
    settings: Settings,
    first_hour: i64,
    hours: Option<WeightedIndex<f64>>,
    sources: Vec<(Source, f64)>,
}

impl Planner {
    /// A planner for these settings; without sources it uses all five.
    pub fn new(settings: Settings) -> Planner {
        let wanted = |source: &Source| settings.sources.is_empty() || settings.sources.contains(source);
        let sources = SOURCES.into_iter().filter(|(source, _)| wanted(source)).collect();
        let count = i64::from(settings.days.max(1)) * 24;
        let first_hour = settings.now.div_euclid(3600) - count;
        let weights = (first_hour..first_hour + count).map(hour_weight);
        let hours = WeightedIndex::new(weights).ok();
        Planner { settings, first_hour, hours, sources }
    }

    /// Call number `index`.
    pub fn call(&self, index: u64) -> Call {
        let mut random = random(self.settings.seed, index);
        let source = weighted(&mut random, &self.sources);
        let ring = seconds(&mut random, 8.0, 0.6, 60);
        let talk = seconds(&mut random, 95.0, 1.15, self.settings.longest_talk);
        let hour = self.hours.as_ref().map_or(0, |hours| hours.sample(&mut random));
        let at = (self.first_hour + hour as i64) * 3600 + random.random_range(0..3600);
        let start = at.min(self.settings.now - ring - talk - EXTRA_SECONDS);
        self.made(index, source, (start, ring, talk), random)
    }

    /// Call number `index`, but beginning at `start` whatever the settings say.
    pub fn call_at(&self, index: u64, start: i64) -> Call {
        Call { start, ..self.call(index) }
    }

    fn made(&self, index: u64, source: Source, times: (i64, i64, i64), mut random: Random) -> Call {
        let direction =
            weighted(&mut random, &[(Direction::In, 0.60), (Direction::Out, 0.33), (Direction::Internal, 0.07)]);
        let (start, ring, talk) = times;
        let Settings { seed, zone, without_ids, recorded, .. } = self.settings;
        Call { seed, index, source, direction, start, ring, talk, zone, without_ids, recorded, random }
    }
}

fn hour_weight(hour: i64) -> f64 {
    let at = DateTime::<Utc>::from_timestamp(hour * 3600, 0).unwrap_or_default();
    HOURS[at.hour() as usize % 24] * WEEKDAYS[at.weekday().num_days_from_monday() as usize % 7]
}

fn seconds(random: &mut Random, median: f64, sigma: f64, longest: i64) -> i64 {
    let drawn = LogNormal::new(median.ln(), sigma).map_or(median, |distribution| distribution.sample(random));
    (drawn.round() as i64).clamp(1, longest.max(1))
}

fn weighted<T: Copy>(random: &mut Random, options: &[(T, f64)]) -> T {
    let total: f64 = options.iter().map(|(_, weight)| weight).sum();
    let mut left = random.random::<f64>() * total;
    for (option, weight) in options {
        left -= weight;
        if left < 0.0 {
            return *option;
        }
    }
    options[options.len() - 1].0
}

/// Which way a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From outside.
    In,
    /// To outside.
    Out,
    /// Between extensions.
    Internal,
}

impl Direction {
    /// The value of the column.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Internal => "internal",
        }
    }
}

/// One planned call. Sources take further chance from its own generator.
#[derive(Clone, Debug)]
pub struct Call {
    /// The run's seed.
    pub seed: u64,
    /// Number of the call in the run.
    pub index: u64,
    /// The system it takes place on.
    pub source: Source,
    /// Which way it goes, where the source has that way.
    pub direction: Direction,
    /// When it starts (Unix seconds).
    pub start: i64,
    /// Ringing, in seconds.
    pub ring: i64,
    /// Conversation if it is answered, in seconds.
    pub talk: i64,
    /// See [`Settings::zone`].
    pub zone: Tz,
    /// See [`Settings::without_ids`].
    pub without_ids: bool,
    /// See [`Settings::recorded`].
    pub recorded: f64,
    random: Random,
}

/// Someone at an extension.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Extension.
    pub extension: String,
    /// Kazoo's user id.
    pub owner: String,
    /// Kazoo's device id.
    pub device: String,
    /// Placetel's SIP user.
    pub peer: String,
    /// VOIspeed's user id.
    pub user: u64,
    /// Name.
    pub name: &'static str,
}

impl Agent {
    fn numbered(number: u64) -> Agent {
        let id = |what: &str| hex(&Sha256::digest(format!("{what}/{number}")))[..32].to_owned();
        let letter = |shift: u64| char::from(b'a' + ((number + shift) % 26) as u8);
        Agent {
            extension: (100 + number).to_string(),
            owner: id("owner"),
            device: id("device"),
            peer: format!("7777{number:03}{}{}@fpbx.de", letter(0), letter(7)),
            user: 2000 + number,
            name: NAMES[number as usize % NAMES.len()],
        }
    }
}

impl Call {
    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability.clamp(0.0, 1.0))
    }

    /// One of the options by weight.
    pub fn weighted<T: Copy>(&mut self, options: &[(T, f64)]) -> T {
        weighted(&mut self.random, options)
    }

    /// One of the options.
    pub fn one<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.random.random_range(0..options.len())]
    }

    /// A whole number from `from` to `until`, both included.
    pub fn between(&mut self, from: i64, until: i64) -> i64 {
        self.random.random_range(from..=until.max(from))
    }

    /// Somebody.
    pub fn agent(&mut self) -> Agent {
        Agent::numbered(self.random.random_range(0..60))
    }

    /// So many different people.
    pub fn agents(&mut self, count: usize) -> Vec<Agent> {
        let mut numbers: Vec<u64> = (0..60).collect();
        numbers.shuffle(&mut self.random);
        numbers.into_iter().take(count).map(Agent::numbered).collect()
    }

    /// Name that a caller shows.
    pub fn name(&mut self) -> &'static str {
        self.one(&NAMES)
    }

    /// Seven digits of a number outside; some are seen often.
    pub fn subscriber(&mut self) -> String {
        let rank = Zipf::new(4000.0, 0.8).map_or(1.0, |zipf| zipf.sample(&mut self.random)) as u64;
        (2_000_000 + rank.wrapping_mul(2_654_435_761) % 7_000_000).to_string()
    }

    /// Seven digits of one of our own numbers.
    pub fn own_subscriber(&mut self) -> String {
        let rank = Zipf::new(40.0, 1.0).map_or(1.0, |zipf| zipf.sample(&mut self.random)) as u64;
        (5_550_000 + rank).to_string()
    }

    /// 64 hex digits that no other label, call or seed has.
    pub fn hash(&self, label: &str) -> String {
        hex(&Sha256::digest(format!("{label}/{}/{}", self.seed, self.index)))
    }

    /// A decimal id that no other call or seed has.
    pub fn number(&self) -> String {
        format!("{}{:08}", self.seed, self.index)
    }
}
