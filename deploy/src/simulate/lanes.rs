//! Concurrency: the messages of one call go down one lane, one after the other; lanes run side by side.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::history;
use super::schedule::Delivery;
use super::send::{SendError, Sender};
use super::wire::Message;

/// Lines of one bulk body.
const BATCH: usize = 500;
/// Seconds that even the lowest rate does not exceed between start and end.
const LONGEST_WAIT: f64 = 1e9;

/// A rate for the whole run.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    start: Instant,
    rate: f64,
}

impl Pace {
    /// So many messages a second from now on; 0 is as fast as they are acknowledged.
    pub fn new(rate: f64) -> Pace {
        Pace { start: Instant::now(), rate }
    }

    async fn wait(&self, position: usize) {
        if self.rate > 0.0 {
            let seconds = (position as f64 / self.rate).min(LONGEST_WAIT);
            tokio::time::sleep_until(self.start + Duration::from_secs_f64(seconds)).await;
        }
    }
}

/// Sends the deliveries over the wire routes.
pub async fn live(
    sender: &Arc<Sender>,
    messages: &Arc<Vec<Message>>,
    deliveries: &[Delivery],
    pace: Pace,
    lanes: usize,
) -> Result<(), SendError> {
    let mut work: Vec<Vec<(usize, Delivery)>> = vec![Vec::new(); lanes.max(1)];
    for (position, delivery) in deliveries.iter().enumerate() {
        let lane = messages[delivery.message].call % work.len() as u64;
        work[lane as usize].push((position, *delivery));
    }
    let lane = |lane: Vec<(usize, Delivery)>| {
        let (sender, messages) = (Arc::clone(sender), Arc::clone(messages));
        async move {
            for (position, delivery) in lane {
                pace.wait(position).await;
                sender.progress.sent(1, u64::from(delivery.duplicate));
                sender.deliver(&messages[delivery.message]).await?;
                sender.progress.acknowledged(1);
            }
            Ok::<(), SendError>(())
        }
    };
    together(sender, work.into_iter().map(lane)).await
}

/// Sends the deliveries as CloudEvents, 500 lines a body.
pub async fn bulk(
    sender: &Arc<Sender>,
    seed: u64,
    messages: &Arc<Vec<Message>>,
    deliveries: &[Delivery],
    pace: Pace,
    lanes: usize,
) -> Result<(), SendError> {
    let mut work: Vec<Vec<(usize, Vec<Delivery>)>> = vec![Vec::new(); lanes.max(1)];
    for (number, (position, batch)) in batches(messages, deliveries).into_iter().enumerate() {
        let lane = number % work.len();
        work[lane].push((position, batch));
    }
    let lane = |lane: Vec<(usize, Vec<Delivery>)>| {
        let (sender, messages) = (Arc::clone(sender), Arc::clone(messages));
        async move {
            for (position, batch) in lane {
                pace.wait(position).await;
                post(&sender, seed, &messages, &batch).await?;
            }
            Ok::<(), SendError>(())
        }
    };
    together(sender, work.into_iter().map(lane)).await
}

/// How many lines a message makes in a bulk body.
pub fn lines_of(message: &Message) -> usize {
    if message.is_event() { message.parts.len().max(1) } else { 0 }
}

/// Each with the number of lines that come before it.
fn batches(messages: &[Message], deliveries: &[Delivery]) -> Vec<(usize, Vec<Delivery>)> {
    let mut batches: Vec<(usize, Vec<Delivery>)> = Vec::new();
    let (mut before, mut size) = (0, BATCH);
    for delivery in deliveries {
        let lines = lines_of(&messages[delivery.message]);
        if size + lines > BATCH {
            batches.push((before, Vec::new()));
            size = 0;
        }
        if let Some((_, batch)) = batches.last_mut() {
            batch.push(*delivery);
        }
        size += lines;
        before += lines;
    }
    batches
}

async fn post(sender: &Sender, seed: u64, messages: &[Message], batch: &[Delivery]) -> Result<(), SendError> {
    let (mut body, mut count, mut duplicates) = (String::new(), 0_u64, 0);
    for delivery in batch {
        for line in history::lines(seed, &messages[delivery.message]) {
            body.push_str(&line);
            body.push('\n');
            count += 1;
            duplicates += u64::from(delivery.duplicate);
        }
    }
    if count == 0 {
        return Ok(());
    }
    sender.progress.sent(count, duplicates);
    let answer = sender.deliver_bulk(Bytes::from(body)).await?;
    let quarantined = counted(&answer, "quarantined");
    if quarantined > 0 {
        tracing::warn!(quarantined, "the archive could not understand some of the simulated messages");
    }
    sender.progress.acknowledged(counted(&answer, "accepted") + counted(&answer, "duplicates") + quarantined);
    Ok(())
}

fn counted(answer: &[u8], name: &str) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    answer[name].as_u64().unwrap_or(0)
}

/// Runs the lanes; the first failure stops the others and is the one reported.
async fn together<F>(sender: &Arc<Sender>, lanes: impl Iterator<Item = F>) -> Result<(), SendError>
where
    F: Future<Output = Result<(), SendError>> + Send + 'static,
{
    let mut running: JoinSet<Result<(), SendError>> = lanes.collect();
    let mut failure = None;
    while let Some(finished) = running.join_next().await {
        let error = match finished {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            // A lane that panicked has not sent everything.
            Err(_) => SendError::Stopped,
        };
        sender.stop.cancel();
        if matches!(failure, None | Some(SendError::Stopped)) {
            failure = Some(error);
        }
    }
    failure.map_or(Ok(()), Err)
}
