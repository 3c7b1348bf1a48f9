//! The network listener: accepts connections, answers HTTP/1 on each with little memory, and lets them end.
//!
//! `axum::serve` has neither a longer backlog, nor a bound on what a connection buffers, nor one on how many are open.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Once};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Connections that the kernel keeps until they are accepted; with 128 a busy server loses some.
const BACKLOG: u32 = 4096;

/// Open connections; more wait in the backlog until one ends.
const MOST_CONNECTIONS: u32 = 16_384;

/// Bytes a connection reads or writes ahead at most. A request's line and headers must fit, else it is answered 431.
const MOST_BUFFERED: usize = 128 << 10;

/// From the end of a request (or from accepting) to the end of the next one's headers.
const HEADER_TIME: Duration = Duration::from_secs(120);

/// After failing to accept for want of something that may come back, such as file descriptors.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Listens on this address.
///
/// # Errors
/// When the address is taken, is not this machine's, or may not be used.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the connections of the run before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Answers until `stop`, then accepts no more and returns when every connection has finished what was under way.
pub async fn serve(listener: TcpListener, routes: Router, stop: &CancellationToken) {
    // Builds what is otherwise built for every request.
    let routes: Router = routes.with_state(());
    let http = http();
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS as usize));
    let mut stopped = pin!(stop.cancelled());
    loop {
        let (stream, peer, place) = tokio::select! {
            biased;
            () = stopped.as_mut() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (http, routes, stop) = (http.clone(), routes.clone(), stop.clone());
        tokio::spawn(async move {
            converse(&http, stream, peer, routes, &stop).await;
            drop(place);
        });
    }
    drop(listener);
    // All places are free when all connections have ended.
    drop(places.acquire_many(MOST_CONNECTIONS).await);
}

fn http() -> Builder {
    let mut http = Builder::new();
    http.keep_alive(true).max_buf_size(MOST_BUFFERED).timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
    http
}

/// The next connection, when there is a place for it. May be dropped while it waits: no connection is lost.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let place = place(places).await;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Else the last piece of an answer may wait 40 ms for an acknowledgement.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                return (stream, peer, place);
            }
            Err(error) if concerns_one_connection(error.kind()) => {
                tracing::debug!(%error, "a connection ended before it was accepted");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

async fn place(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    static FULL: Once = Once::new();
    if places.available_permits() == 0 {
        FULL.call_once(|| tracing::warn!(limit = MOST_CONNECTIONS, "too many open connections; new ones wait"));
    }
    Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed")
}

fn concerns_one_connection(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

/// Answers the requests of one connection; after `stop` only the one under way.
async fn converse(http: &Builder, stream: TcpStream, peer: SocketAddr, routes: Router, stop: &CancellationToken) {
    let service = routes.map_request(move |request: hyper::Request<Incoming>| -> Request {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    });
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::*;

    fn start(stop: &CancellationToken) -> (SocketAddr, JoinHandle<()>) {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let peer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
        let routes = Router::new().route("/peer", get(peer));
        let stop = stop.clone();
        (address, tokio::spawn(async move { serve(listener, routes, &stop).await }))
    }

    /// Sends this and returns the first piece of the answer, which is all of a short one.
    async fn ask(stream: &mut TcpStream, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).await.expect("the server answers");
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    #[tokio::test]
    async fn long_addresses_are_answered_and_the_peer_is_known() {
        let (address, _serving) = start(&CancellationToken::new());
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET /peer?q={} HTTP/1.1\r\nhost: a\r\n\r\n", "q".repeat(60_000));
        let answer = ask(&mut stream, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with(&stream.local_addr().expect("it is connected").to_string()), "{answer}");
    }

    #[tokio::test]
    async fn too_much_before_the_body_is_answered_431() {
        let (address, _serving) = start(&CancellationToken::new());
        let start_of_request = "GET /peer HTTP/1.1\r\nhost: a\r\n";
        let many = format!("{start_of_request}{}\r\n", "x: y\r\n".repeat(150));
        // Exactly what is buffered: what stayed unread would make the kernel reset the connection.
        let long = format!("{start_of_request}x: {}", "y".repeat(MOST_BUFFERED - start_of_request.len() - 3));
        for request in [many, long] {
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            let answer = ask(&mut stream, &request).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        }
    }

    #[tokio::test]
    async fn stopping_ends_idle_connections() {
        let stop = CancellationToken::new();
        let (address, serving) = start(&stop);
        let mut used = TcpStream::connect(address).await.expect("it listens");
        assert!(ask(&mut used, "GET /peer HTTP/1.1\r\nhost: a\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
        stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), serving).await;
        ended.expect("it ends at once").expect("it does not panic");
        assert_eq!(used.read(&mut [0; 1]).await.expect("it is closed in order"), 0);
    }
}
