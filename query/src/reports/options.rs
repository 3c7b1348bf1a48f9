//! What a report takes besides the parameters of all: described as data, checked by it.

use serde_json::{Value, json};

use crate::error::QueryError;

/// One parameter of a report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The value when it is not given.
    pub default: &'static str,
    /// What it does.
    pub text: &'static str,
}

/// The values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// One of these.
    Choice(&'static [&'static str]),
    /// A whole number, ends included.
    Whole(i64, i64),
    /// A number between these, ends excluded.
    Fraction(f64, f64),
    /// `true` or `false`.
    Flag,
}

/// A checked value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Checked {
    Choice(&'static str),
    Whole(i64),
    Fraction(f64),
    Flag(bool),
}

impl Parameter {
    fn check(&self, text: &str) -> Result<Checked, QueryError> {
        let checked = match self.kind {
            Kind::Choice(names) => names.iter().find(|name| **name == text).map(|name| Checked::Choice(name)),
            Kind::Whole(least, most) => {
                text.parse().ok().filter(|number| (least..=most).contains(number)).map(Checked::Whole)
            }
            Kind::Fraction(least, most) => {
                text.parse().ok().filter(|number| *number > least && *number < most).map(Checked::Fraction)
            }
            Kind::Flag => text.parse().ok().map(Checked::Flag),
        };
        let wanted = || match self.kind {
            Kind::Choice(names) => format!("one of {}", names.join(", ")),
            Kind::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Kind::Fraction(least, most) => format!("a number between {least} and {most}"),
            Kind::Flag => "true or false".to_owned(),
        };
        checked
            .ok_or_else(|| QueryError::parameter(self.name, format!("`{}` is {}, not `{text}`", self.name, wanted())))
    }

    /// As the catalogue describes it.
    pub fn to_json(self) -> Value {
        let mut described = json!({ "name": self.name, "default": self.default_json(), "description": self.text });
        match self.kind {
            Kind::Choice(names) => {
                described["type"] = "string".into();
                described["values"] = json!(names);
            }
            Kind::Whole(least, most) => {
                described["type"] = "int64".into();
                (described["minimum"], described["maximum"]) = (least.into(), most.into());
            }
            Kind::Fraction(least, most) => {
                described["type"] = "float64".into();
                (described["minimum"], described["maximum"]) = (least.into(), most.into());
            }
            Kind::Flag => described["type"] = "bool".into(),
        }
        described
    }

    fn default_json(self) -> Value {
        self.check(self.default).map_or(Value::Null, Checked::to_json)
    }
}

impl Checked {
    fn to_json(self) -> Value {
        match self {
            Checked::Choice(name) => name.into(),
            Checked::Whole(number) => number.into(),
            Checked::Fraction(number) => number.into(),
            Checked::Flag(flag) => flag.into(),
        }
    }
}

/// The parameters of one question, all checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options(Vec<(&'static str, Checked)>);

impl Options {
    /// Takes what the report takes; `take` gives a parameter's text.
    pub fn take(
        parameters: &[Parameter],
        mut take: impl FnMut(&str) -> Result<Option<String>, QueryError>,
    ) -> Result<Options, QueryError> {
        let mut options = Vec::with_capacity(parameters.len());
        for parameter in parameters {
            let text = take(parameter.name)?;
            options.push((parameter.name, parameter.check(text.as_deref().unwrap_or(parameter.default))?));
        }
        Ok(Options(options))
    }

    fn get(&self, name: &str) -> Option<Checked> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    /// The choice made; empty if the report has no such parameter.
    pub fn choice(&self, name: &str) -> &'static str {
        match self.get(name) {
            Some(Checked::Choice(name)) => name,
            _ => "",
        }
    }

    /// The number given.
    pub fn whole(&self, name: &str) -> i64 {
        match self.get(name) {
            Some(Checked::Whole(number)) => number,
            _ => 0,
        }
    }

    /// The number given.
    pub fn fraction(&self, name: &str) -> f64 {
        match self.get(name) {
            Some(Checked::Fraction(number)) => number,
            _ => 0.0,
        }
    }

    /// Whether it was set.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name) == Some(Checked::Flag(true))
    }

    /// All of them, for `params` in the answer.
    pub fn to_json(&self) -> impl Iterator<Item = (&'static str, Value)> {
        self.0.iter().map(|(name, value)| (*name, value.to_json()))
    }
}
