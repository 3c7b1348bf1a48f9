//! The archive over Kafka (librdkafka's mock cluster): what was acknowledged is there after folds and crashes, what others
//! append is seen, and a topic that is not the one the tables know is refused.

use std::collections::HashSet;
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
use crate::event::{Event, Offset, Source, new_event_id};
use crate::keys::{Keys, NewKey};
use crate::lake::Right;
use crate::links::Links;
use crate::log::kafka::KafkaConfig;
use crate::recording::message::{Linked, event as own_event};
use crate::rows::LoggedEvent;

pub(crate) type Cluster = MockCluster<'static, DefaultProducerContext>;

/// A broker with a topic of so many partitions.
pub(crate) fn cluster_of(partitions: usize) -> Cluster {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("trunklog", i32::try_from(partitions).expect("few"), 1).expect("a topic");
    cluster
}

fn cluster() -> Cluster {
    cluster_of(1)
}

/// An archive over it that folds when it is told to.
pub(crate) fn config(directory: &Path, cluster: &Cluster, partitions: usize, bucket: Option<&Bucket>) -> ArchiveConfig {
    let kafka = KafkaConfig {
        message_timeout: Duration::from_secs(5),
        partitions,
        replication: 1,
        min_insync_replicas: 1,
        ..KafkaConfig::new(cluster.bootstrap_servers())
    };
    ArchiveConfig {
        min_free_bytes: 0,
        fold_interval: Duration::from_secs(3600),
        kafka: Some(kafka),
        bucket: bucket.cloned(),
        ..ArchiveConfig::new(directory)
    }
}

async fn open(directory: &Path, cluster: &Cluster, bucket: Option<&Bucket>) -> Result<Archive, Error> {
    open_as(directory, cluster, bucket, true).await
}

async fn open_as(directory: &Path, cluster: &Cluster, bucket: Option<&Bucket>, leads: bool) -> Result<Archive, Error> {
    let config = ArchiveConfig { leads, ..config(directory, cluster, 1, bucket) };
    Archive::open(config, Arc::new(Toy)).await
}

