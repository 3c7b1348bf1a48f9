//! Links to recordings: URLs that need no key, end by themselves and can be revoked.
//!
//! A link is a token `tll_…` of 256 random bits. `links.json` in the data directory (mode 0600) holds only the SHA-256
//! of each token, so nothing in it opens anything. Changes are on disk before a caller learns of them; looking a token
//! up reads memory only. Links that have ended are dropped when the file is next written. Nodes that share a bucket share
//! the file, as `config/links.json` in it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::bucket::Bucket;
use crate::error::Error;
use crate::event::{Micros, hex, now};
use crate::keys::token::{ID_LETTERS, TOKEN_LETTERS, hash, random_letters};
use crate::shared_file::{SharedFile, Tag};

/// Every token of a link starts so.
pub const TOKEN_PREFIX: &str = "tll_";

/// Links that may be alive at the same time: all of them are in memory and in one file.
const MOST: usize = 100_000;

const VERSION: u32 = 1;

const FILE: &str = "links.json";

/// One link, without its token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// `link_…`; not a secret.
    pub id: String,
    /// SHA-256 of the token, in hex.
    sha256: String,
    /// Whose recording it opens.
    pub tenant: String,
    /// Which recording it opens.
    pub recording_id: String,
    /// Microseconds since 1970, as all times here.
    pub created_at: Micros,
    /// From then on it opens nothing.
    pub expires_at: Micros,
    /// Id of the key that it was made with.
    pub created_by: String,
}

/// A link that was just made: the only time its token is known.
#[derive(Clone)]
pub struct Created {
    /// `link_…`
    pub id: String,
    /// `tll_…`
    pub token: String,
    /// When it ends.
    pub expires_at: Micros,
}

/// All links of a data directory; a cheap handle. Only the process that holds the data directory's lock may have one.
#[derive(Clone)]
pub struct Links {
    inner: Arc<Inner>,
}

struct Inner {
    file: SharedFile,
    most: usize,
    /// Serialises changes. Readers wait only for the change in memory, never for the disk. Has the tag of what is in
    /// memory.
    writer: Mutex<Tag>,
    /// By the hash of their token: how long a look-up takes says nothing about the tokens there are.
    by_hash: RwLock<HashMap<String, Link>>,
}

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkFile {
    version: u32,
    links: Vec<Link>,
}

/// The same, to be written.
#[derive(Serialize)]
struct WrittenFile<'a> {
    version: u32,
    links: Vec<&'a Link>,
}

impl Links {
    /// Reads `<data_dir>/links.json`; a missing file means no links.
    pub fn open(data_dir: &Path) -> Result<Links, Error> {
        Links::of(SharedFile::local(data_dir, FILE), MOST)
    }

    /// Reads `config/links.json` in the bucket that nodes share.
    pub async fn shared(bucket: &Bucket, data_dir: &Path) -> Result<Links, Error> {
        Links::of(SharedFile::shared(bucket, data_dir, FILE).await?, MOST)
    }

    fn of(file: SharedFile, most: usize) -> Result<Links, Error> {
        let (content, tag) = file.read::<LinkFile>()?;
        let by_hash = RwLock::new(content.map(|content| content.by_hash(&file)).transpose()?.unwrap_or_default());
        Ok(Links { inner: Arc::new(Inner { file, most, writer: Mutex::new(tag), by_hash }) })
    }

    /// Takes up what other nodes changed.
    ///
    /// # Errors
    /// If the file cannot be read; what is known stays in force.
    pub async fn refresh(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let known = inner.writer.lock().clone();
        if let Some((content, tag)) = inner.file.newer_than::<LinkFile>(&known).await? {
            let newer = content.by_hash(&inner.file)?;
            let mut current = inner.writer.lock();
            // Unless this node changed it meanwhile.
            if *current == known {
                *current = tag;
                *inner.by_hash.write() = newer;
            }
        }
        Ok(())
    }

