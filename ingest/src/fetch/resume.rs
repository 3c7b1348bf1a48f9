//! What an earlier run of the server left undone: links without an end in the log are fetched now, and one that works
//! only once and was being used is noted as failed.

use std::collections::{HashMap, HashSet};
use std::error::Error as StdError;
use std::iter::repeat;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use trunklog_storage::event::Micros;
use trunklog_storage::recording::message::{Fetch, FetchOutcome};

use super::worker::{FetchQueue, Shared};
use super::{FetchRequest, LinkKey, link_key};

const DAY: Micros = 24 * 3600 * 1_000_000;
/// How far back links are looked for.
const DAYS_BACK: Micros = 7;
/// Pauses before another try when messages cannot be read; the last one for all that follow.
const PAUSES: [Duration; 3] = [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(600)];
/// Pause while the queue is full.
const FULL_PAUSE: Duration = Duration::from_secs(5);
const INTERRUPTED: &str = "interrupted; the link worked only once";

/// Why past messages could not be read.
pub type PastFailure = Box<dyn StdError + Send + Sync>;

/// A `trunklog.fetch` of an earlier run.
#[derive(Clone, Debug, PartialEq)]
pub struct PastFetch {
    /// Whose it is.
    pub tenant: String,
    /// What it says.
    pub fetch: Fetch,
}

/// Reads messages of earlier runs: the binary plugs in the query engine. Both take a span of receive times, the end
/// left out, and give what lies in it in any order.
#[async_trait]
pub trait PastMessages: Send + Sync + 'static {
    /// Links in Planfix messages that are no repeats and not quarantined.
    async fn planfix_links(&self, from: Micros, until: Micros) -> Result<Vec<FetchRequest>, PastFailure>;
    /// `trunklog.fetch` messages.
    async fn fetches(&self, from: Micros, until: Micros) -> Result<Vec<PastFetch>, PastFailure>;
}

/// Looks for links in messages received before `until`, again until these can be read.
pub(super) async fn run(queue: FetchQueue, past: Arc<dyn PastMessages>, until: Micros) {
    let settings = queue.shared().settings.load();
    let allows_some = !settings.defaults.fetch_allow.is_empty()
        || settings.tenants.values().any(|tenant| !tenant.fetch_allow.is_empty());
    drop(settings);
    if !allows_some {
        return;
    }
    for pause in PAUSES.into_iter().chain(repeat(PAUSES[PAUSES.len() - 1])) {
        match resume(&queue, past.as_ref(), until).await {
            Ok(0) => return,
            Ok(links) => return tracing::info!(links, "links of an earlier run are fetched"),
            Err(error) => tracing::warn!(%error, "cannot look for links that an earlier run did not fetch"),
        }
        tokio::time::sleep(pause).await;
    }
}

/// Gives the number of links that were left.
async fn resume(queue: &FetchQueue, past: &dyn PastMessages, until: Micros) -> Result<usize, PastFailure> {
    let ended = ended(queue.shared(), past, until).await?;
    let mut left = 0;
    for (from, until) in days(until) {
        for request in past.planfix_links(from, until).await? {
            if ended.contains(&request.key()) {
                continue;
            }
            while queue.is_full() {
                tokio::time::sleep(FULL_PAUSE).await;
            }
            left += 1;
            queue.request(request);
        }
    }
    Ok(left)
}

/// The links that need no request, those included whose only use was interrupted.
async fn ended(shared: &Shared, past: &dyn PastMessages, until: Micros) -> Result<HashSet<LinkKey>, PastFailure> {
    let mut ended = HashSet::new();
    let mut started: HashMap<LinkKey, PastFetch> = HashMap::new();
    for (from, until) in days(until) {
        for fetch in past.fetches(from, until).await? {
            let key = link_key(&fetch.tenant, fetch.fetch.source, &fetch.fetch.call_key, &fetch.fetch.url);
            if fetch.fetch.outcome != FetchOutcome::Started {
                ended.insert(key);
                started.remove(&key);
            } else if !ended.contains(&key) {
                started.insert(key, fetch);
            }
        }
    }
    for (key, PastFetch { tenant, fetch }) in started {
        let fetch = Fetch { outcome: FetchOutcome::Failed, error: Some(INTERRUPTED.to_owned()), ..fetch };
        shared.note(&tenant, &fetch).await;
        shared.book().end(key);
        ended.insert(key);
    }
    Ok(ended)
}

/// The days up to a time, the first one first, so that no answer holds a whole week.
fn days(until: Micros) -> impl Iterator<Item = (Micros, Micros)> + Send {
    (0..DAYS_BACK).rev().map(move |back| (until - (back + 1) * DAY, until - back * DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_touch_and_reach_a_week_back() {
        let days: Vec<_> = days(100 * DAY + 5).collect();
        assert_eq!(days.first(), Some(&(93 * DAY + 5, 94 * DAY + 5)));
        assert_eq!(days.last(), Some(&(99 * DAY + 5, 100 * DAY + 5)));
        assert!(days.windows(2).all(|pair| pair[0].1 == pair[1].0));
    }
}
