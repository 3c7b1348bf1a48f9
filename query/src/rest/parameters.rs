//! The parameters that every route takes: `tenant`, `min_offset`, `as_of`.

use axum::http::request::Parts;
use trunklog_storage::position::Position;

use super::QueryState;
use super::auth;
use super::problem::Problem;
use crate::engine::{Access, PATIENCE};
use crate::error::QueryError;
use crate::moment::Moment;
pub(super) use crate::parameters::Parameters;

/// What every route takes.
#[derive(Debug)]
pub(super) struct Common {
    pub access: Access,
    pub min_offset: Option<Position>,
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
pub(super) fn offset(name: &str, text: &str) -> Result<Position, QueryError> {
    Position::parse(text).ok_or_else(|| QueryError::parameter(name, format!("`{text}` is no offset")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_fault<T: std::fmt::Debug>(outcome: Result<T, QueryError>) -> String {
        match outcome.expect_err("is wrong") {
            QueryError::Parameter { parameter, .. } => parameter,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn offsets_are_decimal() {
        assert_eq!(offset("min_offset", "12").ok(), Position::parse("12"));
        for wrong in ["", "-1", "1.5", "x", "99999999999999999999"] {
            assert_eq!(at_fault(offset("min_offset", wrong)), "min_offset", "{wrong}");
        }
    }
}
