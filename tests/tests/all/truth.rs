//! The archive equals the ground truth, call by call: with duplicates, disorder and late messages, shuffled, and
//! after everything was folded anew.

use std::time::{Duration, Instant};

use trunklog_tests::simulate::Simulation;
use trunklog_tests::{Server, size, truth};

/// What `verify --hash` prints, without anything but tables, numbers of rows and hashes.
fn hashes(server: &Server) -> Vec<String> {
    let text = server.run(&["verify", "--hash"]);
    let is_hash = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let clean = |word: &str| word.trim_matches(|letter: char| !letter.is_alphanumeric()).to_owned();
    let hashes: Vec<_> = text
        .split_whitespace()
        .flat_map(|word| word.split(['"', ':', '=', ',']))
        .map(clean)
        .filter(|word| is_hash(word))
        .collect();
    assert!(hashes.len() >= 2, "`verify --hash` names no hash of events and calls:\n{text}");
    hashes
}

/// Plays the calls, folds and compacts everything, then lets the late messages in.
async fn play(server: &Server, simulation: &Simulation) -> Vec<trunklog_tests::simulate::Call> {
    let key = server.key("acme", &["ingest:*"]);
    let mut running = simulation.start(server, &key, "simulation");
    running.until_late().await;
    server.flush().await;
    running.go_on();
    let truth = running.finish().await;
    // What the recordings are is written down after their upload; from then on nothing more comes.
    let query = server.key("acme", &["query"]);
    let unread = "SELECT recording_id FROM recordings WHERE status = 'received' AND container IS NULL LIMIT 1";
    let deadline = Instant::now() + Duration::from_secs(120);
    while !server.sql(&query, unread).await.objects().is_empty() {
        assert!(Instant::now() < deadline, "recordings were not looked at within two minutes");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(truth.len(), simulation.calls, "one line of truth per call");
    truth
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_archive_equals_the_truth_and_so_does_its_rebuild() {
    let mut server = Server::start();
    let query = server.key("acme", &["query"]);
    let played = play(&server, &Simulation::disorderly(size("TRUNKLOG_SIM_CALLS", 1_000), 3)).await;
    truth::check(&server, &query, &played).await;

    server.flush().await;
    truth::check(&server, &query, &played).await;

    let before = hashes(&server);
    server.run(&["rebuild"]);
    assert_eq!(hashes(&server), before, "a rebuild gives the same rows");
    truth::check(&server, &query, &played).await;

    server.kill();
    server.launch();
    assert_eq!(hashes(&server), before, "and so does a restart after kill -9");
    server.stop();
    server.run(&["rebuild"]);
    assert_eq!(hashes(&server), before, "and a rebuild without a server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shuffled_deliveries_give_the_same_calls() {
    let server = Server::start();
    let query = server.key("acme", &["query"]);
    let mut simulation = Simulation::disorderly(size("TRUNKLOG_SIM_CALLS", 1_000), 3);
    simulation.arguments.push("--shuffle".to_owned());
    let played = play(&server, &simulation).await;
    truth::check(&server, &query, &played).await;
    server.flush().await;
    truth::check(&server, &query, &played).await;
}
