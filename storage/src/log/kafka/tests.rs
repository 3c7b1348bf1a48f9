//! The log over Kafka against librdkafka's mock cluster: the conformance suite, brokers that are away, foreign records.
//! Real brokers are in `tests/live`.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::*;
use crate::event::{Event, Source};
use crate::log::conformance;
use crate::log::embedded::lock_directory;

const BROKERS: i32 = 3;

struct Bench {
    cluster: MockCluster<'static, DefaultProducerContext>,
    directory: TempDir,
}

impl Bench {
    fn start() -> Bench {
        let cluster = MockCluster::new(BROKERS).expect("a mock cluster");
        cluster.create_topic("trunklog", 1, BROKERS).expect("a topic");
        Bench { cluster, directory: tempfile::tempdir().expect("temporary directory") }
    }

    fn config(&self) -> KafkaConfig {
        KafkaConfig { message_timeout: Duration::from_secs(3), ..KafkaConfig::new(self.cluster.bootstrap_servers()) }
    }

    async fn open_with(&self, config: KafkaConfig) -> Result<KafkaLog, Error> {
        let lock = lock_directory(self.directory.path())?;
        KafkaLog::open(config, "one".to_owned(), lock).await
    }

    async fn open(&self, publisher: Publisher) -> KafkaLog {
        let log = self.open_with(self.config()).await.expect("the log opens");
        log.start(log.bounds().next, publisher).expect("it starts");
        log
    }
}

fn batch(number: u64) -> Batch {
    let event = Event {
        id: format!("message {number}").into(),
        tenant: "acme".into(),
        source: Source::Placetel,
        kind: "test".into(),
        received_at: 1_767_268_800_000_000,
        subject: Some(format!("call {number}").into()),
        structured: false,
        method: None,
        path: None,
        query: None,
        headers: Arc::default(),
        content_type: None,
        error: None,
        payload: Bytes::from(format!("event=HungUp&call_id={number}")),
    };
    Batch { records: vec![codec::encode(&event).expect("encoded")], carry: None }
}

fn counting() -> (Arc<AtomicU64>, Publisher) {
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    let publisher = move |published: Published| {
        counter.fetch_add(published.batch.records.len() as u64, Ordering::Release);
    };
    (count, Box::new(publisher))
}