    /// Makes a link; it is durable when this returns. Blocks on the disk. [`Error::Full`] while too many are alive.
    pub fn create(
        &self,
        tenant: &str,
        recording_id: &str,
        expires_in: Duration,
        created_by: &str,
    ) -> Result<Created, Error> {
        let token = format!("{TOKEN_PREFIX}{}", random_letters(TOKEN_LETTERS)?);
        let created_at = now();
        let lifetime = Micros::try_from(expires_in.as_micros()).unwrap_or(Micros::MAX);
        let link = Link {
            id: format!("link_{}", random_letters(ID_LETTERS)?),
            sha256: hex(&hash(&token)),
            tenant: tenant.to_owned(),
            recording_id: recording_id.to_owned(),
            created_at,
            expires_at: created_at.saturating_add(lifetime),
            created_by: created_by.to_owned(),
        };
        let created = Created { id: link.id.clone(), token, expires_at: link.expires_at };
        self.inner.add(link)?;
        Ok(created)
    }

    /// Ends a link at once: it opens nothing any more when this returns, nor after a crash. `false` if this recording
    /// has no such link alive, or it is not this tenant's (`None`: any tenant's). Blocks on the disk.
    pub fn revoke(&self, tenant: Option<&str>, recording_id: &str, id: &str) -> Result<bool, Error> {
        self.inner.remove(|link| {
            link.id == id && link.recording_id == recording_id && tenant.is_none_or(|tenant| tenant == link.tenant)
        })
    }

    /// The link that this token opens, unless it has ended.
    pub fn find(&self, token: &str) -> Option<Link> {
        if !token.starts_with(TOKEN_PREFIX) {
            return None;
        }
        let hash = hex(&hash(token));
        self.inner.by_hash.read().get(&hash).filter(|link| link.is_alive(now())).cloned()
    }
}

impl LinkFile {
    fn by_hash(self, file: &SharedFile) -> Result<HashMap<String, Link>, Error> {
        if self.version != VERSION {
            let (place, version) = (file.place(), self.version);
            return Err(Error::Corrupt(format!("{place}: version {version} is not known here")));
        }
        Ok(self.links.into_iter().map(|link| (link.sha256.clone(), link)).collect())
    }
}

impl Link {
    fn is_alive(&self, at: Micros) -> bool {
        self.expires_at > at
    }
}

impl Inner {
    fn add(&self, link: Link) -> Result<(), Error> {
        let mut current = self.writer.lock();
        let at = now();
        loop {
            let written = {
                let by_hash = self.by_hash.read();
                let others = by_hash.values().filter(|other| other.is_alive(at) && other.id != link.id);
                let all: Vec<&Link> = others.chain([&link]).collect();
                if all.len() > self.most {
                    return Err(Error::Full(format!("there are {} links already; revoke some", self.most)));
                }
                self.write(all, &current)?
            };
            if let Some(tag) = written {
                *current = tag;
                break;
            }
            self.read_again(&mut current)?;
        }
        let mut by_hash = self.by_hash.write();
        by_hash.retain(|_, link| link.is_alive(at));
        by_hash.insert(link.sha256.clone(), link);
        Ok(())
    }

    fn remove(&self, is_meant: impl Fn(&Link) -> bool) -> Result<bool, Error> {
        let mut current = self.writer.lock();
        let at = now();
        loop {
            let written = {
                let by_hash = self.by_hash.read();
                let alive = by_hash.values().filter(|link| link.is_alive(at));
                let (ended, kept): (Vec<&Link>, Vec<&Link>) = alive.partition(|link| is_meant(link));
                if ended.is_empty() {
                    return Ok(false);
                }
                self.write(kept, &current)?
            };
            if let Some(tag) = written {
                *current = tag;
                break;
            }
            self.read_again(&mut current)?;
        }
        self.by_hash.write().retain(|_, link| link.is_alive(at) && !is_meant(link));
        Ok(true)
    }

    /// Oldest first, so that the file reads as a history.
    fn write(&self, mut links: Vec<&Link>, tag: &Tag) -> Result<Option<Tag>, Error> {
        links.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
        self.file.write(&WrittenFile { version: VERSION, links }, tag)
    }

    /// Another node was quicker.
    fn read_again(&self, current: &mut Tag) -> Result<(), Error> {
        let (content, tag) = self.file.read::<LinkFile>()?;
        let newer = content.map(|content| content.by_hash(&self.file)).transpose()?.unwrap_or_default();
        (*current, *self.by_hash.write()) = (tag, newer);
        Ok(())
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Links").field("file", &self.inner.file.place()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Created {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Created").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const SECOND: Duration = Duration::from_secs(1);

