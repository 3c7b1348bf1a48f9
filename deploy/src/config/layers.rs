//! The layers of the configuration: what nodes share, then file, then environment, then flags; and where each value came
//! from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::written::Written;
use super::{ConfigError, KEYS};

/// Environment variables that start alike but are read elsewhere, or are set by others: by `trunklog sql` and its
/// like, by Kubernetes for a service called `trunklog`, and by what tests this binary.
const OTHER_VARIABLES: [&str; 4] = ["TRUNKLOG_CONFIG", "TRUNKLOG_URL", "TRUNKLOG_KEY", "TRUNKLOG_TABLES"];
const OTHER_PREFIXES: [&str; 5] =
    ["TRUNKLOG_SERVICE_", "TRUNKLOG_PORT", "TRUNKLOG_TEST", "TRUNKLOG_BENCH", "TRUNKLOG_BIN"];

/// Where nodes share settings, in the bucket.
pub const SHARED_FILE: &str = "config/settings.toml";
/// What they may share.
const SHARED: [&str; 3] = ["defaults", "tenants", "public_url"];

/// All layers put together, with the origin of each value by its dotted key.
#[derive(Debug, Default)]
pub struct Layers {
    pub values: Table,
    pub origins: BTreeMap<String, String>,
    /// Relative paths in the file are relative to it.
    pub file: Option<PathBuf>,
}

impl Layers {
    /// Reads the file, if one is named. An unknown key is an error that names the key and its line.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let wrong = |error: toml::de::Error| ConfigError::File { path: path.to_owned(), reason: error.to_string() };
        toml::from_str::<Written>(&text).map_err(wrong)?;
        let table: Table = toml::from_str(&text).map_err(wrong)?;
        self.add(table, &path.display().to_string());
        self.file = Some(path.to_owned());
        Ok(())
    }

    /// Reads what nodes share, which may say only what changes without a restart.
    pub fn read_shared(&mut self, text: &str) -> Result<(), ConfigError> {
        let wrong = |reason: String| ConfigError::File { path: PathBuf::from(SHARED_FILE), reason };
        toml::from_str::<Written>(text).map_err(|error| wrong(error.to_string()))?;
        let table: Table = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if let Some(key) = table.keys().find(|key| !SHARED.contains(&key.as_str())) {
            return Err(wrong(format!("`{key}` is for each node's own file; nodes share {}", SHARED.join(", "))));
        }
        self.add(table, SHARED_FILE);
        Ok(())
    }

    /// Takes `TRUNKLOG_<KEY>` for every key outside the tenants' part; `log.segment_bytes` is
    /// `TRUNKLOG_LOG_SEGMENT_BYTES`, librdkafka's `sasl.password` is `TRUNKLOG_KAFKA_OPTIONS_SASL_PASSWORD`. A variable
    /// that names no key is an error.
    pub fn read_environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Result<(), ConfigError> {
        for (name, text) in variables.filter(|(name, _)| name.starts_with("TRUNKLOG_")) {
            let other = OTHER_VARIABLES.contains(&name.as_str())
                || OTHER_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            if let Some((section, option)) = option_of(&name) {
                self.add(nest(section, Value::Table(Table::from_iter([(option, Value::String(text))]))), &name);
                continue;
            }
            let key = KEYS.into_iter().find(|key| variable_of(key) == name);
            match key {
                Some(key) => self.set(key, scalar(&text), &name)?,
                None if other => {}
                None => return Err(ConfigError::Variable(name)),
            }
        }
        Ok(())
    }

    /// Sets one key from a flag or a variable; a value that cannot be is refused here, so that the error names it.
    pub fn set(&mut self, key: &str, value: Value, origin: &str) -> Result<(), ConfigError> {
        let table = nest(key, value);
        let checked: Result<Written, _> = Value::Table(table.clone()).try_into();
        if let Err(error) = checked {
            return Err(ConfigError::Value { origin: origin.to_owned(), reason: error.message().to_owned() });
        }
        self.add(table, origin);
        Ok(())
    }

    fn add(&mut self, table: Table, origin: &str) {
        record(&table, "", origin, &mut self.origins);
        merge(&mut self.values, table);
    }

    /// The written form of all layers.
    pub fn written(&self) -> Result<Written, ConfigError> {
        Value::Table(self.values.clone()).try_into().map_err(|error: toml::de::Error| ConfigError::Value {
            origin: "configuration".into(),
            reason: error.message().to_owned(),
        })
    }

    /// Where the value of this key came from.
    pub fn origin(&self, key: &str) -> &str {
        self.origins.get(key).map_or("default", String::as_str)
    }
}

/// The environment variable of a key.
fn variable_of(key: &str) -> String {
    format!("TRUNKLOG_{}", key.replace('.', "_").to_ascii_uppercase())
}

/// The setting of a library that a variable names, and where it belongs. Names of librdkafka have dots, those of
/// `object_store` underscores.
fn option_of(variable: &str) -> Option<(&'static str, String)> {
    let after = |prefix| variable.strip_prefix(prefix).map(str::to_ascii_lowercase).filter(|name| !name.is_empty());
    let of_kafka = after("TRUNKLOG_KAFKA_OPTIONS_").map(|name| ("kafka.options", name.replace('_', ".")));
    of_kafka.or_else(|| after("TRUNKLOG_STORE_OPTIONS_").map(|name| ("store.options", name)))
}

fn scalar(text: &str) -> Value {
    match (text, text.parse::<i64>()) {
        ("true", _) => Value::Boolean(true),
        ("false", _) => Value::Boolean(false),
        (_, Ok(number)) => Value::Integer(number),
        _ => Value::String(text.to_owned()),
    }
}

fn nest(key: &str, value: Value) -> Table {
    let mut table = Table::new();
    match key.split_once('.') {
        Some((section, rest)) => table.insert(section.to_owned(), Value::Table(nest(rest, value))),
        None => table.insert(key.to_owned(), value),
    };
    table
}

/// Tables are merged key by key, everything else is replaced.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

fn record(table: &Table, prefix: &str, origin: &str, origins: &mut BTreeMap<String, String>) {
    for (key, _) in flatten(table, prefix) {
        origins.insert(key, origin.to_owned());
    }
}

/// Every value of a table by its dotted key. A call flow is one value, however deep it is, and so is an empty table,
/// whose presence alone may say something.
pub fn flatten(table: &Table, prefix: &str) -> Vec<(String, Value)> {
    let mut entries = Vec::new();
    for (key, value) in table {
        let bare = !key.is_empty() && key.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter));
        let key = if bare { key.clone() } else { format!("{key:?}") };
        let dotted = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) if !inner.is_empty() && !prefix.ends_with("kazoo.callflow") => {
                entries.extend(flatten(inner, &dotted))
            }
            value => entries.push((dotted, value.clone())),
        }
    }
    entries
}
