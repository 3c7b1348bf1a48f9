//! Keys and tenants: who may send, read and administer.
//!
//! A key is a token `tlk_…` of 256 random bits. `keys.json` in the data directory (mode 0600) holds only the SHA-256
//! of each token, so nothing in it lets anybody in. Changes are on disk (file and directory synced) before a caller
//! learns of them; authentication reads one map in memory and takes no lock. Nodes that share a bucket share the file, as
//! `config/keys.json` in it, and look for changes of each other ([`Keys::refresh`]).

mod access;
mod address;
mod file;
mod seal;
pub(crate) mod token;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

pub use access::{Denied, Principal, from_authorization};
pub use token::{TOKEN_PREFIX, looks_like_token};

use crate::bucket::Bucket;
use crate::error::Error;
use crate::event::{Micros, now};
use crate::shared_file::{SharedFile, Tag};
use access::Grants;
use file::{KeyFile, StoredKey};

const FILE: &str = "keys.json";

/// The key id of whoever may open the Unix socket in the data directory.
pub const LOCAL_KEY_ID: &str = "local";

/// What a new key shall be.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// Its tenant; `None` only for `admin` keys.
    pub tenant: Option<String>,
    /// `ingest:<source>`, `ingest:*`, `query`, `recordings:read`, `export`, `admin`.
    pub scopes: Vec<String>,
    /// Placetel's shared secret: with it a valid signature is required besides the key.
    pub hmac_secret: Option<String>,
    /// From then on the key lets nobody in.
    pub expires_at: Option<Micros>,
    /// IP addresses or networks (`10.0.0.0/8`) that may use it; empty means any.
    pub addresses: Vec<String>,
}

/// Why a [`NewKey`] cannot be made.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{parameter}`: {reason}")]
pub struct Invalid {
    /// The field at fault.
    pub parameter: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl NewKey {
    /// The same without repeated scopes and addresses.
    pub fn distinct(mut self) -> NewKey {
        for list in [&mut self.scopes, &mut self.addresses] {
            let mut seen = BTreeSet::new();
            list.retain(|entry| seen.insert(entry.clone()));
        }
        self
    }

    /// Says which field is wrong, if one is.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |parameter, reason: String| Err(Invalid { parameter, reason });
        let grants = match Grants::parse(&self.scopes) {
            Ok(grants) => grants,
            Err(reason) => return invalid("scopes", reason),
        };
        match &self.tenant {
            None if !grants.admin => return invalid("tenant", "only `admin` keys belong to no tenant".into()),
            Some(_) if grants.admin => return invalid("tenant", "`admin` keys belong to no tenant".into()),
            Some(tenant) if !is_tenant_name(tenant) => {
                let rule = "wanted are 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit";
                return invalid("tenant", format!("`{tenant}` is no name of a tenant: {rule}"));
            }
            _ => {}
        }
        if self.hmac_secret.as_deref() == Some("") {
            return invalid("hmac_secret", "is empty".into());
        }
        if self.expires_at.is_some_and(|at| at <= now()) {
            return invalid("expires_at", "lies in the past".into());
        }
        match self.addresses.iter().find(|text| address::Network::parse(text).is_none()) {
            Some(text) => {
                invalid("addresses", format!("`{text}` is neither an IP address nor a network like 10.0.0.0/8"))
            }
            None => Ok(()),
        }
    }
}

/// Whether tenants may be called so: the name stands in paths and object keys.
pub fn is_tenant_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))
}

/// A key that was just made: the only time its token is known.
#[derive(Clone)]
pub struct CreatedKey {
    /// `key_…`
    pub id: String,
    /// `tlk_…`
    pub token: String,
}

/// A key as it may be shown.
#[derive(Clone, Debug)]
pub struct KeyInfo {
    /// `key_…`
    pub id: String,
    /// `None` for `admin` keys.
    pub tenant: Option<String>,
    /// As given at creation.
    pub scopes: Vec<String>,
    /// Whether a signature is required besides.
    pub has_hmac_secret: bool,
    /// When it was made.
    pub created_at: Micros,
    /// When it ends.
    pub expires_at: Option<Micros>,
    /// When it was revoked.
    pub revoked_at: Option<Micros>,
    /// From where it may be used; empty means anywhere.
    pub addresses: Vec<String>,
}

