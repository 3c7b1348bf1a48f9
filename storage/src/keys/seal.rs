//! A shared secret, sealed with a key that is derived from the token.
//!
//! The token is stored nowhere, so only a request that carries it can open the seal. HMAC-SHA256 is used as a
//! pseudo-random function: `key = HMAC(token, label ‖ nonce)`, one for the key stream and one for the tag. The stream
//! is `HMAC(stream key, counter)`; the tag covers nonce and cipher text (encrypt, then authenticate).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::token::random_bytes;
use crate::error::Error;

/// `base64(nonce ‖ tag ‖ cipher text)`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Sealed(String);

const NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 32;

impl Sealed {
    pub(super) fn seal(token: &str, secret: &[u8]) -> Result<Sealed, Error> {
        let nonce = random_bytes::<NONCE_BYTES>()?;
        let cipher_text = apply_stream(token, &nonce, secret);
        let tag = tag(token, &nonce, &cipher_text).finalize().into_bytes();
        Ok(Sealed(STANDARD.encode([&nonce[..], &tag[..], &cipher_text[..]].concat())))
    }

    /// `None` if it was sealed with another token or changed since.
    pub(super) fn open(&self, token: &str) -> Option<Vec<u8>> {
        let bytes = STANDARD.decode(&self.0).ok()?;
        let (nonce, rest) = bytes.split_at_checked(NONCE_BYTES)?;
        let (expected, cipher_text) = rest.split_at_checked(TAG_BYTES)?;
        tag(token, nonce, cipher_text).verify_slice(expected).ok()?;
        Some(apply_stream(token, nonce, cipher_text))
    }
}

fn tag(token: &str, nonce: &[u8], cipher_text: &[u8]) -> Hmac<Sha256> {
    let key = prf(token.as_bytes(), &[b"trunklog hmac_secret tag 1", nonce]).finalize().into_bytes();
    prf(&key, &[nonce, cipher_text])
}

fn apply_stream(token: &str, nonce: &[u8], text: &[u8]) -> Vec<u8> {
    let key = prf(token.as_bytes(), &[b"trunklog hmac_secret stream 1", nonce]).finalize().into_bytes();
    let mut output = Vec::with_capacity(text.len());
    for (counter, block) in text.chunks(32).enumerate() {
        let stream = prf(&key, &[&(counter as u64).to_be_bytes()]).finalize().into_bytes();
        output.extend(block.iter().zip(stream).map(|(byte, mask)| byte ^ mask));
    }
    output
}

fn prf(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}
