//! `trunklog simulate` as a child of the test: started, watched, and its truth read.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::binary::command;
use crate::server::Server;

/// One line of the truth file.
pub type Call = Map<String, Value>;

/// What to play.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// Number of calls.
    pub calls: usize,
    /// Messages per second; 0 is as fast as they are acknowledged.
    pub rate: usize,
    /// Same seed, same calls.
    pub seed: u64,
    /// Hold the late messages back until told to go on.
    pub late: bool,
    /// Further arguments, such as `--duplicates 0.01`.
    pub arguments: Vec<String>,
}

impl Simulation {
    /// Calls as the issue wants them delivered: 1 % duplicates, 5 % out of order, 0.5 % late.
    pub fn disorderly(calls: usize, seed: u64) -> Simulation {
        let arguments =
            ["--duplicates", "0.01", "--out-of-order", "0.05", "--late", "0.005"].map(str::to_owned).to_vec();
        Simulation { calls, rate: 0, seed, late: true, arguments }
    }

    /// Starts it against a server. `name` tells its files from those of another simulation on the same server.
    pub fn start(&self, server: &Server, key: &str, name: &str) -> Running {
        let truth = server.root().join(format!("{name}.truth.ndjson"));
        let go_on = server.root().join(format!("{name}.go-on"));
        let mut simulate = command();
        simulate.args(["simulate", "--url", &server.url(), "--key", key]);
        simulate.args(["--calls", &self.calls.to_string(), "--rate", &self.rate.to_string()]);
        simulate.args(["--seed", &self.seed.to_string()]).args(&self.arguments);
        simulate.arg("--truth").arg(&truth);
        if self.late {
            simulate.arg("--late-after").arg(&go_on);
        }
        simulate.current_dir(server.root()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = simulate.spawn().unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        keep_lines(child.stdout.take().unwrap(), Arc::clone(&lines));
        keep_lines(child.stderr.take().unwrap(), Arc::clone(&lines));
        Running { child, truth, go_on, lines }
    }
}

/// A simulation under way.
pub struct Running {
    child: Child,
    truth: PathBuf,
    go_on: PathBuf,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    /// Waits until all but the late messages are acknowledged.
    pub async fn until_late(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(3_600);
        while Instant::now() < deadline {
            if self.lines.lock().unwrap().iter().any(|line| line.starts_with("late:")) {
                return;
            }
            assert!(self.running(), "the simulation ended before its late part:\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the simulation did not come to its late part within an hour:\n{}", self.output());
    }

    /// Lets it send the late messages.
    pub fn go_on(&self) {
        std::fs::write(&self.go_on, "").unwrap();
    }

    /// Whether it is still at work.
    pub fn running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end, which must be a success: everything was acknowledged. Gives the truth.
    pub async fn finish(mut self) -> Vec<Call> {
        while self.running() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the simulation ended with {status}:\n{}", self.output());
        read_truth(&self.truth)
    }

    fn output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn keep_lines(stream: impl Read + Send + 'static, kept: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            kept.lock().unwrap().push(line);
        }
    });
}

fn read_truth(path: &Path) -> Vec<Call> {
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("truth: {error}: {line}"));
    text.lines().filter(|line| !line.is_empty()).map(line).collect()
}
