//! The archive of a log with several partitions: an [`Archive`] for each, with its own tables, lease and offsets, and all
//! of them as one thing. What the other crates use; the embedded log has one partition.
//!
//! A message's partition follows from its tenant and source. Everything that looks at several messages together (the
//! fold, duplicate marks, call keys, the linkers) looks at messages of one tenant and source, so partitions know nothing
//! of each other.
//!
//! ```text
//!   data directory, bucket: what partition 0 has          kafka: topic, partition 0
//!     └ partitions/1: the same of partition 1                           partition 1
//! ```

mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use datafusion::prelude::Expr;
use futures::future::{join_all, select_all, try_join_all};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::archive::{Archive, ArchiveConfig, Message, RebuildReport, Receipt, Status, TableHash};
use crate::bucket::Bucket;
use crate::error::Error;
use crate::event::{Event, Offset, Source, hex};
use crate::fact::Decoder;
use crate::linker;
use crate::log::kafka::KafkaConfig;
use crate::position::Position;
use crate::rows::KeyedRecording;

pub use snapshot::Snapshot;

/// All partitions; cheap to clone.
#[derive(Clone, Debug)]
pub struct Partitions {
    all: Arc<[Archive]>,
    over_kafka: bool,
}

/// What one of so many partitions gets of the limits that hold for all.
fn config_of(config: &ArchiveConfig, partition: usize, count: usize) -> ArchiveConfig {
    let (share, share_of_memory) = (count as u64, count);
    let mut own = ArchiveConfig {
        fold_bytes: (config.fold_bytes / share).max(1),
        tail_limit_bytes: (config.tail_limit_bytes / share).max(1),
        overlay_calls: (config.overlay_calls / share).max(1),
        sort_bytes: (config.sort_bytes / share_of_memory).max(32 << 20).min(config.sort_bytes),
        ..config.clone()
    };
    if let Some(kafka) = &config.kafka {
        own.kafka = Some(KafkaConfig { partition, ..kafka.clone() });
    }
    if partition > 0 {
        let below = format!("partitions/{partition}");
        own.data_dir = config.data_dir.join(&below);
        own.bucket = config.bucket.as_ref().map(|bucket| bucket.below(&below));
    }
    own
}

