//! A start waits for a bucket that is away, as the archive does.

use std::time::{Duration, Instant};

use crate::error::Error;

const AT_MOST: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(1);

/// Tries again while the bucket does not answer.
///
/// # Errors
/// What else goes wrong, at once; an outage after two minutes.
pub async fn patiently<T>(attempt: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    let began = Instant::now();
    loop {
        match attempt().await {
            Err(Error::Storage(error)) if error.is_outage() && began.elapsed() < AT_MOST => {
                tracing::warn!(%error, "cannot start yet; it will be tried again");
                tokio::time::sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use trunklog_storage::error::Error as StorageError;

    use super::*;

    #[tokio::test]
    async fn an_outage_is_waited_for_and_nothing_else() {
        let attempts = AtomicUsize::new(0);
        let second = patiently(async || match attempts.fetch_add(1, Ordering::Relaxed) {
            0 => Err(StorageError::Unavailable("away".into()).into()),
            before => Ok(before),
        });
        assert_eq!(second.await.expect("the bucket is back"), 1);

        let refused = patiently(async || {
            attempts.fetch_add(1, Ordering::Relaxed);
            Err::<(), Error>(StorageError::Config("wrong".into()).into())
        });
        assert!(refused.await.is_err());
        assert_eq!(attempts.into_inner(), 3);
    }
}
