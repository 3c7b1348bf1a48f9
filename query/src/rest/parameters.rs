//! Parameters in the URL, and the ones that every route takes: `tenant`, `min_offset`, `as_of`.

use std::time::Duration;

use axum::extract::Query;
use axum::http::Uri;
use axum::http::request::Parts;
use trunklog_storage::event::Offset;

use super::QueryState;
use super::auth;
use super::problem::Problem;
use crate::engine::Access;
use crate::error::QueryError;
use crate::moment::Moment;

/// How long `min_offset` waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// The parameters of a request that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn of(uri: &Uri) -> Result<Parameters, QueryError> {
        match Query::<Vec<(String, String)>>::try_from_uri(uri) {
            Ok(Query(pairs)) => Ok(Parameters(pairs)),
            Err(error) => Err(QueryError::parameter("query", error.to_string())),
        }
    }

    /// Takes a parameter that may stand at most once.
    pub(super) fn one(&mut self, name: &str) -> Result<Option<String>, QueryError> {
        let mut values = self.all(name);
        if values.len() > 1 {
            return Err(QueryError::parameter(name, format!("`{name}` stands more than once")));
        }
        Ok(values.pop())
    }

    /// Takes all values of a parameter.
    pub(super) fn all(&mut self, name: &str) -> Vec<String> {
        let all = std::mem::take(&mut self.0);
        let (taken, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(other, _)| other == name);
        self.0 = left;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// Those that are left, sorted.
    pub(super) fn sorted(&self) -> Vec<(String, String)> {
        let mut pairs = self.0.clone();
        pairs.sort();
        pairs
    }

    /// Refuses what nobody took.
    pub(super) fn nothing_left(self) -> Result<(), QueryError> {
        match self.0.into_iter().next() {
            Some((name, _)) => {
                let detail = format!("there is no parameter `{name}`");
                Err(QueryError::parameter(name, detail))
            }
            None => Ok(()),
        }
    }
}

/// What every route takes.
#[derive(Debug)]
pub(super) struct Common {
    pub access: Access,
    pub min_offset: Option<Offset>,
    pub moment: Moment,
}

impl Common {
    /// Authenticates first: without a key nothing is said about the parameters.
    pub(super) fn take(state: &QueryState, parts: &Parts, parameters: &mut Parameters) -> Result<Common, Problem> {
        Common::take_with(auth::QUERY, state, parts, parameters)
    }

    /// As [`Common::take`], for a route that needs another scope than `query`.
    pub(super) fn take_with(
        scope: &str,
        state: &QueryState,
        parts: &Parts,
        parameters: &mut Parameters,
    ) -> Result<Common, Problem> {
        let tenant = parameters.all("tenant");
        let asked = tenant.first().map(String::as_str);
        let access = auth::access(scope, state, &parts.headers, &parts.extensions, asked)?;
        if tenant.len() > 1 {
            return Err(QueryError::parameter("tenant", "`tenant` stands more than once").into());
        }
        let min_offset = parameters.one("min_offset")?.map(|text| offset("min_offset", &text)).transpose()?;
        let moment = parameters.one("as_of")?.map_or(Ok(Moment::Now), |text| Moment::parse(&text))?;
        Ok(Common { access, min_offset, moment })
    }

    /// Waits for `min_offset`.
    pub(super) async fn wait(&self, state: &QueryState) -> Result<(), QueryError> {
        match self.min_offset {
            Some(offset) => state.engine.wait_for(offset, PATIENCE).await,
            None => Ok(()),
        }
    }
}

/// An offset in a parameter.
pub(super) fn offset(name: &str, text: &str) -> Result<Offset, QueryError> {
    text.parse().map(Offset).map_err(|_| QueryError::parameter(name, format!("`{text}` is no offset")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(uri: &str) -> Parameters {
        Parameters::of(&uri.parse().expect("a URI")).expect("parameters")
    }

    fn at_fault<T: std::fmt::Debug>(outcome: Result<T, QueryError>) -> String {
        match outcome.expect_err("is wrong") {
            QueryError::Parameter { parameter, .. } => parameter,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn takes_and_refuses() {
        let mut some = parameters("/v1/calls?source=kazoo&source=placetel&limit=5&caller_name=a%20b%2Bc");
        assert_eq!(some.one("limit").ok(), Some(Some("5".into())));
        assert_eq!(some.one("limit").ok(), Some(None));
        assert_eq!(some.all("caller_name"), ["a b+c"]);
        assert_eq!(some.sorted().len(), 2);
        assert_eq!(at_fault(some.nothing_left()), "source");
        assert_eq!(at_fault(parameters("/?a=1&a=2").one("a")), "a");
        assert!(parameters("/v1/calls").nothing_left().is_ok());
    }

    #[test]
    fn offsets_are_decimal() {
        assert_eq!(offset("min_offset", "12").ok(), Some(Offset(12)));
        for wrong in ["", "-1", "1.5", "x", "99999999999999999999"] {
            assert_eq!(at_fault(offset("min_offset", wrong)), "min_offset", "{wrong}");
        }
    }
}
