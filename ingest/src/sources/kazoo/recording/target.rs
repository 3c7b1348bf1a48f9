//! What the URL of an upload, and the document that may come with it, say about a recording. Pure.
//!
//! The file name is the last segment of the path, or stands in the query; versions of Kazoo differ, and all are taken.
//! Nothing in here is ever used as a path.

use serde_json::Value;
use trunklog_storage::event::{Micros, Source};
use trunklog_storage::fact::MAX_KEY_BYTES;
use uuid::Uuid;

use super::super::clock;
use crate::form::{Form, lenient_pairs};
use crate::sources::values::milliseconds;

/// What Kazoo puts before the call id.
const PREFIX: &str = "call_recording_";
/// What the PBX writes and reads back when a storage plan is set up.
const CREDENTIAL_TEST: &str = "_test_credentials_file";
/// File names are cut to this.
const MAX_NAME_BYTES: usize = 255;
/// An extension is no longer than this.
const MAX_EXTENSION_BYTES: usize = 5;
/// A year and a day in milliseconds: no recording is longer.
const MAX_DURATION_MS: i64 = 366 * 24 * 3600 * 1000;

/// Where the facts about an upload stand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent<'a> {
    /// What follows `/recordings/` in the path, percent-encoded.
    pub path: &'a str,
    /// The query, percent-encoded; it may hold a second literal `?`.
    pub query: Option<&'a str>,
    /// The document that came with the audio: used where the URL says nothing.
    pub metadata: Option<&'a Value>,
    /// Decoded name of the part with the audio: used where the URL has none.
    pub part_name: Option<&'a str>,
    /// When it came; the sender's times are held against it.
    pub received_at: Micros,
}

/// What is said about a recording. What is missing or empty is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// File name, decoded and harmless; empty if there is none.
    pub name: String,
    /// The A-leg's call id, however long.
    pub call_id: Option<String>,
    /// SIP `user@realm`.
    pub from: Option<String>,
    /// SIP `user@realm`.
    pub to: Option<String>,
    /// Name of the caller.
    pub caller_id_name: Option<String>,
    /// Number of the caller.
    pub caller_id_number: Option<String>,
    /// `YYYYMM-<call_id>`.
    pub cdr_id: Option<String>,
    /// What all legs of a conversation have in common.
    pub interaction_id: Option<String>,
    /// Asserted by the sender.
    pub account_id: Option<String>,
    /// What may be an account in the path of a storage plan; one of them may be the owner instead.
    pub path_accounts: Vec<String>,
    /// The user who was recorded.
    pub owner_id: Option<String>,
    /// When the recording began.
    pub start: Option<Micros>,
    /// Its length.
    pub duration_ms: Option<i64>,
    /// The sender's id of it.
    pub recording_id: Option<String>,
    /// The conference that was recorded.
    pub conference_id: Option<String>,
    /// Whether it was one, as sent.
    pub conference_recording: Option<String>,
}

impl Target {
    /// Reads all of it.
    pub fn of(sent: &Sent<'_>) -> Target {
        let query = lenient_pairs(sent.query.unwrap_or_default().replace('?', "&").as_bytes());
        let document = sent.metadata.and_then(|document| Form::of_json(document.clone()).ok()).unwrap_or_default();
        let document = &document.into_pairs()[..];
        let value = |name: &str| last(&query, name).or_else(|| last(document, name));
        let file = File::find(sent, &query, document);
        Target {
            name: harmless(&file.name),
            call_id: file.call_id(last(&query, "call_id"), || last(document, "call_id")),
            from: value("from"),
            to: value("to"),
            caller_id_name: value("caller_id_name"),
            caller_id_number: value("caller_id_number"),
            cdr_id: value("cdr_id"),
            interaction_id: value("interaction_id"),
            account_id: value("account_id").or_else(|| last(document, "pvt_account_id")),
            path_accounts: path_accounts(sent.path),
            owner_id: value("owner_id"),
            start: value("start").and_then(|text| clock::gregorian(&text, sent.received_at)),
            duration_ms: value("duration_ms")
                .and_then(|text| length(&text))
                .or_else(|| last(document, "duration").and_then(|text| milliseconds(&text))),
            recording_id: value("recording_id")
                .or_else(|| last(document, "_id"))
                .or_else(|| last(document, "id"))
                .or_else(|| document_id(sent.path)),
            conference_id: value("conference_id"),
            conference_recording: value("conference_recording"),
        }
    }

    /// The call id, if it is short enough for a key.
    pub fn call_key(&self) -> Option<&str> {
        self.call_id.as_deref().filter(|id| id.len() <= MAX_KEY_BYTES)
    }

    /// What the recording's identity rests on: its call, else where it was uploaded to.
    pub fn key_or<'a>(&'a self, path: &'a str) -> &'a str {
        self.call_key().unwrap_or(path)
    }
}

/// What follows `/recordings/` in the path of a request, as sent.
pub(super) fn below(path: &str, source: Source) -> &str {
    let route = format!("/{source}/recordings");
    let rest = path.split_once(route.as_str()).map_or("", |(_, rest)| rest);
    rest.strip_prefix('/').unwrap_or(rest)
}

