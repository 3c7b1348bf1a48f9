//! Senders that never give up: each takes a message and sends it until it is acknowledged, also across restarts.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::script::Message;
use crate::wire;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(4);
/// How long all of it may take to be acknowledged: a server that needs a human fails the test.
const PATIENCE: Duration = Duration::from_secs(120);

struct Shared {
    address: String,
    key: String,
    waiting: Mutex<VecDeque<Arc<Message>>>,
    came: Condvar,
    outstanding: AtomicUsize,
    attempts: AtomicUsize,
    over: AtomicBool,
    /// The first answer that no repetition would change.
    refused: Mutex<Option<String>>,
}

/// Senders at the same time, each with connections of its own.
pub struct Senders {
    shared: Arc<Shared>,
}

impl Senders {
    /// So many senders to the server at this address.
    pub fn start(count: usize, address: &str, key: &str) -> Senders {
        let shared = Arc::new(Shared {
            address: address.to_owned(),
            key: key.to_owned(),
            waiting: Mutex::default(),
            came: Condvar::new(),
            outstanding: AtomicUsize::new(0),
            attempts: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            refused: Mutex::default(),
        });
        for _ in 0..count {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                while let Some(message) = shared.next() {
                    shared.deliver(&message);
                }
            });
        }
        Senders { shared }
    }

    /// Gives them messages to send.
    pub fn send(&self, messages: Vec<Arc<Message>>) {
        self.shared.outstanding.fetch_add(messages.len(), Ordering::AcqRel);
        self.shared.waiting.lock().unwrap().extend(messages);
        self.shared.came.notify_all();
    }

    /// Messages that are not acknowledged yet.
    pub fn outstanding(&self) -> usize {
        self.shared.outstanding.load(Ordering::Acquire)
    }

    /// Requests that were begun so far.
    pub fn attempts(&self) -> usize {
        self.shared.attempts.load(Ordering::Relaxed)
    }

    /// Waits until everything is acknowledged; fails the test if that takes too long or something was refused.
    pub fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.outstanding() > 0 {
            assert_eq!(*self.shared.refused.lock().unwrap(), None, "refused");
            assert!(Instant::now() < deadline, "{} messages wait for their acknowledgement", self.outstanding());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        self.shared.came.notify_all();
    }
}

impl Shared {
    /// Waits for a message; `None` at the end.
    fn next(&self) -> Option<Arc<Message>> {
        let mut waiting = self.waiting.lock().unwrap();
        loop {
            if self.over.load(Ordering::Acquire) {
                return None;
            }
            if let Some(message) = waiting.pop_front() {
                return Some(message);
            }
            // Woken from time to time, so that the end is not missed.
            waiting = self.came.wait_timeout(waiting, Duration::from_millis(200)).unwrap().0;
        }
    }

    fn deliver(&self, message: &Message) {
        let head = self.head(message);
        while !self.over.load(Ordering::Acquire) {
            self.attempts.fetch_add(1, Ordering::Relaxed);
            match wire::exchange(&self.address, &head, message.body.as_bytes()) {
                Ok(answer) if (200..300).contains(&answer.status) => {
                    self.outstanding.fetch_sub(1, Ordering::AcqRel);
                    return;
                }
                // No answer, or one that asks for patience.
                Err(_) => {}
                Ok(answer) if [429, 502, 503, 504].contains(&answer.status) => {}
                Ok(answer) => {
                    let (path, status) = (&message.path, answer.status);
                    let text = format!("{path}: {status} {}", answer.text());
                    self.refused.lock().unwrap().get_or_insert(text);
                    return;
                }
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn head(&self, message: &Message) -> Vec<u8> {
        let query = if message.query.is_empty() { String::new() } else { format!("?{}", message.query) };
        let target = format!("{}{query}", message.path);
        let authorization = format!("authorization: Bearer {}", self.key);
        let length = format!("content-length: {}", message.body.len());
        match message.content_type {
            None => wire::head("GET", &target, &[&authorization]),
            Some(kind) => wire::head("POST", &target, &[&authorization, &length, &format!("content-type: {kind}")]),
        }
    }
}
