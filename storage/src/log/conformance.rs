//! One suite that every log must pass: call [`run`] with a function that opens the log and hands it a publisher.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Batch, Bounds, Log, Offsets, Published, Publisher, codec};
use crate::error::Error;
use crate::event::{Event, Offset, Source};

/// Opens the log under test; called again to see what survives. Anything of the former handle is dropped by then.
pub type Open<'a> = &'a dyn Fn(Publisher) -> Result<Arc<dyn Log>, Error>;

type Seen = Arc<Mutex<Vec<(u64, Bytes)>>>;

/// A message of some size, with all attributes or hardly any.
fn record(number: u64) -> Bytes {
    let filler =
        vec![u8::try_from(number % 251).unwrap_or_default(); usize::try_from(number % 997).unwrap_or_default()];
    let full = |text: &str| (!number.is_multiple_of(3)).then(|| format!("{text} {number} \u{fc}\n"));
    let event = Event {
        id: format!("message {number}").into(),
        tenant: "acme".into(),
        source: Source::PBX[usize::try_from(number % 5).unwrap_or_default()],
        kind: "conformance.test".into(),
        received_at: 1_767_268_800_000_000 + number.cast_signed(),
        subject: full("call").map(Into::into),
        structured: number.is_multiple_of(2),
        method: full("POST").map(Into::into),
        path: full("/in/kazoo/pivot").map(Into::into),
        query: full("a=%20").map(Into::into),
        headers: Arc::new(full("agent").into_iter().map(|value| ("user-agent".into(), value.into())).collect()),
        content_type: full("text/plain").map(Into::into),
        error: full("cannot be split"),
        payload: Bytes::from([format!("record {number} ").as_bytes(), &filler].concat()),
    };
    codec::encode(&event).expect("attributes are texts")
}

fn batch(from: u64, count: u64) -> Batch {
    Batch { records: (from..from + count).map(record).collect(), carry: None }
}

fn offsets(first: u64, count: u64) -> Offsets {
    (first..first + count).map(Offset).collect()
}

fn collecting() -> (Seen, Publisher) {
    let seen: Seen = Arc::default();
    let sink = Arc::clone(&seen);
    let publisher = Box::new(move |Published { first, batch }: Published| {
        let records = batch.records.into_iter().enumerate();
        sink.lock().extend(records.map(|(index, record)| (first.0 + index as u64, record)));
    });
    (seen, publisher)
}

fn read_all(log: &dyn Log, from: Offset) -> Result<Vec<(Offset, Bytes)>, Error> {
    let mut all: Vec<(Offset, Bytes)> = Vec::new();
    loop {
        let next = all.last().map_or(from, |(last, _)| Offset(last.0 + 1));
        let more = log.read(next, 10_000)?;
        if more.is_empty() {
            return Ok(all);
        }
        all.extend(more);
    }
}

/// Runs the suite on an empty log.
///
/// # Errors
/// If the log fails where it must not.
///
/// # Panics
/// When the log breaks its contract.
pub async fn run(open: Open<'_>) -> Result<(), Error> {
    let (seen, publisher) = collecting();
    let log = open(publisher)?;
    let identity = log.identity().to_owned();
    assert_eq!(log.bounds(), Bounds { first: Offset(0), next: Offset(0) }, "an empty log");
    assert!(log.read(Offset(0), 1)?.is_empty(), "nothing to read");

    assert_eq!(log.append(batch(0, 3)).await?, offsets(0, 3), "the first message is 0");
    assert_eq!(seen.lock().len(), 3, "published before the append returns");
    assert_eq!(log.append(batch(3, 1)).await?, offsets(3, 1), "offsets are dense");

    // Many at once: dense, each batch together, published in offset order.
    let appends = (0..200_u64).map(|task| {
        let log = Arc::clone(&log);
        async move { log.append(batch(1000 * (task + 1), 1 + task % 7)).await.map(|placed| (task, placed)) }
    });
    let placed = futures::future::join_all(appends).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    for (task, placed) in &placed {
        assert_eq!(*placed, offsets(placed[0].0, 1 + task % 7), "a batch stands together");
        let together = log.read(placed[0], 1 << 20)?;
        for index in 0..=task % 7 {
            assert_eq!(together[usize::try_from(index).unwrap_or_default()].1, record(1000 * (task + 1) + index));
        }
    }
    let published: Vec<u64> = seen.lock().iter().map(|(offset, _)| *offset).collect();
    let dense: Vec<u64> = (0..log.bounds().next.0).collect();
    assert_eq!(published, dense, "published once each, in order");
    let all = read_all(log.as_ref(), Offset(0))?;
    let of_publisher: Vec<(Offset, Bytes)> =
        seen.lock().iter().map(|(offset, record)| (Offset(*offset), record.clone())).collect();
    assert_eq!(all, of_publisher, "what is read is what was published");
    assert_eq!(
        log.read(Offset(5), 1)?.first().map(|(offset, _)| *offset),
        Some(Offset(5)),
        "reads begin where they are asked to"
    );

    // What was acknowledged is there after a restart, and appending goes on behind it.
    let next = log.bounds().next;
    log.close().await;
    drop(log);
    let (_, publisher) = collecting();
    let log = open(publisher)?;
    assert_eq!(log.identity(), identity, "the identity stays");
    assert_eq!(read_all(log.as_ref(), Offset(0))?, all, "nothing lost, nothing twice");
    assert_eq!(log.append(batch(7, 2)).await?, offsets(next.0, 2), "appending goes on");

    // Trimming forgets at most what it was told to.
    log.trim(Offset(2))?;
    let first = log.bounds().first;
    assert!(first <= Offset(2), "trimmed too much");
    assert_eq!(read_all(log.as_ref(), Offset(2))?.len() as u64, log.bounds().next.0 - 2);
    log.close().await;
    assert!(log.append(batch(0, 1)).await.is_err(), "a closed log takes nothing");
    Ok(())
}
