//! Data sets by chance, each a tenant of its own: three days of calls around an hour at which clocks or calendars do
//! something strange, or the last twenty hours. Few numbers call and are called, so that they meet again.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::plot::{Message, Outcome, Plot, Way};
use super::telling;
use super::zone::{HOUR, QUARTER, SECOND, instant};

/// The zone that a data set is about, and the instant around which it lies; without one it lies before now.
const ANCHORS: [(&str, Option<&str>); 8] = [
    ("Europe/Berlin", Some("2026-03-29T01:00:00Z")),
    ("Europe/Berlin", Some("2026-10-25T01:00:00Z")),
    ("America/New_York", Some("2026-03-08T07:00:00Z")),
    ("America/New_York", Some("2026-11-01T06:00:00Z")),
    ("Asia/Kolkata", Some("2024-02-29T12:00:00Z")),
    ("Australia/Lord_Howe", Some("2026-04-04T15:00:00Z")),
    ("UTC", Some("2025-12-31T23:00:00Z")),
    ("Europe/Berlin", None),
];

const OWN: [&str; 3] = ["+493020000001", "+493020000002", "+493020000003"];
const ENDPOINTS: [&str; 4] = ["101", "102", "103", "104"];
const QUEUES: [&str; 2] = ["Sales", "Support"];
const COMMON: [&str; 5] = ["+493010000001", "+390612345678", "+12125550123", "+74951234567", "+493010000002"];

/// How far the archive has come with a data set when it is asked about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stored {
    Files,
    Half,
    Memory,
}

/// One data set.
pub struct Set {
    pub number: usize,
    pub zone: &'static str,
    pub stored: Stored,
    /// In order of receipt.
    pub lines: Vec<String>,
}

impl Set {
    /// The data set of this number; of two in turn, one has queue times of the source's own.
    pub fn new(number: usize, now: i64) -> Set {
        let dice = &mut StdRng::seed_from_u64(0x7265_706f_7274 + number as u64);
        let (zone, anchor) = ANCHORS[number % ANCHORS.len()];
        let live = anchor.is_none();
        let anchor = anchor.map_or(now - 10 * HOUR, instant);
        let stored =
            [Stored::Files, Stored::Half, Stored::Files, Stored::Memory][(number + number / ANCHORS.len()) % 4];
        let mut messages = Vec::new();
        for index in 0..dice.random_range(60..100_usize) {
            let plot = plot(dice, anchor, live);
            messages.extend(told(dice, &plot, &format!("c{index}"), number % 2 == 1));
        }
        for (index, plot) in stories(anchor, live).into_iter().enumerate() {
            messages.extend(telling::voispeed_report(dice, &plot, &format!("s{index}"), false));
        }
        messages.extend(unfinished(anchor, live, now));
        if number.is_multiple_of(3) {
            let fields = [("event", "Nonsense"), ("call_id", "senseless")];
            messages.push(Message::form(anchor, "placetel.notification", &fields));
        }
        messages.sort_by_key(|message| message.at);
        let lines = messages.iter().enumerate().map(|(index, message)| message.line(&format!("m{number}-{index}")));
        Set { number, zone, stored, lines: lines.collect() }
    }

    /// Its tenant.
    pub fn tenant(&self) -> String {
        format!("set{}", self.number)
    }

    /// What is sent before the flush, and what after it.
    pub fn parts(&self) -> (&[String], &[String]) {
        let middle = match self.stored {
            Stored::Files => self.lines.len(),
            Stored::Half => self.lines.len() / 2,
            Stored::Memory => 0,
        };
        self.lines.split_at(middle)
    }
}

fn one_of<T: Copy>(dice: &mut StdRng, choices: &[T]) -> T {
    choices[dice.random_range(0..choices.len())]
}

