//! Placetel messages at a fixed rate, whatever the answers take, over keep-alive connections: an open loop.
//!
//! Latency counts from the moment at which a message was due, not from when its connection was free, so that a server
//! that stalls is not spared the messages that had to wait (no coordinated omission). A thread for each connection,
//! because timers of an asynchronous runtime are only exact to a millisecond. Prints one line of JSON.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use trunklog_tests::load::{Call, Histogram, Outcome, Settings, Step, placetel_body};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Steps of a call, one message each.
const STEPS: [Step; 3] = [Step::Begin, Step::Answer, Step::End];
const SHORTEST_TALK: i64 = 1_000_000;

/// Posts Placetel messages at a fixed rate.
#[derive(Parser)]
#[command(name = "open_loop")]
struct Arguments {
    /// Address of the server, such as 127.0.0.1:8080
    #[arg(long)]
    address: SocketAddr,
    /// Key with the scope `ingest:placetel`
    #[arg(long, env = "OPEN_LOOP_KEY", hide_env_values = true)]
    key: String,
    /// Messages per second
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// How long, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds at the beginning that do not count
    #[arg(long, default_value_t = 1)]
    warm_up: u64,
    /// Connections
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1024))]
    connections: u64,
    /// Runs of different numbers send different calls
    #[arg(long, default_value_t = 1)]
    run: u64,
}

/// When which message is due.
struct Schedule {
    began: Instant,
    rate: u64,
    count: u64,
    uncounted: u64,
    next: AtomicU64,
}

impl Schedule {
    fn due(&self, number: u64) -> Instant {
        let nanoseconds = u128::from(number) * 1_000_000_000 / u128::from(self.rate);
        self.began + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    latencies: Histogram,
    /// How late the sender itself was although its connection was free.
    oversleeps: Histogram,
    refused: u64,
    broken: u64,
}

impl Seen {
    fn merge(&mut self, other: &Seen) {
        self.latencies.merge(&other.latencies);
        self.oversleeps.merge(&other.oversleeps);
        self.refused += other.refused;
        self.broken += other.broken;
    }
}

/// A keep-alive connection and what was read of it.
struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Connection { stream, received: Vec::with_capacity(4096) })
    }

    /// Sends a request and reads its answer to the end; gives its status.
    fn ask(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request)?;
        self.received.clear();
        let head = loop {
            if let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more()?;
        };
        let (status, length) = status_and_length(&self.received[..head])?;
        while self.received.len() < head + length {
            self.read_more()?;
        }
        Ok(status)
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut piece = [0; 4096];
        let count = self.stream.read(&mut piece)?;
        if count == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the server hung up"));
        }
        self.received.extend_from_slice(&piece[..count]);
        Ok(())
    }
}

fn status_and_length(head: &[u8]) -> io::Result<(u16, usize)> {
    let invalid = |what: &str| Error::new(ErrorKind::InvalidData, what.to_owned());
    let text = std::str::from_utf8(head).map_err(|_| invalid("the answer's head is no text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    match (status, length) {
        (Some(204), None) => Ok((204, 0)),
        (Some(status), Some(length)) => Ok((status, length)),
        _ => Err(invalid("the answer's head has no status or no length")),
    }
}

/// The request of this number: each call begins, is answered and ends.
fn request(arguments: &Arguments, number: u64) -> Vec<u8> {
    let count = STEPS.len() as u64;
    let settings = Settings { calls: 1_000_000, days: 1, from: 0, seed: arguments.run };
    let (call, _) = Call::new(&settings, number / count, 0);
    let call = Call { inbound: true, outcome: Outcome::Answered, talk: call.talk.max(SHORTEST_TALK), ..call };
    let step = STEPS[(number % count) as usize];
    let body = placetel_body(&call, step).unwrap_or_default();
    let Arguments { address, key, .. } = arguments;
    let length = body.len();
    format!(
        "POST /in/placetel HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Sends what is due until nothing is left.
fn send(arguments: &Arguments, schedule: &Schedule) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let mut connection = Connection::open(arguments.address)?;
    loop {
        let number = schedule.next.fetch_add(1, Ordering::Relaxed);
        if number >= schedule.count {
            return Ok(seen);
        }
        let (request, due) = (request(arguments, number), schedule.due(number));
        let early = due.checked_duration_since(Instant::now());
        if let Some(early) = early {
            std::thread::sleep(early);
        }
        let oversleep = micros(due.elapsed());
        let answer = connection.ask(&request);
        let latency = micros(due.elapsed());
        let counts = number >= schedule.uncounted;
        match answer {
            Ok(200..=299) if counts => {
                seen.latencies.record(latency);
                if early.is_some() {
                    seen.oversleeps.record(oversleep);
                }
            }
            Ok(200..=299) => {}
            Ok(_) => seen.refused += 1,
            Err(_) => {
                seen.broken += 1;
                connection = Connection::open(arguments.address)?;
            }
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn run(arguments: &Arguments) -> io::Result<(Seen, f64)> {
    let schedule = Schedule {
        // Time for the connections to be made.
        began: Instant::now() + Duration::from_millis(300),
        rate: arguments.rate.max(1),
        count: arguments.rate.max(1) * (arguments.seconds + arguments.warm_up),
        uncounted: arguments.rate.max(1) * arguments.warm_up,
        next: AtomicU64::new(0),
    };
    let mut seen = Seen::default();
    std::thread::scope(|scope| -> io::Result<()> {
        let senders: Vec<_> = (0..arguments.connections).map(|_| scope.spawn(|| send(arguments, &schedule))).collect();
        for sender in senders {
            let sent = sender.join().map_err(|_| Error::other("a sender panicked"))?;
            seen.merge(&sent?);
        }
        Ok(())
    })?;
    let counted_from = schedule.due(schedule.uncounted);
    Ok((seen, counted_from.elapsed().as_secs_f64()))
}

fn report(arguments: &Arguments, seen: &Seen, seconds: f64) -> Value {
    let Seen { latencies, oversleeps, refused, broken } = seen;
    json!({
        "rate": arguments.rate,
        "connections": arguments.connections,
        "counted": latencies.total(),
        "achieved": latencies.total() as f64 / seconds,
        "refused": refused,
        "broken": broken,
        "p50_us": latencies.quantile(0.5),
        "p90_us": latencies.quantile(0.9),
        "p99_us": latencies.quantile(0.99),
        "p999_us": latencies.quantile(0.999),
        "highest_us": latencies.highest(),
        "oversleep_p99_us": oversleeps.quantile(0.99),
    })
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let (seen, seconds) = run(&arguments)?;
    writeln!(std::io::stdout(), "{}", report(&arguments, &seen, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nCONTENT-LENGTH: 52\r\n\r\n";
        assert_eq!(status_and_length(head).expect("a head"), (200, 52));
        assert_eq!(status_and_length(b"HTTP/1.1 204 No Content\r\n\r\n").expect("a head"), (204, 0));
        assert!(status_and_length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn messages_are_due_at_the_rate() {
        let began = Instant::now();
        let schedule = Schedule { began, rate: 4_000, count: 10, uncounted: 0, next: AtomicU64::new(0) };
        assert_eq!(schedule.due(0), began);
        assert_eq!(schedule.due(4_000), began + Duration::from_secs(1));
        assert_eq!(schedule.due(1), began + Duration::from_micros(250));
    }
}
