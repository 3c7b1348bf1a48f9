//! How commands talk to an archive: to a server over its socket or a URL, or, if none runs, to the archive itself
//! through the same routes. So a command is written once.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::cli::Remote;
use crate::config::Checked;
use crate::error::Error;
use crate::server::{Opened, socket};

/// A way to the archive.
pub enum Client {
    /// A running server.
    Server(Server),
    /// The archive, opened by this process.
    Here(Box<Here>),
}

pub struct Server {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
    /// Keeps the path to the socket valid.
    _socket: Option<socket::Reachable>,
}

pub struct Here {
    router: Router,
    opened: Opened,
}

/// One request.
pub struct Ask {
    pub method: Method,
    pub path: String,
    pub accept: &'static str,
    /// Content type and body.
    pub body: Option<(&'static str, String)>,
}

impl Ask {
    pub fn get(path: impl Into<String>) -> Ask {
        Ask { method: Method::GET, path: path.into(), accept: "application/json", body: None }
    }

    pub fn post(path: impl Into<String>) -> Ask {
        Ask { method: Method::POST, ..Ask::get(path) }
    }

    pub fn delete(path: impl Into<String>) -> Ask {
        Ask { method: Method::DELETE, ..Ask::get(path) }
    }

    pub fn json(self, body: &Value) -> Ask {
        Ask { body: Some(("application/json", body.to_string())), ..self }
    }
}

/// A client for HTTP. Root certificates are loaded only for `https`, for a bare machine has none.
pub fn http_client(url: &str) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder().no_proxy();
    if url.contains("https://") { builder } else { builder.tls_certs_only(std::iter::empty::<reqwest::Certificate>()) }
}

impl Client {
    /// A running server: the one of `--url`, else the one whose socket is in the data directory.
    pub async fn running(remote: &Remote, config: &Checked) -> Result<Option<Client>, Error> {
        if let Some(url) = &remote.url {
            let http = http_client(url).build()?;
            let base = url.trim_end_matches('/').to_owned();
            return Ok(Some(Client::Server(Server { http, base, key: remote.key.clone(), _socket: None })));
        }
        let Some(reachable) = socket::find(&config.data_dir).await else { return Ok(None) };
        let base = "http://trunklog".to_owned();
        let http = http_client(&base).unix_socket(reachable.socket()).build()?;
        Ok(Some(Client::Server(Server { http, base, key: None, _socket: Some(reachable) })))
    }

    /// A running server, else the archive opened here, under its lock.
    pub async fn connect(remote: &Remote, config: &Checked) -> Result<Client, Error> {
        if let Some(client) = Client::running(remote, config).await? {
            return Ok(client);
        }
        if !config.data_dir.join("log").is_dir() {
            return Err(Error::Usage(format!(
                "there is no archive in `{}`; see --data-dir",
                config.data_dir.display()
            )));
        }
        let here = tokio::runtime::Handle::current();
        let opened = Opened::open(config, here.clone(), here.into()).await.map_err(|error| match error {
            Error::Storage(trunklog_storage::error::Error::Conflict(_)) => Error::Held(config.data_dir.clone()),
            error => error,
        })?;
        Ok(Client::Here(Box::new(Here { router: opened.local_router(), opened })))
    }

    /// Sends a request; an answer that is no success is an error.
    pub async fn ask(&self, ask: Ask) -> Result<Bytes, Error> {
        let (status, body) = match self {
            Client::Server(server) => server.ask(ask).await?,
            Client::Here(here) => here.ask(ask).await?,
        };
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    }

    /// Sends a request whose answer is JSON.
    pub async fn ask_json(&self, ask: Ask) -> Result<Value, Error> {
        let body = self.ask(ask).await?;
        serde_json::from_slice(&body).map_err(|error| Error::Answer(error.to_string()))
    }

    /// Lets go of the archive, if this process opened it.
    pub async fn close(self) -> Result<(), Error> {
        match self {
            Client::Server(_) => Ok(()),
            Client::Here(here) => Ok(here.opened.state.archive.close().await?),
        }
    }
}

impl Server {
    async fn ask(&self, ask: Ask) -> Result<(StatusCode, Bytes), Error> {
        let mut request = self.http.request(ask.method, format!("{}{}", self.base, ask.path));
        request = request.header(header::ACCEPT, ask.accept);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some((content_type, body)) = ask.body {
            request = request.header(header::CONTENT_TYPE, content_type).body(body);
        }
        let answer = request.send().await?;
        Ok((answer.status(), answer.bytes().await?))
    }
}

impl Here {
    async fn ask(&self, ask: Ask) -> Result<(StatusCode, Bytes), Error> {
        let mut request = Request::builder().method(ask.method).uri(ask.path).header(header::ACCEPT, ask.accept);
        let body = match ask.body {
            None => Body::empty(),
            Some((content_type, body)) => {
                request = request.header(header::CONTENT_TYPE, content_type);
                Body::from(body)
            }
        };
        let request = request.body(body).map_err(|error| Error::Answer(error.to_string()))?;
        let answer = self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| Error::Answer(error.to_string()))?;
        Ok((status, body.to_bytes()))
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| problem[field].as_str().map(str::to_owned);
    Error::Refused {
        status: status.as_u16(),
        title: text("title").unwrap_or_else(|| status.canonical_reason().unwrap_or("refused").to_owned()),
        detail: text("detail").unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned()),
    }
}
