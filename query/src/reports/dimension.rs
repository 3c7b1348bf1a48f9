//! By what calls are grouped and filtered.

use super::call::Call;
use crate::error::QueryError;

/// Something that calls have, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Dimension {
    Source,
    Direction,
    Disposition,
    Endpoint,
    Queue,
    OwnNumber,
    /// The other party.
    Number,
}

/// All of them.
pub(crate) const DIMENSIONS: [Dimension; 7] = [
    Dimension::Source,
    Dimension::Direction,
    Dimension::Disposition,
    Dimension::Endpoint,
    Dimension::Queue,
    Dimension::OwnNumber,
    Dimension::Number,
];

impl Dimension {
    /// Its name in parameters and columns.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::Source => "source",
            Dimension::Direction => "direction",
            Dimension::Disposition => "disposition",
            Dimension::Endpoint => "endpoint",
            Dimension::Queue => "queue",
            Dimension::OwnNumber => "own_number",
            Dimension::Number => "number",
        }
    }

    /// What it is, for the catalogue.
    pub fn text(self) -> &'static str {
        match self {
            Dimension::Source => "the telephone system",
            Dimension::Direction => "in, out, internal or unknown",
            Dimension::Disposition => "outcome",
            Dimension::Endpoint => "extension or user that took or made the call",
            Dimension::Queue => "queue or ring group that the call entered",
            Dimension::OwnNumber => "own number that was called or shown",
            Dimension::Number => {
                "the other party: of inbound calls the caller, else the called number, as E.164 if known"
            }
        }
    }

    fn parse(name: &str) -> Result<Dimension, QueryError> {
        let found = DIMENSIONS.into_iter().find(|dimension| dimension.name() == name);
        found.ok_or_else(|| {
            let names = DIMENSIONS.map(Dimension::name).join(", ");
            QueryError::parameter("group_by", format!("`{name}` is no group; there are {names}"))
        })
    }

    /// The groups that the parameter names, each once.
    pub fn parse_all(texts: &[String]) -> Result<Vec<Dimension>, QueryError> {
        let mut dimensions = Vec::new();
        for name in texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|name| !name.is_empty()) {
            let dimension = Dimension::parse(name)?;
            if !dimensions.contains(&dimension) {
                dimensions.push(dimension);
            }
        }
        Ok(dimensions)
    }

    /// The columns of `calls` that it is made of.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Dimension::Source => &["source"],
            Dimension::Direction => &["direction"],
            Dimension::Disposition => &["disposition"],
            Dimension::Endpoint => &["endpoint"],
            Dimension::Queue => &["queue"],
            Dimension::OwnNumber => &["own_number"],
            Dimension::Number => &["direction", "from_number", "to_number", "from_e164", "to_e164"],
        }
    }

    /// Its value.
    pub fn value<'a>(self, call: &Call<'a>) -> Option<&'a str> {
        match self {
            Dimension::Source => Some(call.source),
            Dimension::Direction => Some(call.direction),
            Dimension::Disposition => Some(call.disposition),
            Dimension::Endpoint => call.endpoint,
            Dimension::Queue => call.queue,
            Dimension::OwnNumber => call.own_number,
            Dimension::Number => call.other_party(),
        }
    }
}

/// Which calls count: of each dimension that is named, any of the values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters(pub Vec<(Dimension, Vec<String>)>);

impl Filters {
    /// Whether the call counts. The filter by number is about all four columns of numbers.
    pub fn accept(&self, call: &Call<'_>) -> bool {
        self.0.iter().all(|(dimension, values)| match dimension {
            Dimension::Number => {
                let numbers = [call.from_number, call.to_number, call.from_e164, call.to_e164];
                numbers.into_iter().flatten().any(|number| values.iter().any(|value| value == number))
            }
            dimension => dimension.value(call).is_some_and(|found| values.iter().any(|value| value == found)),
        })
    }

    /// Whether this dimension is filtered by.
    pub fn has(&self, dimension: Dimension) -> bool {
        self.0.iter().any(|(filtered, _)| *filtered == dimension)
    }

    /// The values of one dimension.
    pub fn values(&self, dimension: Dimension) -> Option<&[String]> {
        self.0.iter().find(|(filtered, _)| *filtered == dimension).map(|(_, values)| values.as_slice())
    }
}
