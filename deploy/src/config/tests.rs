use std::io::Write;

use super::layers::Layers;
use super::*;
use trunklog_ingest::settings::{RecordCalls, RecordFormat};
use trunklog_storage::event::Source;

const EXAMPLE: &str = r#"
listen = "127.0.0.1:9000"
[fold]
interval = "2s"
[defaults]
kazoo.callflow."*" = { module = "resources", data = {} }
timeout.placetel = "2h"
[tenants.acme]
country = "DE"
time_zone = "Europe/Berlin"
kazoo.accounts = ["0123456789abcdef0123456789abcdef"]
kazoo.callflow."100" = { module = "user", data = { id = "x" } }
placetel.answer."*" = "<Response/>"
voispeed.ivr."*" = ["command=1", "node_key=1"]
voispeed.alias.usercallid = ["ucid"]
planfix.contacts = "contacts.csv"
fetch.allow = ["pbx.acme.example", "*.acme.example:8443", "10.1.2.3!private", "[fd00::7]:8080!private"]
timeout.placetel = "4h"
timeout.placetel_ringing = "90m"
"#;

fn load(text: &str) -> Result<Checked, ConfigError> {
    load_with(text, Some("phone,contact_name,manager\n+49 (30) 123,Erika,103\n0301,Max,\n"))
}

fn load_with(text: &str, contacts: Option<&str>) -> Result<Checked, ConfigError> {
    let directory = tempfile_dir();
    let path = directory.join("trunklog.toml");
    std::fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
    if let Some(contacts) = contacts {
        std::fs::write(directory.join("contacts.csv"), contacts).expect("written");
    }
    let mut layers = Layers::default();
    let read = layers.read_file(&path);
    let checked = read.and_then(|()| Checked::new(layers));
    std::fs::remove_dir_all(directory).expect("removed");
    checked
}

fn tempfile_dir() -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("trunklog-config-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&directory).expect("created");
    directory
}

#[test]
fn the_example_of_the_manual_is_understood() {
    let checked = load(EXAMPLE).expect("is right");
    assert_eq!(checked.listen.port(), 9000);
    let acme = checked.settings.of("acme");
    assert_eq!(acme.country.as_deref(), Some("DE"));
    assert_eq!(acme.kazoo_callflow.len(), 2);
    assert_eq!(acme.voispeed_alias["usercallid"], ["ucid"]);
    assert_eq!(acme.planfix_contacts["4930123"].manager.as_deref(), Some("103"));
    assert_eq!(acme.planfix_contacts["0301"].manager, None);
    assert_eq!(acme.timeouts[&Source::Placetel], 4 * 3600 * 1_000_000);
    assert_eq!(acme.ringing_timeout, Some(90 * 60 * 1_000_000));
    let other = checked.settings.of("other");
    assert_eq!(other.kazoo_callflow.len(), 1);
    assert_eq!(other.timeouts[&Source::Placetel], 2 * 3600 * 1_000_000);
    assert_eq!(other.ringing_timeout, None);
    let shown = checked.shown();
    assert!(shown.iter().any(|(key, value, _)| key == "fold.interval" && value == "\"2s\""));
    assert!(shown.iter().any(|(key, _, origin)| key == "tenants.acme.country" && origin.ends_with("trunklog.toml")));
}

#[test]
fn unknown_keys_are_named_with_their_line() {
    let error = load("listen = \"127.0.0.1:1\"\nlisen = 1\n").expect_err("is wrong").to_string();
    assert!(error.contains("lisen") && error.contains("line 2"), "{error}");
    let error = load("[tenants.acme]\nkazoo.acounts = []\n").expect_err("is wrong").to_string();
    assert!(error.contains("acounts") && error.contains("line 2"), "{error}");
    let error = load("[tenants.acme]\ntime_zone = \"Europe/Nowhere\"\n").expect_err("is wrong").to_string();
    assert!(error.contains("Europe/Nowhere") && error.contains("line 2"), "{error}");
}

#[test]
fn contacts_may_come_later_but_must_be_right() {
    let checked = load_with(EXAMPLE, None).expect("is right");
    assert!(checked.settings.of("acme").planfix_contacts.is_empty());
    let error = load_with(EXAMPLE, Some("number,name\n1,x\n")).expect_err("is wrong").to_string();
    assert!(error.contains("tenants.acme.planfix.contacts") && error.contains("phone"), "{error}");
}

