//! An answer as a body: in one piece if it is small, so that a limit reached late is still a proper answer; else a
//! stream that is cut off, never ended cleanly, when something fails.

use std::io;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout_at;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Limit, QueryError};
use crate::format::{Encoder, Format};
use crate::moment::AsOf;
use crate::session::Running;

/// Answers up to this size are sent in one piece.
const WHOLE_BYTES: usize = 64 << 20;
const PIECES_AHEAD: usize = 4;

/// A piece of the body; `None` says that it is complete.
type Piece = Result<Option<Bytes>, QueryError>;

/// The body's bytes, encoded on the query runtime. Dropping it stops the query.
struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    _task: AbortOnDropHandle<()>,
}

impl Pieces {
    fn start(runtime: &Handle, running: Running, encoder: Box<dyn Encoder>) -> Pieces {
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let task = runtime.spawn(async move {
            let last = encode(running, encoder, &sender).await.map(|()| None);
            // An error here means that the client has gone.
            let _ = sender.send(last).await;
        });
        Pieces { receiver, _task: AbortOnDropHandle::new(task) }
    }

    async fn next(&mut self) -> Piece {
        self.receiver.recv().await.unwrap_or_else(|| Err(QueryError::Internal("encoding failed".into())))
    }
}

async fn encode(
    mut running: Running,
    mut encoder: Box<dyn Encoder>,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), QueryError> {
    while let Some(batch) = running.next().await? {
        let bytes = encoder.batch(&batch)?;
        if !bytes.is_empty() && !send(&running, sender, bytes).await? {
            return Ok(());
        }
    }
    let bytes = encoder.finish()?;
    send(&running, sender, bytes).await?;
    Ok(())
}

/// A client that does not read holds a place only until the query's time is over.
async fn send(running: &Running, sender: &mpsc::Sender<Piece>, bytes: Vec<u8>) -> Result<bool, QueryError> {
    match timeout_at(running.deadline(), sender.send(Ok(Some(bytes.into())))).await {
        Ok(sent) => Ok(sent.is_ok()),
        Err(_) => Err(QueryError::Limit { limit: Limit::Time, detail: "the answer was not read in time".into() }),
    }
}

/// The answer in the given form.
pub(super) async fn answer(
    runtime: &Handle,
    running: Running,
    format: Format,
    as_of: AsOf,
) -> Result<Response, QueryError> {
    let encoder = format.encoder(running.schema(), as_of)?;
    let mut pieces = Pieces::start(runtime, running, encoder);
    let mut whole: Vec<Bytes> = Vec::new();
    let mut size = 0;
    while size <= WHOLE_BYTES {
        match pieces.next().await? {
            Some(bytes) => {
                size += bytes.len();
                whole.push(bytes);
            }
            None => return Ok(dress(Body::from(join(whole, size)), format, as_of)),
        }
    }
    let first = stream::iter(whole.into_iter().map(Ok::<Bytes, io::Error>));
    Ok(dress(Body::from_stream(first.chain(rest(pieces))), format, as_of))
}

fn rest(pieces: Pieces) -> impl futures::Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
    stream::unfold(Some(pieces), |pieces| async move {
        let mut pieces = pieces?;
        match pieces.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(pieces))),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(error = error.kind(), "an answer was cut off");
                Some((Err(io::Error::other(error.kind().to_owned())), None))
            }
        }
    })
}

fn join(mut pieces: Vec<Bytes>, size: usize) -> Bytes {
    if pieces.len() == 1 {
        return pieces.swap_remove(0);
    }
    let mut whole = Vec::with_capacity(size);
    pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
    whole.into()
}

fn dress(body: Body, format: Format, as_of: AsOf) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    if format != Format::Json {
        put_as_of(headers, as_of);
    }
    response
}

/// Says what the answer was read at, which a body that is not JSON cannot say itself.
pub(super) fn put_as_of(headers: &mut HeaderMap, as_of: AsOf) {
    if let Ok(value) = HeaderValue::from_str(&as_of.to_header()) {
        headers.insert("trunklog-as-of", value);
    }
}
