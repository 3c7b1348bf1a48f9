//! Query parameters of our own routes; unknown ones are refused.

use url::form_urlencoded;

use super::problem::Problem;

/// The parameters of a request, each at most once.
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Takes the query apart; only `known` names may occur.
    pub fn parse(query: Option<&str>, known: &[&str]) -> Result<Parameters, Problem> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned() {
            if !known.contains(&name.as_str()) {
                return Err(Problem::parameter(&name, format!("`{name}` is no parameter of this route")));
            }
            if parameters.iter().any(|(earlier, _)| *earlier == name) {
                return Err(Problem::parameter(&name, format!("`{name}` is given twice")));
            }
            parameters.push((name, value));
        }
        Ok(Parameters(parameters))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
