//! A bucket of an S3 server, in which tables and recordings lie instead of on the local disk.
//!
//! The law: a put that returned is stored. Commits of tables and small recordings are conditional puts
//! (`If-None-Match: *`), so the server must honour them; [`Bucket::check`] asks it once, at the start.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{
    BackoffConfig, Error as StoreError, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig, UpdateVersion,
};
use url::Url;

use crate::error::Error;

/// A request is tried again for so long; then whoever asked is told, and tries later.
const RETRY_FOR: Duration = Duration::from_secs(20);
/// The shortest pause before another try. Pauses are drawn by lot from here to twice the last one, so that a number of
/// tries says little about the time they take: eight were over within 1.1 s.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// Not what ends the tries: all of [`RETRY_FOR`] in the shortest pauses.
const RETRIES: usize = (RETRY_FOR.as_millis() / SHORTEST_PAUSE.as_millis()) as usize;

/// Where in which bucket, and how to get there.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketConfig {
    /// `s3://bucket/prefix`, the prefix perhaps empty.
    pub url: Url,
    /// `endpoint`, `region`, `access_key_id` and so on: what the crate `object_store` knows under these names. The
    /// variables `AWS_…` hold where nothing is said here.
    pub options: BTreeMap<String, String>,
}

impl std::fmt::Debug for BucketConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options have secrets.
        formatter.debug_struct("BucketConfig").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

impl BucketConfig {
    /// Reads an address and options.
    ///
    /// # Errors
    /// `Config`, naming what is wrong.
    pub fn new(url: &str, options: BTreeMap<String, String>) -> Result<BucketConfig, Error> {
        let wrong =
            || Error::Config(format!("`{url}` is no address of a bucket; write for example \"s3://calls/prod\""));
        let parsed = Url::parse(url).map_err(|_| wrong())?;
        let plain = parsed.query().is_none() && parsed.fragment().is_none() && parsed.password().is_none();
        if parsed.scheme() != "s3" || parsed.host_str().is_none() || !plain || parsed.path().contains('%') {
            return Err(wrong());
        }
        for name in options.keys() {
            key(name)?;
        }
        Ok(BucketConfig { url: parsed, options })
    }
}

fn key(name: &str) -> Result<AmazonS3ConfigKey, Error> {
    AmazonS3ConfigKey::from_str(&name.to_ascii_lowercase())
        .map_err(|_| Error::Config(format!("`{name}` is no setting of a bucket")))
}

/// An object as it lies there.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// From the prefix.
    pub key: String,
    pub bytes: u64,
    pub modified_at: std::time::SystemTime,
}

/// What came of a conditional put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It was stored, and has this tag.
    Now(String),
    /// Somebody else was faster.
    Refused,
}

/// The bucket; a cheap handle.
#[derive(Clone, Debug)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    signer: Arc<dyn Signer>,
    /// Of the bucket, without the prefix.
    root: Url,
    prefix: Path,
}