/// A call by chance. Half of them lie within hours of the anchor, and many begin and end on the quarter hour.
fn plot(dice: &mut StdRng, anchor: i64, live: bool) -> Plot {
    let hours: i64 = if live { 9 } else { one_of(dice, &[4, 36]) };
    let chosen = anchor + dice.random_range(-hours * HOUR..hours * HOUR);
    let start = match dice.random_range(0..10) {
        0..3 => chosen.div_euclid(QUARTER) * QUARTER,
        3..6 => chosen.div_euclid(SECOND) * SECOND,
        _ => chosen,
    };
    let outcomes = [Outcome::NoAnswer, Outcome::Busy, Outcome::Canceled, Outcome::Voicemail, Outcome::Failed];
    let answered = dice.random_bool(0.55);
    let outcome = if answered { Outcome::Answered } else { one_of(dice, &outcomes) };
    let longest: i64 = if dice.random_bool(0.3) { 6 } else { 61 };
    let ring = dice.random_range(0..longest);
    let talk = match outcome {
        Outcome::Answered if dice.random_bool(0.2) => 900 - ring,
        Outcome::Answered => dice.random_range(1..600),
        Outcome::Voicemail => dice.random_range(1..40),
        _ => 0,
    };
    let way = one_of(dice, &[Way::In, Way::In, Way::In, Way::In, Way::Out, Way::Out, Way::Internal]);
    let other = match dice.random_range(0..20) {
        0 if way == Way::In => "anonymous".to_owned(),
        0..6 => format!("+4930100001{:02}", dice.random_range(0..12)),
        _ => one_of(dice, &COMMON).to_owned(),
    };
    let queue = (way == Way::In && dice.random_bool(0.6)).then(|| one_of(dice, &QUEUES));
    Plot { start, ring, talk, outcome, way, other, own: one_of(dice, &OWN), endpoint: one_of(dice, &ENDPOINTS), queue }
}

/// The call as a telephone system that could have had it tells of it.
fn told(dice: &mut StdRng, plot: &Plot, key: &str, queue_time: bool) -> Vec<Message> {
    let system = dice.random_range(0..10);
    match plot.way {
        Way::In if plot.queue.is_some() && system < 9 => telling::voispeed_report(dice, plot, key, queue_time),
        Way::In if plot.queue.is_some() => telling::planfix(plot, key),
        Way::Out if system < 3 => telling::voispeed_events(dice, plot, key),
        _ if system < 5 => telling::voispeed_report(dice, plot, key, queue_time),
        _ if system < 8 => telling::kazoo(dice, plot, key),
        _ => telling::placetel(dice, plot, key),
    }
}

/// Missed calls of numbers that nobody else has, and what became of each; and an answered call of more than a day.
fn stories(anchor: i64, live: bool) -> Vec<Plot> {
    let begin = if live { anchor - 5 * HOUR } else { anchor - 20 * HOUR };
    let call = |number: i64, start: i64, way: Way, outcome: Outcome| Plot {
        start,
        ring: 7 + number,
        talk: if outcome == Outcome::Answered { 65 } else { 0 },
        outcome,
        way,
        other: format!("+493010000{}", 300 + number),
        own: OWN[0],
        endpoint: ENDPOINTS[0],
        queue: None,
    };
    let mut plots: Vec<Plot> = (0..6).map(|number| call(number, begin, Way::In, Outcome::NoAnswer)).collect();
    let later = begin + 2 * HOUR;
    plots.push(call(0, begin + HOUR, Way::In, Outcome::NoAnswer));
    plots.push(call(1, later, Way::Out, Outcome::Busy));
    plots.push(call(2, later, Way::Out, Outcome::Answered));
    plots.push(call(3, later, Way::In, Outcome::Answered));
    // First in vain, then with success.
    plots.push(call(4, later, Way::Out, Outcome::NoAnswer));
    plots.push(call(4, later + HOUR, Way::Out, Outcome::Answered));
    if !live {
        // Too late.
        plots.push(call(5, begin + 30 * HOUR, Way::Out, Outcome::Answered));
        let long = call(9, anchor - 30 * HOUR, Way::In, Outcome::Answered);
        plots.push(Plot { talk: 40 * 3600, ..long });
    }
    plots
}

/// Calls without an end: those of now are open, older ones have timed out.
fn unfinished(anchor: i64, live: bool, now: i64) -> Vec<Message> {
    let at = if live { now - 12 * 60 * SECOND } else { anchor };
    let note = |after: i64, key: &str, event: &str| {
        let parties = [("from", "+493010000400"), ("to", OWN[1]), ("peer", "7777105ab@fpbx.de")];
        let fields = [[("event", event), ("call_id", key), ("direction", "in")], parties].concat();
        Message::form(at + after * SECOND, "placetel.notification", &fields)
    };
    let member = |after: i64, extension: &str, event: &str| {
        let call = [("cmd", "event"), ("type", "in"), ("callid", "group"), ("phone", "+493010000401")];
        let fields =
            [call, [("diversion", OWN[2]), ("ext", extension), ("event", event), ("is_recorded", "0")]].concat();
        Message::form(at + after * SECOND, "planfix.event", &fields)
    };
    vec![
        note(0, "rings", "IncomingCall"),
        note(30, "talks", "IncomingCall"),
        note(37, "talks", "CallAccepted"),
        member(60, "101", "INCOMING"),
        member(60, "102", "INCOMING"),
        member(69, "102", "ACCEPTED"),
    ]
}
