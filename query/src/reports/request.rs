//! One question to a report, checked: what is wrong with it is a parameter with a name.

use std::fmt::Write;

use chrono_tz::Tz;
use serde_json::{Map, Value, json};
use trunklog_storage::event::{format_time, parse_time};

use super::calendar::{Bucket, Calendar, Interval};
use super::definition::{Definition, Groups, Report};
use super::definitions;
use super::dimension::{DIMENSIONS, Dimension, Filters};
use super::options::Options;
use super::part::Part;
use crate::error::QueryError;
use crate::parameters::Parameters;

/// To which interval a call belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Attribution {
    Start,
    Answer,
    End,
}

/// A checked question.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The report.
    pub definition: &'static Definition,
    /// Of when.
    pub interval: Interval,
    /// Whose clocks.
    pub calendar: Calendar,
    /// Groups in front of the report's own columns.
    pub group_by: Vec<Dimension>,
    /// Which calls.
    pub filters: Filters,
    /// The report's own parameters.
    pub options: Options,
}

fn time(parameters: &mut Parameters, name: &str) -> Result<i64, QueryError> {
    let missing = || QueryError::parameter(name, format!("`{name}` is missing"));
    let text = parameters.one(name)?.ok_or_else(missing)?;
    let wrong = || {
        let hint = if text.contains(' ') { "; write `+` in a URL as `%2B`" } else { "" };
        QueryError::parameter(name, format!("`{text}` is no RFC 3339 time{hint}"))
    };
    parse_time(&text).ok_or_else(wrong)
}

impl Request {
    /// Checks all parameters.
    ///
    /// # Errors
    /// `Parameter` with the name of the first one that is wrong.
    pub fn parse(name: &str, mut parameters: Parameters) -> Result<Request, QueryError> {
        let version = parameters.one("version")?;
        let definition = definitions::find(name, version.as_deref())?;
        let zone = parameters.one("tz")?.unwrap_or_else(|| "UTC".to_owned());
        let zone: Tz = zone
            .parse()
            .map_err(|_| QueryError::parameter("tz", format!("`{zone}` is no time zone of the IANA database")))?;
        let interval = Interval { from: time(&mut parameters, "from")?, until: time(&mut parameters, "until")? };
        if interval.until < interval.from {
            return Err(QueryError::parameter("until", "`until` is before `from`"));
        }
        let group_by = Dimension::parse_all(&parameters.all("group_by"))?;
        let mut filters = Filters::default();
        for dimension in DIMENSIONS {
            let mut values = parameters.all(dimension.name());
            if !values.is_empty() {
                values.sort();
                filters.0.push((dimension, values));
            }
        }
        let options = Options::take(definition.parameters, |name| parameters.one(name))?;
        parameters.nothing_left()?;
        if definition.groups == Groups::SourceOnly {
            let other = |dimension: &Dimension| *dimension != Dimension::Source;
            let detail =
                format!("the report `{}` is about messages: it knows no group or filter but `source`", definition.name);
            if group_by.iter().any(other) {
                return Err(QueryError::parameter("group_by", detail));
            }
            if let Some((dimension, _)) = filters.0.iter().find(|(dimension, _)| other(dimension)) {
                return Err(QueryError::parameter(dimension.name(), detail));
            }
        }
        let request = Request { definition, interval, calendar: Calendar(zone), group_by, filters, options };
        request.check_size()?;
        Ok(request)
    }

    /// A question about nothing, with all defaults: to ask for what does not depend on more.
    pub fn any(definition: &'static Definition) -> Request {
        Request {
            definition,
            interval: Interval { from: 0, until: 0 },
            calendar: Calendar(Tz::UTC),
            group_by: Vec::new(),
            filters: Filters::default(),
            options: Options::take(definition.parameters, |_| Ok(None)).unwrap_or_default(),
        }
    }

    /// An interval of more pieces is a mistake, and its answer would be of no use.
    fn check_size(&self) -> Result<(), QueryError> {
        const MOST: i64 = 100_000;
        let Some(finest) = self.bucket().or_else(|| self.pieces()) else { return Ok(()) };
        if self.interval.until.saturating_sub(self.interval.from) / finest.least() > MOST {
            let parameter = if self.bucket().is_some() { "bucket" } else { "until" };
            let detail = format!("the interval has over {MOST} pieces; ask for a shorter one, or for longer buckets");
            return Err(QueryError::parameter(parameter, detail));
        }
        Ok(())
    }

    /// The pieces that a report without the parameter `bucket` cuts time into.
    pub fn pieces(&self) -> Option<Bucket> {
        match self.definition.kind {
            Report::Counts(counts) if counts.parts.contains(&Part::WeekdayAndHour) => Some(Bucket::Hour),
            Report::BusyHour if self.options.choice("method") == "sliding15" => Some(Bucket::Quarter),
            Report::BusyHour => Some(Bucket::Hour),
            _ => None,
        }
    }

    /// The pieces that time is cut into, if the report has that parameter.
    pub fn bucket(&self) -> Option<Bucket> {
        Bucket::parse(self.options.choice("bucket"))
    }

    /// By what calls are attributed.
    pub fn attribution(&self) -> Attribution {
        match self.options.choice("attribution") {
            "answer" => Attribution::Answer,
            "end" => Attribution::End,
            _ => Attribution::Start,
        }
    }

    /// Everything but the interval, as a key: what files contribute to questions of one shape is the same.
    pub fn shape(&self) -> String {
        let Definition { name, version, .. } = self.definition;
        let mut shape = format!("{name}/{version} {}", self.calendar.0.name());
        let groups = self.group_by.iter().map(|dimension| dimension.name());
        let _ = write!(shape, " {:?} {:?} {:?}", groups.collect::<Vec<_>>(), self.filters, self.options);
        shape
    }

    /// The question as a key.
    pub fn key(&self) -> String {
        format!("{} {} {}", self.shape(), self.interval.from, self.interval.until)
    }

    /// `params` in the answer, without what the report adds.
    pub fn params(&self) -> Map<String, Value> {
        let mut params = Map::new();
        params.insert("from".into(), format_time(self.interval.from).into());
        params.insert("until".into(), format_time(self.interval.until).into());
        params.insert("tz".into(), self.calendar.0.name().into());
        let groups: Vec<&str> = self.group_by.iter().map(|dimension| dimension.name()).collect();
        params.insert("group_by".into(), json!(groups));
        for (dimension, values) in &self.filters.0 {
            params.insert(dimension.name().into(), json!(values));
        }
        params.extend(self.options.to_json().map(|(name, value)| (name.to_owned(), value)));
        params
    }
}
