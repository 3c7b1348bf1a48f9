//! The catalogue: every report with its columns, parameters and formulas.

use serde_json::{Value, json};

use super::definition::{Definition, Groups};
use super::definitions::REPORTS;
use super::dimension::{DIMENSIONS, Dimension};
use super::formulas::FORMULAS;
use super::request::Request;

/// The whole catalogue.
pub(crate) fn to_json() -> Value {
    let reports: Vec<Value> = REPORTS.iter().map(definition_json).collect();
    let formulas: Vec<Value> = FORMULAS
        .iter()
        .map(
            |formula| json!({ "id": formula.id, "unit": formula.unit, "text": formula.text, "source": formula.source }),
        )
        .collect();
    json!({ "items": reports, "formulas": formulas })
}

fn definition_json(report: &'static Definition) -> Value {
    let request = Request::any(report);
    let columns = super::columns(&request).into_iter().map(|column| {
        let mut described = column.to_json();
        described["description"] = column.text.into();
        described
    });
    let mut parameters = vec![
        json!({ "name": "from", "type": "timestamp", "required": true, "description": "start of the interval" }),
        json!({ "name": "until", "type": "timestamp", "required": true, "description": "end of the interval, not part of it" }),
        json!({ "name": "tz", "type": "string", "default": "UTC", "description": "IANA time zone of days and hours" }),
        json!({ "name": "version", "type": "int64", "default": report.version, "description": "version of the definition" }),
    ];
    let known = |dimension: &Dimension| report.groups != Groups::SourceOnly || *dimension == Dimension::Source;
    let dimensions: Vec<Dimension> = DIMENSIONS.into_iter().filter(known).collect();
    let names: Vec<&str> = dimensions.iter().map(|dimension| dimension.name()).collect();
    parameters.push(json!({
        "name": "group_by", "type": "string", "default": [], "values": names, "description": "groups, separated by commas",
    }));
    parameters.extend(dimensions.iter().map(|dimension| {
        json!({ "name": dimension.name(), "type": "string", "default": null, "repeatable": true,
            "description": format!("only calls with this value: {}", dimension.text()) })
    }));
    parameters.extend(report.parameters.iter().map(|parameter| parameter.to_json()));
    json!({
        "name": report.name,
        "version": report.version,
        "title": report.title,
        "description": report.text,
        "columns": columns.collect::<Vec<_>>(),
        "parameters": parameters,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_column_has_a_formula_and_every_formula_a_column() {
        let known: HashSet<&str> = FORMULAS.iter().map(|formula| formula.id).collect();
        assert_eq!(known.len(), FORMULAS.len(), "no id stands twice");
        let columns = REPORTS.iter().flat_map(|report| super::super::columns(&Request::any(report)));
        let used: HashSet<&str> = columns.map(|column| column.formula).collect();
        assert_eq!(used, known);
    }

    #[test]
    fn defaults_are_values_that_are_taken() {
        for report in REPORTS {
            let parameters = definition_json(report)["parameters"].clone();
            let own = report.parameters.iter().map(|parameter| parameter.name);
            for name in own {
                let parameters = parameters.as_array().expect("a list");
                let found = parameters.iter().find(|parameter| parameter["name"] == name).expect("it is described");
                assert!(!found["default"].is_null(), "{}.{name}", report.name);
            }
        }
    }
}
