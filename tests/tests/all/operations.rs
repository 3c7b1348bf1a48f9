//! Starting, stopping, killing, configuring: what an operator relies on from the first day.

use serde_json::{Value, json};
use trunklog_tests::{Options, Request, Server, command};

const CALL: &str = "event=IncomingCall&from=022129191999&to=022199998560&direction=in&call_id=";

fn admin_lines(server: &Server) -> usize {
    server.lines().iter().filter(|line| line.starts_with("admin key:")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_messages_and_keys_and_prints_no_second_admin_key() {
    let mut server = Server::start();
    let (key, query) = (server.key("acme", &["ingest:*"]), server.key("acme", &["query"]));
    for round in 0..6 {
        let answer = server.post_form("/in/placetel", &key, &format!("{CALL}r{round}")).await.expect(200);
        assert_eq!(answer.offset(), Some(round), "offsets count on over restarts");
        if round % 2 == 0 {
            server.kill();
        } else {
            server.stop();
        }
        server.launch();
        let count = server.sql(&query, "SELECT count(*) FROM events").await.number();
        assert_eq!(count, round + 1);
        assert_eq!(server.sql(&query, "SELECT count(*) FROM calls").await.number(), round + 1);
    }
    assert_eq!(admin_lines(&server), 1, "{:?}", server.lines());
    let last = server.lines().pop().unwrap();
    assert!(last.contains("http=") && last.contains("pg=") && last.contains("flight="), "{last}");
    server.get("/v1/keys", server.admin()).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_server_has_a_data_directory() {
    let server = Server::start();
    let mut second = command();
    second.args(["serve", "--listen", "127.0.0.1:0", "--pg-listen", "off", "--flight-listen", "off", "--data-dir"]);
    let output = second.arg(server.data_dir()).output().unwrap();
    assert!(!output.status.success());
    server.get("/healthz", "").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_made_listed_and_revoked_over_http() {
    let server = Server::start();
    let admin = server.admin().to_owned();
    let request = json!({"tenant": "acme", "scopes": ["ingest:placetel"]}).to_string();
    let made = server.post("/v1/keys", &admin, "application/json", request.as_bytes()).await.expect(201).json();
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    server.post_form("/in/placetel", token, &format!("{CALL}a")).await.expect(200);
    let list = server.get("/v1/keys", &admin).await.expect(200);
    assert!(list.text().contains(id) && !list.text().contains(token), "{}", list.text());
    server.get("/v1/keys", token).await.expect_problem(403);
    let path = format!("/v1/keys/{id}");
    server.send(Request { method: "DELETE", path: &path, key: Some(&admin), ..Request::default() }).await.expect(204);
    server.post_form("/in/placetel", token, &format!("{CALL}b")).await.expect_problem(401);
    let elsewhere = server.key_with("acme", &["ingest:placetel"], &["--address", "192.0.2.1"]);
    server.post_form("/in/placetel", &elsewhere, &format!("{CALL}c")).await.expect_problem(403);
    for wrong in [
        json!({"tenant": "acme", "scopes": ["everything"]}),
        json!({"scopes": ["query"]}),
        json!({"tenant": "acme", "scopes": ["query"], "owner": "x"}),
    ] {
        let answer = server.post("/v1/keys", &admin, "application/json", wrong.to_string().as_bytes()).await;
        assert!(answer.expect_problem(400)["parameter"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_do_not_see_each_other() {
    let server = Server::start();
    let admin = server.admin().to_owned();
    for tenant in ["acme", "bravo"] {
        let key = server.key(tenant, &["ingest:*"]);
        server.post_form("/in/placetel", &key, &format!("{CALL}same-key")).await.expect(200);
        server.post_form("/in/placetel", &key, &format!("{CALL}of-{tenant}")).await.expect(200);
    }
    let mut ids = Vec::new();
    for tenant in ["acme", "bravo"] {
        let query = server.key(tenant, &["query"]);
        for table in ["calls", "events", "legs"] {
            let table = server.sql(&query, &format!("SELECT DISTINCT tenant FROM {table}")).await;
            assert_eq!(table.rows, vec![vec![json!(tenant)]]);
        }
        let id = server.sql(&query, "SELECT call_id FROM calls WHERE call_key = 'same-key'").await.only();
        ids.push(id["call_id"].as_str().unwrap().to_owned());
        server.get("/v1/calls", &server.key(tenant, &["ingest:*"])).await.expect_problem(403);
    }
    assert_ne!(ids[0], ids[1]);
    let query = server.key("bravo", &["query"]);
    server.get(&format!("/v1/calls/{}", ids[0]), &query).await.expect_problem(404);
    server.get(&format!("/v1/calls/{}/events", ids[0]), &query).await.expect_problem(404);
    let all = server.sql(&admin, "SELECT DISTINCT tenant FROM calls ORDER BY tenant").await;
    assert_eq!(all.rows, vec![vec![json!("acme")], vec![json!("bravo")]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_readiness_and_metrics_need_no_key() {
    let server = Server::start();
    let key = server.key("acme", &["ingest:*"]);
    server.send(Request { path: "/healthz", ..Request::default() }).await.expect(200);
    server.send(Request { path: "/readyz", ..Request::default() }).await.expect(200);
    server.post_form("/in/placetel", &key, &format!("{CALL}a")).await.expect(200);
    server.post_form("/in/placetel", &key, &format!("{CALL}a")).await.expect(200);
    server.post_form("/in/placetel", &key, "event=IncomingCall&call_id=%zz").await.expect(200);
    server.post_form("/in/placetel", "tlk_wrong", &format!("{CALL}a")).await.expect(401);
    let metrics = server.send(Request { path: "/metrics", ..Request::default() }).await.expect(200).text();
    for result in ["stored", "duplicate", "quarantined", "refused"] {
        let line = metrics.lines().find(|line| {
            line.starts_with("trunklog_messages_total{")
                && line.contains("source=\"placetel\"")
                && line.contains(&format!("result=\"{result}\""))
        });
        let value =
            line.and_then(|line| line.rsplit(' ').next()).unwrap_or_else(|| panic!("no {result} in\n{metrics}"));
        assert_eq!(value.parse::<f64>().unwrap(), 1.0, "{result}\n{metrics}");
    }
    for name in [
        "trunklog_log_append_seconds",
        "trunklog_fold_lag_messages",
        "trunklog_compaction_lag_seconds",
        "trunklog_tail_bytes",
    ] {
        assert!(metrics.contains(name), "no {name} in\n{metrics}");
    }
}

fn config(text: &str, arguments: &[&str]) -> std::process::Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trunklog.toml");
    std::fs::write(&file, text).unwrap();
    command().arg("config").args(arguments).arg("--config").arg(&file).current_dir(folder.path()).output().unwrap()
}

#[test]
fn wrong_configuration_is_refused_by_name() {
    for (text, name) in [
        ("listne = \"127.0.0.1:1\"\n", "listne"),
        ("[tenants.acme]\nkazoo.callfolw = {}\n", "callfolw"),
        ("[tenants.acme]\ntime_zone = \"Europe/Atlantis\"\n", "Atlantis"),
        ("[tenants.acme]\ntimeout.placetel = \"4 parsecs\"\n", "parsecs"),
        ("listen = 5\n", "listen"),
    ] {
        let output = config(text, &[]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(name), "{text}: {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
}

#[test]
fn config_prints_what_is_in_force_and_where_it_came_from() {
    let output = config("listen = \"127.0.0.1:9999\"\n[tenants.acme]\ncountry = \"DE\"\n", &["--pg-listen", "off"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for word in ["127.0.0.1:9999", "trunklog.toml", "--pg-listen", "DE", "50051"] {
        assert!(text.contains(word), "`{word}` is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_asks_the_running_server() {
    let mut server = Server::start();
    let key = server.key("acme", &["ingest:*"]);
    server.post_form("/in/placetel", &key, &format!("{CALL}a")).await.expect(200);
    let sql = "SELECT call_key, state FROM calls";
    let running = server.run(&["sql", sql]);
    assert!(running.contains('a') && running.contains("open"), "{running}");
    let lines = server.run(&["sql", sql, "--format", "ndjson"]);
    assert_eq!(serde_json::from_str::<Value>(lines.trim()).unwrap(), json!({"call_key": "a", "state": "open"}));
    server.run(&["flush"]);
    assert!(server.run(&["tenants"]).contains("acme"));
    server.stop();
    assert_eq!(server.run(&["sql", sql, "--format", "ndjson"]), lines, "and without a server it reads itself");
}

#[test]
fn beyond_loopback_it_listens_only_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut serve = command();
    serve.args(["serve", "--listen", "0.0.0.0:0", "--pg-listen", "off", "--flight-listen", "off", "--data-dir"]);
    let output = serve.arg(folder.path().join("data")).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("insecure-bind"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_not_the_tenants_is_refused() {
    let config = "[tenants.acme]\nkazoo.accounts = [\"0123456789abcdef0123456789abcdef\"]\nkazoo.callflow.\"*\" = { module = \"resources\", data = {} }\n";
    let server = Server::start_with(Options { config: Some(config.to_owned()), ..Options::default() });
    let (key, query) = (server.key("acme", &["ingest:*"]), server.key("acme", &["query"]));
    let pivot = |account: &str| format!("/in/kazoo/pivot?Call-ID=a&From=1&To=2&Account-ID={account}");
    server.get(&pivot("0123456789abcdef0123456789abcdef"), &key).await.expect(200);
    server.get(&pivot("ffffffffffffffffffffffffffffffff"), &key).await.expect(403);
    assert_eq!(server.sql(&query, "SELECT count(*) FROM events").await.number(), 1);
}
