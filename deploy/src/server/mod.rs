//! `trunklog serve`: opens the archive, wires the crates together, listens, and drains when told to stop.
//!
//! Order of the end: no new connections; requests under way finish; the archive syncs and folds; the lock goes.

mod access;
mod admin;
mod contacts;
mod demo;
pub mod directory;
mod duties;
mod fetches;
mod health;
mod keys;
mod listener;
mod metrics;
mod parameters;
mod patience;
mod problem;
mod recorded;
mod routes;
pub mod runtimes;
pub mod shared_settings;
mod signals;
pub mod socket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use trunklog_ingest::IngestState;
use trunklog_ingest::fetch::FetchQueue;
use trunklog_ingest::settings::SharedSettings;
use trunklog_query::recordings::RecordingCache;
use trunklog_query::{QueryEngine, QueryState, Workers};
use trunklog_storage::keys::{Keys, NewKey};
use trunklog_storage::links::Links;
use trunklog_storage::media::Media;
use trunklog_storage::partitions::Partitions;

use crate::config::{Checked, Overrides, Role};
use crate::error::Error;
use crate::output;
use duties::Duties;
pub use keys::shown as shown_key;
use patience::patiently;
use problem::Problem;
use runtimes::Background;

/// Requests under way have this long to finish.
const DRAIN_TIME: Duration = Duration::from_secs(30);

/// What our own routes need; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    pub archive: Partitions,
    pub keys: Keys,
    pub settings: SharedSettings,
    role: Role,
    /// What this node was started with.
    overrides: Arc<Overrides>,
    background: Handle,
    metrics: Option<PrometheusHandle>,
    started: Instant,
    draining: Arc<AtomicBool>,
}

impl AppState {
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// An open archive with everything that answers questions about it.
pub struct Opened {
    pub state: AppState,
    engine: Arc<QueryEngine>,
    query: QueryState,
    fetcher: FetchQueue,
}

impl Opened {
    /// Takes the data directory's lock, recovers, and reads the keys. Queries run on `workers`, other work that may
    /// take all cores on `background`.
    pub async fn open(config: &Checked, background: Handle, workers: Workers) -> Result<Opened, Error> {
        let settings = SharedSettings::new(config.settings.clone());
        let decoder = trunklog_ingest::adapters(settings.clone());
        directory::make(&config.data_dir)?;
        let archive = Partitions::open(config.archive.clone(), decoder).await?;
        // After the archive: whoever has the log's lock may empty the folder of unfinished uploads.
        let media = Media::open(config.media.clone())?;
        let shared = config.archive.bucket.as_ref().filter(|_| config.archive.is_shared());
        let (keys, links) = patiently(async || {
            let opened = match shared {
                Some(bucket) => {
                    (Keys::shared(bucket, &config.data_dir).await?, Links::shared(bucket, &config.data_dir).await?)
                }
                None => (Keys::open(&config.data_dir)?, Links::open(&config.data_dir)?),
            };
            Ok(opened)
        })
        .await?;
        let engine = Arc::new(QueryEngine::new(archive.clone(), config.query.clone(), workers));
        let fetcher = FetchQueue::start(archive.clone(), media.clone(), settings.clone(), background.clone());
        let for_links = settings.clone();
        let query = QueryState {
            engine: Arc::clone(&engine),
            keys: keys.clone(),
            media,
            links,
            public_url: Arc::new(move || for_links.load().public_url.clone()),
            cache: RecordingCache::new(config.data_dir.join("objects/.tmp")),
            stopping: CancellationToken::new(),
        };
        let (started, draining) = (Instant::now(), Arc::default());
        let role = config.role;
        let overrides = Arc::default();
        let state = AppState { archive, keys, settings, role, overrides, background, metrics: None, started, draining };
        Ok(Opened { state, engine, query, fetcher })
    }

    /// What the administrator on this machine may ask.
    pub fn local_router(&self) -> Router {
        routes::local(self.state.clone(), self.query.clone())
    }

    fn public_router(&self) -> Router {
        let ingest = IngestState {
            archive: self.state.archive.clone(),
            keys: self.state.keys.clone(),
            settings: self.state.settings.clone(),
            contacts: Arc::new(contacts::KnownCallers::new(Arc::clone(&self.engine))),
            media: self.query.media.clone(),
            fetcher: self.fetcher.clone(),
            recorded: Arc::new(recorded::ServedRecordings::new(self.query.clone())),
        };
        routes::public(self.state.clone(), ingest, self.query.clone())
    }

