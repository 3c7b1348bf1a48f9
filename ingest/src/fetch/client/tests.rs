use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use trunklog_storage::event::new_event_id;
use trunklog_storage::media::MediaConfig;

use super::*;

const LIMIT_BYTES: u64 = 512 << 10;

/// A media store in a directory that goes with it.
struct Place {
    data_dir: PathBuf,
    media: Media,
}

impl Place {
    fn new() -> Place {
        let data_dir = std::env::temp_dir().join(format!("trunklog-fetch-{}", new_event_id()));
        std::fs::create_dir_all(&data_dir).expect("a directory");
        let config = MediaConfig {
            data_dir: data_dir.clone(),
            limit_bytes: LIMIT_BYTES,
            small_bytes: 64 << 10,
            min_free_bytes: 0,
            bucket: None,
            presign: None,
        };
        Place { media: Media::open(config).expect("a media store"), data_dir }
    }

    /// Files under way go with their upload, on another thread.
    async fn becomes_empty(&self) -> bool {
        let temporary = self.data_dir.join("objects/.tmp");
        for _ in 0..200 {
            if std::fs::read_dir(&temporary).expect("the directory").next().is_none() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.data_dir);
    }
}

/// A server that knows one file and many ways to fail, and remembers the heads of requests.
struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `away` is where `/away` redirects to.
    async fn start(away: &str) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, heads) = (listener.local_addr().expect("an address"), Arc::<Mutex<Vec<String>>>::default());
        let (away, log) = (away.to_owned(), Arc::clone(&heads));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, away.clone(), Arc::clone(&log)));
            }
        });
        Server { address, heads }
    }

    fn link(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// An entry of an allow list.
    fn entry(&self, mark: &str) -> String {
        format!("{}{mark}", self.address)
    }

    fn requests(&self) -> usize {
        self.heads.lock().expect("heads").len()
    }
}

