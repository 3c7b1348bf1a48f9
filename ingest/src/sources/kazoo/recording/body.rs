//! The body of an upload, piece by piece: within its limit, not idle for long, and held against its digests.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;

use super::digest::Digests;
use crate::reject::Refusal;

/// A sender that is silent for longer is given up.
const IDLE: Duration = Duration::from_secs(60);

/// A body on its way in.
pub(super) struct Incoming {
    body: Body,
    digests: Digests,
    transferred: u64,
    limit: u64,
    /// Why reading ended, where the reader has no way to say it.
    pub failed: Option<Refusal>,
}

impl Incoming {
    /// At most `limit` bytes are taken.
    pub fn new(body: Body, digests: Digests, limit: u64) -> Incoming {
        Incoming { body, digests, transferred: 0, limit, failed: None }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// 408 when nothing comes for a minute, 400 when the body breaks off, 413 when there is too much of it.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let silent = |_| Refusal::Timeout(format!("nothing came for {} seconds", IDLE.as_secs()));
            let Some(frame) = tokio::time::timeout(IDLE, self.body.frame()).await.map_err(silent)? else {
                return Ok(None);
            };
            let frame = frame.map_err(|_| Refusal::Unreadable("the body broke off".to_owned()))?;
            let Ok(bytes) = frame.into_data() else { continue };
            self.transferred += bytes.len() as u64;
            if self.transferred > self.limit {
                return Err(too_large(self.limit));
            }
            self.digests.update(&bytes);
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    /// Reads what is left and holds the whole against its digests.
    ///
    /// # Errors
    /// As [`Incoming::next`], and 400 `digest-mismatch`.
    pub async fn finish(&mut self) -> Result<(), Refusal> {
        while self.next().await?.is_some() {}
        std::mem::take(&mut self.digests).verify()
    }

    /// How many bytes came.
    pub fn transferred(&self) -> u64 {
        self.transferred
    }

    /// What was not read, to be drained.
    pub fn take_rest(&mut self) -> Body {
        std::mem::take(&mut self.body)
    }
}

/// 413 with this limit.
pub(super) fn too_large(limit: u64) -> Refusal {
    Refusal::TooLarge(usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(pieces: &[&'static str], limit: u64) -> Incoming {
        let piece = |piece: &&'static str| Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes()));
        let pieces: Vec<_> = pieces.iter().map(piece).collect();
        Incoming::new(Body::from_stream(futures::stream::iter(pieces)), Digests::default(), limit)
    }

    #[tokio::test]
    async fn the_limit_is_that_of_all_pieces() {
        let mut fits = incoming(&["abc", "", "de"], 5);
        assert_eq!(fits.next().await.expect("fits").as_deref(), Some(&b"abc"[..]));
        assert_eq!(fits.next().await.expect("fits").as_deref(), Some(&b"de"[..]));
        assert!(fits.next().await.expect("fits").is_none());
        fits.finish().await.expect("nothing was announced");
        assert_eq!(fits.transferred(), 5);
        let mut long = incoming(&["abc", "def"], 5);
        assert!(matches!(long.finish().await, Err(Refusal::TooLarge(5))));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_body() {
        let pieces = vec![Ok(Bytes::from_static(b"a")), Err(std::io::Error::other("gone"))];
        let mut incoming = Incoming::new(Body::from_stream(futures::stream::iter(pieces)), Digests::default(), 10);
        assert!(matches!(incoming.finish().await, Err(Refusal::Unreadable(_))));
    }
}
