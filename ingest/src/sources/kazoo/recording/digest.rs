//! Whether a body came whole: `Content-Digest` and `Repr-Digest` (RFC 9530) and `Content-MD5` (RFC 1864), over the
//! bytes as transferred. Bodies with a content coding are not taken, so the representation is the content.

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::digest::DynDigest;
use sha2::{Sha256, Sha512};

use crate::reject::Refusal;

/// The digests that a request announces and that are checked, each with what came up to now.
#[derive(Default)]
pub(super) struct Digests(Vec<Check>);

struct Check {
    name: &'static str,
    hash: Box<dyn DynDigest + Send>,
    expected: Vec<u8>,
}

impl Digests {
    /// Those in the headers. Other algorithms than SHA-256, SHA-512 and MD5 are passed over, as the standard wants.
    ///
    /// # Errors
    /// 400 if one cannot be read: whoever sent it wants it checked.
    pub fn of(headers: &HeaderMap) -> Result<Digests, Refusal> {
        let mut checks = Vec::new();
        for name in ["content-digest", "repr-digest"] {
            for value in headers.get_all(name) {
                for member in text(name, value)?.split(',') {
                    checks.extend(member_check(name, member)?);
                }
            }
        }
        if let Some(value) = headers.get("content-md5") {
            let expected = decode("content-md5", text("content-md5", value)?.trim())?;
            checks.push(Check { name: "content-md5", hash: Box::new(Md5::default()), expected });
        }
        Ok(Digests(checks))
    }

    /// Takes in what was transferred.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|check| check.hash.update(bytes));
    }

    /// Holds what came against what was announced.
    ///
    /// # Errors
    /// 400 `digest-mismatch`.
    pub fn verify(self) -> Result<(), Refusal> {
        for check in self.0 {
            if *check.hash.finalize() != *check.expected {
                return Err(Refusal::DigestMismatch(format!("the body does not have the `{}` announced", check.name)));
            }
        }
        Ok(())
    }
}

/// One member of a structured field: `sha-256=:…:`, perhaps with parameters.
fn member_check(name: &'static str, member: &str) -> Result<Option<Check>, Refusal> {
    let Some((algorithm, value)) = member.split_once('=') else { return Ok(None) };
    let hash: Box<dyn DynDigest + Send> = match algorithm.trim().to_ascii_lowercase().as_str() {
        "sha-256" => Box::new(Sha256::default()),
        "sha-512" => Box::new(Sha512::default()),
        _ => return Ok(None),
    };
    let value = value.split(';').next().unwrap_or_default().trim();
    let encoded = value.strip_prefix(':').and_then(|value| value.strip_suffix(':')).ok_or_else(|| unreadable(name))?;
    Ok(Some(Check { name, hash, expected: decode(name, encoded)? }))
}

fn text<'a>(name: &str, value: &'a HeaderValue) -> Result<&'a str, Refusal> {
    value.to_str().map_err(|_| unreadable(name))
}

fn decode(name: &str, encoded: &str) -> Result<Vec<u8>, Refusal> {
    STANDARD.decode(encoded).map_err(|_| unreadable(name))
}

fn unreadable(name: &str) -> Refusal {
    Refusal::DigestMismatch(format!("`{name}` cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &str)], body: &[u8]) -> bool {
        let headers = headers.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).expect("is a header");
            (axum::http::HeaderName::from_static(name), value)
        });
        let headers: HeaderMap = headers.collect();
        Digests::of(&headers).is_ok_and(|mut digests| {
            body.chunks(2).for_each(|chunk| digests.update(chunk));
            digests.verify().is_ok()
        })
    }

    #[test]
    fn announced_digests_are_held_against_the_body() {
        // The examples of RFC 9530, appendix D, and of RFC 1321.
        let hello = b"{\"hello\": \"world\"}\n";
        let sha256 = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        assert!(check(&[("content-digest", sha256)], hello));
        let in_capitals = sha256.replacen("sha-256", "SHA-256", 1);
        assert!(check(&[("content-digest", in_capitals.as_str())], hello));
        assert!(!check(&[("content-digest", in_capitals.as_str())], b"{}"));
        let several = format!("unixsum=:AA==:, {sha256};x=1");
        assert!(check(&[("repr-digest", several.as_str())], hello));
        assert!(!check(&[("repr-digest", several.as_str())], b"{}"));
        assert!(check(&[("content-md5", "kAFQmDzST7DWlj99KOF/cg==")], b"abc"));
        assert!(!check(&[("content-md5", "kAFQmDzST7DWlj99KOF/cg==")], b"abd"));
        assert!(check(&[("content-digest", "crc32c=:AAAA:"), ("digest", "sha-256=x")], b"anything"));
        assert!(!check(&[("content-digest", "sha-256=:%%%:")], hello));
        assert!(!check(&[("content-digest", "sha-256=abc")], hello));
    }
}