#[test]
fn all_clients_get_the_settings_that_are_passed_through() {
    let options = [("sasl.password", "secret"), ("linger.ms", "7"), ("acks", "1"), ("client.id", "one")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let config = KafkaConfig { options, ..KafkaConfig::new("127.0.0.1:1") };
    for client in [config.client(), config.producer()] {
        assert_eq!(client.get("sasl.password"), Some("secret"));
        assert_eq!((client.get("linger.ms"), client.get("client.id")), (Some("7"), Some("one")));
    }
    assert_eq!(config.producer().get("acks"), Some("all"), "the promise rests on it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_conformance_suite() {
    let bench = Bench::start();
    let open = |publisher| -> Result<Arc<dyn Log>, Error> {
        block_in_place(|| Handle::current().block_on(async { Ok(Arc::new(bench.open(publisher).await) as _) }))
    };
    conformance::run(&open).await.expect("the log works");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_are_away_cost_time_but_no_message() {
    let bench = Bench::start();
    let (count, publisher) = counting();
    let log = bench.open(publisher).await;
    log.append(batch(0)).await.expect("stored");
    for broker in 1..=BROKERS {
        bench.cluster.broker_down(broker).expect("down");
    }
    let asked = Instant::now();
    let refused = log.append(batch(1)).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(asked.elapsed() < Duration::from_secs(20), "after {:?}", asked.elapsed());
    for broker in 1..=BROKERS {
        bench.cluster.broker_up(broker).expect("up");
    }
    // The sender's next try, without a restart.
    let mut tries = 0;
    while log.append(batch(1)).await.is_err() {
        tries += 1;
        assert!(tries < 20, "it never recovers");
    }
    let records = log.read(Offset(0), usize::MAX).expect("readable");
    let events: Vec<Event> = records.iter().map(|(_, record)| codec::decode(record).expect("an event")).collect();
    assert_eq!(events[0].id, "message 0");
    assert!(events[1..].iter().all(|event| event.id == "message 1") && events.len() > 1, "{events:?}");
    assert_eq!(count.load(Ordering::Acquire), events.len() as u64, "published as read");
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_full_says_so_at_once() {
    let bench = Bench::start();
    let config = KafkaConfig { queue_limit: 2, ..bench.config() };
    let log = bench.open_with(config).await.expect("the log opens");
    let (_, publisher) = counting();
    log.start(log.bounds().next, publisher).expect("it starts");
    for broker in 1..=BROKERS {
        bench.cluster.broker_down(broker).expect("down");
    }
    let appends = futures::future::join_all((0..8).map(|number| log.append(batch(number)))).await;
    let busy = appends.iter().filter(|answer| matches!(answer, Err(Error::Busy))).count();
    assert_eq!(busy, 6, "{appends:?}");
    assert!(appends.iter().all(Result::is_err));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_others_are_left_out() {
    let bench = Bench::start();
    let (count, publisher) = counting();
    let log = bench.open(publisher).await;
    assert_eq!(log.append(batch(0)).await.expect("stored")[..], [Offset(0)]);
    let other: BaseProducer = bench.config().client().create().expect("a producer");
    other.send(BaseRecord::<(), str>::to("trunklog").partition(0).payload("{}")).expect("queued");
    other.flush(Duration::from_secs(10)).expect("sent");
    assert_eq!(log.append(batch(1)).await.expect("stored")[..], [Offset(2)]);
    let offsets: Vec<u64> =
        log.read(Offset(0), usize::MAX).expect("readable").into_iter().map(|(offset, _)| offset.0).collect();
    assert_eq!(offsets, [0, 2]);
    assert_eq!(count.load(Ordering::Acquire), 2);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_behind_the_log_knows_it() {
    let (bench, held_up) = (Bench::start(), Arc::new(AtomicBool::new(true)));
    let gate = Arc::clone(&held_up);
    let publisher: Publisher = Box::new(move |_| {
        while gate.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let behind = bench.open(publisher).await;
    assert!(behind.caught_up(Duration::from_secs(5)).await.expect("brokers answer"), "the log is empty");
    let other: BaseProducer = bench.config().client().create().expect("a producer");
    other.send(BaseRecord::<(), str>::to("trunklog").partition(0).payload("{}")).expect("queued");
    other.flush(Duration::from_secs(10)).expect("sent");
    // Another node's message, which the publisher does not get done with.
    let record = batch(0);
    let appended = tokio::time::timeout(Duration::from_millis(500), behind.append(record)).await;
    assert!(appended.is_err(), "it is not seen yet");
    assert!(!behind.caught_up(Duration::from_millis(300)).await.expect("brokers answer"));
    held_up.store(false, Ordering::Release);
    assert!(behind.caught_up(Duration::from_secs(5)).await.expect("brokers answer"));
    behind.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_although_others_go_on_appending() {
    let bench = Bench::start();
    let (_, publisher) = counting();
    let log = bench.open(publisher).await;
    log.append(batch(0)).await.expect("stored");
    let (others, ended) = (bench.config(), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&ended);
    let appending = std::thread::spawn(move || {
        let other: BaseProducer = others.client().create().expect("a producer");
        while !stop.load(Ordering::Acquire) {
            other.send(BaseRecord::<(), str>::to("trunklog").partition(0).payload("{}")).expect("queued");
            other.poll(Duration::ZERO);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let closed = tokio::time::timeout(Duration::from_secs(10), log.close()).await;
    ended.store(true, Ordering::Release);
    appending.join().expect("no panic");
    assert!(closed.is_ok(), "it waits for them");
}
