//! A trunklog server of one's own: started from the built binary, killed, started again on the same data.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::answer::{Answer, Table};
use crate::binary::command;
use crate::size;

/// How to start a server.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The configuration file's text; `{root}` is the folder of this server.
    pub config: Option<String>,
    /// Further files of its folder: name and text.
    pub files: Vec<(&'static str, &'static str)>,
    /// Stay on one port over restarts, so that a sender can go on.
    pub fixed_port: bool,
    /// Further arguments of `serve`.
    pub arguments: Vec<String>,
}

/// Where this run of the tests has servers store, if not on the local disk: `TRUNKLOG_TEST_BUCKET` is the address of a
/// bucket, `TRUNKLOG_TEST_BROKERS` names Kafka's brokers, `TRUNKLOG_TEST_PARTITIONS` says how many partitions topics have
/// (1). Each server gets a prefix and a topic of its own.
fn elsewhere() -> Option<String> {
    let name = format!("test-{:016x}", rand::rng().random::<u64>());
    let bucket = std::env::var("TRUNKLOG_TEST_BUCKET").ok();
    let bucket = bucket.map(|bucket| format!("\n[store]\nurl = \"{bucket}/{name}\"\n"));
    let brokers = std::env::var("TRUNKLOG_TEST_BROKERS").ok();
    let topic = brokers.map(|brokers| {
        let copies = brokers.split(',').count();
        let partitions = size("TRUNKLOG_TEST_PARTITIONS", 1);
        let place = format!("brokers = \"{brokers}\"\ntopic = \"{name}\"\npartitions = {partitions}");
        format!("\n[kafka]\n{place}\nreplication = {copies}\n")
    });
    (bucket.is_some() || topic.is_some()).then(|| [bucket, topic].into_iter().flatten().collect())
}

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// Method; empty for GET.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Sent as a bearer token.
    pub key: Option<&'a str>,
    /// Sent as the password of HTTP Basic.
    pub basic: Option<&'a str>,
    /// Further headers.
    pub headers: Vec<(&'a str, String)>,
    /// Content type of the body.
    pub content_type: Option<&'a str>,
    /// Body.
    pub body: Vec<u8>,
}

/// A running (or killed) server with its data.
pub struct Server {
    root: TempDir,
    options: Options,
    port: u16,
    child: Option<Child>,
    address: String,
    admin: Option<String>,
    lines: Arc<Mutex<Vec<String>>>,
    client: reqwest::Client,
}

impl Server {
    /// A fresh server without configuration.
    pub fn start() -> Server {
        Server::start_with(Options::default())
    }

    /// A fresh server.
    pub fn start_with(options: Options) -> Server {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let root = tempfile::Builder::new().prefix("trunklog-test-").tempdir().unwrap();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only(std::iter::empty::<reqwest::Certificate>())
            .timeout(Duration::from_secs(120))
            .build()
            .unwrap();
        let port = if options.fixed_port { port_outside_the_ephemeral_range() } else { 0 };
        let mut server = Server {
            root,
            options,
            port,
            child: None,
            address: String::new(),
            admin: None,
            lines: Arc::default(),
            client,
        };
        for (name, text) in &server.options.files {
            std::fs::write(server.root().join(name), text).unwrap();
        }
        if let Some(config) = elsewhere() {
            server.options.config.get_or_insert_default().push_str(&config);
        }
        if let Some(text) = &server.options.config {
            let text = text.replace("{root}", &server.root().display().to_string());
            std::fs::write(server.config_path(), text).unwrap();
        }
        server.launch();
        server
    }

