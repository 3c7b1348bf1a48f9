//! `kill -9` during uploads, and clients that die: what was acknowledged is there and whole, once; nothing else is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use trunklog_tests::scan::files_below;
use trunklog_tests::{Options, size, wire};

use super::{Bench, noise, sha256, text};

/// Senders at the same time.
const SENDERS: u64 = 4;

/// An upload that was acknowledged.
struct Acknowledged {
    name: String,
    sha256: String,
}

/// One telephone system: sends recording after recording, each until it is acknowledged, as Kazoo does.
fn send_until(over: &AtomicBool, address: &str, key: &str, sender: u64) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    for number in 0_u64.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        // Packed ones and ones with a file of their own, up to a megabyte.
        let length = rand::rng().random_range(200..if number % 3 == 0 { 1 << 20 } else { 60_000 });
        let bytes = noise(length, (sender << 32) + number);
        let name = format!("crash-{sender}-{number}");
        let target = format!("/in/{key}/kazoo/recordings/call_recording_{name}%40h.wav");
        let announced = format!("content-length: {length}");
        let head = wire::head("PUT", &target, &["content-type: audio/wav", &announced]);
        let deadline = Instant::now() + Duration::from_secs(120);
        while !wire::exchange(address, &head, &bytes).is_ok_and(|answer| [200, 201].contains(&answer.status)) {
            assert!(Instant::now() < deadline, "{name} was not taken within two minutes");
            std::thread::sleep(Duration::from_millis(20));
        }
        acknowledged.push(Acknowledged { name, sha256: sha256(&bytes) });
    }
    acknowledged
}

/// What is visible is whole, at any moment. The newest few are looked at.
async fn expect_newest_whole(bench: &Bench) {
    let sql = "SELECT * FROM recordings ORDER BY received_at DESC LIMIT 5";
    let rows = bench.server.sql(&bench.query, sql).await.objects();
    bench.expect_whole(&rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_during_uploads_it_keeps_every_acknowledged_one_whole_and_once() {
    let kills = size("TRUNKLOG_UPLOAD_KILLS", 5);
    let mut bench = Bench::start_with(Options { fixed_port: true, ..Options::default() });
    let over = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (over, address) = (Arc::clone(&over), bench.server.address().to_owned());
            let key = bench.ingest.clone();
            std::thread::spawn(move || send_until(&over, &address, &key, sender))
        })
        .collect();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_micros(rand::rng().random_range(20_000..700_000))).await;
        bench.server.kill();
        bench.server.launch();
        expect_newest_whole(&bench).await;
    }
    over.store(true, Ordering::Relaxed);
    let acknowledged: Vec<_> = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
    bench.server.kill();
    bench.server.launch();
    assert_eq!(files_below(&bench.objects().join(".tmp")), Vec::<std::path::PathBuf>::new(), "after a restart");
    for folded in [false, true] {
        if folded {
            bench.server.flush().await;
        }
        let rows = bench.recordings().await;
        assert_eq!(
            rows.len(),
            acknowledged.len(),
            "one row for each upload, each of which was acknowledged in the end"
        );
        for upload in &acknowledged {
            let key = format!("{}@h", upload.name);
            let found: Vec<_> = rows.iter().filter(|row| row["call_key"] == key.as_str()).collect();
            assert_eq!(found.len(), 1, "{key}");
            assert_eq!(text(found[0], "sha256"), upload.sha256, "{key}");
        }
        bench.expect_whole(&rows).await;
    }
    assert_eq!(bench.count("calls").await, i64::try_from(acknowledged.len()).unwrap());
    let left_over = expect_orphans_collected(&mut bench).await;
    eprintln!("killed {kills} times, {} uploads; {left_over} files without a message collected", acknowledged.len());
}

/// Files that no message names go once they are old, at the next start; all others stay. Gives how many went.
async fn expect_orphans_collected(bench: &mut Bench) -> usize {
    let recordings = bench.objects().join("recordings");
    let planted = recordings.join("acme/2026-01-02/00000000000000000000000000000000");
    std::fs::create_dir_all(planted.parent().unwrap()).unwrap();
    std::fs::write(&planted, b"never acknowledged").unwrap();
    let before = files_below(&recordings);
    let two_hours_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 3600);
    for file in &before {
        std::fs::File::options().write(true).open(file).unwrap().set_modified(two_hours_ago).unwrap();
    }
    let rows = bench.recordings().await;
    let file_of = |row: &_| bench.server.data_dir().join(text(row, "object").split('#').next().unwrap());
    let named: std::collections::BTreeSet<_> = rows.iter().map(file_of).collect();
    bench.server.kill();
    bench.server.launch();
    let deadline = Instant::now() + Duration::from_secs(30);
    let files = || files_below(&recordings).into_iter().collect::<std::collections::BTreeSet<_>>();
    while files() != named {
        assert!(Instant::now() < deadline, "{:?} are still there", files().difference(&named).collect::<Vec<_>>());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bench.expect_whole(&rows).await;
    before.len() - named.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_dies_on_the_way_leaves_nothing() {
    let cuts = size("TRUNKLOG_UPLOAD_CUTS", 10);
    let bench = Bench::start();
    for length in [20_000, 300_000] {
        let bytes = noise(length, 8);
        let target = format!("/in/{}/kazoo/recordings/call_recording_dies%40h.wav", bench.ingest);
        let announced = format!("content-length: {length}");
        for cut in 0..cuts {
            let part = &bytes[..length * cut / cuts];
            let head = wire::head("PUT", &target, &[&announced]);
            wire::send_and_leave(bench.server.address(), &head, part).unwrap();
            let head = wire::head("PUT", &target, &["transfer-encoding: chunked"]);
            let body = wire::chunked(part, 7_000, false);
            wire::send_and_leave(bench.server.address(), &head, &body).unwrap();
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    bench.expect_nothing().await;
    bench.put("/in/kazoo/recordings/call_recording_dies%40h.wav", &noise(300_000, 8)).await.expect(201);
    bench.expect_whole(&bench.recordings().await).await;
}
