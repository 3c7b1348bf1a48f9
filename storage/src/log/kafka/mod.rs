//! The log over Kafka: one partition of a topic, read by offset and written by an idempotent producer.
//!
//! ```text
//!   append ── produce (acks=all) ──▶ topic ──▶ follower ──▶ publisher
//!      ▲                                          │
//!      └── returns once both have happened ───────┘
//! ```
//!
//! An append is durable when the delivery report says so, and visible when the follower has handed it on. What other
//! nodes produce comes the same way. A broker that is away neither blocks nor loses: appends wait in a bounded queue, each
//! for [`KafkaConfig::message_timeout`] at most, and are then refused; the message may turn out to be in the log all the
//! same, and the sender's next try is its duplicate.
//!
//! Nothing is trimmed from here: the topic keeps what its retention says, which [`topic`] looks at.

mod consumer;
mod context;
mod record;
#[cfg(test)]
mod tests;
mod topic;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::{Batch, Bounds, Log, Offsets, Published, Publisher, codec};
use crate::error::{Context as _, Error};
use crate::event::Offset;
use consumer::{Consumer, Next};
use context::Context;

/// So many records are handed on at once.
const PUBLISHED_AT_ONCE: usize = 1000;
/// Bytes of a message that is produced; a topic that is made here takes a little more.
const LARGEST: u64 = 15 << 20;
/// The follower looks at whether it is to end this often.
const LOOK: Duration = Duration::from_millis(100);

/// Settings of the log over Kafka.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port,…`
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Its partitions, when it is made and ever after.
    pub partitions: usize,
    /// The one of this log.
    pub partition: usize,
    /// Copies of each message, when the topic is made.
    pub replication: i32,
    /// A message is acknowledged when it is on so many brokers.
    pub min_insync_replicas: i32,
    /// How long a topic that is made here keeps messages.
    pub retention: Duration,
    /// A message that is not acknowledged within this time is refused.
    pub message_timeout: Duration,
    /// Messages that may wait for brokers; more are refused as `Busy`.
    pub queue_limit: usize,
    /// Settings of librdkafka, such as `security.protocol`, `sasl.username` and `ssl.ca.location`.
    pub options: BTreeMap<String, String>,
}

impl KafkaConfig {
    /// The defaults.
    pub fn new(brokers: impl Into<String>) -> KafkaConfig {
        KafkaConfig {
            brokers: brokers.into(),
            topic: "trunklog".to_owned(),
            partitions: 1,
            partition: 0,
            replication: 3,
            min_insync_replicas: 2,
            retention: Duration::from_secs(14 * 24 * 3600),
            message_timeout: Duration::from_secs(10),
            queue_limit: 100_000,
            options: BTreeMap::new(),
        }
    }

    /// The partition, as Kafka counts.
    fn number(&self) -> i32 {
        i32::try_from(self.partition).unwrap_or(i32::MAX)
    }

    fn client(&self) -> ClientConfig {
        self.with_options(ClientConfig::new())
    }

    /// What the configuration says, over what is there.
    fn with_options(&self, mut client: ClientConfig) -> ClientConfig {
        client.set("client.id", "trunklog");
        for (name, value) in &self.options {
            client.set(name, value);
        }
        client.set("bootstrap.servers", &self.brokers);
        client
    }

    fn producer(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        // These may be set otherwise …
        client.set("compression.type", "lz4").set("linger.ms", "1");
        client.set("queue.buffering.max.kbytes", "262144").set("socket.nagle.disable", "true");
        let mut client = self.with_options(client);
        // … and on these the promise rests.
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.max.bytes", LARGEST.to_string())
            .set("message.timeout.ms", self.message_timeout.as_millis().to_string())
            .set("queue.buffering.max.messages", self.queue_limit.to_string());
        client
    }
}

/// What Kafka says, or that it says nothing: another try may do.
fn unavailable(what: &str, error: &KafkaError) -> Error {
    Error::Unavailable(format!("Kafka: {what}: {error}"))
}

struct Shared {
    config: KafkaConfig,
    /// As they were when brokers were last asked.
    bounds: Mutex<Bounds>,
    /// The offset after the last one that was handed to the publisher.
    followed: watch::Sender<Offset>,
    poisoned: Mutex<Option<String>>,
    ending: AtomicBool,
    /// Appends that wait for brokers or for the follower.
    waiting: AtomicUsize,
}

/// An append that waits, for as long as this lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn poison(&self, reason: String) {
        tracing::error!(error = %reason, "the log takes no more messages until restart");
        self.poisoned.lock().get_or_insert(reason);
    }
}