/// Each with an id of its own, also what a sender repeats.
fn messages(from: u64, count: u64) -> Vec<Message> {
    let fresh = |message: Message| {
        let event = Event { id: new_event_id(), ..(*message.event).clone() };
        Message { event: Arc::new(event), ..message }
    };
    (from..from + count).map(|number| fresh(message(number, 0))).collect()
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
async fn a_record_that_the_topic_has_twice_is_there_once() {
    let (cluster, bucket) = (cluster(), Bucket::in_memory());
    let directories = [(); 2].map(|()| tempfile::tempdir().expect("temporary directory"));
    let leads = open(directories[0].path(), &cluster, Some(&bucket)).await.expect("opens");
    let follows = open_as(directories[1].path(), &cluster, Some(&bucket), false).await.expect("opens");
    let sent = messages(0, 20);
    leads.append(sent[..10].to_vec()).await.expect("acknowledged");
    // As the producer does that sends again what it thinks was lost: in the tail, of what is folded, at the very end.
    let before = seen(&leads).await;
    leads.append(sent[5..10].to_vec()).await.expect("acknowledged");
    assert_eq!(seen(&leads).await, before);
    leads.flush().await.expect("folded");
    leads.append(sent.clone()).await.expect("acknowledged");
    let receipts = leads.append(sent[3..6].to_vec()).await.expect("acknowledged");
    let (rows, calls) = seen(&leads).await;
    assert_eq!((rows, receipts[2].offset), (20, Offset(37)));
    assert!(follows.wait_for(Offset(37), Duration::from_secs(5)).await, "it follows");
    assert_eq!(seen(&follows).await, (rows, calls.clone()));
    leads.flush().await.expect("folded");
    assert_eq!((leads.status().folded, seen(&leads).await), (Some(Offset(37)), (rows, calls.clone())));
    leads.rebuild().await.expect("rebuilt");
    assert_eq!(seen(&leads).await, (rows, calls.clone()));
    follows.close().await.expect("closed");
    kill(leads).await;
    let leads = reopen(directories[0].path(), &cluster, Some(&bucket)).await;
    assert_eq!(seen(&leads).await, (rows, calls.clone()));
    leads.append(sent[..3].to_vec()).await.expect("acknowledged");
    assert_eq!(seen(&leads).await, (rows, calls));
    leads.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_follows_reads_no_more_than_its_tail_may_hold() {
    const MESSAGES: u64 = 1000;
    let (cluster, bucket) = (cluster(), Bucket::in_memory());
    let directories = [(); 2].map(|()| tempfile::tempdir().expect("temporary directory"));
    let leads = open(directories[0].path(), &cluster, Some(&bucket)).await.expect("opens");
    for first in (0..MESSAGES).step_by(50) {
        let some = (first..first + 50).map(|number| message(number, 20_000)).collect();
        leads.append(some).await.expect("acknowledged");
    }
    let config = config(directories[1].path(), &cluster, 1, Some(&bucket));
    let config = ArchiveConfig { leads: false, tail_limit_bytes: 1 << 20, ..config };
    let follows = Archive::open(config, Arc::new(Toy)).await.expect("opens");
    let (read, last) = (follows.status().visible, Offset(MESSAGES - 1));
    assert!(read.is_some_and(|read| read < last), "{read:?}");
    leads.flush().await.expect("folded");
    assert!(follows.wait_for(last, Duration::from_secs(10)).await, "it reads on when the tables have the rest");
    assert_eq!(seen(&follows).await, seen(&leads).await);
    follows.close().await.expect("closed");
    leads.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_trunklog_writes_down_again_is_marked_when_it_had_landed() {
    let (cluster, directory) = (cluster(), tempfile::tempdir().expect("temporary directory"));
    let mut config = config(directory.path(), &cluster, 1, None);
    let kafka = config.kafka.as_mut().expect("over Kafka");
    kafka.message_timeout = Duration::from_secs(1);
    let archive = Archive::open(config, Arc::new(Toy)).await.expect("opens");
    let linked = |call: &str| Linked {
        source: Source::Planfix,
        recording_id: "recording".into(),
        call_key: call.into(),
        rule: "time".into(),
        confidence: 1.0,
    };
    let event = move |call: &str| own_event("acme", "trunklog.link", None, &linked(call));
    archive.append_patiently(&[event("one")], None).await.expect("written");
    // Stored at once, but nobody is told in time.
    cluster.broker_round_trip_time(1, Duration::from_secs(4)).expect("slow");
    let working = archive.clone();
    let writing = tokio::spawn(async move { working.append_patiently(&[event("other")], None).await });
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.broker_round_trip_time(1, Duration::ZERO).expect("quick");
    writing.await.expect("no panic").expect("written");
    let tail = archive.inner.sequencer.lock().tail.view();
    let stored: Vec<&LoggedEvent> = tail.events().collect();
    assert!(stored.len() > 2, "it landed more than once: {stored:?}");
    let ids: HashSet<&str> = stored.iter().map(|stored| &*stored.event.id).collect();
    assert_eq!(ids.len(), stored.len(), "each has an id of its own");
    let original = Some(&*stored[1].event.id);
    assert!(stored[..2].iter().all(|first| first.duplicate_of.is_none()), "{stored:?}");
    assert!(stored[2..].iter().all(|again| again.duplicate_of.as_deref() == original), "{stored:?}");
    archive.close().await.expect("closed");
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

/// The one that folds, when there is one.
async fn leader(nodes: &[Archive]) -> usize {
    for _ in 0..400 {
        if let Some(leads) = nodes.iter().position(|node| node.status().leads) {
            return leads;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nobody folds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_see_the_same_whoever_appends_and_whoever_folds() {
    let (cluster, bucket) = (cluster(), Bucket::in_memory());
    let directories = [(); 4].map(|()| tempfile::tempdir().expect("temporary directory"));
    let mut nodes = Vec::new();
    for (number, directory) in directories.iter().enumerate() {
        nodes.push(open_as(directory.path(), &cluster, Some(&bucket), number < 2).await.expect("opens"));
    }
    assert_eq!(leader(&nodes).await, 0, "the first that could");
    let mut led = 0;
    for round in 0..16_u64 {
        // Some of them a second time.
        let sent = messages(round * 8, 10);
        let place = usize::try_from(round).expect("small") % nodes.len();
        let receipts = nodes[place].append(sent).await.expect("acknowledged");
        let last = receipts.last().expect("some").offset;
        match round % 4 {
            1 => drop(nodes[led].flush().await.expect("folded")),
            2 => drop(nodes[3].flush().await.expect("folded by another one")),
            _ => {}
        }
        let mut all = Vec::new();
        for node in &nodes {
            assert!(node.wait_for(last, Duration::from_secs(5)).await, "it follows");
            all.push(seen(node).await);
        }
        assert!(all.iter().all(|seen| *seen == all[0]) && all[0].0 == (round + 1) * 10, "round {round}: {all:?}");
        if round % 3 == 2 {
            nodes[led].hand_over().await.expect("handed over");
            assert!(matches!(nodes[led].inner.fold_and_trim().await, Err(Error::Conflict(_))), "it folds no more");
            let next = leader(&nodes).await;
            assert_eq!((led, next), (led, 1 - led), "the other one");
            led = next;
        }
    }
    assert!(matches!(nodes[2].hand_over().await, Err(Error::Conflict(_))), "it does not fold");
    assert!(matches!(nodes[2].rebuild().await, Err(Error::Conflict(_))), "nor rebuild");
    let before = seen(&nodes[2]).await;
    nodes[led].flush().await.expect("folded");
    let snapshot = nodes[2].snapshot_as_of(Offset(50)).await.expect("as it was");
    assert_eq!(nodes[2].hash(&snapshot).await.expect("hashes")[1].rows, 51);
    nodes[led].rebuild().await.expect("rebuilt");
    // Until the others have taken the new rows up.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for node in &nodes {
        assert_eq!(seen(node).await, before, "after the rebuild");
        assert_eq!(node.status().tail_messages, 0, "what is in the tables is in memory no more");
    }
    for node in nodes {
        node.close().await.expect("closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_links_hold_on_all_nodes() {
    let bucket = Bucket::in_memory();
    let directories = [(); 2].map(|()| tempfile::tempdir().expect("temporary directory"));
    let [one, other] = [&directories[0], &directories[1]].map(|directory| directory.path().to_owned());
    let scopes = || vec!["query".to_owned()];
    let request = |tenant: &str| NewKey { tenant: Some(tenant.into()), scopes: scopes(), ..NewKey::default() };
    // One of before there were several nodes.
    let before = Keys::open(&one).expect("opens").create(request("acme")).expect("made");
    let (ours, theirs) = (Keys::shared(&bucket, &one).await.expect("opens"), Keys::shared(&bucket, &other).await);
    let theirs = theirs.expect("opens");
    theirs.authenticate(&before.token, None).expect("it was put into the bucket");
    // Both at once, neither knowing of the other.
    let made = [ours.create(request("a")).expect("made"), theirs.create(request("b")).expect("made")];
    ours.refresh().await.expect("read");
    for key in &made {
        ours.authenticate(&key.token, None).expect("known");
        theirs.authenticate(&key.token, None).expect("known");
    }
    assert_eq!(theirs.list().len(), 3);
    assert!(ours.revoke(&made[1].id).expect("revoked"));
    theirs.refresh().await.expect("read");
    assert!(theirs.authenticate(&made[1].token, None).is_err(), "revoked on the other node");

    let (ours, theirs) = (Links::shared(&bucket, &one).await.expect("opens"), Links::shared(&bucket, &other).await);
    let theirs = theirs.expect("opens");
    let hour = Duration::from_secs(3600);
    let first = ours.create("acme", "rec1", hour, "key_1").expect("made");
    let second = theirs.create("acme", "rec2", hour, "key_1").expect("made");
    ours.refresh().await.expect("read");
    assert!(
        [&ours, &theirs].iter().all(|links| [&first, &second].iter().all(|link| links.find(&link.token).is_some()))
    );
    assert!(ours.revoke(None, "rec2", &second.id).expect("revoked"));
    theirs.refresh().await.expect("read");
    assert!(theirs.find(&second.token).is_none(), "revoked on the other node");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_that_another_folded_writes_nothing_until_it_has_refreshed() {
    let (cluster, bucket) = (cluster(), Bucket::in_memory());
    let directories = [(); 2].map(|()| tempfile::tempdir().expect("temporary directory"));
    let [first, second] = &directories;
    let leads = open(first.path(), &cluster, Some(&bucket)).await.expect("opens");
    let zombie = open_as(second.path(), &cluster, Some(&bucket), false).await.expect("opens");
    assert!(leads.status().leads);
    let receipts = leads.append(messages(0, 10)).await.expect("acknowledged");
    assert!(zombie.wait_for(receipts[9].offset, Duration::from_secs(5)).await, "it follows");
    // One that was held up in the middle of a fold, with the lease that it had then.
    let alone = leads.inner.compacting.lock().await;
    {
        let mut tables = zombie.inner.tables.lock().await;
        tables.permit(&Right::Alone);
        zombie.inner.store.fold(&mut tables).await.expect("folded");
        tables.permit(&Right::Nobody);
    }
    leads.append(messages(10, 10)).await.expect("acknowledged");
    for _ in 0..3 {
        let refused = leads.inner.fold_and_trim().await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    }
    drop(alone);
    let mut tries = 0;
    while leads.inner.fold_and_trim().await.is_err() {
        tries += 1;
        assert!(tries < 200, "it does not refresh");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let before = seen(&leads).await;
    leads.rebuild().await.expect("rebuilt");
    assert_eq!(seen(&leads).await, before, "each call once, as another fold makes it");
    leads.close().await.expect("closed");
    zombie.close().await.expect("closed");
}
