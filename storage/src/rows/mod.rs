//! Rows to Arrow: calls, recordings and events as record batches in the tables' schemas.

mod calls;
mod events;
mod recordings;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int64Array, ListBuilder, MapBuilder, MapFieldNames, RecordBatch, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, SchemaRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::CallState;
use crate::error::Error;
use crate::event::{Id, Micros, Source, format_time};
use crate::fact::Decoder;
use crate::recording::RecordingState;

pub(crate) use events::{events, stored_events};

pub use calls::ShownCall;
pub use events::LoggedEvent;

/// A state with its keys, as the fold and the tail hold it.
#[derive(Clone, Debug)]
pub struct Keyed<S> {
    /// Tenant.
    pub tenant: Arc<str>,
    /// Source.
    pub source: Source,
    /// Our id.
    pub id: Id,
    /// The source's key; of a recording its id.
    pub key: Arc<str>,
    /// Home day, in days since 1970-01-01.
    pub day: i32,
    /// What is known.
    pub state: Arc<S>,
}

/// The tier of rows that are all there is of a call or recording.
pub(crate) const FINAL: &str = "final";
/// The tier of rows that are to be merged with others of the same id.
pub(crate) const PART: &str = "part";
/// The tier of rows that are whole but not shown: of calls that became legs of others.
const LEG_TIER: &str = "leg";
/// Most states take no more.
const USUAL_STATE_BYTES: usize = 512;

impl<S: Clone> Keyed<S> {
    /// One that shares no memory with this one.
    pub(crate) fn copied(&self) -> Keyed<S> {
        let copy = |text: &Arc<str>| Arc::from(&**text);
        let (tenant, id, key) = (copy(&self.tenant), self.id.clone(), copy(&self.key));
        Keyed { tenant, source: self.source, id, key, day: self.day, state: Arc::new(S::clone(&self.state)) }
    }
}

/// A call with its key.
pub type KeyedCall = Keyed<CallState>;
/// A recording with its id.
pub type KeyedRecording = Keyed<RecordingState>;

/// A semilattice whose states are the rows of a table.
pub trait State: Clone + Default + std::fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The column of our id.
    const ID: &'static str;
    /// The column of the source's key.
    const KEY: &'static str;

    /// The column of the time by which stored rows are sorted.
    const TIME: &'static str;

    /// What is shown of one, for who does not want columns.
    type Shown: Clone + std::fmt::Debug + Send + Sync + 'static;

    /// Least upper bound.
    fn join(&mut self, other: Self);

    /// The value of that column.
    fn time(keyed: &Keyed<Self>) -> Option<Micros>;

    /// The table's schema as SQL shows it.
    fn schema() -> SchemaRef;

    /// The table's schema as stored: with `fold`, `day` and `tier`.
    fn stored_schema() -> SchemaRef;

    /// What is shown of this one.
    fn show(keyed: &Keyed<Self>, decoder: &dyn Decoder) -> Self::Shown;

    /// Whether it is not shown, because it became part of another one.
    fn is_hidden(&self) -> bool {
        false
    }

    /// Looks at its parts, wherever they lie, so that they come from memory side by side with those of others. What is
    /// given says nothing.
    fn fetch(&self) -> usize {
        0
    }

    /// Stored columns between those that SQL shows and `fold`.
    fn hidden(_items: &[Keyed<Self>]) -> Vec<ArrayRef> {
        Vec::new()
    }

    /// The columns as SQL shows them, in the schema's order.
    ///
    /// # Errors
    /// If a column cannot be built, which would be a defect.
    fn columns(items: &[Keyed<Self>], decoder: &dyn Decoder) -> Result<Vec<ArrayRef>, Error>;
}

/// Rows as SQL shows them.
///
/// # Errors
/// If rows cannot be made, which would be a defect.
pub fn shown<S: State>(items: &[Keyed<S>], decoder: &dyn Decoder) -> Result<RecordBatch, Error> {
    Ok(RecordBatch::try_new(crate::schema::bare(&S::schema()), S::columns(items, decoder)?)?)
}

