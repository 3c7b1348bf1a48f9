//! Which log the tables are folded from, and where the tables of a log are. It is written on both sides, once, by whoever
//! comes first. A second log over the same tables would count from 0 again and write everything twice; a second set of
//! tables would let go of messages that the first one needs.

use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::bucket::Bucket;
use crate::durable_file;
use crate::error::Error;
use crate::event::{format_time, now};

/// In the bucket and in the data directory.
const KEY: &str = "log/claim.json";

/// A log, as the tables know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Part of the application id under which tables store their offsets.
    pub identity: String,
    /// The topic, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Which of its partitions.
    #[serde(default)]
    pub partition: usize,
    /// Its partitions.
    pub partitions: usize,
    /// The bucket with the tables; without one they are in the data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    created: String,
}

impl Claim {
    /// The embedded log of this identity.
    pub fn embedded(identity: &str) -> Claim {
        Claim {
            identity: identity.to_owned(),
            topic: None,
            partition: 0,
            partitions: 1,
            store: None,
            created: format_time(now()),
        }
    }

    /// A partition of a topic, which gets an identity.
    pub fn kafka(topic: &str, partition: usize, partitions: usize) -> Claim {
        let topic = Some(topic.to_owned());
        Claim { topic, partition, partitions, ..Claim::embedded(&Uuid::new_v4().to_string()) }
    }

    /// The one that holds: this one if it is the first.
    ///
    /// # Errors
    /// `Config` when the tables are folded from another log, or the log into other tables; otherwise as reading and
    /// writing.
    pub async fn settle(mut self, bucket: Option<&Bucket>, data_dir: &Path) -> Result<Claim, Error> {
        self.store = bucket.map(|bucket| bucket.address().to_string());
        let path = data_dir.join(KEY);
        let here: Option<Claim> = durable_file::read(&path)?;
        match &here {
            Some(here) if here.store != self.store => {
                let name = |store: &Option<String>| store.clone().unwrap_or_else(|| "the data directory".to_owned());
                let (held, wanted, place) = (name(&here.store), name(&self.store), data_dir.display());
                return Err(Error::Config(format!("the tables of `{place}` are in {held}, not in {wanted}")));
            }
            // Of a version before there were buckets.
            None if bucket.is_some() && data_dir.join("tables/events/_delta_log").exists() => {
                let reason = "copy `tables/` and `objects/` there first, or start with an empty data directory";
                return Err(Error::Config(format!("the tables of `{}` are in it: {reason}", data_dir.display())));
            }
            _ => {}
        }
        let held = match (bucket, &here) {
            (Some(bucket), _) => self.settle_in(bucket).await?,
            (None, Some(here)) => here.clone(),
            (None, None) => self.clone(),
        };
        let held = self.check(held)?;
        if here.is_none() {
            durable_file::write(&path, &held)?;
        }
        Ok(held)
    }

    async fn settle_in(&self, bucket: &Bucket) -> Result<Claim, Error> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::Config(error.to_string()))?;
        if bucket.create(KEY, bytes::Bytes::from(text)).await? {
            return Ok(self.clone());
        }
        let held = bucket.read(KEY).await?;
        serde_json::from_slice(&held).map_err(|error| Error::Corrupt(format!("`{KEY}` in the bucket: {error}")))
    }

    fn check(self, held: Claim) -> Result<Claim, Error> {
        let name = |claim: &Claim| match &claim.topic {
            Some(topic) => {
                let (partition, partitions) = (claim.partition, claim.partitions);
                format!("partition {partition} of the topic `{topic}` with {partitions} partitions")
            }
            None => format!("the embedded log {}", claim.identity),
        };
        let is_same = match &self.topic {
            Some(_) => (&self.topic, self.partition, self.partitions) == (&held.topic, held.partition, held.partitions),
            None => self.identity == held.identity,
        };
        if !is_same {
            let (held, wanted) = (name(&held), name(&self));
            return Err(Error::Config(format!("these tables are folded from {held}, not from {wanted}")));
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Claim {
        Claim::kafka(name, 0, 1)
    }

    #[tokio::test]
    async fn tables_have_one_log() {
        for bucket in [None, Some(Bucket::in_memory())] {
            let directory = tempfile::tempdir().expect("temporary directory");
            let settle = async |claim: Claim| claim.settle(bucket.as_ref(), directory.path()).await;
            let first = settle(topic("calls")).await.expect("nobody has it");
            assert_eq!(settle(topic("calls")).await.expect("the same one").identity, first.identity);
            let embedded = Claim::embedded("x");
            let of_more = [Claim::kafka("calls", 0, 2), Claim::kafka("calls", 1, 1)];
            for other in [topic("others"), embedded].into_iter().chain(of_more) {
                let refused = settle(other.clone()).await;
                assert!(matches!(refused, Err(Error::Config(_))), "{other:?}: {refused:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_log_has_one_set_of_tables() {
        let [ours, others] = [(); 2].map(|()| tempfile::tempdir().expect("temporary directory"));
        let bucket = Bucket::in_memory();
        let embedded = || Claim::embedded("one");
        embedded().settle(Some(&bucket), ours.path()).await.expect("the first");
        embedded().settle(Some(&bucket), ours.path()).await.expect("again");
        let refused = embedded().settle(None, ours.path()).await;
        assert!(matches!(refused, Err(Error::Config(_))), "the bucket was forgotten: {refused:?}");
        embedded().settle(None, others.path()).await.expect("tables of its own");
        let refused = embedded().settle(Some(&bucket), others.path()).await;
        assert!(matches!(refused, Err(Error::Config(_))), "tables are here: {refused:?}");

        let before = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir_all(before.path().join("tables/events/_delta_log")).expect("made");
        let refused = embedded().settle(Some(&Bucket::in_memory()), before.path()).await;
        assert!(matches!(refused, Err(Error::Config(_))), "tables of an earlier version: {refused:?}");
    }
}