/// The log over Kafka.
pub struct KafkaLog {
    identity: String,
    shared: Arc<Shared>,
    producer: FutureProducer<Context>,
    /// Held while the records of one append are queued, so that they stand together as far as that is up to us.
    queueing: Mutex<()>,
    reader: Mutex<Consumer>,
    follower: Mutex<Option<JoinHandle<()>>>,
    /// Bytes of a message that the topic takes, with its envelope.
    largest: u64,
    _lock: File,
}

impl KafkaLog {
    /// Opens the log; its topic is made if there is none. `lock` is held as long as this is open.
    ///
    /// # Errors
    /// `Config` when the topic would lose messages, `Unavailable` when no broker answers.
    pub async fn open(config: KafkaConfig, identity: String, lock: File) -> Result<KafkaLog, Error> {
        let wrong = |error| Error::Config(format!("the settings of Kafka: {error}"));
        let producer: FutureProducer<Context> = config.producer().create_with_context(Context).map_err(wrong)?;
        let (partitions, reader) = asked(Consumer::new(&config)?, Consumer::partitions).await?;
        let ((partitions, reader), largest) = match partitions {
            0 => {
                topic::make(&config).await?;
                (asked(reader, Consumer::partitions_once_made).await?, LARGEST)
            }
            partitions => ((partitions, reader), topic::check(&config).await?),
        };
        if partitions != config.partitions {
            let (topic, wanted) = (&config.topic, config.partitions);
            let reason = format!("the configuration says {wanted} (`kafka.partitions`)");
            return Err(Error::Config(format!("the topic `{topic}` has {partitions} partitions; {reason}")));
        }
        let (bounds, reader) = asked(reader, Consumer::bounds).await?;
        let shared = Shared {
            config,
            bounds: Mutex::new(bounds),
            followed: watch::Sender::new(bounds.next),
            poisoned: Mutex::default(),
            ending: AtomicBool::default(),
            waiting: AtomicUsize::default(),
        };
        Ok(KafkaLog {
            identity,
            shared: Arc::new(shared),
            producer,
            queueing: Mutex::default(),
            reader: Mutex::new(reader),
            follower: Mutex::default(),
            largest,
            _lock: lock,
        })
    }

    /// Hands records to the producer; those that are on their way when one is refused stay so.
    fn queue(&self, records: &[Bytes]) -> Result<Vec<DeliveryFuture>, Error> {
        let events = records.iter().map(codec::decode).collect::<Result<Vec<_>, _>>()?;
        let _together = self.queueing.lock();
        let mut deliveries = Vec::with_capacity(events.len());
        for event in events {
            let record::Outgoing { key, headers } = record::outgoing(&event);
            // No time of its own: the retention of a topic goes by it, and what is loaded may be years old.
            let record = FutureRecord::to(&self.shared.config.topic)
                .partition(self.shared.config.number())
                .key(&key)
                .payload(&event.payload[..])
                .headers(headers);
            match self.producer.send_result(record) {
                Ok(delivery) => deliveries.push(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) if deliveries.is_empty() => {
                    return Err(Error::Busy);
                }
                Err((error, _)) => return Err(self.failed("queueing a message", &error)),
            }
        }
        Ok(deliveries)
    }

    /// After a fatal error the producer takes nothing more.
    fn failed(&self, what: &str, error: &KafkaError) -> Error {
        match (self.producer.client().fatal_error(), error.rdkafka_error_code()) {
            (Some((_, reason)), _) => {
                self.shared.poison(reason.clone());
                Error::Poisoned(reason)
            }
            // However often it is sent.
            (None, Some(RDKafkaErrorCode::MessageSizeTooLarge)) => Error::TooLarge(self.largest),
            (None, _) => unavailable(what, error),
        }
    }

    /// Waits until the follower has handed on this record, if it follows.
    async fn followed(&self, offset: Offset) -> Result<(), Error> {
        let mut followed = self.shared.followed.subscribe();
        let reached = followed.wait_for(|next| *next > offset);
        match tokio::time::timeout(self.shared.config.message_timeout, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => {
                let reason = format!("Kafka has the message, but does not send offset {offset} back");
                Err(self.poisoned().map_or(Error::Unavailable(reason), Error::Poisoned))
            }
        }
    }
}

#[async_trait]
impl Log for KafkaLog {
    fn start(&self, from: Offset, publisher: Publisher) -> Result<(), Error> {
        let mut consumer = Consumer::new(&self.shared.config)?;
        consumer.place(from)?;
        self.shared.followed.send_replace(from);
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("log-follower".into());
        let run = move || {
            if let Err(error) = follow(&shared, &mut consumer, publisher) {
                shared.poison(error.to_string());
            }
        };
        *self.follower.lock() = Some(thread.spawn(run).context("starting the log's follower")?);
        Ok(())
    }