    fn links() -> (tempfile::TempDir, Links) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let links = Links::open(directory.path()).expect("opens");
        (directory, links)
    }

    fn create(links: &Links, recording_id: &str, expires_in: Duration) -> Created {
        links.create("acme", recording_id, expires_in, "key_1").expect("created")
    }

    #[test]
    fn a_link_is_found_also_after_a_restart_until_it_is_revoked() {
        let (directory, links) = links();
        let created = create(&links, "rec1", HOUR);
        let other = create(&links, "rec1", HOUR);
        assert!(created.token.starts_with(TOKEN_PREFIX) && created.token != other.token);
        let reopened = Links::open(directory.path()).expect("opens");
        let found = reopened.find(&created.token).expect("found");
        assert_eq!((found.tenant.as_str(), found.recording_id.as_str()), ("acme", "rec1"));
        assert_eq!((found.id.as_str(), found.created_by.as_str()), (created.id.as_str(), "key_1"));
        assert_eq!(found.expires_at - found.created_at, 3_600_000_000);
        assert!(reopened.revoke(Some("acme"), "rec1", &created.id).expect("revoked"));
        assert_eq!(reopened.find(&created.token), None);
        let again = Links::open(directory.path()).expect("opens");
        assert_eq!(again.find(&created.token), None);
        assert!(again.find(&other.token).is_some());
    }

    #[test]
    fn only_its_tenant_and_recording_revoke_it() {
        let (_directory, links) = links();
        let created = create(&links, "rec1", HOUR);
        for (tenant, recording_id, id) in [
            (Some("other"), "rec1", created.id.as_str()),
            (Some("acme"), "rec2", created.id.as_str()),
            (Some("acme"), "rec1", "link_unknown"),
        ] {
            assert!(!links.revoke(tenant, recording_id, id).expect("no error"), "{tenant:?} {recording_id} {id}");
        }
        assert!(links.find(&created.token).is_some());
        assert!(links.revoke(None, "rec1", &created.id).expect("revoked"));
        assert!(!links.revoke(None, "rec1", &created.id).expect("no error"));
    }

    #[test]
    fn an_expired_link_opens_nothing_and_leaves_the_file_with_the_next_change() {
        let (directory, links) = links();
        let short = create(&links, "rec1", SECOND);
        assert!(links.find(&short.token).is_some());
        std::thread::sleep(SECOND + SECOND / 5);
        assert_eq!(links.find(&short.token), None);
        assert!(!links.revoke(None, "rec1", &short.id).expect("no error"));
        let text = || std::fs::read_to_string(directory.path().join("links.json")).expect("readable");
        assert!(text().contains(&short.id));
        let long = create(&links, "rec1", HOUR);
        assert!(!text().contains(&short.id) && text().contains(&long.id));
    }

    #[test]
    fn the_file_is_private_and_holds_no_token() {
        let (directory, links) = links();
        let created = create(&links, "rec1", HOUR);
        let path = directory.path().join("links.json");
        assert!(!std::fs::read_to_string(&path).expect("readable").contains(&created.token));
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(links.find("tll_unknown"), None);
        assert_eq!(links.find(""), None);
        let stored = links.find(&created.token).expect("found").sha256;
        assert_eq!(links.find(&stored), None);
    }

    #[test]
    fn too_many_are_refused_until_one_has_ended() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let links = Links::of(SharedFile::local(directory.path(), FILE), 2).expect("opens");
        let first = create(&links, "rec1", HOUR);
        create(&links, "rec2", SECOND);
        assert!(matches!(links.create("acme", "rec3", HOUR, "key_1"), Err(Error::Full(_))));
        std::thread::sleep(SECOND + SECOND / 5);
        let third = create(&links, "rec3", HOUR);
        assert!(links.find(&first.token).is_some() && links.find(&third.token).is_some());
    }

    #[test]
    fn a_damaged_file_is_reported() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for wrong in ["{", r#"{"version":2,"links":[]}"#, r#"{"version":1,"links":[{}]}"#] {
            std::fs::write(directory.path().join("links.json"), wrong).expect("written");
            assert!(matches!(Links::open(directory.path()), Err(Error::Corrupt(_))), "{wrong}");
        }
    }
}