/// All keys of a data directory; a cheap handle. Only the process that holds the data directory's lock may have one.
#[derive(Clone)]
pub struct Keys {
    inner: Arc<Inner>,
}

struct Inner {
    file: SharedFile,
    /// Serialises changes; readers never wait for it. Has the tag of the state that is in memory.
    writer: Mutex<Tag>,
    state: ArcSwap<State>,
    local_token: String,
    local_hash: [u8; 32],
}

struct State {
    file: KeyFile,
    by_hash: HashMap<[u8; 32], Active>,
}

/// A key that is not revoked, ready for use.
struct Active {
    principal: Principal,
    sealed: Option<seal::Sealed>,
    expires_at: Option<Micros>,
    networks: Vec<address::Network>,
}

impl Keys {
    /// Reads `<data_dir>/keys.json`; a missing file means no keys.
    pub fn open(data_dir: &Path) -> Result<Keys, Error> {
        Keys::of(SharedFile::local(data_dir, FILE))
    }

    /// Reads `config/keys.json` in the bucket that nodes share.
    pub async fn shared(bucket: &Bucket, data_dir: &Path) -> Result<Keys, Error> {
        Keys::of(SharedFile::shared(bucket, data_dir, FILE).await?)
    }

    fn of(file: SharedFile) -> Result<Keys, Error> {
        let (content, tag) = file::read(&file)?;
        let state = State::new(content)?;
        let local_token = token::generate()?;
        let local_hash = token::hash(&local_token);
        let state = ArcSwap::from_pointee(state);
        Ok(Keys { inner: Arc::new(Inner { file, writer: Mutex::new(tag), state, local_token, local_hash }) })
    }

    /// Makes a key (and its tenant, if need be); it is durable when this returns.
    pub fn create(&self, request: NewKey) -> Result<CreatedKey, Error> {
        request.check().map_err(|invalid| Error::Config(invalid.to_string()))?;
        let request = request.distinct();
        let token = token::generate()?;
        let id = token::generate_id()?;
        let hmac_secret = match &request.hmac_secret {
            Some(secret) => Some(seal::Sealed::seal(&token, secret.as_bytes())?),
            None => None,
        };
        let stored = StoredKey {
            id: id.clone(),
            sha256: crate::event::hex(&token::hash(&token)),
            tenant: request.tenant,
            scopes: request.scopes,
            hmac_secret,
            created_at: now(),
            expires_at: request.expires_at,
            revoked_at: None,
            addresses: request.addresses,
        };
        self.change(|file| {
            let is_new = file.keys.iter().all(|key| key.id != stored.id);
            if is_new {
                file.tenants.extend(stored.tenant.clone());
                file.keys.push(stored.clone());
            }
        })?;
        Ok(CreatedKey { id, token })
    }

    /// Takes up what other nodes changed.
    ///
    /// # Errors
    /// If the file cannot be read; what is known stays in force.
    pub async fn refresh(&self) -> Result<(), Error> {
        let known = self.inner.writer.lock().clone();
        if let Some((file, tag)) = file::read_newer(&self.inner.file, &known).await? {
            let state = State::new(file)?;
            let mut current = self.inner.writer.lock();
            // Unless this node changed it meanwhile.
            if *current == known {
                *current = tag;
                self.inner.state.store(Arc::new(state));
            }
        }
        Ok(())
    }

    /// Every key ever made, revoked ones included, oldest first.
    pub fn list(&self) -> Vec<KeyInfo> {
        self.inner.state.load().file.keys.iter().map(StoredKey::info).collect()
    }

