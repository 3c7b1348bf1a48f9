//! Small recordings share one file and one sync: group commit.
//!
//! Groups form while the previous sync (or put into a bucket) runs: the packer takes all that waits, writes one file per
//! tenant and day, syncs them, answers. Whoever comes alone gets a file of its own. The thread ends with the last handle of the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::keep::{Place, Placed};
use super::remote::{self, Content};
use super::temporary::Temporary;
use super::tree::Tree;
use super::write_failed;
use crate::bucket::Bucket;
use crate::error::{Context, Error};

/// So many recordings may wait; senders of more wait to be let in.
const QUEUE_LIMIT: usize = 1024;

/// A group is at most about this long.
const GROUP_BYTES: usize = 16 << 20;

struct Request {
    place: Place,
    sha256: String,
    bytes: Vec<u8>,
    reply: oneshot::Sender<Result<String, Error>>,
}

/// The way to the packer.
pub(super) struct Packer {
    queue: mpsc::Sender<Request>,
}

impl Packer {
    /// Starts the thread.
    pub fn start(tree: Arc<Tree>) -> Result<Packer, Error> {
        let (queue, mut requests) = mpsc::channel(QUEUE_LIMIT);
        let thread = std::thread::Builder::new().name("media-packer".into());
        let run = move || {
            while let Some(first) = requests.blocking_recv() {
                commit(&tree, group(first, &mut requests));
            }
        };
        thread.spawn(run).context("starting the packer of small recordings")?;
        Ok(Packer { queue })
    }

    /// The same for a bucket, as a task of the runtime that this is called in.
    pub fn start_in(bucket: Bucket) -> Result<Packer, Error> {
        let (queue, mut requests) = mpsc::channel(QUEUE_LIMIT);
        let runtime =
            Handle::try_current().map_err(|error| Error::Config(format!("recordings in a bucket: {error}")))?;
        runtime.spawn(async move {
            while let Some(first) = requests.recv().await {
                let days = by_day(group(first, &mut requests)).into_values();
                join_all(days.map(|members| put(&bucket, members))).await;
            }
        });
        Ok(Packer { queue })
    }

    /// Keeps a small recording; it is durable when this returns. Gives its object key.
    pub async fn keep(&self, place: Place, sha256: String, bytes: Vec<u8>) -> Result<String, Error> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Request { place, sha256, bytes, reply }).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

/// All that waits.
fn group(first: Request, requests: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut bytes = first.bytes.len();
    let mut group = vec![first];
    while bytes < GROUP_BYTES {
        let Ok(request) = requests.try_recv() else { break };
        bytes += request.bytes.len();
        group.push(request);
    }
    group
}

/// By tenant and day. Whoever went away meanwhile is not stored: nobody would ever name it.
fn by_day(group: Vec<Request>) -> BTreeMap<(String, String), Vec<Request>> {
    let mut days: BTreeMap<(String, String), Vec<Request>> = BTreeMap::new();
    for request in group.into_iter().filter(|request| !request.reply.is_closed()) {
        days.entry((request.place.tenant.clone(), request.place.day.clone())).or_default().push(request);
    }
    days
}

/// All files are written before the first is synced: its journal commit carries the entries of the others.
fn commit(tree: &Arc<Tree>, group: Vec<Request>) {
    let days = by_day(group).into_values();
    let placed: Vec<_> = days.map(|members| (write(tree, &members), members)).collect();
    for (placed, members) in placed {
        answer(placed.and_then(Placed::sync), members);
    }
}

/// Where the members go, and of which digest they are if they are one.
fn place(members: &[Request]) -> Result<(Place, Option<&str>), Error> {
    match members {
        [] => Err(Error::Closed),
        [alone] => Ok((alone.place.clone(), Some(&alone.sha256))),
        [first, ..] => Ok((Place { name: format!("{}.pack", Uuid::now_v7().simple()), ..first.place.clone() }, None)),
    }
}

async fn put(bucket: &Bucket, members: Vec<Request>) {
    let kept = async {
        let (place, sha256) = place(&members)?;
        let bytes = members.iter().map(|member| member.bytes.as_slice()).collect::<Vec<_>>().concat();
        remote::keep(bucket, &Content::Memory(bytes.into()), place, sha256).await
    };
    answer(kept.await, members);
}

/// Writes the members one after the other into a new file and puts it in its place.
fn write(tree: &Arc<Tree>, members: &[Request]) -> Result<Placed, Error> {
    let (place, sha256) = place(members)?;
    let failed = |error| write_failed(error, format!("writing `{}`", place.key()));
    let temporary = Temporary::create(tree).map_err(failed)?;
    members.iter().try_for_each(|member| temporary.append(&member.bytes)).map_err(failed)?;
    Placed::put(tree, temporary, place, sha256)
}

fn answer(kept: Result<String, Error>, members: Vec<Request>) {
    let alone = members.len() == 1;
    let mut offset = 0;
    for member in members {
        let length = member.bytes.len();
        let key = match &kept {
            Ok(file) if alone => Ok(file.clone()),
            Ok(file) => Ok(format!("{file}#{offset}+{length}")),
            Err(error) => Err(again(error)),
        };
        offset += length;
        // A sender that went away is told nothing; what it sent is swept with its file.
        let _ = member.reply.send(key);
    }
}

/// The same failure once more: every member of a group gets its own.
fn again(error: &Error) -> Error {
    match error {
        Error::Full(reason) => Error::Full(reason.clone()),
        Error::Config(reason) => Error::Config(reason.clone()),
        Error::Closed => Error::Closed,
        Error::Io { context, source } => {
            Error::Io { context: context.clone(), source: std::io::Error::new(source.kind(), source.to_string()) }
        }
        other => Error::Io { context: "storing recordings".into(), source: std::io::Error::other(other.to_string()) },
    }
}
