//! Reading the topic: by offset, never by a consumer group, and never from somewhere else than asked.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Message, Offset as Place, TopicPartitionList};

use super::context::Context;
use super::{KafkaConfig, record, unavailable};
use crate::error::Error;
use crate::event::Offset;
use crate::log::{Bounds, codec};

/// So long without an answer is too long for who waits for records that are there.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a broker is asked takes so long at most.
const ASK: Duration = Duration::from_secs(20);

/// What came of waiting for the next record.
pub(super) enum Next {
    Record(Offset, Bytes),
    /// A record that trunklog did not write stands there.
    Foreign,
    /// There are no more for now, as far as the leader knows.
    End,
    /// Nothing came in this time.
    Nothing,
}

/// A place in the topic from which records come in order.
pub(super) struct Consumer {
    consumer: BaseConsumer<Context>,
    topic: String,
    partition: i32,
    /// The offset that comes next.
    pub next: Offset,
    placed: bool,
}

impl Consumer {
    pub fn new(config: &KafkaConfig) -> Result<Consumer, Error> {
        let mut client = config.client();
        // No offsets are stored there: they are in the tables.
        client
            .set("group.id", "trunklog")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "100")
            .set("queued.max.messages.kbytes", "16384");
        let consumer = client
            .create_with_context(Context)
            .map_err(|error| Error::Config(format!("the settings of Kafka: {error}")))?;
        Ok(Consumer {
            consumer,
            topic: config.topic.clone(),
            partition: config.number(),
            next: Offset(0),
            placed: false,
        })
    }

    /// What the topic has; asks the broker.
    pub fn bounds(&self) -> Result<Bounds, Error> {
        let asked = self.consumer.fetch_watermarks(&self.topic, self.partition, ASK);
        let (first, next) = asked.map_err(|error| unavailable("asking for the ends of the topic", &error))?;
        Ok(Bounds { first: Offset(first.cast_unsigned()), next: Offset(next.cast_unsigned()) })
    }

    /// How many partitions the topic has; asks the broker.
    pub fn partitions(&self) -> Result<usize, Error> {
        let asked = self.consumer.fetch_metadata(Some(&self.topic), ASK);
        let metadata = asked.map_err(|error| unavailable("asking for the topic", &error))?;
        Ok(metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == self.topic)
            .map_or(0, |topic| topic.partitions().len()))
    }

    /// The same of a topic that was just made: brokers hear of it one after the other.
    pub fn partitions_once_made(&self) -> Result<usize, Error> {
        let began = Instant::now();
        loop {
            match self.partitions()? {
                0 if began.elapsed() < ASK => std::thread::sleep(Duration::from_millis(100)),
                partitions => return Ok(partitions),
            }
        }
    }

    /// Goes on from here.
    pub fn place(&mut self, next: Offset) -> Result<(), Error> {
        if self.placed && self.next == next {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        let place = Place::Offset(next.0.cast_signed());
        list.add_partition_offset(&self.topic, self.partition, place)
            .map_err(|error| unavailable("reading", &error))?;
        self.consumer.assign(&list).map_err(|error| unavailable("reading the topic", &error))?;
        (self.next, self.placed) = (next, true);
        Ok(())
    }

    /// The next record, if there is one within this time.
    ///
    /// # Errors
    /// `Gone` when the topic no longer has it.
    pub fn next(&mut self, wait: Duration) -> Result<Next, Error> {
        let Some(polled) = self.consumer.poll(wait) else { return Ok(Next::Nothing) };
        let message = match polled {
            Ok(message) => message,
            Err(KafkaError::PartitionEOF(_)) => return Ok(Next::End),
            Err(error) => return self.failed(&error),
        };
        let offset = Offset(message.offset().cast_unsigned());
        if offset < self.next {
            // Of a place before this one.
            return Ok(Next::Nothing);
        }
        self.next = Offset(offset.0 + 1);
        match record::incoming(&message).map(|event| codec::encode(&event)) {
            Some(Ok(record)) => Ok(Next::Record(offset, record)),
            _ => {
                tracing::error!(%offset, topic = self.topic, "a record that trunklog did not write is left out");
                metrics::counter!("trunklog_log_foreign_records_total").increment(1);
                Ok(Next::Foreign)
            }
        }
    }

    fn failed(&self, error: &KafkaError) -> Result<Next, Error> {
        let lost = [RDKafkaErrorCode::OffsetOutOfRange, RDKafkaErrorCode::AutoOffsetReset];
        match error.rdkafka_error_code() {
            Some(code) if lost.contains(&code) => {
                Err(Error::Gone(format!("the topic `{}` does not have offset {}: {error}", self.topic, self.next)))
            }
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => Err(unavailable("reading", error)),
            // Brokers come and go: it goes on by itself.
            _ => {
                tracing::debug!(%error, "reading the topic");
                Ok(Next::Nothing)
            }
        }
    }

    /// Records from here on that lie before `until`, about so many bytes of them, at least one if there is one.
    pub fn read(&mut self, from: Offset, until: Offset, bytes: usize) -> Result<Vec<(Offset, Bytes)>, Error> {
        let (mut records, mut read) = (Vec::new(), 0);
        if from >= until {
            return Ok(records);
        }
        self.place(from)?;
        let mut heard = Instant::now();
        while self.next < until && (records.is_empty() || read < bytes) {
            match self.next(Duration::from_millis(100))? {
                Next::Record(offset, _) if offset >= until => break,
                Next::Record(offset, record) => {
                    read += record.len();
                    records.push((offset, record));
                    heard = Instant::now();
                }
                Next::Foreign => heard = Instant::now(),
                // A leader that was just elected may not know yet how far the topic goes: who stopped at its end would
                // skip messages that were acknowledged.
                Next::End | Next::Nothing if heard.elapsed() > PATIENCE => {
                    self.placed = false;
                    return Err(Error::Unavailable(format!("Kafka sends nothing of `{}` from {from} on", self.topic)));
                }
                Next::End | Next::Nothing => {}
            }
        }
        Ok(records)
    }
}
