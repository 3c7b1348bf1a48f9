//! HTTP as bytes on a connection of one's own: paths that no client would send, bodies that break off, bodies in
//! chunks, and answers byte for byte.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::answer::Answer;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The head of a request that wants the connection closed after it; every header line without its line end.
pub fn head(method: &str, target: &str, headers: &[&str]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nhost: trunklog\r\nconnection: close\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Sends head and body and reads the answer. An error means that no whole answer came.
pub fn exchange(address: &str, head: &[u8], body: &[u8]) -> Result<Answer> {
    let mut stream = connect(address)?;
    stream.write_all(head)?;
    // A server may answer and close before it has read everything: the answer counts, not the failed write.
    let sent = stream.write_all(body);
    match read_answer(&mut stream) {
        Ok(answer) => Ok(answer),
        Err(error) => Err(sent.err().unwrap_or(error)),
    }
}

/// Sends head and body and goes away without reading a byte.
pub fn send_and_leave(address: &str, head: &[u8], body: &[u8]) -> Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(head)?;
    stream.write_all(body)?;
    stream.shutdown(Shutdown::Both)
}

/// A body in chunks of at most this size, with the last chunk if it is to be whole.
pub fn chunked(body: &[u8], size: usize, whole: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 64);
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    if whole {
        out.extend_from_slice(b"0\r\n\r\n");
    }
    out
}

fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn read_answer(stream: &mut TcpStream) -> Result<Answer> {
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received);
    match parse(&received) {
        Some(answer) => Ok(answer),
        None => Err(end.err().unwrap_or_else(|| Error::new(ErrorKind::UnexpectedEof, "no whole answer"))),
    }
}

fn parse(received: &[u8]) -> Option<Answer> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&received[..end]).ok()?;
    let status: u16 = text.split(' ').nth(1)?.parse().ok()?;
    let rest = &received[end + 4..];
    if status == 100 {
        return parse(rest);
    }
    let mut headers = HeaderMap::new();
    for line in text.lines().skip(1) {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_str(value.trim()).ok()?);
    }
    let body = if headers.contains_key("transfer-encoding") {
        unchunked(rest)?
    } else {
        let length = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        rest.get(..length.unwrap_or(rest.len()))?.to_vec()
    };
    Some(Answer { status, headers, body })
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(end + 2..end + 2 + size)?);
        rest = rest.get(end + 4 + size..)?;
    }
}
