//! `keys.json`: its form, and reading and writing it.

use serde::{Deserialize, Serialize};

use super::{Tenants, seal::Sealed};
use crate::error::Error;
use crate::event::Micros;
use crate::shared_file::{SharedFile, Tag};

/// The whole file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyFile {
    /// Form of the file.
    version: u32,
    pub tenants: Tenants,
    pub keys: Vec<StoredKey>,
}

/// One key, without its token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredKey {
    pub id: String,
    /// SHA-256 of the token, in hex.
    pub sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    pub scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac_secret: Option<Sealed>,
    /// Microseconds since 1970, as all times here.
    pub created_at: Micros,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Micros>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Micros>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

impl StoredKey {
    pub(super) fn hash(&self) -> Result<[u8; 32], Error> {
        let corrupt = || Error::Corrupt(format!("keys.json, key `{}`: `sha256` is no SHA-256 in hex", self.id));
        if self.sha256.len() != 64 || !self.sha256.is_ascii() {
            return Err(corrupt());
        }
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&self.sha256[2 * at..2 * at + 2], 16).map_err(|_| corrupt())?;
        }
        Ok(hash)
    }
}

const VERSION: u32 = 1;

/// A missing file means no keys.
pub(super) fn read(file: &SharedFile) -> Result<(KeyFile, Tag), Error> {
    let (content, tag) = file.read::<KeyFile>()?;
    let content = content.unwrap_or_else(|| KeyFile { version: VERSION, ..KeyFile::default() });
    Ok((check(file, content)?, tag))
}

/// What another node made of it, if it did.
pub(super) async fn read_newer(file: &SharedFile, tag: &Tag) -> Result<Option<(KeyFile, Tag)>, Error> {
    match file.newer_than::<KeyFile>(tag).await? {
        Some((content, tag)) => Ok(Some((check(file, content)?, tag))),
        None => Ok(None),
    }
}

fn check(file: &SharedFile, content: KeyFile) -> Result<KeyFile, Error> {
    match content.version {
        VERSION => Ok(content),
        other => Err(Error::Corrupt(format!("{}: version {other} is not known here", file.place()))),
    }
}
