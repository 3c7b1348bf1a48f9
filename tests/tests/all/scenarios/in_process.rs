//! A scenario through its source's own decoder and the fold: as sent, backwards, in every order (a sample of them for
//! long ones), with every message twice, and stored and read back after each message.

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::Value;
use trunklog_ingest::{SharedSettings, adapters};
use trunklog_storage::call::CallState;
use trunklog_storage::event::Offset;
use trunklog_storage::fact::{CallRef, Decoder, decode_safely};
use trunklog_tests::expect::difference;

use super::data::Scenario;
use super::shown;

const TENANT: &str = "acme";
/// Up to so many messages all orders are tried: 720 for six.
const ALL_ORDERS: usize = 6;
/// Orders of a longer scenario.
const SAMPLE: usize = 300;

/// Calls by key.
type Calls = BTreeMap<String, CallState>;

/// What one message says, and about which call.
type Fact = Option<(String, CallState)>;

/// Where the fold departs from the file.
pub fn problems(scenario: &Scenario) -> Vec<String> {
    let decoder = adapters(SharedSettings::default());
    // The keys of messages without ids are made by the archive, in log order: those go through the binary only.
    let Some(facts) = facts(&*decoder, scenario) else {
        assert!(scenario.as_sent, "{}/{}: messages without ids need an order", scenario.source, scenario.name);
        return Vec::new();
    };
    let sent: Vec<usize> = (0..facts.len()).collect();
    let whole = fold(&facts, &sent, false);
    let named = |problem: String| format!("{}/{}: {problem}", scenario.source, scenario.name);
    let mut problems: Vec<String> = compare(scenario, &*decoder, &whole);
    problems.extend((fold(&facts, &sent, true) != whole).then(|| "differs when stored after each message".to_owned()));
    if !scenario.as_sent {
        problems.extend(other_orders(&facts, &whole));
    }
    problems.into_iter().map(named).collect()
}

/// The first order that gives other calls, if there is one. Equal states show equal rows.
fn other_orders(facts: &[Fact], whole: &Calls) -> Option<String> {
    let twice: Vec<usize> = (0..facts.len()).chain((0..facts.len()).rev()).collect();
    let differing = orders(facts.len()).into_iter().chain([twice]).find(|order| {
        // Storing in between must not matter either; the whole of it is tried where that costs little.
        let stored = facts.len() <= 3;
        fold(facts, order, false) != *whole || (stored && fold(facts, order, true) != *whole)
    });
    differing.map(|order| format!("another call comes of the order {order:?}"))
}

/// What each message says; `None` if one names no call.
fn facts(decoder: &dyn Decoder, scenario: &Scenario) -> Option<Vec<Fact>> {
    let fact = |index: usize| {
        let event = scenario.event(index, TENANT);
        let decoded = decode_safely(decoder, &event);
        assert_eq!(decoded.error, None, "{}/{}: message {index}", scenario.source, scenario.name);
        let Some((reference, state)) = decoded.fact else { return Some(None) };
        let mut state = (*state).clone();
        let CallRef::Key(key) = reference else { return None };
        state.delivered(event.received_at, Offset(index as u64));
        Some(Some((key.to_string(), state)))
    };
    (0..scenario.messages.len()).map(fact).collect()
}

fn fold(facts: &[Fact], order: &[usize], through_storage: bool) -> Calls {
    let mut calls = Calls::new();
    for (key, state) in order.iter().filter_map(|index| facts[*index].clone()) {
        let call = calls.entry(key).or_default();
        call.merge(state);
        if through_storage {
            *call = serde_json::from_str(&serde_json::to_string(call).unwrap()).unwrap();
        }
    }
    calls
}

fn compare(scenario: &Scenario, decoder: &dyn Decoder, calls: &Calls) -> Vec<String> {
    let expected = scenario.rows(TENANT);
    let keys: BTreeSet<&str> = expected.iter().map(|row| row["call_key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), expected.len(), "{}: two calls of one key", scenario.name);
    let stray = calls.keys().filter(|key| !keys.contains(key.as_str()));
    let mut problems: Vec<String> = stray.map(|key| format!("a call `{key}` that nobody expects")).collect();
    for row in &expected {
        let key = row["call_key"].as_str().unwrap();
        let shown = calls.get(key).map(|state| shown::row(state, decoder, TENANT, scenario.source, key));
        match shown {
            Some(shown) => problems.extend(columns(row, &shown)),
            None => problems.push(format!("no call `{key}`")),
        }
    }
    problems
}

/// Every column that differs.
fn columns(expected: &Value, shown: &Value) -> Vec<String> {
    let columns = expected.as_object().unwrap();
    let differing = columns.iter().filter_map(|(name, value)| {
        let found = shown.get(name).unwrap_or_else(|| panic!("`{name}` is no column of `calls`"));
        difference(value, found).map(|text| format!("{name}: {text}"))
    });
    differing.collect()
}

/// All orders of so many messages, or some, backwards among them.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let sent: Vec<usize> = (0..count).collect();
    if count <= ALL_ORDERS {
        let mut orders = Vec::new();
        permute(&mut sent.clone(), 0, &mut orders);
        return orders;
    }
    let mut random = StdRng::seed_from_u64(5);
    let shuffled = |_| {
        let mut order = sent.clone();
        order.shuffle(&mut random);
        order
    };
    let mut orders: Vec<Vec<usize>> = (0..SAMPLE).map(shuffled).collect();
    orders.push(sent.iter().rev().copied().collect());
    orders
}

fn permute(order: &mut [usize], fixed: usize, orders: &mut Vec<Vec<usize>>) {
    if fixed == order.len() {
        orders.push(order.to_vec());
        return;
    }
    for index in fixed..order.len() {
        order.swap(fixed, index);
        permute(order, fixed + 1, orders);
        order.swap(fixed, index);
    }
}
