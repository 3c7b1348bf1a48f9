//! The files: read, their placeholders filled, and turned into what the tests send and expect.

use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use trunklog_storage::event::{Event, Micros, Source, call_id, format_time};
use trunklog_storage::recording::message::{UPLOAD_TYPE, Upload};

/// 2026-01-02T03:04:05Z, when every scenario starts.
pub const START: Micros = 1_767_323_045_000_000;
/// Seconds from year 0, from which Kazoo counts, to 1970.
const GREGORIAN_TO_UNIX: i64 = 62_167_219_200;
/// Rome in winter.
const ROME_HOURS: i64 = 1;

/// One file.
pub struct Scenario {
    pub name: String,
    pub source: Source,
    /// The order counts.
    pub as_sent: bool,
    pub messages: Vec<Message>,
    /// As written.
    pub calls: Vec<Value>,
}

/// One request.
pub struct Message {
    /// Receipt.
    pub at: Micros,
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    pub content_type: Option<String>,
    pub body: String,
}

impl Scenario {
    /// All files of all sources.
    pub fn all() -> Vec<Scenario> {
        Source::PBX.into_iter().flat_map(|source| Scenario::of_source(source.as_str())).collect()
    }

    /// All files of one source, by name.
    #[track_caller]
    pub fn of_source(source: &str) -> Vec<Scenario> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/scenarios").join(source);
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "no scenarios in {}", folder.display());
        files.iter().map(|file| Scenario::read(file, source)).collect()
    }

    fn read(file: &Path, source: &str) -> Scenario {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(file).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_eq!(json["source"], source, "{}", file.display());
        let messages = json["messages"].as_array().unwrap();
        assert!(!messages.is_empty(), "{} has no messages", file.display());
        Scenario {
            name,
            source: Source::parse(source).unwrap(),
            as_sent: json["order"] == "sent",
            messages: messages.iter().map(Message::read).collect(),
            calls: json["calls"].as_array().unwrap().clone(),
        }
    }

    /// Whether audio is uploaded, which has no way but its own route.
    pub fn uploads(&self) -> bool {
        self.messages.iter().any(Message::is_upload)
    }

    /// The expected rows in a tenant's archive: times as times, related calls by our ids.
    pub fn rows(&self, tenant: &str) -> Vec<Value> {
        self.calls.iter().map(|call| expected("", call, tenant, self.source)).collect()
    }

    /// The event of one message as its route makes it.
    pub fn event(&self, index: usize, tenant: &str) -> Event {
        let message = &self.messages[index];
        let (content_type, payload) = message.stored();
        Event {
            id: format!("{}-{}-{index}", self.source, self.name).into(),
            tenant: tenant.into(),
            source: self.source,
            kind: message.kind(self.source).into(),
            received_at: message.at,
            subject: None,
            structured: false,
            method: Some(message.method.as_str().into()),
            path: Some(message.path.as_str().into()),
            query: message.query.as_deref().map(Into::into),
            headers: Default::default(),
            content_type: content_type.map(Into::into),
            error: None,
            payload: payload.into(),
        }
    }

    /// The same message as a line of a bulk load.
    pub fn cloud_event(&self, index: usize) -> Value {
        let message = &self.messages[index];
        let mut event = json!({
            "specversion": "1.0", "id": format!("{}-{}-{index}", self.source, self.name),
            "source": self.source.as_str(), "type": message.kind(self.source), "time": format_time(message.at),
            "method": message.method, "path": message.path, "query": message.query.clone().unwrap_or_default(),
        });
        if !message.body.is_empty() {
            event["datacontenttype"] = json!(message.content_type);
            event["data"] = json!(message.body);
        }
        event
    }
}