async fn answer(mut stream: TcpStream, away: String, log: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    log.lock().expect("heads").push(head);
    let whole = |status: &str, headers: &str, body: &[u8]| {
        let length = body.len();
        [format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n").as_bytes(), body].concat()
    };
    let bytes = match path.split('?').next().unwrap_or_default() {
        "/file" => whole("200 OK", "Content-Type: audio/mpeg\r\n", b"hello"),
        "/to-file" => whole("302 Found", "Location: /file?x=1\r\n", b""),
        "/away" => whole("307 Temporary Redirect", &format!("Location: {away}\r\n"), b""),
        "/round" => whole("302 Found", "Location: /round\r\n", b""),
        "/nowhere" => whole("302 Found", "", b""),
        "/empty" => whole("200 OK", "", b""),
        "/long" => whole("200 OK", "", &vec![7_u8; LIMIT_BYTES as usize + 1]),
        "/largest" => whole("200 OK", "", &vec![7_u8; LIMIT_BYTES as usize]),
        "/missing" => whole("404 Not Found", "", b"no"),
        "/forbidden" => whole("403 Forbidden", "", b"no"),
        "/broken" => whole("503 Service Unavailable", "", b"no"),
        "/short" => [b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n".as_slice(), &vec![7_u8; 300_000]].concat(),
        "/endless" => {
            let chunk = [b"10000\r\n".as_slice(), &vec![7_u8; 0x10000], b"\r\n"].concat();
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice(), &chunk.repeat(9)].concat()
        }
        "/slow" => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel".to_vec(),
        _ => Vec::new(),
    };
    // Whether the other side still listens is its own affair.
    let _ = stream.write_all(&bytes).await;
    if path == "/slow" {
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    let _ = stream.shutdown().await;
    let _ = stream.read(&mut [0; 1024]).await;
}

async fn fetch(place: &Place, entries: &[String], link: &str) -> Result<Fetched, Failure> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let limits = FetchLimits {
        connect: Duration::from_secs(2),
        idle: Duration::from_millis(500),
        total: Duration::from_secs(10),
    };
    FetchClient::new(limits).fetch(&place.media, &AllowList::new(entries), link).await
}

async fn failure(place: &Place, entries: &[String], link: &str) -> Failure {
    match fetch(place, entries, link).await {
        Ok(fetched) => panic!("{link} was fetched, {} bytes", fetched.received.bytes),
        Err(failure) => failure,
    }
}

async fn fetched(place: &Place, entries: &[String], link: &str) -> Fetched {
    fetch(place, entries, link).await.unwrap_or_else(|failure| panic!("{link}: {failure:?}"))
}

#[tokio::test]
async fn a_file_is_fetched_as_it_is() {
    let (place, server) = (Place::new(), Server::start("").await);
    let entries = [server.entry("!private")];
    for (path, name) in [("/file", "file"), ("/to-file", "file")] {
        let fetched = fetched(&place, &entries, &server.link(path)).await;
        assert_eq!((fetched.received.bytes, fetched.media_type.as_deref()), (5, Some("audio/mpeg")), "{path}");
        assert_eq!(fetched.name.as_deref(), Some(name), "{path}");
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(fetched.received.sha256, sha256, "{path}");
    }
    assert_eq!(fetched(&place, &entries, &server.link("/largest")).await.received.bytes, LIMIT_BYTES);
    let heads = server.heads.lock().expect("heads").join("").to_ascii_lowercase();
    assert!(heads.contains("accept-encoding: identity\r\n"), "{heads}");
    assert!(!heads.contains("gzip") && !heads.contains("referer"), "{heads}");
}

#[tokio::test]
async fn answers_that_are_no_file() {
    let (place, server) = (Place::new(), Server::start("").await);
    let entries = [server.entry("!private")];
    for (path, retry, bytes_received) in [
        ("/long", Retry::Never, true),
        ("/endless", Retry::Never, true),
        ("/short", Retry::Many, true),
        ("/slow", Retry::Many, true),
        ("/empty", Retry::Few, true),
        ("/missing?token=secret", Retry::Few, true),
        ("/forbidden", Retry::Never, true),
        ("/broken", Retry::Many, true),
        ("/nothing", Retry::Many, false),
        ("/round", Retry::Never, true),
        ("/nowhere", Retry::Never, true),
    ] {
        let failure = failure(&place, &entries, &server.link(path)).await;
        assert_eq!((failure.retry, failure.bytes_received), (retry, bytes_received), "{path}: {failure:?}");
        assert!(!failure.reason.contains("secret") && !failure.reason.contains('?'), "{failure:?}");
        assert!(place.becomes_empty().await, "{path}");
    }
    assert_eq!(server.requests(), 10 + MOST_REDIRECTS + 1, "one request each, and the redirects that go round");
}

#[tokio::test]
async fn nobody_listens() {
    let place = Place::new();
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let failure = failure(&place, &[format!("{free}!private")], &format!("http://{free}/?token=secret")).await;
    assert_eq!((failure.retry, failure.bytes_received), (Retry::Many, false), "{failure:?}");
    assert!(failure.reason.starts_with("no connection") && !failure.reason.contains("secret"), "{failure:?}");
}

#[tokio::test]
async fn redirects_are_checked_like_links() {
    let place = Place::new();
    let inner = Server::start("").await;
    let outer = Server::start(&inner.link("/file")).await;
    let link = outer.link("/away");
    let to = |mark: &str| vec![outer.entry("!private"), inner.entry(mark)];
    for (entries, reason) in [
        (to(""), "after a redirect: address is private or reserved"),
        (vec![outer.entry("!private")], "after a redirect: host not on the allow list"),
    ] {
        let failure = failure(&place, &entries, &link).await;
        assert_eq!((failure.retry, failure.reason.as_str()), (Retry::Never, reason));
    }
    assert_eq!(inner.requests(), 0);
    assert_eq!(fetched(&place, &to("!private"), &link).await.received.bytes, 5);
    let scheme = Server::start("file:///etc/passwd").await;
    let failure = failure(&place, &[scheme.entry("!private")], &scheme.link("/away")).await;
    assert_eq!(failure.reason, "after a redirect: neither http nor https");
}

#[tokio::test]
async fn a_name_is_checked_by_what_it_resolves_to() {
    let (place, server) = (Place::new(), Server::start("").await);
    let host = format!("localhost:{}", server.address.port());
    let link = format!("http://{host}/file");
    let failure = failure(&place, std::slice::from_ref(&host), &link).await;
    assert_eq!((failure.retry, failure.bytes_received), (Retry::Never, false), "{failure:?}");
    assert_eq!((failure.reason.as_str(), server.requests()), ("address is private or reserved", 0));
    assert_eq!(fetched(&place, &[format!("{host}!private")], &link).await.received.bytes, 5);
}

#[tokio::test]
async fn hosts_that_are_not_allowed_are_never_asked() {
    let (place, server) = (Place::new(), Server::start("").await);
    let entries = ["pbx.acme.example".to_owned(), "127.0.0.1:1!private".to_owned()];
    let failure = failure(&place, &entries, &server.link("/file")).await;
    assert_eq!((failure.reason.as_str(), server.requests()), ("host not on the allow list", 0));
}
