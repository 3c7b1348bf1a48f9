//! The order of delivery: report rows put into bodies, then what a network and a careless sender do to the stream.

use std::collections::HashMap;

use bytes::Bytes;
use rand::Rng;
use rand::seq::SliceRandom;
use trunklog_storage::event::{Micros, Source};

use super::model::{Random, random};
use super::truth::Truth;
use super::voispeed;
use super::wire::{Message, Row, Script, XML};

/// Fractions of messages (of calls for `lost`) that something happens to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Sent again, byte for byte.
    pub duplicates: f64,
    /// Held back until everything else was sent.
    pub late: f64,
    /// Sent after messages that follow them.
    pub out_of_order: f64,
    /// Calls whose messages are withheld.
    pub lost: f64,
    /// Everything in any order.
    pub shuffle: bool,
}

/// One sending of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Index in [`Schedule::messages`].
    pub message: usize,
    /// Sent before already.
    pub duplicate: bool,
}

/// What is sent, in which order.
#[derive(Debug)]
pub struct Schedule {
    /// Every message once, by time.
    pub messages: Vec<Message>,
    /// Deliveries in their order.
    pub deliveries: Vec<Delivery>,
    /// Deliveries that come when all else is done.
    pub late: Vec<Delivery>,
    /// Columns of each call, and whether its messages are withheld.
    pub truths: Vec<(Truth, bool)>,
}

/// A generator stream that no call has.
const STREAM: u64 = u64::MAX;
/// How far (in messages) a message falls behind when it is out of order.
const BEHIND: std::ops::RangeInclusive<u32> = 1..=8;

impl Schedule {
    /// Lays out these scripts.
    pub fn new(seed: u64, scripts: Vec<Script>, faults: Faults) -> Schedule {
        let mut random = random(seed, STREAM);
        let (mut messages, mut rows, mut truths) = (Vec::new(), Vec::new(), Vec::new());
        for script in scripts {
            let lost = random.random_bool(faults.lost);
            truths.extend(script.truths.into_iter().map(|truth| (truth, lost)));
            if !lost {
                messages.extend(script.messages);
                rows.extend(script.rows);
            }
        }
        messages.extend(bodies(rows, &mut random));
        messages.sort_by_key(|message| (message.at, message.call));
        let (held, prompt) = (0..messages.len()).partition::<Vec<usize>, _>(|_| random.random_bool(faults.late));
        let prompt = disordered(prompt, &messages, faults, &mut random);
        let late = disordered(held, &messages, faults, &mut random);
        let deliveries = repeated(&prompt, faults.duplicates, &mut random);
        let late = late.into_iter().map(|message| Delivery { message, duplicate: false }).collect();
        Schedule { messages, deliveries, late, truths }
    }
}

/// Puts rows of one service that lie near each other into one report.
fn bodies(mut rows: Vec<Row>, random: &mut Random) -> Vec<Message> {
    rows.sort_by_key(|row| (row.service, row.at, row.call));
    let mut messages = Vec::new();
    let mut rest = rows.as_slice();
    while let Some(first) = rest.first() {
        let wanted = random.random_range(1..=25);
        let near = |row: &Row| row.service == first.service && row.at - first.at < WINDOW;
        let count = rest.iter().take(wanted).take_while(|row| near(row)).count();
        let (together, others) = rest.split_at(count.max(1));
        messages.push(report(together, random.random_bool(0.5)));
        rest = others;
    }
    messages
}

/// A report is asked for at least so often.
const WINDOW: Micros = 3600 * 1_000_000;

/// One report of these rows; `named` sends the service's name too, as a puller would know it.
pub fn report(rows: &[Row], named: bool) -> Message {
    let service = rows.first().map_or("get_call_report", |row| row.service);
    let kind = format!("voispeed.{}", service.trim_start_matches("get_"));
    let texts: Vec<String> = rows.iter().map(|row| row.xml.clone()).collect();
    let mut message = Message::post(Source::Voispeed, kind, "/voispeed/report", XML, voispeed::body(&texts));
    message.query = named.then(|| format!("service={service}"));
    message.call = rows.first().map_or(0, |row| row.call);
    message.at = rows.last().map_or(0, |row| row.at);
    message.parts = texts.into_iter().map(Bytes::from).collect();
    message
}

fn disordered(mut order: Vec<usize>, messages: &[Message], faults: Faults, random: &mut Random) -> Vec<usize> {
    if faults.shuffle {
        order.shuffle(random);
    }
    if faults.out_of_order <= 0.0 {
        return order;
    }
    let next = next_of_call(&order, messages);
    let mut keyed: Vec<(f64, usize)> = Vec::with_capacity(order.len());
    for (position, (message, next)) in order.into_iter().zip(next).enumerate() {
        let mut key = position as f64;
        if random.random_bool(faults.out_of_order) {
            let behind = random.random_range(BEHIND);
            // Half of them fall behind the next message of their own call, which is what can hurt.
            key = match next {
                Some(next) if random.random_bool(0.5) => next as f64 + 0.25,
                _ => key + f64::from(behind) + 0.5,
            };
        }
        keyed.push((key, message));
    }
    keyed.sort_by(|left, right| left.0.total_cmp(&right.0));
    keyed.into_iter().map(|(_, message)| message).collect()
}

/// For each position that of the next message of the same call.
fn next_of_call(order: &[usize], messages: &[Message]) -> Vec<Option<usize>> {
    let mut seen: HashMap<u64, usize> = HashMap::new();
    let mut next = vec![None; order.len()];
    for (position, message) in order.iter().enumerate().rev() {
        next[position] = seen.insert(messages[*message].call, position);
    }
    next
}

fn repeated(order: &[usize], fraction: f64, random: &mut Random) -> Vec<Delivery> {
    let last = order.len().max(1) as f64;
    let mut keyed = Vec::with_capacity(order.len());
    for (position, &message) in order.iter().enumerate() {
        let at = position as f64;
        keyed.push((at, Delivery { message, duplicate: false }));
        if random.random_bool(fraction) {
            let near = f64::from(random.random_range(1..=50_u32));
            let again = if random.random_bool(0.7) { at + near } else { random.random_range(at..last) };
            keyed.push((again + 0.5, Delivery { message, duplicate: true }));
        }
    }
    keyed.sort_by(|left, right| left.0.total_cmp(&right.0));
    keyed.into_iter().map(|(_, delivery)| delivery).collect()
}