#[test]
fn values_that_nothing_could_run_with_name_their_key() {
    for (text, key) in [
        ("[log]\nqueue_limit = 0\n", "log.queue_limit"),
        ("[log]\nsegment_bytes = \"1000 KiB\"\n", "log.segment_bytes"),
        ("[log]\nsegment_bytes = \"5 GiB\"\n", "log.segment_bytes"),
        ("[log]\ntail_limit_bytes = 0\n", "log.tail_limit_bytes"),
        ("[fold]\nbytes = 0\n", "fold.bytes"),
        ("[fold]\ninterval = \"0s\"\n", "fold.interval"),
        ("[query]\nrows = 0\n", "query.rows"),
        ("[query]\nconcurrent = 0\n", "query.concurrent"),
        ("[query]\nmemory_bytes = 0\n", "query.memory_bytes"),
        ("[query]\ntime = \"0s\"\n", "query.time"),
        ("[query]\ntime = \"1500ms\"\n", "query.time"),
        ("[limits]\nmessage_bytes = 0\n", "limits.message_bytes"),
        ("[limits]\nreport_bytes = 0\n", "limits.report_bytes"),
        ("[limits]\nrecording_bytes = 0\n", "limits.recording_bytes"),
        ("[recordings]\nsmall_bytes = \"2 MiB\"\n", "recordings.small_bytes"),
        ("public_url = \"calls.acme.example\"\n", "public_url"),
        ("[defaults]\nkazoo.record.time_limit = \"1500ms\"\n", "defaults.kazoo.record.time_limit"),
        ("[tenants.acme]\nkazoo.record.time_limit = 0\n", "tenants.acme.kazoo.record.time_limit"),
        ("[tenants.acme]\nkazoo.record.format = \"ogg\"\n", "format"),
        ("[tenants.acme]\nfetch.allow = [\"https://pbx\"]\n", "tenants.acme.fetch.allow"),
        ("[tenants.acme]\nfetch.allow = [\"pbx.acme.example/rec\"]\n", "tenants.acme.fetch.allow"),
        ("[tenants.acme]\nfetch.allow = [\"pbx.acme.example!privat\"]\n", "tenants.acme.fetch.allow"),
        ("[defaults]\nfetch.allow = [\"\"]\n", "defaults.fetch.allow"),
        ("[tenants.acme]\ncountry = \"XX\"\n", "country"),
        ("[tenants.acme]\nkazoo.callflow.\"*\" = \"x\"\n", "tenants.acme.kazoo.callflow.\"*\""),
        ("[tenants.acme]\nkazoo.callflow.\"1\" = { data = {} }\n", "tenants.acme.kazoo.callflow.\"1\""),
        ("[defaults]\nplacetel.answer.\"*\" = \" \"\n", "defaults.placetel.answer.\"*\""),
    ] {
        let error = load(text).expect_err("is wrong").to_string();
        assert!(error.contains(key), "{text}: {error}");
    }
    let right = "[log]\nsegment_bytes = \"20 MiB\"\nqueue_limit = 1\n[query]\nqueued = 0\ntime = \"1s\"\n";
    assert_eq!(load(right).expect("is right").query.seconds, 1);
}

#[test]
fn recording_is_switched_on_and_off_by_tenant() {
    let text = r#"
public_url = "https://calls.acme.example/"
[limits]
recording_bytes = "1 GiB"
[defaults]
kazoo.record = { format = "wav", time_limit = "10m" }
[tenants.acme]
kazoo.record = { time_limit = "1h", caller_only = true }
[tenants.quiet]
kazoo.record.enabled = false
[tenants.plain]
kazoo.record = {}
"#;
    let checked = load(text).expect("is right");
    assert_eq!(checked.settings.public_url.as_deref(), Some("https://calls.acme.example"));
    assert_eq!((checked.media.limit_bytes, checked.media.small_bytes), (1 << 30, 64 << 10));
    let wav = RecordCalls { format: RecordFormat::Wav, time_limit_seconds: 600, caller_only: false };
    let of = |tenant: &str| checked.settings.of(tenant).kazoo_record;
    assert_eq!(of("other"), Some(wav));
    assert_eq!(of("plain"), Some(wav));
    assert_eq!(of("acme"), Some(RecordCalls { time_limit_seconds: 3600, caller_only: true, ..wav }));
    assert_eq!(of("quiet"), None);
    let shown: Vec<_> = checked.shown().into_iter().map(|(key, value, _)| format!("{key} = {value}")).collect();
    for line in ["defaults.kazoo.record.format = \"wav\"", "tenants.plain.kazoo.record = {}"] {
        assert!(shown.iter().any(|shown| shown == line), "{line}: {shown:?}");
    }
    let alone = load("[defaults]\nkazoo.record = {}\n").expect("is right");
    assert_eq!(alone.settings.of("any").kazoo_record, Some(RecordCalls::default()));
}

#[test]
fn what_a_reload_changes_needs_no_restart() {
    let load = |text: &str| load(text).expect("is right");
    let before = load("");
    let reloaded = "public_url = \"http://h\"\n[limits]\nreport_bytes = 9\n[defaults]\nkazoo.record = {}\n";
    assert!(before.needs_restart(&load(reloaded)).is_empty());
    let opened = load("[limits]\nrecording_bytes = 9\n[recordings]\nsmall_bytes = 0\n");
    assert_eq!(before.needs_restart(&opened), ["limits.recording_bytes", "recordings.small_bytes"]);
}

