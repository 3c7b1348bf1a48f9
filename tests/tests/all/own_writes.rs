//! Read your writes: whoever has the 2xx finds the message by the next statement, in SQL and in the list of calls,
//! while everything is being folded and compacted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use trunklog_tests::{Server, number_of, size};

const CLIENTS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_clients_find_what_they_sent() {
    let server = Arc::new(Server::start());
    let (key, query) = (server.key("acme", &["ingest:*"]), server.key("acme", &["query"]));
    let rounds = size("TRUNKLOG_OWN_WRITES", 800) / CLIENTS;
    let stop = Arc::new(AtomicBool::new(false));
    let folding = tokio::spawn(keep_folding(Arc::clone(&server), Arc::clone(&stop)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| tokio::spawn(post_and_ask(Arc::clone(&server), key.clone(), query.clone(), client, rounds)))
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    folding.await.unwrap();
    let count = server.sql(&query, "SELECT count(*) FROM calls").await.number();
    assert_eq!(count, i64::try_from(rounds * CLIENTS).unwrap());
}

async fn keep_folding(server: Arc<Server>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        server.flush().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn post_and_ask(server: Arc<Server>, key: String, query: String, client: usize, rounds: usize) {
    for round in 0..rounds {
        let name = format!("own-{client}-{round}");
        let form = format!("event=IncomingCall&from=022129191999&to=022199998560&call_id={name}&direction=in");
        let offset = server.post_form("/in/placetel", &key, &form).await.expect(200).offset();
        if round % 2 == 0 {
            let sql = "SELECT 'events', count(*) FROM events WHERE call_key = $1
                       UNION ALL SELECT 'calls', count(*) FROM calls WHERE call_key = $1 AND state = 'open'
                       UNION ALL SELECT 'legs', count(*) FROM legs WHERE call_key = $1";
            let table = server.sql_with(&query, sql, json!([name])).await;
            assert_eq!(table.rows.len(), 3);
            assert!(table.rows.iter().all(|row| row[1] == json!(1)), "{name}: {:?}", table.rows);
            assert!(number_of(table.as_of["offset"].to_string().trim_matches('"')) >= offset.unwrap());
        } else {
            let list = server.get(&format!("/v1/calls?call_key={name}"), &query).await.expect(200).json();
            assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{name}: {list}");
        }
    }
}
