//! The sender: requests over kept-alive connections, each repeated until the archive acknowledges it, also across
//! restarts of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::wire::{KeyForm, Message};

const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// So much of a refusal's body is shown.
const SHOWN: usize = 500;

/// Why sending ended early.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The archive will never take this request.
    #[error("{method} {route} was refused: {status} {body}")]
    Refused {
        /// Method of the request.
        method: String,
        /// Route after `/in`.
        route: String,
        /// Status of the answer.
        status: StatusCode,
        /// Its body.
        body: String,
    },
    /// Nothing was acknowledged for too long.
    #[error("gave up after {seconds} s without any acknowledgement; the last failure: {reason}")]
    GaveUp {
        /// The limit.
        seconds: u64,
        /// What happened last.
        reason: String,
    },
    /// The request cannot be made.
    #[error("the request cannot be made")]
    Request(#[source] reqwest::Error),
    /// Told to stop, or another request failed.
    #[error("stopped before everything was sent")]
    Stopped,
}

/// Sends to one archive with one key.
pub struct Sender {
    client: Client,
    /// Nodes of the archive; all requests go to one of them until it does not answer.
    bases: Vec<String>,
    /// Which one.
    turn: AtomicUsize,
    key: String,
    give_up: Duration,
    /// Counts of the run.
    pub progress: Arc<Progress>,
    /// Ends all waiting.
    pub stop: CancellationToken,
    last_success: Mutex<Instant>,
}

/// What became of one attempt.
enum Attempt {
    Acknowledged(Bytes),
    Refused(StatusCode, Bytes),
    Again(String, Option<Duration>),
}

impl Sender {
    /// A sender to the archive at `url`, which may name several nodes, separated by commas.
    pub fn new(
        url: &str,
        key: &str,
        give_up: Duration,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<Sender, SendError> {
        // Fails only if some provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = crate::client::http_client(url)
            .timeout(REQUEST_TIMEOUT)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| SendError::Request(error.without_url()))?;
        let bases = url.split(',').map(|base| base.trim().trim_end_matches('/').to_owned()).collect();
        let last_success = Mutex::new(Instant::now());
        let turn = AtomicUsize::default();
        Ok(Sender { client, bases, turn, key: key.to_owned(), give_up, progress, stop, last_success })
    }

    /// Sends one message until it is acknowledged.
    pub async fn deliver(&self, message: &Message) -> Result<(), SendError> {
        let body = message.content();
        let make = || self.request(message, &body);
        self.until_acknowledged(make, message.is_pivot(), (message.method, &*message.route)).await?;
        Ok(())
    }

    /// Posts a body of CloudEvents until it is acknowledged; gives the archive's answer.
    pub async fn deliver_bulk(&self, lines: Bytes) -> Result<Bytes, SendError> {
        let make = || {
            let request = self.client.post(format!("{}/in/events", self.base())).bearer_auth(&self.key);
            request.header(CONTENT_TYPE, "application/x-ndjson").body(lines.clone())
        };
        self.until_acknowledged(make, false, ("POST", "/events")).await
    }

    fn base(&self) -> &str {
        &self.bases[self.turn.load(Ordering::Relaxed) % self.bases.len()]
    }

    fn request(&self, message: &Message, body: &Bytes) -> RequestBuilder {
        let mut url = format!("{}/in", self.base());
        if message.key == KeyForm::Path {
            url.push('/');
            url.push_str(&self.key);
        }
        url.push_str(&message.route);
        if let Some(query) = &message.query {
            url.push('?');
            url.push_str(query);
        }
        let method = match message.method {
            "GET" => Method::GET,
            "PUT" => Method::PUT,
            _ => Method::POST,
        };
        let mut request = self.client.request(method, url);
        for (name, value) in &message.headers {
            request = request.header(*name, value);
        }
        if let Some(content_type) = message.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let body = body.clone();
        match message.key {
            KeyForm::Bearer => request.bearer_auth(&self.key).body(body),
            KeyForm::Basic => request.basic_auth("trunklog", Some(&self.key)).body(body),
            KeyForm::Path => request.body(body),
            KeyForm::Field(name) => {
                let mut form = body.to_vec();
                form.extend_from_slice(format!("&{name}={}", self.key).as_bytes());
                request.body(form)
            }
        }
    }

    async fn until_acknowledged(
        &self,
        make: impl Fn() -> RequestBuilder,
        pivot: bool,
        (method, route): (&str, &str),
    ) -> Result<Bytes, SendError> {
        let (mut wait, began) = (FIRST_WAIT, Instant::now());
        loop {
            let turn = self.turn.load(Ordering::Relaxed);
            let attempt = tokio::select! {
                () = self.stop.cancelled() => return Err(SendError::Stopped),
                attempt = attempt(make(), pivot) => attempt?,
            };
            let (reason, asked) = match attempt {
                Attempt::Acknowledged(body) => {
                    *self.last_success.lock() = Instant::now();
                    return Ok(body);
                }
                Attempt::Refused(status, body) => {
                    let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned();
                    let (method, route) = (method.to_owned(), route.to_owned());
                    return Err(SendError::Refused { method, route, status, body: shown });
                }
                Attempt::Again(reason, asked) => (reason, asked),
            };
            self.progress.retried();
            // The next node, unless another request found out already.
            let _ = self.turn.compare_exchange(turn, turn + 1, Ordering::Relaxed, Ordering::Relaxed);
            let last_success = *self.last_success.lock();
            if last_success.max(began).elapsed() > self.give_up {
                return Err(SendError::GaveUp { seconds: self.give_up.as_secs(), reason });
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(SendError::Stopped),
                () = tokio::time::sleep(asked.unwrap_or(wait).min(LONGEST_WAIT)) => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

async fn attempt(request: RequestBuilder, pivot: bool) -> Result<Attempt, SendError> {
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) if error.is_builder() => return Err(SendError::Request(error.without_url())),
        Err(error) => return Ok(Attempt::Again(error.without_url().to_string(), None)),
    };
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = match answer.bytes().await {
        Ok(body) => body,
        Err(error) => return Ok(Attempt::Again(error.without_url().to_string(), None)),
    };
    // Stored, although no callflow is configured for the number.
    let stored = pivot && status == StatusCode::NOT_FOUND && headers.contains_key("trunklog-offset");
    Ok(match status {
        _ if status.is_success() || stored => Attempt::Acknowledged(body),
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::BAD_GATEWAY
        | StatusCode::GATEWAY_TIMEOUT => Attempt::Again(status.to_string(), retry_after(&headers)),
        _ => Attempt::Refused(status, body),
    })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
