//! Several partitions over Kafka (librdkafka's mock cluster): together they are one archive, and as good as one partition.

use tempfile::TempDir;

use super::*;
use crate::archive::over_kafka::{self, Cluster, cluster_of as cluster};
use crate::archive::toy::{NOON, Toy};
use crate::event::now;

const PARTITIONS: usize = 3;
const SOURCES: [Source; 4] = [Source::Kazoo, Source::Virtualpbx, Source::Placetel, Source::Voispeed];

async fn open(
    directory: &TempDir,
    cluster: &Cluster,
    bucket: Option<&Bucket>,
    partitions: usize,
) -> Result<Partitions, Error> {
    let config = over_kafka::config(directory.path(), cluster, partitions, bucket);
    Partitions::open(config, Arc::new(Toy)).await
}

/// One message each of some calls of several tenants and sources.
fn messages(from: u64, count: u64) -> Vec<Message> {
    let each = (from..from + count).map(|number| {
        let event = serde_json::json!({
            "id": format!("event-{number}"),
            "tenant": format!("tenant-{}", number % 5),
            "source": SOURCES[usize::try_from(number % 4).expect("small")],
            "type": "toy",
            "received_at": now(),
        });
        let mut event: Event = serde_json::from_value(event).expect("an event");
        event.payload = format!("c{}|start|{NOON}", number / 40).into();
        Message::new(event, &Toy)
    });
    each.collect()
}

async fn hashes(archive: &Partitions) -> Vec<TableHash> {
    let snapshot = archive.snapshot().await.expect("a snapshot");
    archive.hash(&snapshot).await.expect("hashes")
}

#[test]
fn a_tenant_and_source_stay_in_one_partition_and_many_spread() {
    let mut used = HashSet::new();
    for tenant in 0..200 {
        let tenant = format!("tenant-{tenant}");
        let place = partition_of(&tenant, Source::Kazoo, 7);
        assert_eq!(place, partition_of(&tenant, Source::Virtualpbx, 7), "both are Kazoo");
        used.insert(place);
    }
    assert_eq!(used.len(), 7);
    let places = ["acme", "demo", "x"].map(|tenant| partition_of(tenant, Source::Placetel, 16));
    assert_eq!(places, [1, 12, 10], "where stored messages are never changes");
    assert_eq!(partition_of("acme", Source::Placetel, 1), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_partitions_are_one_archive() {
    let (cluster, bucket) = (cluster(PARTITIONS), Bucket::in_memory());
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().expect("temporary directory"));
    let first = open(&one, &cluster, Some(&bucket), PARTITIONS).await.expect("opens");
    let second = open(&other, &cluster, Some(&bucket), PARTITIONS).await.expect("opens");
    assert_eq!((first.led(), second.led()), ((0..PARTITIONS).collect(), vec![]));
    assert!(first.visible().is_empty());
    let mut then = None;
    for round in 0..8 {
        let node = [&first, &second][round % 2];
        let receipts = node.append(messages(round as u64 * 40, 40)).await.expect("acknowledged");
        let position = receipts.iter().map(Receipt::position).reduce(Position::max).expect("some");
        let places: HashSet<Option<usize>> = receipts.iter().map(|receipt| receipt.partition).collect();
        assert_eq!(places.len(), PARTITIONS, "all of them are used");
        for node in [&first, &second] {
            assert!(node.wait_for(position, Duration::from_secs(5)).await, "it follows");
            assert_eq!(hashes(node).await[1].rows, (round as u64 + 1) * 40);
        }
        assert_eq!(hashes(&first).await, hashes(&second).await);
        match round {
            2 => drop(second.flush().await.expect("folded by the other one")),
            3 => then = Some((first.visible(), hashes(&first).await)),
            4 => {
                // Who gives one back takes it again if nobody else does in time.
                while second.led() != [1] {
                    if first.led().contains(&1) {
                        first.hand_over(Some(1)).await.expect("handed over");
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                assert_eq!(first.led(), [0, 2], "each folds some");
                assert!(matches!(first.rebuild().await, Err(Error::Conflict(_))), "not all are its own");
            }
            5 => drop(first.flush().await.expect("folded by both")),
            _ => {}
        }
    }
    let beyond = Position::unsaid(true).with(PARTITIONS, Some(Offset(0)));
    assert!(!second.wait_for(beyond, Duration::from_secs(60)).await, "there is no such partition");
    let (position, before) = then.expect("taken");
    let snapshot =
        second.snapshot_as_of(Position::parse(&position.to_string()).expect("a token")).await.expect("as it was");
    assert_eq!(snapshot.position(), position);
    assert_eq!(second.hash(&snapshot).await.expect("hashes"), before);

    let all = hashes(&first).await;
    for node in [&first, &second] {
        node.close().await.expect("closed");
    }
    drop((first, second));
    let refused = open(&one, &cluster, Some(&bucket), 1).await.err();
    assert!(matches!(&refused, Some(Error::Config(_))), "another number of partitions: {refused:?}");
    let again = open(&one, &cluster, Some(&bucket), PARTITIONS).await.expect("opens again");
    assert_eq!(hashes(&again).await, all);
    let rebuilt = again.rebuild().await.expect("rebuilt");
    assert_eq!((rebuilt.messages, hashes(&again).await), (320, all));
    again.close().await.expect("closed");
}
