//! The plan is a function of the seed, and its truth and messages belong together.

use std::collections::{BTreeSet, HashSet};

use chrono_tz::Tz;
use sha2::{Digest, Sha256};
use trunklog_storage::event::{Source, hex};

use super::model::Settings;
use super::plan;
use super::schedule::{Faults, Schedule};

fn schedule(seed: u64, calls: u64, faults: Faults) -> Schedule {
    recorded(seed, calls, faults, 0.6)
}

fn recorded(seed: u64, calls: u64, faults: Faults, recorded: f64) -> Schedule {
    let settings = Settings {
        seed,
        now: 1_790_000_000,
        days: 30,
        sources: Vec::new(),
        zone: Tz::Europe__Rome,
        without_ids: false,
        longest_talk: 14_400,
        recorded,
    };
    plan(settings, calls, faults)
}

fn sent(schedule: &Schedule) -> Vec<String> {
    let order = schedule.deliveries.iter().chain(&schedule.late);
    order.map(|delivery| format!("{:?} {}", schedule.messages[delivery.message], delivery.duplicate)).collect()
}

fn keys(schedule: &Schedule) -> Vec<(String, String)> {
    let text = |line: &serde_json::Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    // A lost call's line is made without its audio.
    let lines = schedule.truths.iter().map(|(truth, _)| truth.line(true));
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
    wanted.extend(["virtualpbx.debug", "kazoo.recording", "virtualpbx.recording"].map(str::to_owned));
    wanted.extend(named(Source::Voispeed, &voispeed));
    wanted.extend(system.map(|name| format!("voispeed.system.{name}")));
    wanted.extend(named(Source::Planfix, &planfix));
    for kind in wanted {
        assert!(kinds.contains(kind.as_str()), "{kind} never occurs");
    }
}

#[test]
fn recordings_are_uploaded_as_the_truth_has_them() {
    let schedule = schedule(13, 300, Faults { lost: 0.2, ..Faults::default() });
    let hash = |bytes: &[u8]| hex(&Sha256::digest(bytes));
    let uploads = schedule.messages.iter().filter(|message| message.audio.is_some());
    let mut sent: Vec<_> = uploads.clone().map(|message| hash(&message.content())).collect();
    let lines: Vec<_> = schedule.truths.iter().map(|(truth, lost)| truth.line(*lost)).collect();
    let stated = lines.iter().filter_map(|line| line["recordings"].as_array()).flatten();
    let mut stated: Vec<_> = stated.map(|audio| audio["sha256"].as_str().unwrap_or_default().to_owned()).collect();
    sent.sort();
    stated.sort();
    assert!(sent.len() > 20);
    assert_eq!(sent, stated);
    for message in uploads {
        let name = message.route.rsplit('/').next().unwrap_or_default();
        assert!(name.starts_with("call_recording_") && name.contains("%40") && name.ends_with(".wav"), "{name}");
        assert_eq!(message.method, "PUT");
        assert!(!message.is_event());
    }
    assert!(recorded(13, 300, Faults::default(), 0.0).messages.iter().all(|message| message.audio.is_none()));
}

#[test]
fn calls_lie_in_the_past() {
    let schedule = schedule(9, 2000, Faults::default());
    assert!(schedule.messages.iter().all(|message| message.at < 1_790_000_200 * 1_000_000));
}
