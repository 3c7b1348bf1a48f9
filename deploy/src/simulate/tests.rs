//! The plan is a function of the seed, and its truth and messages belong together.

use std::collections::{BTreeSet, HashSet};

use chrono_tz::Tz;
use trunklog_storage::event::Source;

use super::model::Settings;
use super::plan;
use super::schedule::{Faults, Schedule};

fn schedule(seed: u64, calls: u64, faults: Faults) -> Schedule {
    let settings = Settings {
        seed,
        now: 1_790_000_000,
        days: 30,
        sources: Vec::new(),
        zone: Tz::Europe__Rome,
        without_ids: false,
        longest_talk: 14_400,
    };
    plan(settings, calls, faults)
}

fn sent(schedule: &Schedule) -> Vec<String> {
    let order = schedule.deliveries.iter().chain(&schedule.late);
    order.map(|delivery| format!("{:?} {}", schedule.messages[delivery.message], delivery.duplicate)).collect()
}

fn keys(schedule: &Schedule) -> Vec<(String, String)> {
    let text = |line: &serde_json::Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let lines = schedule.truths.iter().map(|(truth, lost)| truth.line(*lost));
    lines.map(|line| (text(&line, "source"), text(&line, "call_key"))).collect()
}

#[test]
fn same_seed_same_run() {
    let faults = Faults { duplicates: 0.01, late: 0.005, out_of_order: 0.05, lost: 0.01, shuffle: false };
    let (first, second) = (schedule(7, 500, faults), schedule(7, 500, faults));
    assert_eq!(sent(&first), sent(&second));
    assert_eq!(first.truths, second.truths);
    assert_ne!(sent(&first), sent(&schedule(8, 500, faults)));
}

#[test]
fn one_truth_per_call_and_no_key_twice() {
    let (first, second) = (keys(&schedule(1, 2000, Faults::default())), keys(&schedule(11, 2000, Faults::default())));
    assert_eq!(first.len(), 2000);
    let distinct: HashSet<_> = first.iter().chain(&second).collect();
    assert_eq!(distinct.len(), 4000);
}

#[test]
fn faults_repeat_and_hold_back_but_lose_nothing() {
    let faults = Faults { duplicates: 0.1, late: 0.1, out_of_order: 0.2, lost: 0.0, shuffle: true };
    let schedule = schedule(3, 500, faults);
    let once = schedule.deliveries.iter().chain(&schedule.late).filter(|delivery| !delivery.duplicate);
    let distinct: BTreeSet<usize> = once.clone().map(|delivery| delivery.message).collect();
    assert_eq!(once.count(), schedule.messages.len());
    assert_eq!(distinct.len(), schedule.messages.len());
    assert!(!schedule.late.is_empty() && schedule.deliveries.iter().any(|delivery| delivery.duplicate));
}

#[test]
fn every_kind_of_message_occurs() {
    let schedule = schedule(5, 20_000, Faults::default());
    let kinds: BTreeSet<&str> = schedule.messages.iter().map(|message| message.kind.as_str()).collect();
    let kazoo = ["pivot", "channel_create", "channel_answer", "channel_bridge", "channel_destroy", "hook"];
    let voispeed = ["ivr", "call_report", "user_call_report", "current_calls", "user.new_voicemail", "user.cmd_failed"];
    let system = ["call_in", "call_divert", "call_transfer", "call_held", "call_retrieved", "call_terminated"];
    let planfix = ["INCOMING", "OUTGOING", "ACCEPTED", "COMPLETED", "record", "contact"];
    let named =
        |source: Source, names: &[&str]| names.iter().map(move |name| format!("{source}.{name}")).collect::<Vec<_>>();
    let mut wanted = named(Source::Kazoo, &kazoo);
    wanted.extend(named(Source::Virtualpbx, &kazoo));
    wanted.push("virtualpbx.debug".to_owned());
    wanted.extend(named(Source::Voispeed, &voispeed));
    wanted.extend(system.map(|name| format!("voispeed.system.{name}")));
    wanted.extend(named(Source::Planfix, &planfix));
    for kind in wanted {
        assert!(kinds.contains(kind.as_str()), "{kind} never occurs");
    }
}

#[test]
fn calls_lie_in_the_past() {
    let schedule = schedule(9, 2000, Faults::default());
    assert!(schedule.messages.iter().all(|message| message.at < 1_790_000_200 * 1_000_000));
}
