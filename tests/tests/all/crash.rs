//! `kill -9` at random moments while the sender retries: afterwards the archive equals the truth.

use std::time::Duration;

use rand::Rng;
use trunklog_tests::simulate::Simulation;
use trunklog_tests::{Options, Server, size, truth};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_it_loses_nothing() {
    let kills = size("TRUNKLOG_KILLS", 5);
    let calls = size("TRUNKLOG_KILL_CALLS", 400);
    let mut server = Server::start_with(Options { fixed_port: true, ..Options::default() });
    let (key, query) = (server.key("acme", &["ingest:*"]), server.key("acme", &["query"]));
    let mut done = 0;
    let mut played = Vec::new();
    // One simulation is enough unless this machine is faster than thought; then others follow until the last kill.
    for seed in 0_u64.. {
        let arguments = ["--duplicates", "0.01", "--out-of-order", "0.05"].map(str::to_owned).to_vec();
        // About six messages a call, spread over a second and a half per kill.
        let rate = (calls * 4 / kills.max(1)).max(1);
        let simulation = Simulation { calls, rate, seed: 1_000 + seed, late: false, arguments };
        let mut running = simulation.start(&server, &key, &format!("crash-{seed}"));
        while running.running() && done < kills {
            let pause = rand::rng().random_range(50..1_200);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            server.kill();
            server.launch();
            done += 1;
        }
        played.extend(running.finish().await);
        if done >= kills {
            break;
        }
    }
    truth::check(&server, &query, &played).await;
    server.flush().await;
    truth::check(&server, &query, &played).await;
    eprintln!("killed {done} times, {} calls as played", played.len());
}
