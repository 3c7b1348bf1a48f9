//! The lease on the tables in a bucket: one node at a time folds into them and serves; others wait, and take over when
//! it is gone.
//!
//! The lease is one object, replaced by conditional puts only (`If-None-Match`, `If-Match`). Who holds it renews it now
//! and then. Whoever waits looks whether it changes: unchanged for [`Times::life`] by the waiting node's own clock it is
//! dead, so clocks need not agree. A holder that could not renew for [`Times::safe`], which is shorter, commits nothing
//! more until it has; one whose lease another has taken is told by [`Lease::lost`] and never commits under it again. What
//! fences a commit that was on its way even so is the offset on the very snapshot that it commits to (`lake`).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bucket::{Bucket, Written};
use crate::durable_file;
use crate::error::Error;
use crate::event::{format_time, now};

const KEY: &str = "log/lease.json";

/// How long leases live.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// One that was not renewed for so long is dead.
    life: Duration,
    /// A holder trusts its lease for so long after it asked for it.
    safe: Duration,
    /// How often it is renewed, and looked at by those who wait.
    renew: Duration,
    /// A request that has no answer by then is given up for another one: its connection may be dead.
    answer: Duration,
}

const TIMES: Times = Times {
    life: Duration::from_secs(15),
    safe: Duration::from_secs(10),
    renew: Duration::from_secs(2),
    answer: Duration::from_secs(3),
};

impl Times {
    async fn answer<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let answered = tokio::time::timeout(self.answer, asked).await;
        answered.unwrap_or_else(|_| Err(Error::Unavailable("the bucket does not answer for the lease".into())))
    }
}

/// What is in the object.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held {
    holder: String,
    /// Tells one renewal from the next; the last one of a holder that ended says so.
    renewal: u64,
    released: bool,
    at: String,
}

struct State {
    /// When the last renewal that succeeded was asked for.
    renewed: Instant,
    tag: String,
    renewal: u64,
}

/// The lease, held until this is released or lost.
pub(crate) struct Lease {
    bucket: Bucket,
    times: Times,
    holder: String,
    state: Mutex<State>,
    /// Held by who renews, so that no renewal overtakes another.
    asking: tokio::sync::Mutex<()>,
    lost: CancellationToken,
    renewing: Mutex<Option<JoinHandle<()>>>,
}

/// A node that would have the lease.
pub(crate) struct Candidate {
    bucket: Bucket,
    times: Times,
    holder: String,
    /// What was in the object when it was last seen to change, and when that was.
    seen: Option<(String, Instant)>,
}

impl Candidate {
    /// Whoever makes one has the lock of the data directory: a lease that a killed process of it held is taken up at
    /// once.
    ///
    /// # Errors
    /// If the data directory cannot be read.
    pub fn new(bucket: &Bucket, data_dir: &Path) -> Result<Candidate, Error> {
        Candidate::with_times(bucket, data_dir, TIMES)
    }

    fn with_times(bucket: &Bucket, data_dir: &Path, times: Times) -> Result<Candidate, Error> {
        Ok(Candidate { bucket: bucket.clone(), times, holder: node(data_dir)?, seen: None })
    }

    /// Takes the lease if it is free now.
    ///
    /// # Errors
    /// `Unavailable` when the bucket is.
    pub async fn try_take(&mut self) -> Result<Option<Arc<Lease>>, Error> {
        let asked = Instant::now();
        let tag = match self.times.answer(self.bucket.read_tagged(KEY)).await? {
            None => None,
            Some((bytes, tag)) if self.is_free(&bytes, &tag, asked) => Some(tag),
            Some(_) => return Ok(None),
        };
        let asked = Instant::now();
        let text = text(&self.holder, 0, false)?;
        let written = self.times.answer(self.bucket.replace(KEY, text, tag)).await?;
        let Written::Now(tag) = written else { return Ok(None) };
        self.seen = None;
        Ok(Some(Lease::held(self, asked, tag)))
    }

    /// Whether another node has it.
    ///
    /// # Errors
    /// `Unavailable` when the bucket is.
    pub async fn is_taken(&self) -> Result<bool, Error> {
        let found = self.times.answer(self.bucket.read_tagged(KEY)).await?;
        let held: Option<Held> = found.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok());
        Ok(held.is_some_and(|held| !held.released && held.holder != self.holder))
    }

    fn is_free(&mut self, bytes: &[u8], tag: &str, asked: Instant) -> bool {
        let held: Option<Held> = serde_json::from_slice(bytes).ok();
        if held.as_ref().is_some_and(|held| held.released || held.holder == self.holder) {
            return true;
        }
        match &self.seen {
            Some((seen, since)) if seen == tag => since.elapsed() > self.times.life,
            seen => {
                if seen.is_none() {
                    let by = held.as_ref().map(|held| held.holder.as_str());
                    tracing::info!(by, "another node may hold the lease on the tables");
                }
                self.seen = Some((tag.to_owned(), asked));
                false
            }
        }
    }
}