    fn duties(&self) -> Duties {
        Duties {
            archive: self.state.archive.clone(),
            engine: Arc::clone(&self.engine),
            query: self.query.clone(),
            fetcher: self.fetcher.clone(),
        }
    }
}

/// Runs the server until it is told to stop.
pub fn run(overrides: &Overrides, with_demo: bool) -> Result<(), Error> {
    check(&overrides.load()?)?;
    let serving = runtimes::serving()?;
    let background = Background::start()?;
    let outcome = serving.block_on(serve(overrides, with_demo, &background));
    background.shutdown(Duration::from_secs(2));
    serving.shutdown_timeout(Duration::from_secs(2));
    outcome
}

fn check(config: &Checked) -> Result<(), Error> {
    if config.role != Role::All && !config.archive.is_shared() {
        let role = config.role.as_str();
        let reason = "the embedded log and local tables belong to one process, which does everything; use `--role all`, \
                      or name a topic (`kafka.brokers`) and a bucket (`store.url`)";
        return Err(Error::Usage(format!("`--role {role}` needs a log and tables that nodes share: {reason}")));
    }
    if !config.listen.ip().is_loopback() && !config.insecure_bind {
        let reason = "without TLS keys and calls would cross the network in clear text; put a proxy with TLS in front \
                      and listen on loopback, or say `--insecure-bind`";
        return Err(Error::Usage(format!("will not listen on {}: {reason}", config.listen)));
    }
    for (name, key, listen) in
        [("Postgres wire", "pg_listen", config.pg_listen), ("Flight SQL", "flight_listen", config.flight_listen)]
    {
        if config.is_set(key) && listen.0.is_some() {
            tracing::warn!(address = %listen, "this version does not serve {name} yet");
        }
    }
    Ok(())
}

async fn serve(overrides: &Overrides, with_demo: bool, background: &Background) -> Result<(), Error> {
    let (config, overrides, shared) = patiently(|| shared_settings::load(overrides)).await?;
    let handle = metrics::start();
    // Before the archive, so that a taken address costs no recovery; nobody is answered before it is open.
    let network = listener::bind(config.listen).map_err(Error::io(format!("listening on {}", config.listen)))?;
    let address = network.local_addr().map_err(Error::io("asking for the address"))?;
    let mut opened = Opened::open(&config, background.lower.handle().clone(), background.workers()).await?;
    opened.state.metrics = handle.clone();
    opened.state.overrides = Arc::new(overrides.clone());
    let socket = socket::bind(&config.data_dir)?;
    print_first_key(&opened.state.keys)?;
    if let Some(handle) = handle {
        tokio::spawn(metrics::keep_small(handle));
    }

    opened.duties().begin()?;
    let stop = opened.query.stopping.clone();
    let data_dir = config.data_dir.clone();
    signals::watch(opened.state.clone(), config, (overrides, shared), stop.clone())?;
    output::line(&format!("listening http={address} pg=off flight=off"));
    let demo = if with_demo { Some(demo::start(&opened.state, address, stop.clone())?) } else { None };
    let superseded = opened.state.archive.superseded();
    let served = tokio::select! {
        served = answer(&opened, network, socket, &stop) => served,
        // There is nothing to drain: what was acknowledged is in the log, and who has the tables now folds it.
        () = superseded.cancelled() => {
            stop.cancel();
            socket::unbind(&data_dir);
            return Err(Error::Usage("another node has taken the tables over".to_owned()));
        }
    };
    stop.cancel();
    socket::unbind(&data_dir);
    if let Some(demo) = demo {
        demo.abort();
    }
    tracing::info!("draining");
    opened.fetcher.drain(DRAIN_TIME).await;
    let closed = opened.state.archive.close().await;
    tracing::info!("stopped");
    served.and(closed.map_err(Error::from))
}

/// The first start makes an administrator; its key is shown this once.
fn print_first_key(keys: &Keys) -> Result<(), Error> {
    if keys.list().iter().any(|key| key.scopes.iter().any(|scope| scope == "admin")) {
        return Ok(());
    }
    let created = keys.create(NewKey { scopes: vec!["admin".to_owned()], ..NewKey::default() })?;
    output::line(&format!("admin key: {}", created.token));
    Ok(())
}

/// Answers on both listeners until `stop`, then waits for what is under way.
async fn answer(
    opened: &Opened,
    network: TcpListener,
    socket: UnixListener,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let public = listener::serve(network, opened.public_router(), stop);
    let local = axum::serve(socket, opened.local_router()).with_graceful_shutdown(stop.clone().cancelled_owned());
    let both = async { tokio::join!(public, local.into_future()).1 };
    let mut both = std::pin::pin!(both);
    let ended = tokio::select! {
        ended = &mut both => ended,
        () = stop.cancelled() => match tokio::time::timeout(DRAIN_TIME, both).await {
            Ok(ended) => ended,
            Err(_) => {
                tracing::warn!("some requests did not finish in time and were broken off");
                return Ok(());
            }
        },
    };
    ended.map_err(Error::io("serving"))
}

/// Work that syncs files does not belong on the threads that serve.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, trunklog_storage::error::Error> + Send + 'static,
) -> Result<T, Problem> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(task_failed)??)
}

fn task_failed(error: tokio::task::JoinError) -> Problem {
    tracing::error!(%error, "a task failed");
    Problem::internal()
}
