//! The demo's traffic: a month of past calls, then one every few seconds, played in real time.

use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trunklog_storage::event::now;

use super::lanes::{self, Pace};
use super::model::{Planner, Settings};
use super::progress::Progress;
use super::schedule::{Faults, Schedule, report};
use super::send::{SendError, Sender};
use super::wire::{Message, Script};
use super::{LONGEST_TALK, RECORDED, plan, play};

const SEED: u64 = 42;
const DAYS: u32 = 30;
const CALLS_A_DAY: u64 = 250;
/// Live calls are short, so that one sees them end.
const LONGEST_LIVE_TALK: i64 = 240;
const BETWEEN_CALLS: Duration = Duration::from_secs(3);
const GIVE_UP: Duration = Duration::from_secs(120);

/// Loads the history if wanted, then plays calls until stopped. Failures are logged, never fatal.
pub async fn demo(url: String, key: String, history: bool, stop: CancellationToken) {
    let sender = match Sender::new(&url, &key, GIVE_UP, Arc::new(Progress::hidden()), stop.child_token()) {
        Ok(sender) => Arc::new(sender),
        Err(error) => {
            tracing::warn!(%error, "the demo cannot send");
            return;
        }
    };
    if history && let Err(error) = load(&sender).await {
        tracing::warn!(%error, "the demo's history was not loaded");
    }
    live(&url, &key, stop).await;
}

fn settings(seed: u64, days: u32, longest_talk: i64) -> Settings {
    let now = now().div_euclid(1_000_000);
    Settings {
        seed,
        now,
        days,
        sources: Vec::new(),
        zone: Tz::Europe__Rome,
        without_ids: false,
        longest_talk,
        recorded: 0.0,
    }
}

async fn load(sender: &Arc<Sender>) -> Result<(), SendError> {
    let settings = settings(SEED, DAYS, LONGEST_TALK);
    let calls = u64::from(DAYS) * CALLS_A_DAY;
    let planning = tokio::task::spawn_blocking(move || plan(settings, calls, Faults::default()));
    let Schedule { messages, deliveries, .. } = planning.await.map_err(|_| SendError::Stopped)?;
    lanes::bulk(sender, SEED, &Arc::new(messages), &deliveries, Pace::new(0.0), 1).await?;
    tracing::info!(calls, days = DAYS, "the demo's history is loaded");
    Ok(())
}

async fn live(url: &str, key: &str, stop: CancellationToken) {
    let started = u64::try_from(now().div_euclid(1_000_000)).unwrap_or(0);
    let live = Settings { without_ids: true, recorded: RECORDED, ..settings(started, 1, LONGEST_LIVE_TALK) };
    let planner = Planner::new(live);
    let progress = Arc::new(Progress::hidden());
    let Ok(sender) = Sender::new(url, key, GIVE_UP, progress, stop.child_token()) else { return };
    let sender = Arc::new(sender);
    let mut calls = JoinSet::new();
    for index in 0_u64.. {
        let start = now().div_euclid(1_000_000) + 1;
        calls.spawn(play_live(Arc::clone(&sender), play(planner.call_at(index, start))));
        while calls.try_join_next().is_some() {}
        // A little irregular, as calls are.
        let pause = BETWEEN_CALLS + Duration::from_millis(index.wrapping_mul(7919) % 3000);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Sends each message when its time has come.
async fn play_live(sender: Arc<Sender>, script: Script) {
    let Script { mut messages, rows, .. } = script;
    messages.extend(rows.iter().map(|row| report(std::slice::from_ref(row), true)));
    messages.sort_by_key(|message: &Message| message.at);
    for message in messages {
        let left = u64::try_from(message.at - now()).unwrap_or(0);
        tokio::time::sleep(Duration::from_micros(left)).await;
        match sender.deliver(&message).await {
            Ok(()) => {}
            Err(SendError::Stopped) => return,
            Err(error) => tracing::warn!(%error, "a demo message was not taken"),
        }
    }
}
