//! `keys.json`: its form, and writing it so that a crash leaves the old file or the new one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Tenants, seal::Sealed};
use crate::error::{Context, Error};
use crate::event::Micros;

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

pub(super) fn read(path: &Path) -> Result<KeyFile, Error> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(KeyFile { version: VERSION, ..KeyFile::default() });
        }
        Err(error) => return Err(error).context(format!("reading {}", path.display())),
    };
    let file: KeyFile =
        serde_json::from_slice(&bytes).map_err(|error| Error::Corrupt(format!("{}: {error}", path.display())))?;
    if file.version != VERSION {
        return Err(Error::Corrupt(format!("{}: version {} is not known here", path.display(), file.version)));
    }
    Ok(file)
}

/// Writes a temporary file next to it, syncs it, renames it into place and syncs the directory.
pub(super) fn write(path: &Path, file: &KeyFile) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).context(format!("creating {}", directory.display()))?;
    let bytes = serde_json::to_vec_pretty(file).map_err(|error| Error::Config(error.to_string()))?;
    let temporary = path.with_extension("json.tmp");
    let what = || format!("writing {}", temporary.display());
    // A file left by a crash may have other permissions, so it is not reused.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).context(what()),
        _ => {}
    }
    let mut output = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).context(what())?;
    output.write_all(&bytes).context(what())?;
    output.sync_all().context(what())?;
    std::fs::rename(&temporary, path).context(format!("renaming to {}", path.display()))?;
    File::open(directory).and_then(|handle| handle.sync_all()).context(format!("syncing {}", directory.display()))
}