/// The same with the query: the name under which an upload is read back.
pub(super) fn uploaded_as(path: &str, query: Option<&str>) -> String {
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

/// A file name that harms nobody who uses it as one: no separators, no control characters, nothing that turns the
/// direction of writing, at most 255 bytes.
pub(super) fn harmless(name: &str) -> String {
    let only_dots = name.chars().all(|letter| letter == '.');
    let harmful = |letter: char| {
        letter.is_control()
            || matches!(letter, '/' | '\\' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut safe: String = name.chars().map(|letter| if only_dots || harmful(letter) { '_' } else { letter }).collect();
    safe.truncate(safe.floor_char_boundary(MAX_NAME_BYTES));
    safe
}

/// The last value of this name that is not empty: the PBX appends its fields to those of the configured URL.
fn last(pairs: &[(String, String)], name: &str) -> Option<String> {
    let found = pairs.iter().rev().find(|(key, value)| key == name && !value.is_empty());
    found.map(|(_, value)| value.clone())
}

fn length(text: &str) -> Option<i64> {
    text.trim().parse::<i64>().ok().filter(|length| (0..=MAX_DURATION_MS).contains(length))
}

/// The segments of a path from its end; slashes may be doubled.
fn from_end(path: &str) -> impl Iterator<Item = &str> {
    path.rsplit('/').filter(|segment| !segment.is_empty())
}

/// Storage plans upload to `{prefix}/{account}/[{owner}/]{document}/{attachment}`: what stands where the account may.
fn path_accounts(path: &str) -> Vec<String> {
    if document_id(path).is_none() {
        return Vec::new();
    }
    let is_account = |segment: &&str| segment.len() == 32 && segment.bytes().all(|byte| byte.is_ascii_hexdigit());
    from_end(path).skip(2).take(2).filter(is_account).map(str::to_owned).collect()
}

/// The document of a storage plan is the recording's.
fn document_id(path: &str) -> Option<String> {
    let segment = from_end(path).nth(1)?;
    let (month, id) = segment.split_once('-')?;
    let is_month = month.len() == 6 && month.bytes().all(|byte| byte.is_ascii_digit());
    let is_id = id.len() >= 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_month && is_id).then(|| segment.to_owned())
}

/// How sure it is that a file is named after its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// The vendor says so.
    AfterCall,
    /// Only if it looks like a call id.
    Perhaps,
}

/// The file name as sent, decoded.
struct File {
    name: String,
    named: Named,
}

impl File {
    fn find(sent: &Sent<'_>, query: &[(String, String)], document: &[(String, String)]) -> File {
        let segment = sent.path.rsplit('/').find(|segment| !segment.is_empty()).unwrap_or_default();
        let segment = percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned();
        if segment.starts_with(PREFIX) {
            return File { name: segment, named: Named::AfterCall };
        }
        if let Some(name) = query.iter().find_map(|(name, value)| name_in_query(name, value)) {
            return File { name: name.to_owned(), named: Named::AfterCall };
        }
        // The vendor's receiver is a script that gets `CALL_ID.EXT` in this field.
        let is_script = segment.to_ascii_lowercase().ends_with(".php");
        let in_field = last(query, "recording").filter(|name| split(name).1.is_some());
        if let Some(name) = in_field.filter(|_| is_script || split(&segment).1.is_none()) {
            let named = if is_script { Named::AfterCall } else { Named::Perhaps };
            return File { name, named };
        }
        let elsewhere = || sent.part_name.map(str::to_owned).or_else(|| last(document, "name")).unwrap_or_default();
        let name = if segment.is_empty() { elsewhere() } else { segment };
        File { named: Named::Perhaps, name }
    }

    /// The field wins; then a name that is surely the call's, the document, and a name that looks like a call id.
    fn call_id(&self, in_query: Option<String>, in_document: impl Fn() -> Option<String>) -> Option<String> {
        let (stem, _) = split(&self.name);
        let (stem, prefixed) = stem.strip_prefix(PREFIX).map_or((stem, false), |stem| (stem, true));
        let certain = (prefixed || self.named == Named::AfterCall) && !stem.is_empty();
        let stem_if = |holds: bool| holds.then(|| stem.to_owned());
        in_query
            .or_else(|| stem_if(certain))
            .or_else(in_document)
            .or_else(|| stem_if(!certain && looks_like_call_id(stem)))
    }
}

/// The file name in one field of the query: under any name, as the name of a field without a value, or behind a
/// slash where a PBX appended it to a URL that had a query already.
fn name_in_query<'a>(name: &'a str, value: &'a str) -> Option<&'a str> {
    let bare = if value.is_empty() { name } else { value };
    let appended = bare.rsplit('/').next().unwrap_or_default();
    [bare, appended].into_iter().find(|text| text.starts_with(PREFIX))
}

/// The name before its last dot, or dots, and the extension behind it. What is too long or only digits is none:
/// call ids often end in an address.
fn split(name: &str) -> (&str, Option<&str>) {
    let is_extension = |text: &str| {
        (1..=MAX_EXTENSION_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && text.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    match name.rsplit_once('.') {
        Some((stem, extension)) if is_extension(extension) => (stem.trim_end_matches('.'), Some(extension)),
        _ => (name.trim_end_matches('.'), None),
    }
}

/// Without the prefix a name need not be a call's. FreeSWITCH makes UUIDs, carriers long ids, many with a host.
fn looks_like_call_id(stem: &str) -> bool {
    if stem.ends_with(CREDENTIAL_TEST) {
        return false;
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let count = |wanted: fn(&u8) -> bool| stem.bytes().filter(wanted).count();
    let long = stem.len() >= 16 && stem.bytes().all(plain);
    let varied = count(u8::is_ascii_hexdigit) >= 8 && count(u8::is_ascii_digit) >= 1;
    (stem.contains('@') && stem.len() > 2) || Uuid::try_parse(stem).is_ok() || (long && varied)
}