    /// Ends a key at once. `false` if there is none of this id; revoking twice changes nothing.
    pub fn revoke(&self, id: &str) -> Result<bool, Error> {
        let state = self.inner.state.load_full();
        match state.file.keys.iter().find(|key| key.id == id) {
            None => Ok(false),
            Some(key) if key.revoked_at.is_some() => Ok(true),
            Some(_) => {
                self.change(|file| {
                    for key in file.keys.iter_mut().filter(|key| key.id == id && key.revoked_at.is_none()) {
                        key.revoked_at = Some(now());
                    }
                })?;
                Ok(true)
            }
        }
    }

    /// Whether no key was ever made.
    pub fn is_empty(&self) -> bool {
        self.inner.state.load().file.keys.is_empty()
    }

    /// Every tenant that a key was ever made for, by name.
    pub fn tenants(&self) -> Vec<String> {
        self.inner.state.load().file.tenants.iter().cloned().collect()
    }

    /// Who this token is.
    pub fn authenticate(&self, token: &str, address: Option<IpAddr>) -> Result<Principal, Denied> {
        let hash = token::hash(token);
        if hash == self.inner.local_hash {
            return Ok(Principal::administrator(LOCAL_KEY_ID));
        }
        let state = self.inner.state.load();
        let active = state.by_hash.get(&hash).ok_or(Denied::Unauthorized)?;
        if active.expires_at.is_some_and(|at| at <= now()) {
            return Err(Denied::Unauthorized);
        }
        let allowed = |address: IpAddr| active.networks.iter().any(|network| network.contains(address));
        if !active.networks.is_empty() && !address.is_some_and(allowed) {
            return Err(Denied::Address);
        }
        let mut principal = active.principal.clone();
        if let Some(sealed) = &active.sealed {
            principal.hmac_secret = Some(sealed.open(token).ok_or(Denied::Unauthorized)?);
        }
        Ok(principal)
    }

    /// The token of this process's own administrator: made at every start and kept in memory only. The Unix socket,
    /// which only the data directory's owner may open, puts it on requests that come without a key.
    pub fn local_token(&self) -> &str {
        &self.inner.local_token
    }

    /// `apply` may be asked more than once, also of a file that it was applied to.
    fn change(&self, apply: impl Fn(&mut KeyFile)) -> Result<(), Error> {
        let mut current = self.inner.writer.lock();
        loop {
            let mut file = self.inner.state.load().file.clone();
            apply(&mut file);
            if let Some(tag) = self.inner.file.write(&file, &current)? {
                *current = tag;
                self.inner.state.store(Arc::new(State::new(file)?));
                return Ok(());
            }
            // Another node was quicker.
            let (file, tag) = file::read(&self.inner.file)?;
            *current = tag;
            self.inner.state.store(Arc::new(State::new(file)?));
        }
    }
}

impl State {
    fn new(file: KeyFile) -> Result<State, Error> {
        let mut by_hash = HashMap::new();
        for key in file.keys.iter().filter(|key| key.revoked_at.is_none()) {
            by_hash.insert(key.hash()?, key.active()?);
        }
        Ok(State { file, by_hash })
    }
}

impl StoredKey {
    fn info(&self) -> KeyInfo {
        KeyInfo {
            id: self.id.clone(),
            tenant: self.tenant.clone(),
            scopes: self.scopes.clone(),
            has_hmac_secret: self.hmac_secret.is_some(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
            addresses: self.addresses.clone(),
        }
    }

    fn active(&self) -> Result<Active, Error> {
        let corrupt = |reason: String| Error::Corrupt(format!("keys.json, key `{}`: {reason}", self.id));
        let grants = Grants::parse(&self.scopes).map_err(corrupt)?;
        let networks = self
            .addresses
            .iter()
            .map(|text| address::Network::parse(text).ok_or_else(|| corrupt(format!("`{text}` is no address"))));
        Ok(Active {
            principal: Principal::new(self.id.clone(), self.tenant.clone(), grants),
            sealed: self.hmac_secret.clone(),
            expires_at: self.expires_at,
            networks: networks.collect::<Result<_, _>>()?,
        })
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Keys").field("file", &self.inner.file.place()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for CreatedKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CreatedKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The tenants of the file, for [`file::KeyFile`].
type Tenants = BTreeSet<String>;

#[cfg(test)]
mod tests;
