//! The list of reports: all of them, every formula with its text and source, and columns as the answers have them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use trunklog_tests::Server;

use super::NAMES;

const INTERVAL: [(&str, &str); 2] = [("from", "2026-05-04T00:00:00Z"), ("until", "2026-05-05T00:00:00Z")];

#[track_caller]
fn texts(list: &Value, field: &str) -> Vec<String> {
    let items = list.as_array().unwrap_or_else(|| panic!("not a list: {list}"));
    items.iter().map(|item| item[field].as_str().unwrap_or_else(|| panic!("no {field}: {item}")).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalogue_knows_all_reports_and_formulas() {
    let server = Server::start();
    let key = server.key("acme", &["query"]);
    let catalogue = server.get("/v1/reports", &key).await.expect(200).json();
    let names: BTreeSet<String> = texts(&catalogue["items"], "name").into_iter().collect();
    let known: BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names, known);

    let formulas: BTreeSet<String> = texts(&catalogue["formulas"], "id").into_iter().collect();
    for field in ["text", "source"] {
        assert!(texts(&catalogue["formulas"], field).iter().all(|text| !text.is_empty()), "a {field} is empty");
    }
    for formula in catalogue["formulas"].as_array().unwrap() {
        assert!(formula.get("unit").is_some(), "{formula}");
    }
    let mut used = BTreeSet::new();
    for item in catalogue["items"].as_array().unwrap() {
        assert!(item["version"].as_i64() >= Some(1), "{item}");
        for field in ["title", "description"] {
            assert!(item[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {item}");
        }
        for column in item["columns"].as_array().unwrap() {
            assert!(
                column["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{column} in {}",
                item["name"]
            );
            if let Some(formula) = column["formula_id"].as_str() {
                assert!(formulas.contains(formula), "{formula} of {} is not defined", item["name"]);
                used.insert(formula.to_owned());
            }
        }
        let parameters = texts(&item["parameters"], "name");
        for parameter in ["from", "until", "tz", "version"] {
            assert!(parameters.iter().any(|known| known == parameter), "no {parameter} in {}", item["name"]);
        }
        texts(&item["parameters"], "type");
        texts(&item["parameters"], "description");
    }
    assert!(used.len() > 10, "{used:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_report_answers_with_its_columns() {
    let server = Server::start();
    let key = server.key("acme", &["ingest:*", "query"]);
    super::send_call(&server, &key, "one", "2026-05-04T10:00:00Z").await;
    server.flush().await;
    let catalogue = server.get("/v1/reports", &key).await.expect(200).json();
    let items: BTreeMap<&str, &Value> =
        catalogue["items"].as_array().unwrap().iter().map(|item| (item["name"].as_str().unwrap(), item)).collect();
    for name in NAMES {
        let item = items[name];
        let report = server.report(&key, name, &INTERVAL).await;
        assert_eq!(report.name, name);
        assert_eq!(Some(report.version), item["version"].as_i64(), "{name}");
        assert_eq!(report.columns, texts(&item["columns"], "name"), "{name}");
        assert_eq!(report.types, texts(&item["columns"], "type"), "{name}");
        let formulas = item["columns"].as_array().unwrap().iter();
        let formulas: Vec<Option<String>> =
            formulas.map(|column| column["formula_id"].as_str().map(str::to_owned)).collect();
        assert_eq!(report.formulas, formulas, "{name}");
        for row in &report.rows {
            assert_eq!(row.len(), report.columns.len(), "{name}: {row:?}");
        }
        // The version is the one that answers anyway.
        let version = report.version.to_string();
        let asked = server.report(&key, name, &[&INTERVAL[..], &[("version", version.as_str())][..]].concat()).await;
        assert_eq!(asked.rows, report.rows, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_stand_in_front() {
    let server = Server::start();
    let key = server.key("acme", &["ingest:*", "query"]);
    super::send_call(&server, &key, "one", "2026-05-04T10:00:00Z").await;
    for name in ["summary", "volume", "heatmap", "endpoints", "network", "recordings"] {
        let plain = server.report(&key, name, &INTERVAL).await;
        let grouped =
            server.report(&key, name, &[&INTERVAL[..], &[("group_by", "source,direction")][..]].concat()).await;
        assert_eq!(grouped.columns[..2], ["source", "direction"], "{name}");
        assert_eq!(grouped.columns[2..], plain.columns[..], "{name}");
        assert_eq!(grouped.rows.len(), 1, "{name}: {:?}", grouped.rows);
        assert_eq!(grouped.rows[0][..2], ["voispeed", "in"], "{name}");
    }
}
