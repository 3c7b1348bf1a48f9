//! Opaque cursors: where a page ended, in which snapshot, and for which question.
//!
//! A cursor lets nobody see anything: the tenant's filter applies to every page. The binding only keeps a cursor from
//! being continued with another question.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trunklog_storage::event::hex;
use trunklog_storage::fact::fingerprint;

use crate::engine::Access;
use crate::error::QueryError;
use crate::moment::AsOf;

/// The end of a page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cursor {
    /// The snapshot that all pages are read at.
    #[serde(rename = "s")]
    pub as_of: AsOf,
    /// The last row's value of the column that sorts: text, a whole number (of microseconds for times), or null.
    #[serde(rename = "v")]
    pub value: Value,
    /// The last row's id.
    #[serde(rename = "i")]
    pub id: String,
    /// What the question was.
    #[serde(rename = "b")]
    pub binding: String,
}

impl Cursor {
    pub(super) fn encode(&self) -> String {
        // A struct of strings and numbers always serialises.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    pub(super) fn decode(text: &str, binding: &str) -> Result<Cursor, QueryError> {
        let wrong = |detail: &str| QueryError::parameter("cursor", detail);
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong("this is no cursor"))?;
        let cursor: Cursor = serde_json::from_slice(&bytes).map_err(|_| wrong("this is no cursor"))?;
        if cursor.binding != binding {
            return Err(wrong("the cursor belongs to other parameters or to another tenant"));
        }
        Ok(cursor)
    }
}

/// Stands for which table and whose rows are read, and all parameters but those that only page.
pub(super) fn binding(table: &str, access: &Access, parameters: &[(String, String)]) -> String {
    let tenant = access.only_tenant().map_or(&b"\0"[..], |tenant| tenant.as_bytes());
    let pairs = parameters.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
    let parts: Vec<&[u8]> = [table.as_bytes(), tenant].into_iter().chain(pairs).collect();
    hex(&fingerprint(&parts)[..16])
}

#[cfg(test)]
mod tests {
    use trunklog_storage::position::Position;

    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn comes_back_only_for_the_same_question() {
        let here = binding("calls", &Access::tenant("acme"), &pairs(&[("source", "kazoo")]));
        let cursor = Cursor {
            as_of: AsOf { offset: Position::parse("7").expect("a token"), time: 1_700_000_000_000_006 },
            value: Value::from(5),
            id: "abc".into(),
            binding: here.clone(),
        };
        assert_eq!(Cursor::decode(&cursor.encode(), &here).expect("decodes"), cursor);
        let others = [
            binding("calls", &Access::tenant("other"), &pairs(&[("source", "kazoo")])),
            binding("calls", &Access::all(), &pairs(&[("source", "kazoo")])),
            binding("calls", &Access::tenant("acme"), &pairs(&[("source", "placetel")])),
            binding("calls", &Access::tenant("acme"), &pairs(&[])),
            binding("recordings", &Access::tenant("acme"), &pairs(&[("source", "kazoo")])),
        ];
        for other in others {
            assert!(matches!(Cursor::decode(&cursor.encode(), &other), Err(QueryError::Parameter { .. })));
        }
        for wrong in ["", "x", "e30", "%%%"] {
            assert!(matches!(Cursor::decode(wrong, &here), Err(QueryError::Parameter { .. })), "{wrong}");
        }
    }
}
