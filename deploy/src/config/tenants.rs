//! What is written for one tenant, or for all, over what held before.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trunklog_ingest::fetch::is_entry;
use trunklog_ingest::settings::{RecordCalls, RecordFormat, TenantSettings};
use trunklog_storage::event::{Micros, Source};

use super::contacts;
use super::written::{Format, Record, Tenant, Timeout};

/// What is written for a tenant, over what holds for all: maps key by key, everything else as a whole. An error
/// begins with the key at fault, without `section`.
pub fn merged(own: &Tenant, mut merged: TenantSettings, base: &Path, section: &str) -> Result<TenantSettings, String> {
    answerable(own)?;
    if let Some(country) = &own.country {
        merged.country = Some(country.0.clone());
    }
    if let Some(zone) = own.time_zone {
        merged.time_zone = Some(zone.0);
    }
    if let Some(accounts) = &own.kazoo.accounts {
        merged.kazoo_accounts = accounts.clone();
    }
    if let Some(record) = &own.kazoo.record {
        merged.kazoo_record = recorded(record, merged.kazoo_record)?;
    }
    if let Some(entries) = &own.fetch.allow {
        fetchable(entries)?;
        merged.fetch_allow = entries.clone();
    }
    if let Some(file) = &own.planfix.contacts {
        let file = base.join(file);
        let read = contacts::read(&file).map_err(|reason| format!("planfix.contacts: {}: {reason}", file.display()))?;
        if read.is_none() {
            tracing::warn!("{section}.planfix.contacts: {} not found, no contacts until SIGHUP", file.display());
        }
        merged.planfix_contacts = Arc::new(read.unwrap_or_default());
    }
    merged.kazoo_callflow.extend(own.kazoo.callflow.clone());
    merged.placetel_answer.extend(own.placetel.answer.clone());
    merged.voispeed_ivr.extend(own.voispeed.ivr.clone());
    merged.voispeed_alias.extend(own.voispeed.alias.clone());
    merged.timeouts.extend(timeouts(&own.timeout));
    merged.ringing_timeout = own.timeout.placetel_ringing.map(|span| span.micros()).or(merged.ringing_timeout);
    Ok(merged)
}

/// Refuses what a telephone system could not be answered with.
fn answerable(own: &Tenant) -> Result<(), String> {
    for (number, flow) in &own.kazoo.callflow {
        if flow.get("module").and_then(serde_json::Value::as_str).is_none_or(str::is_empty) {
            return Err(format!("kazoo.callflow.{number:?}: a call flow is a table with a `module`"));
        }
    }
    match own.placetel.answer.iter().find(|(_, answer)| answer.trim().is_empty()) {
        Some((number, _)) => Err(format!("placetel.answer.{number:?}: must not be empty, write \"<Response/>\"")),
        None => Ok(()),
    }
}

/// Refuses what is no host to fetch from, a mark that is misspelt above all.
fn fetchable(entries: &[String]) -> Result<(), String> {
    let is_right = |entry: &&String| is_entry(entry) && !entry.trim_end_matches("!private").contains('!');
    match entries.iter().find(|entry| !is_right(entry)) {
        Some(entry) => Err(format!(
            "fetch.allow: {entry:?} is no host; write \"pbx.acme.example\", \"*.acme.example\" or \
             \"pbx.acme.example:8443\", with \"!private\" at the end for one inside your own network"
        )),
        None => Ok(()),
    }
}

/// `kazoo.record` over that of all tenants; `None` where it is switched off.
fn recorded(own: &Record, before: Option<RecordCalls>) -> Result<Option<RecordCalls>, String> {
    let before = before.unwrap_or_default();
    let time_limit_seconds = match own.time_limit {
        None => before.time_limit_seconds,
        Some(span) if span.0 >= Duration::from_secs(1) && span.0.subsec_nanos() == 0 => span.0.as_secs(),
        Some(_) => return Err("kazoo.record.time_limit: must be whole seconds, at least 1s".to_owned()),
    };
    let format = own.format.map_or(before.format, |format| match format {
        Format::Mp3 => RecordFormat::Mp3,
        Format::Wav => RecordFormat::Wav,
    });
    let caller_only = own.caller_only.unwrap_or(before.caller_only);
    let record = RecordCalls { format, time_limit_seconds, caller_only };
    Ok(own.enabled.unwrap_or(true).then_some(record))
}

fn timeouts(written: &Timeout) -> impl Iterator<Item = (Source, Micros)> {
    let by_source = [
        (Source::Kazoo, written.kazoo),
        (Source::Virtualpbx, written.virtualpbx.or(written.kazoo)),
        (Source::Placetel, written.placetel),
        (Source::Voispeed, written.voispeed),
        (Source::Planfix, written.planfix),
    ];
    by_source.into_iter().filter_map(|(source, span)| Some((source, span?.micros())))
}