impl Bucket {
    /// Names the bucket; nothing is asked of it yet.
    ///
    /// # Errors
    /// `Config` when the options do not fit together.
    pub fn new(config: &BucketConfig) -> Result<Bucket, Error> {
        let name = config.url.host_str().unwrap_or_default();
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(name);
        for (name, value) in &config.options {
            builder = builder.with_config(key(name)?, value);
        }
        let max_backoff = Duration::from_secs(2);
        let backoff = BackoffConfig { init_backoff: SHORTEST_PAUSE, max_backoff, ..BackoffConfig::default() };
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_FOR, backoff };
        let store = builder.with_retry(retry).build().map_err(|error| Error::Config(format!("the bucket: {error}")))?;
        let mut root = config.url.clone();
        root.set_path("/");
        let prefix = Path::from_url_path(config.url.path())
            .map_err(|error| Error::Config(format!("`{}`: {error}", config.url)))?;
        let store = Arc::new(store);
        Ok(Bucket { signer: Arc::clone(&store) as _, store, root, prefix })
    }

    /// A bucket in memory that signs nothing anybody would take.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Bucket {
        let options = [("access_key_id", "a"), ("secret_access_key", "b"), ("region", "c")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config = BucketConfig::new("s3://memory/test", options).expect("an address");
        let store = Arc::new(object_store::memory::InMemory::new());
        Bucket { store, ..Bucket::new(&config).expect("a bucket") }
    }

    /// The same with faults before it.
    #[cfg(test)]
    pub(crate) fn with_faults(self, faults: &Arc<crate::faults::Faults>) -> Bucket {
        Bucket { store: faults.wrapper()(Arc::clone(&self.store), ""), ..self }
    }

    /// Finds out whether the server can be reached, lets us write, and refuses to overwrite what is asked not to be.
    ///
    /// # Errors
    /// `Config` when it overwrites, otherwise what the server says.
    pub async fn check(&self) -> Result<(), Error> {
        let probe = "objects/.probe";
        let twice = [self.create(probe, Bytes::new()).await?, self.create(probe, Bytes::new()).await?];
        if twice[1] {
            let reason = "does not honour `If-None-Match: *`, without which two writers would overwrite each other";
            return Err(Error::Config(format!("the S3 server of `{}` {reason}", self.root)));
        }
        Ok(())
    }

    /// What lies below this key, as a bucket of its own.
    pub(crate) fn below(&self, key: &str) -> Bucket {
        let prefix = Path::from_iter(self.prefix.parts().chain(Path::from(key).parts()));
        Bucket { prefix, ..self.clone() }
    }

    /// The address of what lies at this key, as a directory.
    pub fn directory(&self, key: &str) -> Result<Url, Error> {
        let path = self.path(key)?;
        let mut url = self.root.clone();
        url.set_path(&format!("/{path}/"));
        Ok(url)
    }

    /// The address of the prefix.
    pub fn address(&self) -> Url {
        let mut url = self.root.clone();
        url.set_path(self.prefix.as_ref());
        url
    }

    /// The address under which engines know the store.
    pub fn root(&self) -> &Url {
        &self.root
    }

    /// The whole bucket, for who names objects from its root.
    pub fn whole(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    fn path(&self, key: &str) -> Result<Path, Error> {
        let below = Path::parse(key).map_err(|_| Error::Missing(key.to_owned()))?;
        Ok(Path::from_iter(self.prefix.parts().chain(below.parts())))
    }

    /// Stores an object if there is none of this key; says whether it did.
    ///
    /// # Errors
    /// What the server says. The object may be there all the same.
    pub async fn create(&self, key: &str, bytes: impl Into<PutPayload>) -> Result<bool, Error> {
        let path = self.path(key)?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&path, bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(false),
            Err(error) => Err(failed(format!("storing `{key}`"), error)),
        }
    }

    /// Stores an object, whatever was there.
    ///
    /// # Errors
    /// What the server says. The object may have been replaced all the same.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let path = self.path(key)?;
        self.store.put(&path, bytes.into()).await.map_err(|error| failed(format!("storing `{key}`"), error))?;
        Ok(())
    }

    /// Replaces an object if it still has this tag, or makes it if there is none and no tag is named.
    ///
    /// # Errors
    /// What the server says. The object may have been replaced all the same.
    pub(crate) async fn replace(&self, key: &str, bytes: Vec<u8>, tag: Option<String>) -> Result<Written, Error> {
        let path = self.path(key)?;
        let update = |tag| PutMode::Update(UpdateVersion { e_tag: Some(tag), version: None });
        let options = PutOptions { mode: tag.map_or(PutMode::Create, update), ..PutOptions::default() };
        match self.store.put_opts(&path, bytes.into(), options).await {
            Ok(put) => put.e_tag.map(Written::Now).ok_or_else(|| untagged(key)),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } | StoreError::NotFound { .. }) => {
                Ok(Written::Refused)
            }
            Err(error) => Err(failed(format!("storing `{key}`"), error)),
        }
    }

    /// A small object with its tag; `None` if there is none.
    ///
    /// # Errors
    /// What the server says.
    pub(crate) async fn read_tagged(&self, key: &str) -> Result<Option<(Bytes, String)>, Error> {
        self.read_newer(key, None).await
    }

    /// The same; `None` also when it still has this tag.
    ///
    /// # Errors
    /// What the server says.
    pub async fn read_newer(&self, key: &str, tag: Option<&str>) -> Result<Option<(Bytes, String)>, Error> {
        let path = self.path(key)?;
        let options = GetOptions { if_none_match: tag.map(str::to_owned), ..GetOptions::default() };
        let found = match self.store.get_opts(&path, options).await {
            Ok(found) => found,
            Err(StoreError::NotFound { .. } | StoreError::NotModified { .. }) => return Ok(None),
            Err(error) => return Err(failed(format!("reading `{key}`"), error)),
        };
        let tag = found.meta.e_tag.clone().ok_or_else(|| untagged(key))?;
        let bytes = found.bytes().await.map_err(|error| failed(format!("reading `{key}`"), error))?;
        Ok(Some((bytes, tag)))
    }

    /// Begins an object that is stored piece by piece, and seen when it is whole.
    ///
    /// # Errors
    /// What the server says.
    pub(crate) async fn begin(&self, key: &str) -> Result<Box<dyn object_store::MultipartUpload>, Error> {
        let path = self.path(key)?;
        self.store.put_multipart(&path).await.map_err(|error| failed(format!("storing `{key}`"), error))
    }

    /// An object, whole.
    ///
    /// # Errors
    /// `Missing` when there is none.
    pub async fn read(&self, key: &str) -> Result<Bytes, Error> {
        let path = self.path(key)?;
        let read = async { self.store.get(&path).await?.bytes().await };
        read.await.map_err(|error| not_found(key, error))
    }

    /// A piece of an object.
    ///
    /// # Errors
    /// `Missing` when there is none.
    pub(crate) async fn read_range(&self, key: &str, range: std::ops::Range<u64>) -> Result<Bytes, Error> {
        let path = self.path(key)?;
        self.store.get_range(&path, range).await.map_err(|error| not_found(key, error))
    }

    /// What is known of an object.
    ///
    /// # Errors
    /// `Missing` when there is none.
    pub(crate) async fn find(&self, key: &str) -> Result<Found, Error> {
        let path = self.path(key)?;
        let meta = self.store.head(&path).await.map_err(|error| not_found(key, error))?;
        Ok(Found { key: key.to_owned(), bytes: meta.size, modified_at: meta.last_modified.into() })
    }

    /// Takes an object away; it is no error when there is none.
    ///
    /// # Errors
    /// What the server says.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let path = self.path(key)?;
        match self.store.delete(&path).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(format!("removing `{key}`"), error)),
        }
    }

    /// All objects below this key.
    pub(crate) async fn list(&self, below: &str) -> Result<Vec<Found>, Error> {
        let path = self.path(below)?;
        let skipped = self.prefix.parts().count();
        let mut listed = self.store.list(Some(&path));
        let mut found = Vec::new();
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|error| failed(format!("listing `{below}`"), error))?;
            let key = Path::from_iter(meta.location.parts().skip(skipped)).to_string();
            found.push(Found { key, bytes: meta.size, modified_at: meta.last_modified.into() });
        }
        Ok(found)
    }

    /// An address at which whoever has it may read the object for so long.
    ///
    /// # Errors
    /// If the server's credentials cannot be had.
    pub async fn presign(&self, key: &str, valid: Duration) -> Result<Url, Error> {
        let path = self.path(key)?;
        let signed = self.signer.signed_url(http::Method::GET, &path, valid).await;
        signed.map_err(|error| failed(format!("signing an address of `{key}`"), error))
    }
}

