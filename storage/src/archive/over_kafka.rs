//! The archive over Kafka (librdkafka's mock cluster): what was acknowledged is there after folds and crashes, what others
//! append is seen, and a topic that is not the one the tables know is refused.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::faulty_store::message;
use super::toy::Toy;
use super::{Archive, ArchiveConfig, Message};
use crate::bucket::Bucket;
use crate::error::Error;
use crate::event::Offset;
use crate::log::kafka::KafkaConfig;

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("trunklog", 1, 1).expect("a topic");
    cluster
}

async fn open(directory: &Path, cluster: &Cluster, bucket: Option<&Bucket>) -> Result<Archive, Error> {
    let kafka = KafkaConfig {
        message_timeout: Duration::from_secs(5),
        replication: 1,
        min_insync_replicas: 1,
        ..KafkaConfig::new(cluster.bootstrap_servers())
    };
    let config = ArchiveConfig {
        min_free_bytes: 0,
        fold_interval: Duration::from_secs(3600),
        kafka: Some(kafka),
        bucket: bucket.cloned(),
        ..ArchiveConfig::new(directory)
    };
    Archive::open(config, Arc::new(Toy)).await
}

fn messages(from: u64, count: u64) -> Vec<Message> {
    (from..from + count).map(|number| message(number, 0)).collect()
}

/// Rows of `events`, and a hash of calls.
async fn seen(archive: &Archive) -> (u64, String) {
    let snapshot = archive.snapshot().await.expect("a snapshot");
    let hashes = archive.hash(&snapshot).await.expect("hashes");
    (hashes[1].rows, format!("{:?}", hashes[0]))
}

/// As `kill -9` leaves it.
async fn kill(archive: Archive) {
    archive.inner.log.close().await;
    drop(archive);
}

/// The threads of the process before may hold its lock a little longer.
async fn reopen(directory: &Path, cluster: &Cluster, bucket: Option<&Bucket>) -> Archive {
    for _ in 0..100 {
        match open(directory, cluster, bucket).await {
            Err(Error::Conflict(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            opened => return opened.expect("opens again"),
        }
    }
    panic!("the lock is still held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_there_after_folds_and_crashes() {
    for bucket in [None, Some(Bucket::in_memory())] {
        let (cluster, directory) = (cluster(), tempfile::tempdir().expect("temporary directory"));
        let mut archive = open(directory.path(), &cluster, bucket.as_ref()).await.expect("opens");
        for round in 0..4 {
            let receipts = archive.append(messages(round * 10, 10)).await.expect("acknowledged");
            assert_eq!(receipts.last().map(|receipt| receipt.offset), Some(Offset(round * 10 + 9)));
            assert_eq!(seen(&archive).await.0, round * 10 + 10, "seen at once");
            if round % 2 == 0 {
                archive.flush().await.expect("folded");
            }
            let before = seen(&archive).await;
            kill(archive).await;
            archive = reopen(directory.path(), &cluster, bucket.as_ref()).await;
            assert_eq!(seen(&archive).await, before, "round {round}");
        }
        // A request that repeats itself is told so; what the archive has from before is marked in the tables only.
        let again = [messages(39, 1), messages(40, 1), messages(40, 1)].concat();
        let receipts = archive.append(again).await.expect("acknowledged");
        let duplicates: Vec<bool> = receipts.iter().map(|receipt| receipt.duplicate).collect();
        assert_eq!(duplicates, [false, false, true]);
        archive.close().await.expect("closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_takes_over_where_the_first_one_ended() {
    let (cluster, bucket) = (cluster(), Bucket::in_memory());
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().expect("temporary directory"));
    let first = open(one.path(), &cluster, Some(&bucket)).await.expect("opens");
    first.append(messages(0, 20)).await.expect("acknowledged");
    first.flush().await.expect("folded");
    first.append(messages(20, 20)).await.expect("acknowledged");
    let before = seen(&first).await;
    first.close().await.expect("closed");
    let second = open(other.path(), &cluster, Some(&bucket)).await.expect("opens");
    assert_eq!(seen(&second).await, before);
    second.append(messages(40, 5)).await.expect("acknowledged");
    assert_eq!(seen(&second).await.0, 45);
    second.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_another_one_is_refused() {
    let (cluster, directory) = (cluster(), tempfile::tempdir().expect("temporary directory"));
    let archive = open(directory.path(), &cluster, None).await.expect("opens");
    archive.append(messages(0, 10)).await.expect("acknowledged");
    archive.close().await.expect("closed and folded");
    drop(archive);

    // Made anew: empty, then with as many messages that are others.
    let other = self::cluster();
    let refused = open(directory.path(), &other, None).await.err();
    assert!(matches!(&refused, Some(Error::Corrupt(why)) if why.contains("ends before")), "{refused:?}");
    let elsewhere = tempfile::tempdir().expect("temporary directory");
    let filler = open(elsewhere.path(), &other, None).await.expect("opens");
    filler.append(messages(100, 12)).await.expect("acknowledged");
    filler.close().await.expect("closed");
    let refused = open(directory.path(), &other, None).await.err();
    assert!(matches!(&refused, Some(Error::Corrupt(why)) if why.contains("replaced")), "{refused:?}");

    let archive = open(directory.path(), &cluster, None).await.expect("the right one opens");
    assert_eq!(seen(&archive).await.0, 10);
    archive.close().await.expect("closed");
}
