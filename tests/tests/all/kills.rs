//! `kill -9` at chosen moments, recognised from outside, while senders retry: afterwards every acknowledged message is
//! there once, every call as its messages say, and a rebuild changes nothing. A moment that is not hit fails the test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::Rng;
use trunklog_tests::kills::{Aim, Delivered, Moment, Senders, Strike, Traffic, check, kill_while_starting, lake};
use trunklog_tests::{Options, Server, size, wire};

/// Limits so tight that folds, swaps, vacuums and truncations happen all the time.
const CONFIG: &str = r#"
[log]
segment_bytes = 1048576
[fold]
bytes = 1
interval = "200ms"
keep_superseded = "2s"
[defaults]
time_zone = "UTC"
"#;
/// As `log.segment_bytes`.
const SEGMENT_BYTES: usize = 1 << 20;
/// So many of these fill a segment.
const PADS: usize = 16;
/// Senders at the same time.
const SENDERS: usize = 6;
/// No more is sent while so many messages wait.
const MOST_OUTSTANDING: usize = 64;
/// Between two stirs of one turn.
const ROUND: Duration = Duration::from_millis(30);
/// A moment must be hit in one of so many of its turns.
const LEAST_HITS: usize = 4;

/// How often a moment was waited for, and hit.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    turns: usize,
    hits: usize,
}

struct Bench {
    server: Server,
    senders: Senders,
    traffic: Traffic,
    query: String,
    bell: PathBuf,
    tallies: BTreeMap<Moment, Tally>,
    /// Kills after which the tables disagreed about how much of the log they have.
    torn: usize,
}

impl Bench {
    fn start() -> Bench {
        let options = Options { config: Some(CONFIG.to_owned()), fixed_port: true, ..Options::default() };
        let server = Server::start_with(options);
        let (ingest, query) = (server.key("acme", &["ingest:*"]), server.key("acme", &["query"]));
        let senders = Senders::start(SENDERS, server.address(), &ingest);
        let bell = server.root().join("bell");
        std::fs::create_dir(&bell).unwrap();
        Bench { server, senders, traffic: Traffic::new(), query, bell, tallies: BTreeMap::new(), torn: 0 }
    }

    /// Begins so many calls, and sends what is due of earlier ones.
    fn begin(&mut self, calls: u64) {
        self.senders.send(self.traffic.begin(calls));
    }

    /// Sends more than a segment of the log holds.
    fn fill_segment(&mut self) {
        self.senders.send(self.traffic.pad(PADS as u64 + 1, SEGMENT_BYTES / PADS));
    }

    /// Folds and compacts everything; a server that dies meanwhile is no failure here.
    fn flush(&self) {
        let authorization = format!("authorization: Bearer {}", self.server.admin());
        let head = wire::head("POST", "/v1/admin/flush", &[&authorization, "content-length: 0"]);
        wire::exchange(self.server.address(), &head, b"").ok();
    }

    /// Folds and compacts until the first checkpoint: from then on there is something to clean up.
    fn warm_up(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !lake::has_checkpoint(&self.server.data_dir()) {
            assert!(Instant::now() < deadline, "no table got a checkpoint");
            self.begin(2);
            self.flush();
        }
    }

