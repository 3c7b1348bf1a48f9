//! What a key lets: scopes, the principal that a request acts as, and where in a request its key stands.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::event::Source;

/// Why a key does not let a request in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Unknown, expired or revoked: 401.
    #[error("the key is unknown, expired or revoked")]
    Unauthorized,
    /// The key may not be used from this address: 403.
    #[error("the key may not be used from this address")]
    Address,
}

/// The scopes of a key, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Grants {
    sources: Vec<Source>,
    all_sources: bool,
    query: bool,
    recordings: bool,
    export: bool,
    pub admin: bool,
}

impl Grants {
    pub(super) fn parse(scopes: &[String]) -> Result<Grants, String> {
        let mut grants = Grants::default();
        for scope in scopes {
            grants.add(scope)?;
        }
        if scopes.is_empty() {
            return Err(format!("at least one scope is needed: {SCOPES}"));
        }
        if grants.admin && (grants.all_sources || !grants.sources.is_empty()) {
            return Err("an `admin` key belongs to no tenant and so cannot send: make another key for that".into());
        }
        Ok(grants)
    }

    fn add(&mut self, scope: &str) -> Result<(), String> {
        let source =
            scope.strip_prefix("ingest:").and_then(Source::parse).filter(|source| Source::PBX.contains(source));
        match (scope, source) {
            (_, Some(source)) => self.sources.push(source),
            ("ingest:*", _) => self.all_sources = true,
            ("query", _) => self.query = true,
            ("recordings:read", _) => self.recordings = true,
            ("export", _) => self.export = true,
            ("admin", _) => self.admin = true,
            _ => return Err(format!("`{scope}` is no scope; there are {SCOPES}")),
        }
        Ok(())
    }
}

const SCOPES: &str = "`ingest:<source>`, `ingest:*`, `query`, `recordings:read`, `export`, `admin`";

/// Who a request acts as.
#[derive(Clone)]
pub struct Principal {
    /// The key's id, for the audit.
    pub key_id: String,
    /// The tenant it is bound to; `None` for administrators, who read every tenant.
    pub tenant: Option<String>,
    /// The shared secret that signatures are made with, if the key has one: then a signature is required.
    pub hmac_secret: Option<Vec<u8>>,
    grants: Grants,
}

impl Principal {
    pub(super) fn new(key_id: String, tenant: Option<String>, grants: Grants) -> Principal {
        Principal { key_id, tenant, hmac_secret: None, grants }
    }

    pub(super) fn administrator(key_id: &str) -> Principal {
        Principal::new(key_id.to_owned(), None, Grants { admin: true, ..Grants::default() })
    }

    /// May send to this source's routes.
    pub fn may_ingest(&self, source: Source) -> bool {
        self.grants.all_sources || self.grants.sources.contains(&source)
    }

    /// May send to `/in/events`.
    pub fn may_ingest_any(&self) -> bool {
        self.grants.all_sources
    }

    /// Has this scope. Administrators have every scope that reads, and none that sends.
    pub fn has(&self, scope: &str) -> bool {
        match scope {
            "query" => self.grants.query || self.grants.admin,
            "recordings:read" => self.grants.recordings || self.grants.admin,
            "export" => self.grants.export || self.grants.admin,
            "admin" => self.grants.admin,
            "ingest:*" => self.grants.all_sources,
            _ => scope.strip_prefix("ingest:").and_then(Source::parse).is_some_and(|source| self.may_ingest(source)),
        }
    }

    /// May administer, and reads every tenant.
    pub fn is_admin(&self) -> bool {
        self.grants.admin
    }
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut output = formatter.debug_struct("Principal");
        output.field("key_id", &self.key_id).field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// The key in the value of an `Authorization` header: a bearer token, or the password of Basic (for senders that
/// know only URLs with user and password).
pub fn from_authorization(header: &str) -> Option<String> {
    let (scheme, rest) = header.trim().split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return (!rest.is_empty()).then(|| rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    let (_, password) = decoded.split_once(':')?;
    (!password.is_empty()).then(|| password.to_owned())
}