    async fn append(&self, batch: Batch) -> Result<Offsets, Error> {
        if let Some(reason) = self.poisoned() {
            return Err(Error::Poisoned(reason));
        }
        // Before the look at whether it ends: then the follower goes on until this one has its answer.
        let _waiting = Waiting::begin(&self.shared.waiting);
        if self.shared.ending.load(Ordering::SeqCst) {
            return Err(Error::Closed);
        }
        let started = Instant::now();
        let deliveries = self.queue(&batch.records)?;
        let mut offsets = Offsets::with_capacity(deliveries.len());
        for delivery in deliveries {
            match delivery.await {
                Ok(Ok(delivered)) => offsets.push(Offset(delivered.offset.cast_unsigned())),
                Ok(Err((error, _))) => return Err(self.failed("storing a message", &error)),
                Err(_) => return Err(Error::Closed),
            }
        }
        metrics::histogram!("trunklog_log_append_seconds").record(started.elapsed().as_secs_f64());
        let follows = self.follower.lock().is_some();
        if let Some(last) = offsets.iter().max().filter(|_| follows) {
            self.followed(*last).await?;
        }
        Ok(offsets)
    }

    fn read(&self, from: Offset, limit_bytes: usize) -> Result<Vec<(Offset, Bytes)>, Error> {
        let until = self.bounds().next;
        self.reader.lock().read(from, until, limit_bytes)
    }

    fn bounds(&self) -> Bounds {
        let bounds = *self.shared.bounds.lock();
        Bounds { next: bounds.next.max(*self.shared.followed.borrow()), ..bounds }
    }

    async fn look(&self) -> Result<(), Error> {
        let asking = Consumer::new(&self.shared.config)?;
        let (bounds, _) = asked(asking, Consumer::bounds).await?;
        *self.shared.bounds.lock() = bounds;
        Ok(())
    }

    async fn caught_up(&self, timeout: Duration) -> Result<bool, Error> {
        self.look().await?;
        let end = self.shared.bounds.lock().next;
        let mut followed = self.shared.followed.subscribe();
        let reached = followed.wait_for(|next| *next >= end);
        Ok(tokio::time::timeout(timeout, reached).await.is_ok_and(|reached| reached.is_ok()))
    }

    fn trim(&self, _: Offset) -> Result<(), Error> {
        Ok(())
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn poisoned(&self) -> Option<String> {
        self.shared.poisoned.lock().clone()
    }

    fn disk_bytes(&self) -> u64 {
        0
    }

    fn knows_duplicates(&self) -> bool {
        false
    }

    async fn close(&self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        let producer = self.producer.clone();
        let timeout = self.shared.config.message_timeout;
        let follower = self.follower.lock().take();
        let ended = spawn_blocking(move || {
            let flushed = producer.flush(timeout);
            if let Some(follower) = follower {
                let _ = follower.join();
            }
            flushed
        });
        if let Ok(Err(error)) = ended.await {
            tracing::warn!(%error, "some messages were not acknowledged before the end, and neither were their senders");
        }
    }
}

/// What a broker answers; asking blocks.
async fn asked<T: Send + 'static>(
    consumer: Consumer,
    ask: impl FnOnce(&Consumer) -> Result<T, Error> + Send + 'static,
) -> Result<(T, Consumer), Error> {
    spawn_blocking(move || Ok((ask(&consumer)?, consumer))).await.map_err(|_| Error::Closed)?
}

/// Hands on what comes, until the log is closed and nobody waits for it.
fn follow(shared: &Shared, consumer: &mut Consumer, mut publisher: Publisher) -> Result<(), Error> {
    loop {
        let mut records: Vec<(Offset, Bytes)> = Vec::new();
        let mut wait = LOOK;
        while records.len() < PUBLISHED_AT_ONCE {
            match consumer.next(wait)? {
                Next::Record(offset, record) => records.push((offset, record)),
                Next::Foreign => {}
                Next::End | Next::Nothing if records.is_empty() && !shared.ending.load(Ordering::SeqCst) => {
                    // Records that are left out are passed, too.
                    shared.followed.send_if_modified(|next| std::mem::replace(next, consumer.next) != consumer.next);
                }
                Next::End | Next::Nothing => break,
            }
            wait = if records.is_empty() { LOOK } else { Duration::ZERO };
        }
        // The publisher wants offsets without gaps.
        for run in records.chunk_by(|(one, _), (next, _)| next.0 == one.0 + 1) {
            let batch = Batch { records: run.iter().map(|(_, record)| record.clone()).collect(), carry: None };
            publisher(Published { first: run[0].0, batch });
        }
        shared.followed.send_replace(consumer.next);
        // Other nodes may go on appending for ever.
        if shared.ending.load(Ordering::SeqCst) && shared.waiting.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
    }
}
