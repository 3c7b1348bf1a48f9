//! Tokens and key ids: where their randomness comes from, and the hash that is stored.

use std::fs::File;
use std::io::Read;

use sha2::{Digest, Sha256};

use crate::error::{Context, Error};

/// Every token starts so; a first path segment after `/in/` that does is a key.
pub const TOKEN_PREFIX: &str = "tlk_";

/// 62^43 > 2^256. Letters and digits only: the token stands unchanged in URLs, forms and shells.
pub(crate) const TOKEN_LETTERS: usize = 43;
pub(crate) const ID_LETTERS: usize = 20;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A fresh token of 256 random bits.
pub(super) fn generate() -> Result<String, Error> {
    Ok(format!("{TOKEN_PREFIX}{}", random_letters(TOKEN_LETTERS)?))
}

/// A fresh key id; not a secret.
pub(super) fn generate_id() -> Result<String, Error> {
    Ok(format!("key_{}", random_letters(ID_LETTERS)?))
}

/// What is stored instead of a token. A plain hash suffices: there are 2^256 tokens to try.
pub(crate) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether this could be one of our tokens.
pub fn looks_like_token(text: &str) -> bool {
    text.starts_with(TOKEN_PREFIX)
}

/// Random letters and digits, all equally likely.
pub(crate) fn random_letters(count: usize) -> Result<String, Error> {
    let mut letters = String::with_capacity(count);
    while letters.len() < count {
        // Bytes from 248 on would make the first letters likelier than the others.
        let usable = random_bytes::<64>()?.into_iter().filter(|byte| *byte < 248);
        letters.extend(usable.take(count - letters.len()).map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    Ok(letters)
}

/// Random bytes from the operating system.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).context("reading /dev/urandom")?;
    Ok(bytes)
}
