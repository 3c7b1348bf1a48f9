//! `kill -9` at a moment: a thread that waits for it and strikes at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::moment::Aim;
use super::watch::Watch;

/// How long a starting process is looked for.
const SEARCH: Duration = Duration::from_secs(10);

/// A kill that hit its moment.
#[derive(Clone, Debug)]
pub struct Struck {
    /// The file by which the moment was recognised.
    pub path: PathBuf,
}

/// A strike that waits.
pub struct Strike {
    thread: JoinHandle<Option<Struck>>,
    over: Arc<AtomicBool>,
    bell: PathBuf,
}

impl Strike {
    /// Waits for the moment in the data directory and then kills this process. `bell` is a folder of its own, beside
    /// the data.
    pub fn arm(aim: Aim, process: u32, data: &Path, bell: &Path) -> Strike {
        let mut watch = Watch::new();
        watch.add(data);
        watch.add(bell);
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            loop {
                for change in watch.changes() {
                    if aim.is_seen_in(&change) {
                        std::thread::sleep(aim.delay);
                        kill(process);
                        return Some(Struck { path: change.path });
                    }
                }
                if ended.load(Ordering::Acquire) {
                    return None;
                }
            }
        });
        Strike { thread, over, bell: bell.join("bell") }
    }

    /// Whether it has struck.
    pub fn has_struck(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for this long, or until it has struck; says whether it has.
    pub fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while !self.has_struck() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.has_struck()
    }

    /// Ends the waiting. Gives what was struck; `None` if the moment did not come.
    pub fn end(self) -> Option<Struck> {
        self.over.store(true, Ordering::Release);
        // Something has to happen in a watched folder, or the thread would wait on.
        std::fs::write(&self.bell, "rung").unwrap();
        self.thread.join().unwrap()
    }
}

/// Looks for the process that serves this data directory, and kills it after this time, while it starts. Gives its id.
pub fn kill_while_starting(data: PathBuf, delay: Duration) -> JoinHandle<Option<u32>> {
    std::thread::spawn(move || {
        let until = Instant::now() + SEARCH;
        while Instant::now() < until {
            if let Some(process) = serving(&data) {
                std::thread::sleep(delay);
                kill(process);
                return Some(process);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    })
}

fn kill(process: u32) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).unwrap();
    // Whoever is dead already needs no second kill; nobody takes its id before we have waited for it.
    kill_process(process, Signal::KILL).ok();
}

/// The process that was started with `serve` on this data directory, which is the test's own.
fn serving(data: &Path) -> Option<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let data = data.as_os_str().as_encoded_bytes();
    let mut found = numbers.filter(|number| {
        let line = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.any(|word| word == b"serve") && line.split(|byte| *byte == 0).any(|word| word == data)
    });
    found.next()
}
