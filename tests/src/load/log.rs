//! Messages straight into an embedded log: groups of a few MB, one being written while the next is made.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;
use trunklog_storage::Error;
use trunklog_storage::event::Event;
use trunklog_storage::log::{Batch, EmbeddedLog, Log, LogConfig, Offsets, codec};

const SEGMENT_BYTES: u64 = 64 << 20;
/// Of a group, as the archive splits long appends.
const GROUP_BYTES: usize = 4 << 20;
const MIN_FREE_BYTES: u64 = 1 << 30;

/// The end of a log, to write to.
pub struct LogWriter {
    log: Arc<EmbeddedLog>,
    records: Vec<Bytes>,
    bytes: usize,
    total: u64,
    under_way: Option<JoinHandle<Result<Offsets, Error>>>,
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LogWriter").field("total", &self.total).finish_non_exhaustive()
    }
}

impl LogWriter {
    /// Opens or makes the log of this data directory, at its end.
    ///
    /// # Errors
    /// As [`EmbeddedLog::open`].
    pub fn open(data_dir: &Path) -> Result<LogWriter, Error> {
        let log = EmbeddedLog::open(LogConfig {
            directory: data_dir.join("log"),
            segment_bytes: SEGMENT_BYTES,
            queue_limit: 16,
            min_free_bytes: MIN_FREE_BYTES,
        })?;
        // Nobody reads while it is written.
        log.start(log.bounds().next, Box::new(|_published| {}))?;
        Ok(LogWriter { log: Arc::new(log), records: Vec::new(), bytes: 0, total: 0, under_way: None })
    }

    /// Takes one more message. It is durable after [`LogWriter::finish`].
    ///
    /// # Errors
    /// If an earlier group could not be written.
    pub async fn push(&mut self, event: &Event) -> Result<(), Error> {
        let record = codec::encode(event)?;
        self.bytes += record.len();
        self.total += record.len() as u64;
        self.records.push(record);
        if self.bytes >= GROUP_BYTES { self.hand_on().await } else { Ok(()) }
    }

    /// Bytes of the records so far.
    pub fn bytes(&self) -> u64 {
        self.total
    }

    /// Writes what is left; then everything is durable.
    ///
    /// # Errors
    /// If a group could not be written.
    pub async fn finish(mut self) -> Result<(), Error> {
        if !self.records.is_empty() {
            self.hand_on().await?;
        }
        self.wait().await?;
        self.log.close().await;
        Ok(())
    }

    /// Begins to write a group once the one before is durable.
    async fn hand_on(&mut self) -> Result<(), Error> {
        self.wait().await?;
        let records = std::mem::take(&mut self.records);
        self.bytes = 0;
        let log = Arc::clone(&self.log);
        self.under_way = Some(tokio::spawn(async move { log.append(Batch { records, carry: None }).await }));
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), Error> {
        if let Some(handle) = self.under_way.take() {
            handle.await.map_err(|_| Error::Closed)??;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use trunklog_storage::event::{EventId, Offset};

    use super::super::{Deliveries, Part, Settings, event};
    use super::*;

    #[tokio::test]
    async fn what_was_written_is_read_in_order() {
        let settings = Settings { calls: 10_000, days: 1, from: 1_788_220_800_000_000, seed: 1 };
        let directory = tempfile::tempdir().expect("a directory");
        let mut ids = Vec::new();
        for part in [Part::Main, Part::Late] {
            let mut writer = LogWriter::open(directory.path()).expect("a log");
            for delivery in Deliveries::new(settings, part) {
                let event = event(&delivery);
                writer.push(&event).await.expect("room");
                ids.push(event.id);
            }
            writer.finish().await.expect("room");
        }
        let config = LogConfig {
            directory: directory.path().join("log"),
            segment_bytes: SEGMENT_BYTES,
            queue_limit: 1,
            min_free_bytes: 0,
        };
        let log = EmbeddedLog::open(config).expect("the log");
        assert_eq!(log.bounds().next, Offset(ids.len() as u64));
        let records = log.read(Offset(0), usize::MAX).expect("all records");
        let read: Vec<EventId> =
            records.iter().map(|(_, record)| codec::decode(record).expect("an event").id).collect();
        assert_eq!(read, ids);
    }
}
