//! Names and values of parameters, taken one by one: what nobody takes is refused.

use axum::extract::Query;
use axum::http::Uri;

use crate::error::QueryError;

/// The parameters of a request that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Those of a URL.
    pub(crate) fn of(uri: &Uri) -> Result<Parameters, QueryError> {
        match Query::<Vec<(String, String)>>::try_from_uri(uri) {
            Ok(Query(pairs)) => Ok(Parameters(pairs)),
            Err(error) => Err(QueryError::parameter("query", error.to_string())),
        }
    }

    /// Names and values that came in another way.
    pub(crate) fn new(pairs: Vec<(String, String)>) -> Parameters {
        Parameters(pairs)
    }

    /// Takes a parameter that may stand at most once.
    pub(crate) fn one(&mut self, name: &str) -> Result<Option<String>, QueryError> {
        let mut values = self.all(name);
        if values.len() > 1 {
            return Err(QueryError::parameter(name, format!("`{name}` stands more than once")));
        }
        Ok(values.pop())
    }

    /// Takes all values of a parameter.
    pub(crate) fn all(&mut self, name: &str) -> Vec<String> {
        let all = std::mem::take(&mut self.0);
        let (taken, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(other, _)| other == name);
        self.0 = left;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// Those that are left, sorted.
    pub(crate) fn sorted(&self) -> Vec<(String, String)> {
        let mut pairs = self.0.clone();
        pairs.sort();
        pairs
    }

    /// Refuses what nobody took.
    pub(crate) fn nothing_left(self) -> Result<(), QueryError> {
        match self.0.into_iter().next() {
            Some((name, _)) => {
                let detail = format!("there is no parameter `{name}`");
                Err(QueryError::parameter(name, detail))
            }
            None => Ok(()),
        }
    }
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
}