impl Lease {
    /// Waits until nobody else holds it.
    ///
    /// # Errors
    /// `Unavailable` when the bucket is.
    pub async fn acquire(mut candidate: Candidate) -> Result<Arc<Lease>, Error> {
        loop {
            if let Some(lease) = candidate.try_take().await? {
                return Ok(lease);
            }
            tokio::time::sleep(candidate.times.renew).await;
        }
    }

    fn held(candidate: &Candidate, renewed: Instant, tag: String) -> Arc<Lease> {
        let times = candidate.times;
        let lease = Arc::new(Lease {
            bucket: candidate.bucket.clone(),
            times,
            holder: candidate.holder.clone(),
            state: Mutex::new(State { renewed, tag, renewal: 0 }),
            asking: tokio::sync::Mutex::default(),
            lost: CancellationToken::new(),
            renewing: Mutex::default(),
        });
        let weak = Arc::downgrade(&lease);
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(times.renew).await;
                let Some(lease) = weak.upgrade() else { return };
                if lease.lost.is_cancelled() {
                    return;
                }
                if let Err(error) = lease.renew(false).await {
                    tracing::warn!(%error, "the lease on the tables was not renewed");
                }
            }
        });
        *lease.renewing.lock() = Some(renewing);
        lease
    }

    async fn renew(&self, released: bool) -> Result<(), Error> {
        let _one = self.asking.lock().await;
        // An answer may be lost, and what is refused then be our own renewal. When that was stored nobody knows here, so
        // it is renewed once more.
        for _ in 0..2 {
            let (before, tag, renewal) = {
                let state = self.state.lock();
                (state.renewed, state.tag.clone(), state.renewal + 1)
            };
            let asked = Instant::now();
            let text = text(&self.holder, renewal, released)?;
            let (renewed, tag) = match self.times.answer(self.bucket.replace(KEY, text, Some(tag))).await? {
                Written::Now(tag) => (asked, tag),
                Written::Refused => match self.times.answer(self.bucket.read_tagged(KEY)).await? {
                    Some((bytes, tag)) if self.is_own(&bytes, renewal) => (before, tag),
                    _ => {
                        tracing::error!("another node took the lease on the tables");
                        self.lost.cancel();
                        return Err(Error::Conflict("another node holds the lease on the tables".into()));
                    }
                },
            };
            *self.state.lock() = State { renewed, tag, renewal };
            if renewed == asked {
                break;
            }
        }
        Ok(())
    }

    fn is_own(&self, bytes: &[u8], renewal: u64) -> bool {
        let held = serde_json::from_slice::<Held>(bytes);
        held.is_ok_and(|held| held.holder == self.holder && held.renewal == renewal)
    }

    /// Whether a commit may be made now. Who could not renew it for a while asks once more.
    ///
    /// # Errors
    /// `Conflict` when the lease is lost, `Unavailable` when it may be.
    pub async fn check(&self) -> Result<(), Error> {
        if !self.lost.is_cancelled() && !self.is_sure() {
            let _ = tokio::time::timeout(self.times.safe, self.renew(false)).await;
        }
        if self.lost.is_cancelled() {
            return Err(Error::Conflict("another node holds the lease on the tables".into()));
        }
        if !self.is_sure() {
            return Err(Error::Unavailable("the lease on the tables could not be renewed".into()));
        }
        Ok(())
    }

    fn is_sure(&self) -> bool {
        self.state.lock().renewed.elapsed() <= self.times.safe
    }

    /// Cancelled when another node has it.
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Lets the next one have it at once.
    pub async fn release(&self) {
        {
            // Not while one is on its way, which might come after what is written below.
            let _one = self.asking.lock().await;
            if let Some(renewing) = self.renewing.lock().take() {
                renewing.abort();
            }
        }
        if !self.lost.is_cancelled()
            && let Err(error) = self.renew(true).await
        {
            tracing::warn!(%error, "the lease on the tables was not given back; the next node waits for it");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(renewing) = self.renewing.lock().take() {
            renewing.abort();
        }
    }
}

/// Tells this data directory from those of other nodes.
fn node(data_dir: &Path) -> Result<String, Error> {
    let path = data_dir.join("log/node.json");
    if let Some(node) = durable_file::read(&path)? {
        return Ok(node);
    }
    let node = Uuid::new_v4().to_string();
    durable_file::write(&path, &node)?;
    Ok(node)
}

