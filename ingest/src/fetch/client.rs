//! One fetch: a GET whose host, address, redirects, size and time are checked, into the media store.
//!
//! Four clients do it, with and without TLS, to public addresses only and to the own network too; each is made when it
//! is first needed, for root certificates take time to read and a bare machine has none. None keeps connections, so
//! each request resolves its host anew and no request is repeated behind our back.

use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Client, Response, Url};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use trunklog_storage::media::{Media, Received};

use super::address::Reach;
use super::failure::{Failure, Retry};
use super::name::file_name;
use super::policy::{AllowList, parse_link};
use super::resolver::Resolver;

/// Redirects that are followed.
const MOST_REDIRECTS: usize = 5;
/// A longer media type is none.
const LONGEST_MEDIA_TYPE: usize = 255;

/// How long a fetch may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchLimits {
    /// Until there is a connection.
    pub connect: Duration,
    /// Without a byte.
    pub idle: Duration,
    /// The whole fetch with its redirects.
    pub total: Duration,
}

impl Default for FetchLimits {
    fn default() -> FetchLimits {
        let seconds = Duration::from_secs;
        FetchLimits { connect: seconds(10), idle: seconds(60), total: seconds(600) }
    }
}

/// A file that came whole.
pub(super) struct Fetched {
    /// Its bytes, not kept yet.
    pub received: Received,
    /// As the server named it.
    pub media_type: Option<String>,
    /// Of the file.
    pub name: Option<String>,
}

/// Fetches links.
pub(super) struct FetchClient {
    limits: FetchLimits,
    plain: Pair,
    secure: Pair,
}

#[derive(Default)]
struct Pair {
    public: OnceCell<Client>,
    own_network: OnceCell<Client>,
}

impl FetchClient {
    pub fn new(limits: FetchLimits) -> FetchClient {
        FetchClient { limits, plain: Pair::default(), secure: Pair::default() }
    }

    /// Fetches a file; on failure nothing of it is left.
    pub async fn fetch(&self, media: &Media, allowed: &AllowList, link: &str) -> Result<Fetched, Failure> {
        let mut answered = false;
        let outcome = timeout(self.limits.total, self.follow(media, allowed, link, &mut answered)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(self.too_slow("the whole fetch", self.limits.total)));
        outcome.map_err(|failure| Failure { bytes_received: answered, ..failure })
    }

    async fn follow(
        &self,
        media: &Media,
        allowed: &AllowList,
        link: &str,
        answered: &mut bool,
    ) -> Result<Fetched, Failure> {
        let mut url = parse_link(link).map_err(|refused| Failure::refused(refused, 0))?;
        // A full disk is found out before a link that works only once is used.
        drop(media.receive(None).map_err(|error| Failure::of_storage(&error))?);
        for redirects in 0..=MOST_REDIRECTS {
            let reach = allowed.check(&url).map_err(|refused| Failure::refused(refused, redirects))?;
            let answer = self.ask(&url, reach).await?;
            *answered = true;
            match redirected(&answer, &url)? {
                Some(next) => url = next,
                None => return self.take(media, answer, &url).await,
            }
        }
        Err(Failure::never(format!("more than {MOST_REDIRECTS} redirects")))
    }

    async fn ask(&self, url: &Url, reach: Reach) -> Result<Response, Failure> {
        let client = self.client(url.scheme() == "https", reach).await?;
        // The file as it is: what is kept is what is hashed.
        let request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity").send();
        let patience = self.limits.connect + self.limits.idle;
        match timeout(patience, request).await {
            Ok(answer) => answer.map_err(|error| Failure::of_request(&error)),
            Err(_) => Err(self.too_slow("the answer", patience)),
        }
    }

    async fn client(&self, secure: bool, reach: Reach) -> Result<&Client, Failure> {
        let pair = if secure { &self.secure } else { &self.plain };
        let cell = match reach {
            Reach::Public => &pair.public,
            Reach::OwnNetwork => &pair.own_network,
        };
        let made = cell.get_or_try_init(|| async { build(secure, reach, self.limits.connect) }).await;
        made.map_err(|error| {
            tracing::warn!(%error, "cannot make the client that fetches recordings; are there CA certificates?");
            Failure::new(Retry::Many, "no client: this machine may have no CA certificates")
        })
    }

    /// Reads the file.
    async fn take(&self, media: &Media, mut answer: Response, url: &Url) -> Result<Fetched, Failure> {
        if let Some(failure) = Failure::of_status(answer.status()) {
            return Err(failure);
        }
        let (media_type, name) = (media_type(answer.headers()), file_name(answer.headers(), url));
        let announced = answer.content_length();
        let mut receiver = media.receive(announced).map_err(|error| Failure::of_storage(&error))?;
        loop {
            let chunk = timeout(self.limits.idle, answer.chunk()).await;
            let chunk = chunk.map_err(|_| self.too_slow("the next byte", self.limits.idle))?;
            let Some(chunk) = chunk.map_err(|error| Failure::of_request(&error))? else { break };
            receiver.write(chunk).await.map_err(|error| Failure::of_storage(&error))?;
        }
        let bytes = receiver.bytes();
        if announced.is_some_and(|announced| announced != bytes) {
            return Err(Failure::new(Retry::Many, "the answer broke off"));
        }
        if bytes == 0 {
            return Err(Failure::new(Retry::Few, "the file is empty"));
        }
        let received = receiver.finish().await.map_err(|error| Failure::of_storage(&error))?;
        Ok(Fetched { received, media_type, name })
    }

    fn too_slow(&self, what: &str, limit: Duration) -> Failure {
        Failure::new(Retry::Many, format!("{what} took longer than {} s", limit.as_secs()))
    }
}

fn build(secure: bool, reach: Reach, connect: Duration) -> reqwest::Result<Client> {
    let builder = Client::builder().no_proxy();
    let builder = if secure {
        builder.https_only(true)
    } else {
        builder.tls_certs_only(std::iter::empty::<reqwest::Certificate>())
    };
    builder
        .dns_resolver(Resolver(reach))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
        .pool_max_idle_per_host(0)
        .connect_timeout(connect)
        .user_agent(concat!("trunklog/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Where a redirect leads; `None` if the answer is none.
fn redirected(answer: &Response, url: &Url) -> Result<Option<Url>, Failure> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = answer.headers().get(LOCATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let target = location.and_then(|location| url.join(location).ok());
    target.map(Some).ok_or_else(|| Failure::never("a redirect to nowhere"))
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?.trim();
    (!text.is_empty() && text.len() <= LONGEST_MEDIA_TYPE).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
