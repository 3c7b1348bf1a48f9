//! Who a number belongs to, as earlier calls know it: the answer to Planfix's `cmd=contact`.

use std::sync::Arc;

use arrow::array::{Array, AsArray, MapArray, RecordBatch};
use async_trait::async_trait;
use trunklog_ingest::settings::{Contact, ContactLookup};
use trunklog_query::{Access, QueryEngine};
use trunklog_storage::event::Source;

/// Latest calls looked at; a name that is older than that is out of date anyway.
const LATEST_CALLS: usize = 50;
const MOST_DIGITS: usize = 20;

/// Looks at the tenant's calls, those that arrived a moment ago included.
pub struct KnownCallers {
    engine: Arc<QueryEngine>,
}

impl KnownCallers {
    pub fn new(engine: Arc<QueryEngine>) -> KnownCallers {
        KnownCallers { engine }
    }
}

#[async_trait]
impl ContactLookup for KnownCallers {
    async fn find(&self, tenant: &str, phone: &str) -> Option<Contact> {
        let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
        if digits.is_empty() || digits.len() > MOST_DIGITS {
            return None;
        }
        let e164 = self.engine.archive().decoder().e164(tenant, Source::Planfix, phone);
        let sql = statement(&digits, e164.as_deref().unwrap_or_default());
        match self.engine.collect(&Access::tenant(tenant), &sql).await {
            Ok((batches, _)) => batches.iter().flat_map(contacts).next(),
            Err(error) => {
                tracing::warn!(%error, tenant, "cannot look for a contact in earlier calls");
                None
            }
        }
    }
}

/// Only digits and `+` go into the text, so nothing in it can be taken for SQL.
fn statement(digits: &str, e164: &str) -> String {
    let international: String = e164.chars().filter(char::is_ascii_digit).collect();
    let e164 = if international.is_empty() { digits } else { international.as_str() };
    let spellings = format!("('{digits}', '+{digits}', '00{digits}', '+{e164}')");
    let (from, to) = (format!("from_number IN {spellings}"), format!("to_number IN {spellings}"));
    format!(
        "SELECT attributes, CASE WHEN {from} OR from_e164 = '+{e164}' THEN caller_name END AS caller_name, \
         CASE WHEN answered_at IS NOT NULL THEN endpoint END AS endpoint FROM calls \
         WHERE {from} OR {to} OR from_e164 = '+{e164}' OR to_e164 = '+{e164}' \
         ORDER BY started_at DESC NULLS LAST, call_id LIMIT {LATEST_CALLS}"
    )
}

/// The contacts that these calls name, in their order.
fn contacts(batch: &RecordBatch) -> Vec<Contact> {
    let attributes = batch.column_by_name("attributes").and_then(|column| column.as_map_opt());
    let text = |name: &str, row: usize| {
        let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
        (column.is_valid(row) && !column.value(row).is_empty()).then(|| column.value(row).to_owned())
    };
    let named = (0..batch.num_rows()).filter_map(|row| {
        let attribute = |name| attributes.and_then(|attributes| entry(attributes, row, name));
        let contact_name = attribute("contact_name").or_else(|| text("caller_name", row))?;
        let manager = attribute("manager").or_else(|| text("endpoint", row));
        Some(Contact { contact_name, manager })
    });
    named.collect()
}

fn entry(attributes: &MapArray, row: usize, name: &str) -> Option<String> {
    if attributes.is_null(row) {
        return None;
    }
    let entries = attributes.value(row);
    let keys = entries.column(0).as_string_opt::<i32>()?;
    let values = entries.column(1).as_string_opt::<i32>()?;
    let at = (0..keys.len()).find(|at| keys.value(*at) == name)?;
    (values.is_valid(at) && !values.value(at).is_empty()).then(|| values.value(at).to_owned())
}
