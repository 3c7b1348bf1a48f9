//! One question to a report, checked: what is wrong with it is a parameter with a name.

use std::fmt::Write;

use chrono_tz::Tz;
use serde_json::{Map, Value, json};
use trunklog_storage::event::{format_time, parse_time};

use super::calendar::{Bucket, Calendar, Interval};
use super::definition::{Definition, Groups};
use super::definitions;
use super::dimension::{DIMENSIONS, Dimension, Filters};
use super::options::Options;
use crate::error::QueryError;

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

/// Names and values, as they came.
#[derive(Debug, Default)]
pub(crate) struct Pairs(pub Vec<(String, String)>);

impl Pairs {
    fn all(&mut self, name: &str) -> Vec<String> {
        self.0.extract_if(.., |(other, _)| other == name).map(|(_, value)| value).collect()
    }

    fn one(&mut self, name: &str) -> Result<Option<String>, QueryError> {
        let mut values = self.all(name);
        if values.len() > 1 {
            return Err(QueryError::parameter(name, format!("`{name}` stands more than once")));
        }
        Ok(values.pop())
    }

    fn time(&mut self, name: &str) -> Result<i64, QueryError> {
        let text = self.one(name)?.ok_or_else(|| QueryError::parameter(name, format!("`{name}` is missing")))?;
        let wrong = || {
            let hint = if text.contains(' ') { "; write `+` in a URL as `%2B`" } else { "" };
            QueryError::parameter(name, format!("`{text}` is no RFC 3339 time{hint}"))
        };
        parse_time(&text).ok_or_else(wrong)
    }
}

impl Request {
    /// Checks all parameters.
    ///
    /// # Errors
    /// `Parameter` with the name of the first one that is wrong.
    pub fn parse(name: &str, mut pairs: Pairs) -> Result<Request, QueryError> {
        let version = pairs.one("version")?;
        let definition = definitions::find(name, version.as_deref())?;
        let zone = pairs.one("tz")?.unwrap_or_else(|| "UTC".to_owned());
        let zone: Tz = zone
            .parse()
            .map_err(|_| QueryError::parameter("tz", format!("`{zone}` is no time zone of the IANA database")))?;
        let interval = Interval { from: pairs.time("from")?, until: pairs.time("until")? };
        if interval.until < interval.from {
            return Err(QueryError::parameter("until", "`until` is before `from`"));
        }
        let group_by = Dimension::parse_all(&pairs.all("group_by"))?;
        let mut filters = Filters::default();
        for dimension in DIMENSIONS {
            let mut values = pairs.all(dimension.name());
            if !values.is_empty() {
                values.sort();
                filters.0.push((dimension, values));
            }
        }
        let options = Options::take(definition.parameters, |name| pairs.one(name))?;
        if let Some((name, _)) = pairs.0.into_iter().next() {
            let detail = format!("the report `{}` has no parameter `{name}`", definition.name);
            return Err(QueryError::parameter(name, detail));
        }
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

    /// An interval of more buckets is a mistake, and its answer would be of no use.
    fn check_size(&self) -> Result<(), QueryError> {
        const MOST: usize = 100_000;
        let Some(bucket) = self.bucket() else { return Ok(()) };
        let shortest = match bucket {
            Bucket::Quarter => 900_000_000,
            Bucket::Half => 1_800_000_000,
            _ => 3_600_000_000_i64,
        };
        let most = (self.interval.until.saturating_sub(self.interval.from) / shortest).cast_unsigned();
        if bucket <= Bucket::Hour && most > MOST as u64 {
            let name = self.options.choice("bucket");
            return Err(QueryError::parameter("bucket", format!("the interval has over {MOST} buckets of `{name}`")));
        }
        Ok(())
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