#[test]
fn variables_win_over_the_file_and_flags_over_variables() {
    let mut layers = Layers::default();
    let variables = [("TRUNKLOG_LISTEN", "127.0.0.1:1"), ("TRUNKLOG_QUERY_ROWS", "7"), ("HOME", "/")];
    layers
        .read_environment(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter())
        .expect("are right");
    layers.set("listen", Value::String("127.0.0.1:2".into()), "--listen").expect("is right");
    let checked = Checked::new(layers).expect("is right");
    assert_eq!((checked.listen.port(), checked.query.rows), (2, 7));
    let origins: Vec<_> = checked.shown().into_iter().map(|(key, _, origin)| (key, origin)).collect();
    assert!(origins.contains(&("listen".into(), "--listen".into())));
    assert!(origins.contains(&("query.rows".into(), "TRUNKLOG_QUERY_ROWS".into())));
    assert!(origins.contains(&("role".into(), "default".into())));
    let wrong = [("TRUNKLOG_LISEN".to_owned(), "x".to_owned())];
    let error = Layers::default().read_environment(wrong.into_iter()).expect_err("is wrong").to_string();
    assert!(error.contains("TRUNKLOG_LISEN"));
}

#[test]
fn secrets_of_libraries_may_come_from_the_environment() {
    let variables = [
        ("TRUNKLOG_KAFKA_BROKERS", "127.0.0.1:9092"),
        ("TRUNKLOG_KAFKA_OPTIONS_SASL_PASSWORD", "12345"),
        ("TRUNKLOG_STORE_URL", "s3://bucket"),
        ("TRUNKLOG_STORE_OPTIONS_AWS_REGION", "eu-south-1"),
    ];
    let mut layers = Layers::default();
    layers
        .read_environment(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter())
        .expect("are right");
    let checked = Checked::new(layers).expect("is right");
    let kafka = checked.archive.kafka.as_ref().expect("a topic");
    assert_eq!(kafka.options.get("sasl.password").map(String::as_str), Some("12345"));
    let shown = checked.shown();
    let shown =
        |wanted: &str| shown.iter().find(|(key, ..)| key == wanted).map(|(_, value, origin)| (&**value, &**origin));
    assert_eq!(shown("store.options.aws_region"), Some(("\"eu-south-1\"", "TRUNKLOG_STORE_OPTIONS_AWS_REGION")));
    assert_eq!(
        shown("kafka.options.\"sasl.password\""),
        Some(("\"(hidden)\"", "TRUNKLOG_KAFKA_OPTIONS_SASL_PASSWORD"))
    );
    let nameless = [("TRUNKLOG_KAFKA_OPTIONS_".to_owned(), "x".to_owned())];
    assert!(Layers::default().read_environment(nameless.into_iter()).is_err());
}

#[test]
fn every_key_is_shown() {
    let shown = Checked::new(Layers::default()).expect("is right").shown();
    let shown: Vec<_> = shown.iter().map(|(key, _, _)| key.as_str()).collect();
    assert_eq!(shown, KEYS);
}

#[test]
fn what_nodes_share_lies_under_the_file_of_each() {
    let directory = tempfile_dir();
    let file = directory.join("trunklog.toml");
    std::fs::write(&file, "[tenants.acme]\ncountry = \"IT\"\n").expect("written");
    let load = |shared: &str| {
        Overrides { file: Some(file.clone()), shared: Some(shared.into()), ..Overrides::default() }.load()
    };
    let checked =
        load("[tenants.acme]\ncountry = \"DE\"\ntime_zone = \"Asia/Tokyo\"\n[tenants.other]\n").expect("right");
    let origin = |key: &str| {
        checked.shown().into_iter().find(|(name, ..)| name == key).map(|(_, value, origin)| (value, origin))
    };
    let own = (Some("\"IT\"".to_owned()), Some(file.display().to_string()));
    assert_eq!(origin("tenants.acme.country").unzip(), own, "the node's own file wins");
    let shared = (Some("\"Asia/Tokyo\"".to_owned()), Some("config/settings.toml".to_owned()));
    assert_eq!(origin("tenants.acme.time_zone").unzip(), shared);
    for wrong in ["listen = \"127.0.0.1:1\"", "[store]\nurl = \"s3://x\"", "[tenants.acme]\ncolour = 1", "["] {
        let refused = load(wrong).expect_err("only what changes without a restart").to_string();
        assert!(refused.contains("config/settings.toml"), "{wrong}: {refused}");
    }
    std::fs::remove_dir_all(directory).expect("removed");
}
