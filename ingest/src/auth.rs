//! The one secret of a request: where it stands, whose it is, and its removal from everything that is kept.
//!
//! Exactly one is used, in the order path (`/in/tlk_…/…`), `Authorization` (Bearer, or the password of Basic), field.

mod redact;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Uri, header};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use trunklog_storage::keys::{Denied, Keys, Principal};

use crate::form;
use crate::reject::Refusal;

/// What every key begins with.
pub const KEY_PREFIX: &str = "tlk_";

/// Another system's tokens may look like keys; so many different ones of a message are tried.
const OTHER_KEYS_LIMIT: usize = 4096;
/// So many forms of keys in base64 are looked for; each costs a walk over the message.
const ENCODED_KEYS_LIMIT: usize = 64;

/// The request line as it came, before the key was taken out of the path.
#[derive(Clone)]
pub struct Arrived {
    /// Path as sent.
    pub path: String,
    /// Query as sent.
    pub query: Option<String>,
    key: Option<String>,
}

impl Arrived {
    /// Of this request; made by [`take_path_key`].
    pub fn of(parts: &Parts) -> Arrived {
        parts.extensions.get::<Arrived>().cloned().unwrap_or_else(|| Arrived {
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            key: None,
        })
    }
}

/// Takes a key that is the first segment after `/in/` out of the path, so that `/in/<key>/…` finds the routes of
/// `/in/…`. Runs outside the router: routes are matched by the path that this leaves.
pub fn take_path_key(request: Request) -> Request {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().map(str::to_owned);
    let mut key = None;
    if let Some((segment, rest)) = path.strip_prefix("/in/").map(|tail| tail.split_once('/').unwrap_or((tail, ""))) {
        let decoded = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
        if decoded.starts_with(KEY_PREFIX) {
            let target = query.as_ref().map_or(format!("/in/{rest}"), |query| format!("/in/{rest}?{query}"));
            if let Ok(uri) = target.parse::<Uri>() {
                parts.uri = uri;
                key = Some(decoded.into_owned());
            }
        }
    }
    // A fresh set: the outer router's path parameters would otherwise join those of the inner one.
    let peer = parts.extensions.remove::<ConnectInfo<SocketAddr>>();
    parts.extensions = Extensions::new();
    if let Some(peer) = peer {
        parts.extensions.insert(peer);
    }
    parts.extensions.insert(Arrived { path, query, key });
    Request::from_parts(parts, body)
}

/// The secret of a request, and everything else that must not be kept of it.
#[derive(Clone)]
pub struct Secrets {
    token: String,
    needles: Vec<Vec<u8>>,
}

impl Secrets {
    fn new(token: String) -> Secrets {
        let needles = vec![token.clone().into_bytes()];
        Secrets { token, needles }
    }

    /// The key that was presented.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The key in the path, else in `Authorization`. A header that holds none is an attempt that failed.
    pub fn outside_fields(arrived: &Arrived, headers: &HeaderMap) -> Result<Option<Secrets>, Refusal> {
        if let Some(key) = &arrived.key {
            return Ok(Some(Secrets::new(key.clone())));
        }
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
        let text = value.to_str().map_err(|_| Refusal::Unauthorized)?.trim();
        let (scheme, credential) = text.split_once(' ').ok_or(Refusal::Unauthorized)?;
        let credential = credential.trim();
        match scheme.to_ascii_lowercase().as_str() {
            "bearer" if !credential.is_empty() => Ok(Some(Secrets::new(credential.to_owned()))),
            "basic" => Secrets::basic(credential).map(Some).ok_or(Refusal::Unauthorized),
            _ => Err(Refusal::Unauthorized),
        }
    }

    fn basic(credential: &str) -> Option<Secrets> {
        let decoded = STANDARD.decode(credential).or_else(|_| STANDARD_NO_PAD.decode(credential)).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (user, password) = decoded.split_once(':')?;
        // `https://tlk_…@host/` sends the key as the user.
        let token = if password.is_empty() && user.starts_with(KEY_PREFIX) { user } else { password };
        if token.is_empty() {
            return None;
        }
        let mut secrets = Secrets::new(token.to_owned());
        secrets.needles.push(credential.as_bytes().to_vec());
        Some(secrets)
    }

