//! Requests that a well-behaved HTTP client would not send.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A status and everything that came with it.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// Status code.
    pub status: u16,
    /// Head and body as text.
    pub text: String,
}

/// Sends a head and then a body, reading all the time: a server may refuse before it has read everything.
pub fn raw_request(address: &str, head: &str, body: &[u8]) -> RawAnswer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut received = Vec::new();
    let mut sent = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if receive(&mut stream, &mut received) || complete(&received) {
            break;
        }
        match stream.write(&body[sent..body.len().min(sent + 65_536)]) {
            Ok(written) if written > 0 => sent += written,
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    let text = String::from_utf8_lossy(&received).into_owned();
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    RawAnswer { status: status.unwrap_or_else(|| panic!("no answer, but `{text}`")), text }
}

/// Reads what is there; `true` at the end of the stream.
fn receive(stream: &mut TcpStream, received: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 16_384];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Whether a head and as much body as it announces have arrived.
fn complete(received: &[u8]) -> bool {
    let text = String::from_utf8_lossy(received).to_lowercase();
    let Some(end) = text.find("\r\n\r\n") else { return false };
    let length = text[..end].lines().find_map(|line| line.strip_prefix("content-length:")).map(str::trim);
    let length: usize = length.and_then(|value| value.parse().ok()).unwrap_or(0);
    text.len() >= end + 4 + length
}
