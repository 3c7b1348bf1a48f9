//! The archive on a log whose disk fails: readers go on, nothing more is acknowledged, and a restart recovers.

use std::sync::Arc;

use rustix::io::Errno;

use super::faulty_store::{config, hashes, kill, message, reference};
use super::toy::Toy;
use super::{Archive, Message};
use crate::error::Error;
use crate::event::Offset;
use crate::log::faulty_disk::{Fault, FaultyDisk, Operation};

fn messages(from: u64, count: u64) -> Vec<Message> {
    (from..from + count).map(|number| message(number, 0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_leaves_readers_and_a_restart_recovers() {
    for power in [false, true] {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path();
        let disk = FaultyDisk::under(&path.join("log"));
        let archive = Archive::open(config(path), Arc::new(Toy)).await.expect("opens");
        archive.append(messages(0, 20)).await.expect("acknowledged");
        disk.plan(Operation::Sync, 0, Fault::Error(Errno::IO));
        for _ in 0..3 {
            assert!(matches!(archive.append(messages(20, 5)).await, Err(Error::Poisoned(_))));
        }
        assert!(archive.status().poisoned.is_some(), "health checks learn of it");

        let expected = reference(&[messages(0, 20)]).await;
        assert_eq!(hashes(&archive).await.expect("readers go on"), expected);
        archive.flush().await.expect("what was acknowledged is folded");
        assert_eq!(hashes(&archive).await.expect("readers go on"), expected);
        assert_eq!(archive.status().visible, Some(Offset(19)), "what was refused is not shown");

        kill(archive, path).await;
        if power {
            disk.power_cycle(|| false).expect("the power comes back");
        }
        let archive = Archive::open(config(path), Arc::new(Toy)).await.expect("opens by itself");
        let rows = hashes(&archive).await.expect("readable")[1].rows;
        assert_eq!(rows, if power { 20 } else { 25 }, "refused messages are there only if the kernel still had them");

        // The sender repeats what was refused.
        let receipts = archive.append(messages(20, 5)).await.expect("acknowledged");
        assert!(receipts.iter().all(|receipt| receipt.offset >= Offset(rows)));
        if !power {
            assert!(receipts.iter().all(|receipt| receipt.duplicate), "repeats of what had landed are marked");
        }
        let expected = hashes(&archive).await.expect("readable");
        archive.flush().await.expect("folded");
        kill(archive, path).await;
        disk.power_cycle(|| false).expect("the power comes back");
        let archive = Archive::open(config(path), Arc::new(Toy)).await.expect("the tables are not ahead of the log");
        assert_eq!(hashes(&archive).await.expect("readable"), expected, "nothing that was taken up is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_write_ends_in_a_clean_restart() {
    for sectors in [0, 1, 3] {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path();
        let disk = FaultyDisk::under(&path.join("log"));
        let archive = Archive::open(config(path), Arc::new(Toy)).await.expect("opens");
        archive.append(messages(0, 30)).await.expect("acknowledged");
        archive.fold_now().await.expect("folded");
        archive.append(messages(30, 10)).await.expect("acknowledged");
        disk.plan(Operation::Write, 0, Fault::Torn(sectors));
        assert!(matches!(archive.append(messages(40, 30)).await, Err(Error::Poisoned(_))));
        kill(archive, path).await;
        disk.power_cycle(|| false).expect("the power comes back");
        let archive = Archive::open(config(path), Arc::new(Toy)).await.expect("opens by itself");
        let batches = [messages(0, 30), messages(30, 10), messages(40, 30)];
        assert_eq!(hashes(&archive).await.expect("readable"), reference(&batches[..2]).await);
        archive.append(messages(40, 30)).await.expect("the sender repeats it");
        assert_eq!(hashes(&archive).await.expect("readable"), reference(&batches).await);
    }
}
