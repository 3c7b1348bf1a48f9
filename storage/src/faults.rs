//! An object store that fails as told, or by dice: what tests put between a table and its files.
//!
//! What a real one does to its callers: an answer that is lost after the work was done, a 412 for a put that nobody
//! made or that was our own, a slow listing, errors of the disk below, reads that break off.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use parking_lot::Mutex;
use rustix::io::Errno;

use crate::lake::WrapStore;

/// How long a slow listing takes.
const SLOW: Duration = Duration::from_millis(300);

/// What is asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    Part,
    Complete,
    Get,
    List,
    Delete,
    /// And rename.
    Copy,
}

/// What happens instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It was done, but the caller learns only of a timeout.
    AnswerLost,
    /// 412, as clients report it for a create. `landed`: the object that is in the way is our own.
    Exists { landed: bool },
    /// 412 as it is. `landed`: the object that is in the way is our own.
    Precondition { landed: bool },
    /// It is done, late.
    Slow,
    /// Nothing was done: EIO.
    InputOutput,
    /// Nothing was done: ENOSPC.
    NoSpace,
    /// Half of the bytes come, then the connection breaks.
    ShortRead,
    /// Nothing was done, and no answer ever comes: the connection is dead. Of puts and gets.
    Silence,
}

impl Fault {
    fn lands(self) -> bool {
        matches!(self, Fault::AnswerLost | Fault::Exists { landed: true } | Fault::Precondition { landed: true })
    }

    fn error(self, location: &str) -> StoreError {
        let path = location.to_owned();
        let source = match self {
            Fault::AnswerLost => std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer came"),
            Fault::Exists { .. } => return StoreError::AlreadyExists { path, source: "412".into() },
            Fault::Precondition { .. } => return StoreError::Precondition { path, source: "412".into() },
            Fault::ShortRead => std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the connection broke"),
            Fault::Slow | Fault::InputOutput | Fault::Silence => Errno::IO.into(),
            Fault::NoSpace => Errno::NOSPC.into(),
        };
        StoreError::Generic { store: "FaultyStore", source: Box::new(source) }
    }
}

/// What can happen to an operation; a 412 only to a commit.
fn possible(operation: Operation, is_commit: bool) -> &'static [Fault] {
    use Fault::{AnswerLost, Exists, InputOutput, NoSpace, Precondition, ShortRead, Slow};
    match operation {
        Operation::Put if is_commit => &[
            AnswerLost,
            Exists { landed: true },
            Exists { landed: false },
            Precondition { landed: true },
            Precondition { landed: false },
            InputOutput,
            NoSpace,
        ],
        Operation::Put | Operation::Part | Operation::Complete | Operation::Copy => &[AnswerLost, InputOutput, NoSpace],
        Operation::Get => &[InputOutput, ShortRead],
        Operation::List => &[Slow, InputOutput],
        Operation::Delete => &[InputOutput],
    }
}

/// One planned fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub operation: Operation,
    /// The table; empty: any.
    pub table: &'static str,
    /// What the path must contain.
    pub path: &'static str,
    /// So many go well before.
    pub skip: u32,
    /// So many fail then.
    pub times: u32,
    pub fault: Fault,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    /// A small generator, and how rarely it strikes: one of so many.
    dice: Option<(u64, u64)>,
    struck: u64,
}

/// The plan that the stores of one archive share.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    state: Mutex<State>,
}

impl Faults {
    /// Puts this plan between every table and its files.
    pub fn wrapper(self: &Arc<Self>) -> WrapStore {
        let faults = Arc::clone(self);
        Arc::new(move |inner: Arc<dyn ObjectStore>, table: &str| -> Arc<dyn ObjectStore> {
            Arc::new(FaultyStore { inner, faults: Arc::clone(&faults), table: table.to_owned() })
        })
    }

    /// Adds a planned fault.
    pub fn plan(&self, rule: Rule) {
        self.state.lock().rules.push(rule);
    }

    /// From here on one of so many operations fails, by this seed.
    pub fn roll(&self, seed: u64, one_of: u64) {
        self.state.lock().dice = Some((seed, one_of));
    }

    /// Everything goes well from here on.
    pub fn calm(&self) {
        let mut state = self.state.lock();
        state.rules.clear();
        state.dice = None;
    }

    /// How many operations have failed.
    pub fn struck(&self) -> u64 {
        self.state.lock().struck
    }

    fn strike(&self, operation: Operation, table: &str, location: &str, is_commit: bool) -> Option<Fault> {
        let mut state = self.state.lock();
        let fault = state.planned(operation, table, location).or_else(|| state.rolled(operation, is_commit))?;
        state.struck += 1;
        Some(fault)
    }
}

