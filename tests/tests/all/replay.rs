//! `trunklog replay --diff`: what another version or configuration would make of the stored messages, call by call and
//! column by column, while the tables stay as they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use trunklog_tests::{Options, Server};

const GERMAN: &str = "[tenants.acme]\ncountry = \"DE\"\n[tenants.bravo]\ncountry = \"DE\"\n";
const NATIONAL: &str = "from=022129191999&to=022129191998&direction=in&call_id=national";

fn with(config: &str) -> Options {
    Options { config: Some(config.to_owned()), ..Options::default() }
}

/// Runs it with this configuration: exit status and answer.
fn replay(server: &Server, config: &str, further: &[&str]) -> (Option<i32>, Value) {
    let file = server.root().join("again.toml");
    std::fs::write(&file, config).unwrap();
    let file = file.display().to_string();
    let mut arguments = vec!["replay", "--diff", "--format", "json", "--config", &file];
    arguments.extend(further);
    let output = server.trunklog(&arguments);
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let answer = serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}\n{errors}"));
    (output.status.code(), answer)
}

/// Every file of the tables with its bytes' number.
fn files(directory: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path(), entry.metadata().unwrap().len());
        }
    }
    found
}

fn hashes(server: &Server) -> String {
    let config = server.root().join("trunklog.toml").display().to_string();
    server.run(&["verify", "--hash", "--config", &config])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_the_calls_and_columns_that_would_change_are_listed_and_nothing_is_published() {
    let mut server = Server::start_with(with(GERMAN));
    let (acme, bravo) = (server.key("acme", &["ingest:*"]), server.key("bravo", &["ingest:*"]));
    let international = "from=%2B4922129191999&to=%2B4922129191998&direction=in&call_id=international";
    server.post_form("/in/placetel", &acme, &format!("event=IncomingCall&{NATIONAL}")).await.expect(200);
    server.post_form("/in/placetel", &acme, &format!("event=IncomingCall&{international}")).await.expect(200);
    server.post_form("/in/placetel", &bravo, &format!("event=IncomingCall&{NATIONAL}")).await.expect(200);
    server.flush().await;
    // The end comes after the compaction: this call is merged from two stored rows.
    let end = format!("event=HungUp&{NATIONAL}&type=missed&duration=0");
    server.post_form("/in/placetel", &acme, &end).await.expect(200);
    server.stop();
    let (hashed, stored) = (hashes(&server), files(&server.data_dir().join("tables")));

    let (status, same) = replay(&server, GERMAN, &[]);
    assert_eq!((status, &same["differences"]), (Some(0), &json!([])), "{same}");
    assert!(same["summary"]["messages"].as_u64() >= Some(4), "{same}");
    let counts = json!({"before": 3, "after": 3, "added": 0, "removed": 0, "changed": 0, "columns": {}});
    assert_eq!(same["summary"]["calls"], counts);

    let (status, other) = replay(&server, &GERMAN.replacen("DE", "GB", 1), &[]);
    assert_eq!(status, Some(1), "{other}");
    let [difference] = other["differences"].as_array().unwrap().as_slice() else { panic!("{other}") };
    for (field, value) in
        [("table", "calls"), ("change", "changed"), ("tenant", "acme"), ("source", "placetel"), ("key", "national")]
    {
        assert_eq!(difference[field], value, "{other}");
    }
    let columns = json!([
        {"name": "from_e164", "before": "+4922129191999", "after": "+4422129191999"},
        {"name": "to_e164", "before": "+4922129191998", "after": "+4422129191998"},
    ]);
    assert_eq!(difference["columns"], columns);
    assert_eq!(other["summary"]["calls"]["changed"], 1);
    assert_eq!(other["summary"]["calls"]["columns"], json!({"from_e164": 1, "to_e164": 1}));

    assert_eq!(files(&server.data_dir().join("tables")), stored, "no file of the tables came, went or grew");
    assert_eq!(hashes(&server), hashed);
    assert!(!server.data_dir().join(".replay").exists(), "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_zone_moves_times_also_inside_legs() {
    let mut server = Server::start_with(with("[tenants.acme]\ntime_zone = \"Europe/Berlin\"\n"));
    let key = server.key("acme", &["ingest:*"]);
    let call = "event_type=2&event=8&event_name=incoming_call&ext=35&number=0212345678&usercallid=4711";
    server.get(&format!("/in/voispeed/event?{call}&datetime=2025-01-10+09%3A15%3A00"), &key).await.expect(200);
    server.post_form("/in/placetel", &key, &format!("event=IncomingCall&{NATIONAL}")).await.expect(200);
    server.flush().await;
    server.stop();
    let (status, answer) = replay(&server, "[tenants.acme]\ntime_zone = \"UTC\"\n", &[]);
    assert_eq!(status, Some(1), "{answer}");
    let [difference] = answer["differences"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert_eq!((&difference["key"], &difference["change"]), (&json!("4711"), &json!("changed")));
    let columns = difference["columns"].as_array().unwrap();
    for column in columns {
        let name = column["name"].as_str().unwrap();
        assert!(name.ends_with("_at"), "a time zone changes times alone: {answer}");
        let hour = |side: &str| column[side].as_str().unwrap()[..13].to_owned();
        assert_eq!((hour("before"), hour("after")), ("2025-01-10T08".to_owned(), "2025-01-10T09".to_owned()));
        assert_eq!(name.starts_with("legs."), column["element"].is_string(), "{column}");
    }
    let names: Vec<_> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"started_at") && names.iter().any(|name| name.starts_with("legs.")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_come_and_go_are_listed_up_to_the_limit_and_all_are_counted() {
    let mut server = Server::start();
    let (key, query) = (server.key("acme", &["ingest:*"]), server.key("acme", &["query"]));
    for (event, name, second) in [(8, "incoming_call", "00"), (14, "call_answered", "09")] {
        let call = format!("event_type=2&event={event}&event_name={name}&ext=35&number=0212345678&ucid=4711");
        let path = format!("/in/voispeed/event?{call}&datetime=2025-01-10+09%3A15%3A{second}");
        server.get(&path, &key).await.expect(200);
    }
    let made = server.sql(&query, "SELECT call_key FROM calls").await;
    let made: Vec<String> = made.rows.iter().map(|row| row[0].as_str().unwrap().to_owned()).collect();
    assert!(!made.is_empty() && made.iter().all(|key| key != "4711"), "{made:?}");
    server.flush().await;
    server.stop();
    let alias = "[tenants.acme]\nvoispeed.alias.usercallid = [\"ucid\"]\n";
    let (status, all) = replay(&server, alias, &[]);
    assert_eq!(status, Some(1), "{all}");
    let differences = all["differences"].as_array().unwrap();
    let keys = |change: &str| -> Vec<String> {
        let found = differences.iter().filter(|difference| difference["change"] == change);
        found.map(|difference| difference["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys("added"), ["4711"], "{all}");
    let (mut gone, mut expected) = (keys("removed"), made.clone());
    gone.sort();
    expected.sort();
    assert_eq!((gone, keys("changed").len()), (expected, 0), "{all}");
    let (status, limited) = replay(&server, alias, &["--limit", "1"]);
    assert_eq!((status, limited["differences"].as_array().unwrap().len()), (Some(1), 1));
    let counts = &limited["summary"]["calls"];
    assert_eq!((&counts["added"], &counts["removed"]), (&json!(1), &json!(made.len())));
    assert_eq!(limited["summary"]["listed"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_lists_the_same() {
    let mut server = Server::start_with(with(GERMAN));
    let key = server.key("acme", &["ingest:*"]);
    server.post_form("/in/placetel", &key, &format!("event=IncomingCall&{NATIONAL}")).await.expect(200);
    server.flush().await;
    server.stop();
    let british = server.root().join("british.toml");
    std::fs::write(&british, "[tenants.acme]\ncountry = \"GB\"\n").unwrap();
    let british = british.display().to_string();
    let form = |form: &str| {
        let output = server.trunklog(&["replay", "--diff", "--format", form, "--config", &british]);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let csv = form("csv");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "table,change,tenant,source,id,key,column,element,before,after");
    assert_eq!(lines.len(), 3, "{csv}");
    assert!(lines[1].ends_with(",national,from_e164,,+4922129191999,+4422129191999"), "{csv}");
    let lines = form("ndjson");
    assert_eq!(lines.lines().count(), 1);
    let difference: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(difference["columns"].as_array().unwrap().len(), 2);
    let table = form("table");
    for word in ["from_e164", "+4922129191999", "calls before=1 after=1 added=0 removed=0 changed=1", "messages="] {
        assert!(table.contains(word), "`{word}` is not in\n{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_wants_its_flag_and_the_archive_for_itself() {
    let server = Server::start();
    let key = server.key("acme", &["ingest:*"]);
    server.post_form("/in/placetel", &key, &format!("event=IncomingCall&{NATIONAL}")).await.expect(200);
    let refused = |arguments: &[&str], word: &str| {
        let output = server.trunklog(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(word) && output.stdout.is_empty(), "{errors}");
    };
    refused(&["replay"], "rebuild");
    refused(&["replay", "--diff"], "conflict");
    server.get("/healthz", "").await.expect(200);
    assert!(!server.data_dir().join(".replay").exists());
}
