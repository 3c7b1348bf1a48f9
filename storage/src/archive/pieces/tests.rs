//! What a snapshot in pieces comes to while folds are being noted: each call once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use bytes::Bytes;
use futures::TryStreamExt;

use crate::archive::toy::{NOON, Toy};
use crate::archive::{Archive, ArchiveConfig, Message, Snapshot, StoredTable};
use crate::event::{Event, Micros, Source};

/// Far more than are noted at once.
const CALLS: usize = 1500;

fn message(call: usize, what: &str, received_at: Micros) -> Message {
    let event = Event {
        id: format!("{call}-{what}").into(),
        tenant: "acme".into(),
        source: Source::Placetel,
        kind: "toy".into(),
        received_at,
        subject: None,
        structured: false,
        method: None,
        path: None,
        query: None,
        headers: Arc::default(),
        content_type: None,
        error: None,
        payload: Bytes::from(format!("call-{call}|{what}|{received_at}")),
    };
    Message::new(event, &Toy)
}

/// How often each call stands in the pieces.
async fn counted(snapshot: &Snapshot) -> HashMap<String, usize> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for call in snapshot.fresh_calls() {
        *counts.entry(call.call_id.to_owned()).or_default() += 1;
    }
    for file in snapshot.files(StoredTable::Calls).await.expect("files") {
        let reader = file.open(file.footer().await.expect("a footer")).expect("a reader");
        let mut batches = reader.build().expect("a stream");
        while let Some(batch) = batches.try_next().await.expect("rows") {
            let ids = cast(batch.column_by_name("call_id").expect("ids"), &DataType::Utf8).expect("texts");
            for id in ids.as_string::<i32>().iter().flatten() {
                if !file.maybe_superseded.iter().any(|other| **other == *id) {
                    *counts.entry(id.to_owned()).or_default() += 1;
                }
            }
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_stands_once_in_the_pieces_while_a_fold_is_noted() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let config = ArchiveConfig {
        segment_bytes: 20 << 20,
        min_free_bytes: 0,
        fold_interval: Duration::from_secs(3600),
        ..ArchiveConfig::new(directory.path())
    };
    let archive = Archive::open(config, Arc::new(Toy)).await.expect("the archive opens");
    archive.append((0..CALLS).map(|call| message(call, "start", NOON)).collect()).await.expect("appended");
    let folding = Arc::new(AtomicBool::new(true));
    let folds = {
        let (archive, folding) = (archive.clone(), Arc::clone(&folding));
        tokio::spawn(async move {
            for round in 1..=6 {
                // The first rows of all are provisional, so each fold writes every call anew.
                let at = NOON + round;
                let what = if round % 2 == 0 { "start" } else { "answer" };
                archive.append((0..CALLS / 2).map(|call| message(call, what, at)).collect()).await.expect("appended");
                archive.fold_now().await.expect("folded");
            }
            folding.store(false, Ordering::Release);
        })
    };
    let mut taken = 0;
    while folding.load(Ordering::Acquire) {
        let snapshot = archive.snapshot().await.expect("a snapshot");
        let counts = counted(&snapshot).await;
        assert_eq!(counts.len(), CALLS, "after {taken} snapshots");
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).take(3).collect();
        assert!(twice.is_empty(), "after {taken} snapshots: {twice:?}");
        taken += 1;
    }
    folds.await.expect("folds ended");
    assert!(taken > 3, "{taken} snapshots were taken while folds were noted");
    archive.close().await.expect("closed");
}