impl State {
    fn planned(&mut self, operation: Operation, table: &str, location: &str) -> Option<Fault> {
        let rule = self.rules.iter_mut().find(|rule| {
            rule.operation == operation
                && rule.times > 0
                && (rule.table.is_empty() || rule.table == table)
                && location.contains(rule.path)
        })?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault)
    }

    fn rolled(&mut self, operation: Operation, is_commit: bool) -> Option<Fault> {
        let (state, one_of) = self.dice.as_mut()?;
        let mut roll = |sides: u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 33) % sides
        };
        let struck = roll(*one_of) == 0;
        let faults = possible(operation, is_commit);
        let index = usize::try_from(roll(faults.len() as u64)).unwrap_or_default();
        struck.then(|| faults[index])
    }
}

/// A store that meets the faults of a plan.
#[derive(Clone, Debug)]
struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    faults: Arc<Faults>,
    table: String,
}

impl FaultyStore {
    fn strike(&self, operation: Operation, location: &str) -> Option<Fault> {
        self.faults.strike(operation, &self.table, location, false)
    }

    /// What a listing gives, or not.
    fn listed(&self, prefix: Option<&Path>, offset: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let location = prefix.map(ToString::to_string).unwrap_or_default();
        let found = match offset {
            Some(offset) => self.inner.list_with_offset(prefix, offset),
            None => self.inner.list(prefix),
        };
        match self.strike(Operation::List, &location) {
            None => found,
            Some(Fault::Slow) => futures::stream::once(async move {
                tokio::time::sleep(SLOW).await;
                found
            })
            .flatten()
            .boxed(),
            Some(fault) => futures::stream::iter([Err(fault.error(&location))]).boxed(),
        }
    }
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "FaultyStore({}, {})", self.table, self.inner)
    }
}

fn is_commit(location: &Path, mode: &PutMode) -> bool {
    let location = location.as_ref();
    *mode == PutMode::Create && location.contains("_delta_log/") && location.ends_with(".json")
}

/// The first half of what would have come.
async fn cut_off(result: GetResult, location: &Path) -> Result<GetResult> {
    let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
    let bytes = result.bytes().await?;
    let pieces = [Ok(bytes.slice(..bytes.len() / 2)), Err(Fault::ShortRead.error(location.as_ref()))];
    let payload = GetResultPayload::Stream(futures::stream::iter(pieces).boxed());
    Ok(GetResult { payload, meta, range, attributes })
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let is_commit = is_commit(location, &options.mode);
        let Some(fault) = self.faults.strike(Operation::Put, &self.table, location.as_ref(), is_commit) else {
            return self.inner.put_opts(location, payload, options).await;
        };
        if fault == Fault::Silence {
            return std::future::pending().await;
        }
        if fault.lands() {
            self.inner.put_opts(location, payload, options).await?;
        }
        Err(fault.error(location.as_ref()))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(FaultyUpload { inner, store: self.clone(), location: location.to_string() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.strike(Operation::Get, location.as_ref()) {
            None => self.inner.get_opts(location, options).await,
            Some(Fault::ShortRead) => cut_off(self.inner.get_opts(location, options).await?, location).await,
            Some(Fault::Silence) => std::future::pending().await,
            Some(fault) => Err(fault.error(location.as_ref())),
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        match self.strike(Operation::Get, location.as_ref()) {
            None => self.inner.get_ranges(location, ranges).await,
            Some(fault) => Err(fault.error(location.as_ref())),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.strike(Operation::Delete, "") {
            None => self.inner.delete_stream(locations),
            Some(fault) => futures::stream::iter([Err(fault.error(""))]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let location = prefix.map(ToString::to_string).unwrap_or_default();
        match self.strike(Operation::List, &location) {
            None => {}
            Some(Fault::Slow) => tokio::time::sleep(SLOW).await,
            Some(fault) => return Err(fault.error(&location)),
        }
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let Some(fault) = self.strike(Operation::Copy, to.as_ref()) else {
            return self.inner.copy_opts(from, to, options).await;
        };
        if fault.lands() {
            self.inner.copy_opts(from, to, options).await?;
        }
        Err(fault.error(to.as_ref()))
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let Some(fault) = self.strike(Operation::Copy, to.as_ref()) else {
            return self.inner.rename_opts(from, to, options).await;
        };
        if fault.lands() {
            self.inner.rename_opts(from, to, options).await?;
        }
        Err(fault.error(to.as_ref()))
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    store: FaultyStore,
    location: String,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let Some(fault) = self.store.strike(Operation::Part, &self.location) else { return self.inner.put_part(data) };
        let part = fault.lands().then(|| self.inner.put_part(data));
        let error = fault.error(&self.location);
        Box::pin(async move {
            if let Some(part) = part {
                part.await?;
            }
            Err(error)
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let Some(fault) = self.store.strike(Operation::Complete, &self.location) else {
            return self.inner.complete().await;
        };
        if fault.lands() {
            self.inner.complete().await?;
        }
        Err(fault.error(&self.location))
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