fn untagged(key: &str) -> Error {
    Error::Config(format!("the S3 server gives no ETag for `{key}`, without which it cannot be replaced safely"))
}

fn not_found(key: &str, error: StoreError) -> Error {
    match error {
        StoreError::NotFound { .. } => Error::Missing(key.to_owned()),
        error => failed(format!("reading `{key}`"), error),
    }
}

/// What the server says, or that it says nothing: another try may do.
pub(crate) fn failed(context: String, error: StoreError) -> Error {
    Error::Unavailable(format!("{context}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_buckets_are_checked() {
        for url in ["s3://calls", "s3://calls/", "s3://calls/prod", "s3://calls/prod/eu"] {
            let config = BucketConfig::new(url, BTreeMap::new()).expect(url);
            assert_eq!(config.url.host_str(), Some("calls"));
        }
        for url in
            ["", "calls", "/calls", "file:///calls", "https://calls/x", "s3:///x", "s3://calls/x?y", "s3://u:p@calls"]
        {
            assert!(BucketConfig::new(url, BTreeMap::new()).is_err(), "{url}");
        }
        let wrong = BTreeMap::from([("colour".to_owned(), "red".to_owned())]);
        let error = BucketConfig::new("s3://calls", wrong).expect_err("unknown");
        assert!(error.to_string().contains("colour"), "{error}");
    }

    #[test]
    fn keys_lie_below_the_prefix() {
        let options = [("access_key_id", "a"), ("secret_access_key", "secret"), ("region", "eu-central-1")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config = BucketConfig::new("s3://calls/prod/eu", options).expect("an address");
        assert!(!format!("{config:?}").contains("secret"), "{config:?}");
        let bucket = Bucket::new(&config).expect("a bucket");
        assert_eq!(bucket.path("objects/recordings/acme").expect("a path").as_ref(), "prod/eu/objects/recordings/acme");
        assert_eq!(bucket.directory("tables/calls").expect("a URL").as_str(), "s3://calls/prod/eu/tables/calls/");
        assert_eq!(bucket.root().as_str(), "s3://calls/");
    }
}