    /// Starts the binary on the data directory and waits until it listens.
    pub fn launch(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match self.try_launch() {
                Ok(()) => return,
                Err(_) if Instant::now() < deadline && self.options.fixed_port => {
                    std::thread::sleep(Duration::from_millis(100))
                }
                Err(error) => panic!("{error}\n{}", self.log()),
            }
        }
    }

    fn try_launch(&mut self) -> Result<(), String> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let mut child = self.serve_command(&log).spawn().unwrap();
        let lines = read_lines(child.stdout.take().unwrap(), Arc::clone(&self.lines));
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let line = match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(_) => {
                    child.kill().ok();
                    return Err(format!("the server did not start: {:?}", child.wait()));
                }
            };
            if let Some(key) = line.strip_prefix("admin key: ") {
                self.admin = Some(key.trim().to_owned());
            }
            if let Some(rest) = line.strip_prefix("listening http=") {
                self.address = rest.split_whitespace().next().unwrap_or_default().to_owned();
                self.child = Some(child);
                return Ok(());
            }
        }
    }

    fn serve_command(&self, log: &File) -> Command {
        let mut serve = command();
        serve.arg("serve").arg("--data-dir").arg(self.data_dir());
        serve.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        serve.args(["--pg-listen", "off", "--flight-listen", "off"]);
        if self.options.config.is_some() {
            serve.arg("--config").arg(self.config_path());
        }
        serve.args(&self.options.arguments).current_dir(self.root());
        serve.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.try_clone().unwrap());
        serve
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks it to stop and waits until it has drained; it must say so by its exit status.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        let status = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status().unwrap();
        assert!(status.success());
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "graceful stop ended with {status}\n{}", self.log());
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().ok();
        child.wait().ok();
        panic!("the server did not stop within 60 s of SIGTERM\n{}", self.log());
    }

    /// Its folder: data, configuration, log.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.root().join("data")
    }

    /// The file that its standard error goes to.
    pub fn log_path(&self) -> PathBuf {
        self.root().join("server.log")
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read(self.log_path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn config_path(&self) -> PathBuf {
        self.root().join("trunklog.toml")
    }

    /// What it printed, over all starts.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The admin key of the first start.
    pub fn admin(&self) -> &str {
        self.admin.as_deref().expect("the first start prints the admin key")
    }

    /// Runs `trunklog ARGUMENTS… --data-dir DIR`.
    pub fn trunklog(&self, arguments: &[&str]) -> Output {
        let mut trunklog = command();
        trunklog.args(arguments).arg("--data-dir").arg(self.data_dir()).current_dir(self.root());
        if self.options.config.is_some() {
            trunklog.env("TRUNKLOG_CONFIG", self.config_path());
        }
        trunklog.stdin(Stdio::null()).output().unwrap()
    }

    /// The same; it must succeed. Gives what it printed.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.trunklog(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`trunklog {}`: {}\n{errors}", arguments.join(" "), output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// A new key of this tenant.
    #[track_caller]
    pub fn key(&self, tenant: &str, scopes: &[&str]) -> String {
        self.key_with(tenant, scopes, &[])
    }

    /// A new key with further arguments of `keys create`.
    #[track_caller]
    pub fn key_with(&self, tenant: &str, scopes: &[&str], further: &[&str]) -> String {
        let mut arguments = vec!["keys", "create", "--tenant", tenant];
        arguments.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
        arguments.extend(further);
        let token = self.run(&arguments).trim().to_owned();
        assert!(token.starts_with("tlk_") && !token.contains(char::is_whitespace), "the token stands alone: `{token}`");
        token
    }

    /// Sends a request.
    pub async fn send(&self, request: Request<'_>) -> Answer {
        self.try_send(request).await.unwrap_or_else(|error| panic!("{error:?}\n{}", self.log()))
    }

    /// Sends a request; an error means that no answer came.
    pub async fn try_send(&self, request: Request<'_>) -> Result<Answer, reqwest::Error> {
        let method = if request.method.is_empty() { "GET" } else { request.method };
        let url = format!("{}{}", self.url(), request.path);
        let mut builder = self.client.request(method.parse().unwrap(), url);
        if let Some(key) = request.key {
            builder = builder.bearer_auth(key);
        }
        if let Some(key) = request.basic {
            let value = BASE64.encode(format!("pbx:{key}"));
            builder = builder.header("authorization", format!("Basic {value}"));
        }
        if let Some(content_type) = request.content_type {
            builder = builder.header("content-type", content_type);
        }
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        let response = builder.body(request.body).send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().await?.to_vec() })
    }

    /// GET.
    pub async fn get(&self, path: &str, key: &str) -> Answer {
        self.send(Request { path, key: Some(key), ..Request::default() }).await
    }

    /// POST of a form, as it stands.
    pub async fn post_form(&self, path: &str, key: &str, form: &str) -> Answer {
        self.post(path, key, "application/x-www-form-urlencoded", form.as_bytes()).await
    }

    /// POST.
    pub async fn post(&self, path: &str, key: &str, content_type: &str, body: &[u8]) -> Answer {
        let (content_type, body) = (Some(content_type), body.to_vec());
        self.send(Request { method: "POST", path, key: Some(key), content_type, body, ..Request::default() }).await
    }

    /// POST of `/v1/sql`, with the whole answer.
    pub async fn post_sql(&self, key: &str, body: &Value) -> Answer {
        self.post("/v1/sql", key, "application/json", body.to_string().as_bytes()).await
    }

    /// Rows of a statement that must succeed.
    pub async fn sql(&self, key: &str, sql: &str) -> Table {
        self.sql_with(key, sql, json!([])).await
    }

    /// The same with parameters.
    pub async fn sql_with(&self, key: &str, sql: &str, params: Value) -> Table {
        let answer = self.post_sql(key, &json!({ "sql": sql, "params": params })).await;
        assert_eq!(answer.status, 200, "{sql}\n{}\n{}", answer.text(), self.log());
        Table::new(&answer.json())
    }

    /// `POST /v1/admin/flush`: the offset up to which everything is folded.
    pub async fn flush(&self) -> Value {
        self.post("/v1/admin/flush", self.admin(), "application/json", b"").await.expect(200).json()["offset"].clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Sends lines on as they come and keeps them, so that the pipe never fills.
fn read_lines(stdout: std::process::ChildStdout, kept: Arc<Mutex<Vec<String>>>) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            kept.lock().unwrap().push(line.clone());
            // Nobody listens any more once the server is up.
            sender.send(line).ok();
        }
    });
    receiver
}

/// A port that no outgoing connection takes while the server is down.
fn port_outside_the_ephemeral_range() -> u16 {
    let mut random = rand::rng();
    loop {
        let port = random.random_range(15_000..30_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
