//! The search for secrets: in every file, in every column, in what was logged.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// A secret in every form in which it could have been kept.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    /// A key: itself, percent-encoded, and as the password of HTTP Basic.
    pub fn token(&mut self, token: &str) {
        self.text("token", token);
        if let Some(bare) = token.strip_prefix("tlk_") {
            self.text("token without prefix", bare);
        }
        self.text("token, percent-encoded", &token.replace('_', "%5F"));
        self.text("token, percent-encoded in lower case", &token.replace('_', "%5f"));
        for user in ["pbx", ""] {
            self.text("Basic", STANDARD.encode(format!("{user}:{token}")).trim_end_matches('='));
        }
        self.text("token in base64", &STANDARD_NO_PAD.encode(token));
        self.text("token in base64url", &URL_SAFE_NO_PAD.encode(token));
    }

    /// A signature or shared secret, as it was used.
    pub fn text(&mut self, name: &str, text: &str) {
        self.0.push((name.to_owned(), text.as_bytes().to_vec()));
    }

    /// Which secrets these bytes contain.
    pub fn found_in(&self, bytes: &[u8]) -> Vec<&str> {
        self.0.iter().filter(|(_, secret)| contains(bytes, secret)).map(|(name, _)| name.as_str()).collect()
    }

    /// Every file below the folder that contains a secret.
    pub fn found_below(&self, folder: &Path) -> Vec<String> {
        let mut problems = Vec::new();
        for path in files_below(folder) {
            // A file that compaction has just removed holds nothing any more.
            let bytes = std::fs::read(&path).unwrap_or_default();
            problems.extend(self.found_in(&bytes).iter().map(|name| format!("{}: {name}", path.display())));
        }
        problems
    }

    /// Every value that contains a secret; text that is base64 (binary columns) is looked into as well.
    pub fn found_in_value(&self, place: &str, value: &Value) -> Vec<String> {
        match value {
            Value::String(text) => {
                let mut found = self.found_in(text.as_bytes());
                let bytes = STANDARD.decode(text).unwrap_or_default();
                found.extend(self.found_in(&bytes));
                found.iter().map(|name| format!("{place}: {name}")).collect()
            }
            Value::Array(items) => items.iter().flat_map(|item| self.found_in_value(place, item)).collect(),
            Value::Object(fields) => {
                let fields = fields.iter();
                fields.flat_map(|(name, item)| self.found_in_value(&format!("{place}.{name}"), item)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Every regular file below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files
}

fn contains(bytes: &[u8], secret: &[u8]) -> bool {
    let Some(&first) = secret.first() else { return false };
    let mut start = 0;
    while let Some(found) = bytes[start..].iter().position(|&byte| byte == first) {
        start += found;
        if bytes[start..].starts_with(secret) {
            return true;
        }
        start += 1;
    }
    false
}