/// Rows as stored, with state, day and tier.
pub(crate) fn stored<S: State>(items: &[Keyed<S>], tier: &str, decoder: &dyn Decoder) -> Result<RecordBatch, Error> {
    let mut columns = S::columns(items, decoder)?;
    columns.extend(S::hidden(items));
    let mut folds = BinaryBuilder::with_capacity(items.len(), items.len() * USUAL_STATE_BYTES);
    let mut fold = Vec::with_capacity(USUAL_STATE_BYTES);
    for item in items {
        fold.clear();
        encode_into(&mut fold, &*item.state)?;
        folds.append_value(&fold);
    }
    columns.push(Arc::new(folds.finish()));
    columns.push(days(items.iter().map(|item| item.day)));
    let tier_of = |item: &Keyed<S>| if tier == FINAL && item.state.is_hidden() { LEG_TIER } else { tier };
    let tiers: Vec<&str> = items.iter().map(tier_of).collect();
    columns.push(texts(tiers.into_iter().map(Some)));
    Ok(RecordBatch::try_new(crate::schema::bare(&S::stored_schema()), columns)?)
}

/// The `fold` column: MessagePack with field names, so that a state may grow fields.
fn encode_into<S: State>(bytes: &mut Vec<u8>, state: &S) -> Result<(), Error> {
    let written = rmp_serde::encode::write_named(bytes, state);
    written.map_err(|error| Error::Corrupt(format!("a state cannot be written: {error}")))
}

/// Reads a `fold` column.
pub(crate) fn decode_state<S: State>(bytes: &[u8]) -> Result<S, Error> {
    rmp_serde::from_slice(bytes).map_err(|error| Error::Corrupt(format!("a stored state cannot be read: {error}")))
}

fn times(values: impl Iterator<Item = Option<Micros>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter(values).with_timezone("UTC"))
}

/// Texts; their lengths are added up first, so that the buffer need not grow.
fn texts<'a>(values: impl Iterator<Item = Option<&'a str>> + Clone) -> ArrayRef {
    let (rows, bytes) = values.clone().fold((0, 0), |(rows, bytes), text| (rows + 1, bytes + text.map_or(0, str::len)));
    let mut builder = StringBuilder::with_capacity(rows, bytes);
    values.for_each(|text| builder.append_option(text));
    Arc::new(builder.finish())
}

/// Names of days; of neighbours on the same day it is made once.
fn days(days: impl ExactSizeIterator<Item = i32>) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(days.len(), 10 * days.len());
    let (mut last, mut name) = (None, String::new());
    for day in days {
        if last != Some(day) {
            (last, name) = (Some(day), day_name(day));
        }
        builder.append_value(&name);
    }
    Arc::new(builder.finish())
}

fn wholes(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(Int64Array::from_iter(values))
}

fn maps<'a, M, K, V>(values: impl Iterator<Item = M>) -> Result<ArrayRef, Error>
where
    M: IntoIterator<Item = (&'a K, &'a V)>,
    K: AsRef<str> + 'a,
    V: AsRef<str> + 'a,
{
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for map in values {
        for (key, value) in map {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}

fn lists<'a>(values: impl Iterator<Item = &'a Vec<String>>) -> ArrayRef {
    let field = Field::new("element", DataType::Utf8, true);
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(field);
    for list in values {
        list.iter().for_each(|item| builder.values().append_value(item));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

const DAY: Micros = 86_400_000_000;

/// The UTC day of a time, in days since 1970-01-01; times outside what a table can hold go to its ends.
pub fn day_of(at: Micros) -> i32 {
    i32::try_from(at.div_euclid(DAY)).unwrap_or(if at < 0 { i32::MIN } else { i32::MAX })
}

/// `2026-01-02`.
pub fn day_name(day: i32) -> String {
    let mut name = format_time(Micros::from(day).saturating_mul(DAY));
    name.truncate(10);
    name
}

/// The day of this name.
pub fn parse_day(name: &str) -> Option<i32> {
    crate::event::parse_time(&format!("{name}T00:00:00Z")).map(day_of)
}