fn text(holder: &str, renewal: u64, released: bool) -> Result<Vec<u8>, Error> {
    let held = Held { holder: holder.to_owned(), renewal, released, at: format_time(now()) };
    serde_json::to_vec_pretty(&held).map_err(|error| Error::Config(error.to_string()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::faults::{Fault, Faults, Operation, Rule};

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    const QUICK: Times = Times { life: ms(600), safe: ms(300), renew: ms(40), answer: ms(100) };

    async fn acquire(bucket: &Bucket, node: &TempDir) -> Arc<Lease> {
        let candidate = Candidate::with_times(bucket, node.path(), QUICK).expect("a directory");
        Lease::acquire(candidate).await.expect("the bucket answers")
    }

    fn node() -> TempDir {
        tempfile::tempdir().expect("temporary directory")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_node_at_a_time_has_it() {
        let (bucket, one, other) = (Bucket::in_memory(), node(), node());
        let first = acquire(&bucket, &one).await;
        let waiting = {
            let bucket = bucket.clone();
            tokio::spawn(async move { acquire(&bucket, &other).await })
        };
        // Far longer than one lives that is not renewed.
        tokio::time::sleep(QUICK.life * 3).await;
        assert!(!waiting.is_finished(), "it is renewed");
        first.check().await.expect("held");
        first.release().await;
        let second = tokio::time::timeout(QUICK.life / 2, waiting).await.expect("at once").expect("no panic");
        second.check().await.expect("held");
        assert!(!second.lost().is_cancelled());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_was_cut_off_commits_nothing_more() {
        let (bucket, one, other) = (Bucket::in_memory(), node(), node());
        let first = acquire(&bucket, &one).await;
        if let Some(renewing) = first.renewing.lock().take() {
            renewing.abort();
        }
        let began = Instant::now();
        let second = acquire(&bucket, &other).await;
        assert!(began.elapsed() >= QUICK.life, "after {:?}", began.elapsed());
        assert!(!first.is_sure() && !first.lost().is_cancelled(), "no longer sure of it");
        assert!(matches!(first.check().await, Err(Error::Conflict(_))), "told as soon as it asks");
        second.check().await.expect("held");
        second.renew(false).await.expect("undisturbed");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_request_on_a_dead_connection_is_made_again() {
        let faults = Arc::new(Faults::default());
        let (bucket, one) = (Bucket::in_memory().with_faults(&faults), node());
        let lease = acquire(&bucket, &one).await;
        let silence = |operation, times| {
            faults.plan(Rule { operation, table: "", path: "lease.json", skip: 0, times, fault: Fault::Silence });
        };
        silence(Operation::Put, 2);
        tokio::time::sleep(QUICK.life * 2).await;
        assert_eq!(faults.struck(), 2);
        assert!(lease.is_sure(), "it is renewed as before");
        let other = node();
        let mut waiting = Candidate::with_times(&bucket, other.path(), QUICK).expect("a directory");
        silence(Operation::Get, 1);
        let asked = tokio::time::timeout(QUICK.safe, waiting.try_take()).await.expect("given up");
        assert!(matches!(asked, Err(Error::Unavailable(_))));
        assert!(waiting.try_take().await.expect("asked again").is_none(), "it is held");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_could_not_renew_it_for_a_while_asks_once_more() {
        let (bucket, one) = (Bucket::in_memory(), node());
        let lease = acquire(&bucket, &one).await;
        if let Some(renewing) = lease.renewing.lock().take() {
            renewing.abort();
        }
        // As long as the bucket was away, and nobody else asked for it.
        tokio::time::sleep(QUICK.safe * 2).await;
        assert!(!lease.is_sure());
        lease.check().await.expect("the bucket is back");
        assert!(lease.is_sure());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_process_takes_up_what_the_one_before_it_held() {
        let (bucket, one) = (Bucket::in_memory(), node());
        // As kill -9 leaves it.
        drop(acquire(&bucket, &one).await);
        let began = Instant::now();
        let again = acquire(&bucket, &one).await;
        assert!(began.elapsed() < QUICK.life, "after {:?}", began.elapsed());
        again.check().await.expect("held");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_many_that_wait_one_gets_it() {
        let bucket = Bucket::in_memory();
        drop(acquire(&bucket, &node()).await);
        let nodes: Vec<TempDir> = (0..8).map(|_| node()).collect();
        let mut waiting: tokio::task::JoinSet<Arc<Lease>> = tokio::task::JoinSet::new();
        for node in nodes {
            let bucket = bucket.clone();
            waiting.spawn(async move { acquire(&bucket, &node).await });
        }
        let winner = waiting.join_next().await.expect("one of them").expect("no panic");
        tokio::time::sleep(QUICK.life * 2).await;
        assert!(waiting.try_join_next().is_none(), "the others wait");
        winner.check().await.expect("held");
    }
}