/// Which of so many partitions has the messages of this tenant and source.
fn partition_of(tenant: &str, source: Source, count: usize) -> usize {
    if count == 1 {
        return 0;
    }
    let source = match source {
        // Both are Kazoo, and their legs are linked by the same hand.
        Source::Virtualpbx => Source::Kazoo,
        source => source,
    };
    let hash = Sha256::new().chain_update(tenant).chain_update([0]).chain_update(source.as_str()).finalize();
    let number = hash[..8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    usize::try_from(number % count as u64).unwrap_or_default()
}

/// What trunklog itself says is where that is which it concerns.
fn concerned(message: &Message) -> Source {
    let decoded = &message.decoded;
    let recording = decoded.recording.as_ref().map(|recording| recording.source);
    decoded.concerns.or(recording).unwrap_or(message.event.source)
}

impl Partitions {
    /// Opens or makes them all, in and below `config.data_dir`.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub async fn open(config: ArchiveConfig, decoder: Arc<dyn Decoder>) -> Result<Partitions, Error> {
        let count = config.kafka.as_ref().map_or(1, |kafka| kafka.partitions);
        // The first one makes the topic.
        let mut all = vec![Archive::open(config_of(&config, 0, count), Arc::clone(&decoder)).await?];
        let others = (1..count).map(|at| Archive::open(config_of(&config, at, count), Arc::clone(&decoder)));
        all.extend(try_join_all(others).await?);
        Ok(Partitions { all: all.into(), over_kafka: config.kafka.is_some() })
    }

    /// Each of them, in order.
    pub fn each(&self) -> &[Archive] {
        &self.all
    }

    fn first(&self) -> &Archive {
        &self.all[0]
    }

    /// Appends messages; returns when they are durable and visible, with one receipt each, in order.
    ///
    /// # Errors
    /// As [`Archive::append`]: those of other partitions, or of earlier pieces, may be stored all the same.
    pub async fn append(&self, messages: Vec<Message>) -> Result<Vec<Receipt>, Error> {
        let count = self.all.len();
        if count == 1 {
            return self.first().append(messages).await;
        }
        let mut pieces: Vec<(Vec<usize>, Vec<Message>)> = (0..count).map(|_| Default::default()).collect();
        for (at, message) in messages.into_iter().enumerate() {
            let piece = &mut pieces[partition_of(&message.event.tenant, concerned(&message), count)];
            piece.0.push(at);
            piece.1.push(message);
        }
        let appends = self.all.iter().zip(pieces).filter(|(_, (places, _))| !places.is_empty());
        let appends = appends.map(|(archive, (places, messages))| async move {
            Ok::<_, Error>(places.into_iter().zip(archive.append(messages).await?))
        });
        let mut receipts: Vec<(usize, Receipt)> = Vec::new();
        // None is broken off because another one was refused.
        for appended in join_all(appends).await {
            receipts.extend(appended?);
        }
        receipts.sort_by_key(|(at, _)| *at);
        Ok(receipts.into_iter().map(|(_, receipt)| receipt).collect())
    }

    /// Appends one event of trunklog's own, asking a log that is full or busy again, so many times in all.
    ///
    /// # Errors
    /// As [`Archive::append`].
    pub async fn append_patiently(&self, event: Event, tries: Option<u32>) -> Result<(), Error> {
        let message = Message::new(event.clone(), self.decoder().as_ref());
        let partition = partition_of(&event.tenant, concerned(&message), self.all.len());
        self.all[partition].append_patiently(&[event], tries).await
    }

    /// The last acknowledged messages.
    pub fn visible(&self) -> Position {
        let each = self.all.iter().enumerate();
        each.fold(Position::unsaid(self.over_kafka), |position, (at, archive)| position.with(at, archive.visible()))
    }

    /// Waits until this position is visible; `false` if it is not within the time, or no such partition exists.
    pub async fn wait_for(&self, position: Position, timeout: Duration) -> bool {
        if !position.is_reached_by(&self.everything()) {
            return false;
        }
        let each = self.all.iter().enumerate().filter_map(|(at, archive)| Some((archive, position.at(at)?)));
        let waits = each.map(|(archive, offset)| archive.wait_for(offset, timeout));
        join_all(waits).await.into_iter().all(|reached| reached)
    }

    /// A position that nothing in these partitions is behind.
    fn everything(&self) -> Position {
        let last = Some(Offset(u64::MAX - 3));
        (0..self.all.len()).fold(Position::unsaid(self.over_kafka), |position, at| position.with(at, last))
    }

    /// Waits until anything is visible that this position has not, at most so long.
    pub async fn wait_for_more(&self, than: Position, timeout: Duration) {
        let next = |at| than.at(at).map_or(0, |offset| offset.0 + 1);
        let waits =
            self.all.iter().enumerate().map(|(at, archive)| Box::pin(archive.wait_for(Offset(next(at)), timeout)));
        select_all(waits).await;
    }

    /// How they are doing, put together.
    pub fn status(&self) -> Status {
        let mut all = self.all.iter().map(Archive::status);
        let first = all.next().unwrap_or_default();
        all.fold(first, |sum, status| Status {
            tail_messages: sum.tail_messages + status.tail_messages,
            tail_bytes: sum.tail_bytes + status.tail_bytes,
            overlay_calls: sum.overlay_calls + status.overlay_calls,
            log_bytes: sum.log_bytes + status.log_bytes,
            lag_messages: sum.lag_messages + status.lag_messages,
            poisoned: sum.poisoned.or(status.poisoned),
            leads: sum.leads || status.leads,
            compaction_lag_seconds: sum.compaction_lag_seconds.max(status.compaction_lag_seconds),
            ..sum
        })
    }

    /// The partitions that this node folds.
    pub fn led(&self) -> Vec<usize> {
        let led = self.all.iter().enumerate().filter(|(_, archive)| archive.status().leads);
        led.map(|(at, _)| at).collect()
    }

    /// Where tables lie, if not on the local disk.
    pub fn bucket(&self) -> Option<&Bucket> {
        self.first().bucket()
    }

    /// Whether other nodes may have the same log and tables.
    pub fn is_shared(&self) -> bool {
        self.first().is_shared()
    }

    /// What gives messages their meaning.
    pub fn decoder(&self) -> &Arc<dyn Decoder> {
        self.first().decoder()
    }

    /// Folds and compacts everything up to now; returns up to where.
    ///
    /// # Errors
    /// As [`Archive::flush`].
    pub async fn flush(&self) -> Result<Position, Error> {
        let flushed = try_join_all(self.all.iter().map(Archive::flush)).await?;
        let each = flushed.into_iter().enumerate();
        Ok(each.fold(Position::unsaid(self.over_kafka), |position, (at, offset)| position.with(at, offset)))
    }

    /// Folds all messages again and replaces every row of `calls` and `recordings` by the result.
    ///
    /// # Errors
    /// As [`Archive::rebuild`]; nothing is done if another node folds one of them.
    pub async fn rebuild(&self) -> Result<RebuildReport, Error> {
        let mut sum = RebuildReport { messages: 0, calls: 0, recordings: 0 };
        if self.led().len() < self.all.len() {
            let reason = "this node does not fold all partitions; hand the others over to it first";
            return Err(Error::Conflict(reason.into()));
        }
        for archive in self.all.iter() {
            let report = archive.rebuild().await?;
            sum.messages += report.messages;
            sum.calls += report.calls;
            sum.recordings += report.recordings;
        }
        Ok(sum)
    }

    /// Ends what this node folds, of one partition or of all, and lets other nodes go on.
    ///
    /// # Errors
    /// As [`Archive::hand_over`].
    pub async fn hand_over(&self, partition: Option<usize>) -> Result<(), Error> {
        let wanted: Vec<usize> = match partition {
            Some(partition) => vec![partition],
            None => self.led(),
        };
        if wanted.is_empty() {
            return Err(Error::Conflict("this node follows; another one folds".into()));
        }
        for at in wanted {
            let archive = self.all.get(at).ok_or_else(|| Error::Missing(format!("partition {at}")))?;
            archive.hand_over().await?;
        }
        Ok(())
    }

    /// Takes no more messages, finishes those that wait, folds, and releases locks with the last handle.
    ///
    /// # Errors
    /// If a last fold fails; nothing is lost by that.
    pub async fn close(&self) -> Result<(), Error> {
        join_all(self.all.iter().map(Archive::close)).await.into_iter().collect()
    }

    /// Cancelled when another node has taken the tables over and this one cannot follow: it must end.
    pub fn superseded(&self) -> CancellationToken {
        self.first().superseded()
    }

    /// Everything acknowledged before this call.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let all = try_join_all(self.all.iter().map(Archive::snapshot)).await?;
        Ok(Snapshot::new(self.over_kafka, all))
    }

    /// The same, if no table need be read for it.
    ///
    /// # Errors
    /// `Poisoned` when nothing more is taken in.
    pub fn snapshot_at_once(&self) -> Result<Option<Snapshot>, Error> {
        let mut all = Vec::with_capacity(self.all.len());
        for archive in self.all.iter() {
            let Some(snapshot) = archive.snapshot_at_once()? else { return Ok(None) };
            all.push(snapshot);
        }
        Ok(Some(Snapshot::new(self.over_kafka, all)))
    }

    /// The archive as it was at this position, inclusive; partitions of which it says nothing are as they are now.
    ///
    /// # Errors
    /// `Gone` when the tables of that time are no longer known or kept.
    pub async fn snapshot_as_of(&self, position: Position) -> Result<Snapshot, Error> {
        let each = self.all.iter().enumerate().map(|(at, archive)| async move {
            match position.said(at) {
                Some(Some(offset)) => archive.snapshot_as_of(offset).await,
                Some(None) => {
                    let mut snapshot = archive.snapshot().await?;
                    // Without an offset it shows no rows.
                    snapshot.offset = None;
                    Ok(snapshot)
                }
                None => archive.snapshot().await,
            }
        });
        Ok(Snapshot::new(self.over_kafka, try_join_all(each).await?))
    }

    /// The hashes of all tables. Of several partitions the hash is that of their hashes, in order.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn hash(&self, snapshot: &Snapshot) -> Result<Vec<TableHash>, Error> {
        let mut all = Vec::new();
        for (at, archive) in self.all.iter().enumerate() {
            all.push(archive.hash(&snapshot.all()[at]).await?);
        }
        if all.len() == 1 {
            return Ok(all.pop().unwrap_or_default());
        }
        let tables = all.first().map(Vec::len).unwrap_or_default();
        let together = (0..tables).map(|table| {
            let each = || all.iter().map(|hashes| &hashes[table]);
            let hash = each().fold(Sha256::new(), |hash, part| hash.chain_update(&part.sha256));
            TableHash {
                table: all[0][table].table.clone(),
                rows: each().map(|part| part.rows).sum(),
                sha256: hex(&hash.finalize()),
            }
        });
        Ok(together.collect())
    }

    /// Whether bytes of this recording were acknowledged before.
    ///
    /// # Errors
    /// If an index cannot be read.
    pub fn knows_recording(&self, recording_id: &str) -> Result<bool, Error> {
        for archive in self.all.iter() {
            if archive.knows_recording(recording_id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The recording of this id, as a snapshot taken now would show it.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn recording(&self, recording_id: &str) -> Result<Option<KeyedRecording>, Error> {
        for archive in self.all.iter() {
            if let Some(found) = archive.recording(recording_id).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The recordings for which `matches` is true. `filter` is over the stored columns and only skips stored rows.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn find_recordings(
        &self,
        filter: Expr,
        matches: impl Fn(&KeyedRecording) -> bool + Send + Sync,
    ) -> Result<Vec<KeyedRecording>, Error> {
        let mut found = Vec::new();
        for archive in self.all.iter() {
            found.extend(archive.find_recordings(filter.clone(), &matches).await?);
        }
        Ok(found)
    }

    /// The call that this one has become a leg of.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn call_of_leg(&self, call_id: &str) -> Result<Option<String>, Error> {
        for archive in self.all.iter() {
            if let Some(found) = linker::call_of_leg(archive, call_id).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The keys in object storage that recordings of any partition refer to, without `#offset+length`.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn objects(&self) -> Result<HashSet<String>, Error> {
        let mut objects = HashSet::new();
        for archive in self.all.iter() {
            objects.extend(archive.objects().await?);
        }
        Ok(objects)
    }
}
