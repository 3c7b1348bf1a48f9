//! What an upload holds: the media, received but not yet kept, and what came with it.

use std::sync::Arc;

use tokio::sync::Mutex;
use trunklog_storage::media::{Media, Received, Receiver};

use super::body::Incoming;
use super::parts::{self, Expected, Parts};
use crate::reject::Refusal;

/// An upload that came whole.
pub(super) struct Content {
    /// The media; gone when this is dropped.
    pub received: Received,
    /// What came with it.
    pub parts: Parts,
    /// Bytes of the body.
    pub transferred: u64,
}

/// What the request's head says about its body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    /// Content type as sent.
    pub content_type: Option<&'a str>,
    /// Content length.
    pub length: Option<u64>,
    /// What to expect of a multipart body.
    pub expected: Expected,
}

/// Reads the whole body. A body that is not multipart is the media, byte by byte.
///
/// # Errors
/// Those of [`Incoming`] and of [`parts::read`]; 503 if the disk is full or fails. Nothing is kept then.
pub(super) async fn read(media: &Media, incoming: &Arc<Mutex<Incoming>>, head: &Head<'_>) -> Result<Content, Refusal> {
    let mut receiver = media.receive(head.length)?;
    let boundary = head.content_type.filter(|_| head.length != Some(0)).and_then(parts::boundary);
    let parts = match boundary {
        Some(boundary) => parts::read(incoming, boundary, head.expected, &mut receiver).await?,
        None => {
            let mut incoming = incoming.lock().await;
            raw(&mut incoming, &mut receiver).await?;
            Parts { media_type: head.content_type.map(str::to_owned), ..Parts::default() }
        }
    };
    let mut incoming = incoming.lock().await;
    incoming.finish().await?;
    let received = receiver.finish().await?;
    Ok(Content { received, parts, transferred: incoming.transferred() })
}

async fn raw(incoming: &mut Incoming, receiver: &mut Receiver) -> Result<(), Refusal> {
    while let Some(bytes) = incoming.next().await? {
        receiver.write(bytes).await?;
    }
    Ok(())
}