    /// Waits until all that was sent is acknowledged and in the tables.
    fn calm(&self) {
        self.senders.settle();
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.fold_lag() != Some(0.0) {
            assert!(Instant::now() < deadline, "the fold does not catch up\n{}", self.server.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn fold_lag(&self) -> Option<f64> {
        let answer = wire::exchange(self.server.address(), &wire::head("GET", "/metrics", &[]), b"").ok()?;
        let text = answer.text();
        let line = text.lines().find_map(|line| line.strip_prefix("trunklog_fold_lag_messages "))?;
        line.trim().parse().ok()
    }

    /// Starts the server after a kill and waits until it is ready. Nobody helps it.
    fn restart(&mut self) {
        self.server.launch();
        let deadline = Instant::now() + Duration::from_secs(30);
        let head = wire::head("GET", "/readyz", &[]);
        while !wire::exchange(self.server.address(), &head, b"").is_ok_and(|answer| answer.status == 200) {
            assert!(Instant::now() < deadline, "not ready after a kill\n{}", self.server.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// One kill, and the start after it.
    fn turn(&mut self, moment: Moment) {
        let hit = match moment {
            Moment::Random => self.kill_at_random(),
            Moment::Starting => self.kill_while_starting(),
            Moment::Compaction => self.kill_during_compaction(),
            moment => self.kill_at(moment),
        };
        let tally = self.tallies.entry(moment).or_default();
        tally.turns += 1;
        tally.hits += usize::from(hit);
        self.torn += usize::from(lake::is_torn(&self.server.data_dir()));
        self.restart();
    }

    fn kill_at_random(&mut self) -> bool {
        self.begin(5);
        std::thread::sleep(Duration::from_micros(rand::rng().random_range(0..250_000)));
        self.server.kill();
        true
    }

    /// Two kills: that of the starting process, and a second one as soon as it listens.
    fn kill_while_starting(&mut self) -> bool {
        self.begin(5);
        std::thread::sleep(Duration::from_millis(10));
        self.server.kill();
        let delay = Duration::from_millis(rand::rng().random_range(0..90));
        let killer = kill_while_starting(self.server.data_dir(), delay);
        self.server.launch();
        let killed = killer.join().unwrap();
        // The one that came too late killed the process that now listens.
        let hit = killed.is_some_and(|process| process != self.server.id());
        self.server.kill();
        hit
    }

    /// With nothing left to fold, a new file of the final tier can only be a compaction's.
    fn kill_during_compaction(&mut self) -> bool {
        let mut struck = None;
        for _ in 0..5 {
            self.begin(4);
            self.calm();
            let strike = self.arm(Moment::Compaction);
            self.flush();
            struck = strike.end();
            if struck.is_some() {
                break;
            }
        }
        self.server.kill();
        struck.is_some()
    }

    fn kill_at(&mut self, moment: Moment) -> bool {
        let strike = self.arm(moment);
        let deadline = Instant::now() + moment.patience();
        let mut round = 0;
        while !strike.has_struck() && Instant::now() < deadline {
            self.stir(moment, round);
            strike.wait(ROUND);
            round += 1;
        }
        let struck = strike.end();
        self.server.kill();
        let in_time = |path: &PathBuf| moment != Moment::ParquetWritten || !lake::is_committed(path);
        struck.is_some_and(|struck| in_time(&struck.path))
    }

    fn arm(&self, moment: Moment) -> Strike {
        let data = self.server.data_dir();
        Strike::arm(Aim::new(moment, &data), self.server.id(), &data, &self.bell)
    }

    /// Does what leads to the moment.
    fn stir(&mut self, moment: Moment, round: usize) {
        if self.senders.outstanding() < MOST_OUTSTANDING {
            self.begin(if round == 0 { 4 } else { 1 });
            if round.is_multiple_of(50) && matches!(moment, Moment::Truncation | Moment::Rolling) {
                self.fill_segment();
            }
        }
        if round > 0 && matches!(moment, Moment::Vacuum | Moment::Truncation | Moment::Index) {
            self.flush();
        }
    }

    async fn check(&self) -> Delivered {
        self.calm();
        check(&self.server, &self.query, &self.traffic).await
    }

    fn hash(&self) -> String {
        self.server.run(&["verify", "--hash"])
    }

    /// The rest is sent; then the tables must be right before and after a flush, a rebuild and a last kill.
    async fn finish(&mut self) -> Delivered {
        self.senders.send(self.traffic.rest());
        self.check().await;
        self.server.kill();
        self.restart();
        self.check().await;
        self.server.flush().await;
        let delivered = self.check().await;
        let hash = self.hash();
        self.server.run(&["rebuild"]);
        assert_eq!(self.hash(), hash, "after the rebuild");
        self.server.kill();
        self.restart();
        assert_eq!(self.hash(), hash, "after a kill behind the rebuild");
        self.check().await;
        delivered
    }

    /// A test that does not hit proves nothing.
    fn expect_hits(&self, delivered: Delivered) {
        for (moment, Tally { turns, hits }) in &self.tallies {
            assert!(
                hits * LEAST_HITS >= *turns,
                "{moment:?} was hit {hits} times in {turns} turns: {:?}",
                self.tallies
            );
        }
        let written = self.tallies.get(&Moment::LogWritten).copied().unwrap_or_default();
        assert!(
            delivered.repeated * 10 >= written.hits,
            "of {} kills behind a write to the log, {} left a message that was stored and not answered",
            written.hits,
            delivered.repeated
        );
        assert!(self.torn > 0, "no kill came between the commits of two tables");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_chosen_moments_it_has_every_message_once() {
    let kills = size("TRUNKLOG_KILLS_AT", 50).max(Moment::ALL.len());
    let started = Instant::now();
    let mut bench = Bench::start();
    bench.warm_up();
    let warm = started.elapsed();
    let every = (kills / 20).max(10);
    for turn in 1..=kills {
        bench.turn(Moment::ALL[turn % Moment::ALL.len()]);
        if turn % every == 0 {
            bench.check().await;
        }
    }
    let delivered = bench.finish().await;
    for (moment, Tally { turns, hits }) in &bench.tallies {
        eprintln!("{moment:?}: {hits} of {turns}");
    }
    eprintln!(
        "killed {kills} times in {:.1?} (warm after {warm:.1?}): {} messages in {} attempts, {} stored twice, {} calls; {} folds cut in two",
        started.elapsed(),
        delivered.messages,
        bench.senders.attempts(),
        delivered.repeated,
        delivered.calls,
        bench.torn
    );
    bench.expect_hits(delivered);
}
