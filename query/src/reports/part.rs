//! What makes the groups of reports that count calls.

use super::call::Call;
use super::cells::Key;
use super::dimension::Dimension;
use super::table::{Column, Type};

/// What makes a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A property of the call.
    Of(Dimension),
    /// The bucket that the parameter names.
    Bucket,
    /// Local weekday and hour: two columns.
    WeekdayAndHour,
    /// Number of transfers.
    Transfers,
    /// Outcome in the source's words.
    Raw,
    /// Cause value.
    Cause,
    /// The first digits of the other party's E.164 number.
    Prefix,
    /// The caller's number.
    Caller,
    /// The called number.
    Destination,
}

impl Part {
    /// Its columns.
    pub fn columns(self) -> Vec<Column> {
        let text =
            |name: &str, text| Column { name: name.into(), kind: Type::Text, unit: None, formula: "group/1", text };
        let whole =
            |name: &str, text| Column { name: name.into(), kind: Type::Whole, unit: None, formula: "group/1", text };
        match self {
            Part::Of(dimension) => vec![text(dimension.name(), dimension.text())],
            Part::Bucket => vec![bucket_column()],
            Part::WeekdayAndHour => vec![whole("weekday", "1 is Monday"), whole("hour", "local hour")],
            Part::Transfers => vec![whole("transfers", "how often the call was transferred")],
            Part::Raw => vec![text("disposition_raw", "outcome in the source's words")],
            Part::Cause => vec![whole("cause_q850", "cause value of ITU-T Q.850")],
            Part::Prefix => vec![text("prefix", "first digits of the other party's E.164 number")],
            Part::Caller => vec![text("number", "the caller, as E.164 if known")],
            Part::Destination => vec![text("number", "the called number, as E.164 if known")],
        }
    }

    /// The columns of `calls` that it is made of.
    pub fn reads(self) -> &'static [&'static str] {
        match self {
            Part::Of(dimension) => dimension.columns(),
            Part::Bucket | Part::WeekdayAndHour => &[],
            Part::Transfers => &["transfers"],
            Part::Raw => &["disposition_raw"],
            Part::Cause => &["cause_q850"],
            Part::Prefix => &["from_e164", "to_e164"],
            Part::Caller => &["from_number", "from_e164"],
            Part::Destination => &["to_number", "to_e164"],
        }
    }

    /// Without a value there is no row for a call.
    pub fn is_required(self) -> bool {
        matches!(self, Part::Caller | Part::Destination)
    }

    /// Its value, but for those that depend on a time; a prefix has so many digits.
    pub fn of(self, call: &Call<'_>, digits: usize) -> Key {
        match self {
            Part::Of(dimension) => Key::text(dimension.value(call)),
            Part::Bucket | Part::WeekdayAndHour => Key::Null,
            Part::Transfers => Key::Whole(call.transfers),
            Part::Raw => Key::text(call.disposition_raw),
            Part::Cause => Key::whole(call.cause_q850),
            Part::Prefix => {
                let number = if call.direction == "in" { call.from_e164 } else { call.to_e164 };
                Key::text(number.map(|number| number.get(..=digits).unwrap_or(number)))
            }
            Part::Caller => Key::text(call.from_e164.or(call.from_number)),
            Part::Destination => Key::text(call.to_e164.or(call.to_number)),
        }
    }
}

/// The column `bucket`.
pub(crate) fn bucket_column() -> Column {
    let text = "start of the interval, with its offset from UTC";
    Column { name: "bucket".into(), kind: Type::Text, unit: None, formula: "bucket/1", text }
}