impl Message {
    fn read(json: &Value) -> Message {
        let content_type = json["type"].as_str().map(str::to_owned);
        let is_xml = content_type.as_deref() == Some("text/xml");
        let text = |field: &str| filled(json[field].as_str().unwrap_or_default(), is_xml && field == "body");
        let target = text("path");
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (target, None),
        };
        let at = START + micros(json["at"].as_f64().unwrap());
        Message { at, method: text("method"), path, query, content_type, body: text("body") }
    }

    /// Path and query.
    pub fn target(&self) -> String {
        self.query.as_ref().map_or_else(|| self.path.clone(), |query| format!("{}?{query}", self.path))
    }

    pub fn is_upload(&self) -> bool {
        self.path.contains("/recordings/")
    }

    /// The type under which the route hands the message on.
    fn kind(&self, source: Source) -> String {
        let path = self.path.as_str();
        let name = match path.rsplit('/').next().unwrap() {
            _ if self.is_upload() => "recording",
            "placetel" => "notify",
            "planfix" => "post",
            "report" => self.query.as_deref().unwrap().strip_prefix("service=get_").unwrap(),
            name @ ("pivot" | "hook" | "debug" | "event" | "ivr") => name,
            _ => panic!("no route for `{path}`"),
        };
        format!("{source}.{name}")
    }

    /// Content type and payload as they are stored.
    fn stored(&self) -> (Option<String>, Vec<u8>) {
        if !self.is_upload() {
            return (self.content_type.clone(), self.body.clone().into_bytes());
        }
        let digest = Sha256::digest(&self.body);
        let upload = Upload {
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            bytes: self.body.len() as u64,
            object: "recordings/acme/none".to_owned(),
            media_type: self.content_type.clone(),
            name: None,
            metadata: None,
        };
        (Some(UPLOAD_TYPE.to_owned()), serde_json::to_vec(&upload).unwrap())
    }

    /// What its own route takes: a report row stands in an answer.
    pub fn sent(&self) -> Vec<u8> {
        if self.path.ends_with("/report") {
            return format!("<result><outcome>0</outcome>{}</result>", self.body).into_bytes();
        }
        self.body.clone().into_bytes()
    }
}

/// Times in place of `{gregorian+8}` and `{local+8}`.
fn filled(text: &str, is_xml: bool) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(start) = ["{gregorian+", "{local+"].iter().filter_map(|mark| rest.find(mark)).min() {
        let (before, placeholder) = rest.split_at(start);
        let (inside, after) = placeholder[1..].split_once('}').unwrap();
        let (clock, seconds) = inside.split_once('+').unwrap();
        let unix = START / 1_000_000 + seconds.parse::<i64>().unwrap();
        filled.push_str(before);
        filled.push_str(&if clock == "gregorian" {
            (unix + GREGORIAN_TO_UNIX).to_string()
        } else {
            rome(unix, is_xml)
        });
        rest = after;
    }
    filled + rest
}

fn rome(unix: i64, is_xml: bool) -> String {
    let local = DateTime::<Utc>::from_timestamp(unix, 0).unwrap() + TimeDelta::hours(ROME_HOURS);
    local.format(if is_xml { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%d+%H:%M:%S" }).to_string()
}

fn micros(seconds: f64) -> Micros {
    (seconds * 1e6).round() as Micros
}

/// A value as it is to be shown; `column` is the one that it stands in.
fn expected(column: &str, value: &Value, tenant: &str, source: Source) -> Value {
    match value {
        Value::Object(columns) => {
            let mut shown = Map::new();
            for (name, value) in columns {
                if name == "related_keys" {
                    shown.insert("related_calls".to_owned(), related(value, tenant, source));
                } else {
                    shown.insert(name.clone(), expected(name, value, tenant, source));
                }
            }
            Value::Object(shown)
        }
        Value::Array(values) => values.iter().map(|value| expected(column, value, tenant, source)).collect(),
        Value::String(offset) if column.ends_with("_at") => {
            json!(format_time(START + micros(offset.strip_prefix('+').unwrap().parse().unwrap())))
        }
        other => other.clone(),
    }
}

fn related(keys: &Value, tenant: &str, source: Source) -> Value {
    let keys = keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap());
    let mut ids: Vec<String> = keys.map(|key| call_id(tenant, source, key).into_string()).collect();
    ids.sort();
    json!(ids)
}