    /// The key in the first of these fields that has a value, in query or body.
    pub fn in_field(query: Option<&str>, body: &[u8], names: &[&str]) -> Option<Secrets> {
        let mut pairs = form::lenient_pairs(query.unwrap_or_default().as_bytes());
        pairs.extend(form::lenient_body_pairs(body));
        let value = |name: &&str| pairs.iter().find(|(key, value)| key == name && !value.is_empty());
        names.iter().find_map(value).map(|(_, token)| Secrets::new(token.clone()))
    }

    /// Looks for further working keys in the message, so that none is stored. `authenticate` says whether one works.
    pub fn add_other_keys(&mut self, texts: &[&[u8]], authenticate: impl Fn(&str) -> Result<Principal, Denied>) {
        let mut others: BTreeSet<String> = BTreeSet::new();
        for candidate in texts.iter().flat_map(|text| redact::candidates(text, KEY_PREFIX.as_bytes())) {
            if candidate != self.token && others.len() < OTHER_KEYS_LIMIT {
                others.insert(candidate);
            }
        }
        let works = |token: &String| !matches!(authenticate(token), Err(Denied::Unauthorized));
        let working = others.into_iter().filter(works).map(String::into_bytes);
        let new: Vec<Vec<u8>> = working.filter(|key| !self.needles.contains(key)).collect();
        self.needles.extend(new);
    }

    /// Looks for keys, the presented one and others that work, behind base64, as the credentials of Basic are sent.
    pub fn add_encoded_keys(&mut self, texts: &[&[u8]], authenticate: impl Fn(&str) -> Result<Principal, Denied>) {
        let encoded: Vec<(&[u8], Vec<u8>)> = texts.iter().flat_map(|text| redact::encoded(text)).collect();
        let decoded: Vec<&[u8]> = encoded.iter().map(|(_, decoded)| decoded.as_slice()).collect();
        self.add_other_keys(&decoded, authenticate);
        let holds_key = |decoded: &[u8]| self.needles.iter().any(|needle| redact::replace(decoded, needle).is_some());
        let found = encoded.iter().filter(|(_, decoded)| holds_key(decoded)).map(|(part, _)| part.to_vec());
        let found: BTreeSet<Vec<u8>> = found.take(ENCODED_KEYS_LIMIT).collect();
        self.needles.extend(found);
    }

    /// The bytes with every form of every secret replaced by `REDACTED`.
    pub fn redact(&self, bytes: &Bytes) -> Bytes {
        let mut result = bytes.clone();
        for needle in &self.needles {
            if let Some(replaced) = redact::replace(&result, needle) {
                result = Bytes::from(replaced);
            }
        }
        result
    }

    /// The same for text.
    pub fn redact_text(&self, text: &str) -> String {
        let redacted = self.redact(&Bytes::copy_from_slice(text.as_bytes()));
        String::from_utf8_lossy(&redacted).into_owned()
    }
}

/// Whose key this is.
pub fn authenticate(keys: &Keys, token: &str, address: Option<IpAddr>) -> Result<Principal, Refusal> {
    keys.authenticate(token, address).map_err(|denied| match denied {
        Denied::Unauthorized => Refusal::Unauthorized,
        Denied::Address => Refusal::Forbidden("the key may not be used from this address".to_owned()),
    })
}

/// Placetel: a key made with a shared secret wants `X-PLACETEL-SIGNATURE` over the body as it came.
pub fn check_signature(principal: &Principal, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
    let Some(secret) = &principal.hmac_secret else { return Ok(()) };
    let signature = headers.get("x-placetel-signature").and_then(|value| value.to_str().ok());
    let valid = signature.is_some_and(|signature| signature_is_valid(secret, body, signature.trim()));
    if valid { Ok(()) } else { Err(Refusal::Unauthorized) }
}

/// Whether `signature` is the hex of HMAC-SHA256 over `body`; compared in constant time.
fn signature_is_valid(secret: &[u8], body: &[u8], signature: &str) -> bool {
    let (Some(expected), Ok(mut mac)) = (unhex(signature), Hmac::<Sha256>::new_from_slice(secret)) else {
        return false;
    };
    mac.update(body);
    mac.verify_slice(&expected).is_ok()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests;
