//! Why a fetch failed, and whether another try may help. Reasons name no URL: its query may hold a secret.

use std::error::Error as StdError;
use std::io;

use reqwest::StatusCode;
use trunklog_storage::error::Error;

use super::policy::Refused;

/// A reason is cut off here.
const REASON_CHARACTERS: usize = 200;

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// The answer would be the same.
    Never,
    /// A few times: the file may still be on its way to where the link leads.
    Few,
    /// For a day and more: the other side, the network or our disk is at fault.
    Many,
}

/// A fetch that failed; nothing of it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// When to try again.
    pub retry: Retry,
    /// Something was answered, so that a link which works only once may be used up.
    pub bytes_received: bool,
    /// Without the URL.
    pub reason: String,
}

impl Failure {
    pub fn new(retry: Retry, reason: impl Into<String>) -> Failure {
        let reason: String = reason.into().chars().take(REASON_CHARACTERS).collect();
        Failure { retry, bytes_received: false, reason }
    }

    pub fn never(reason: impl Into<String>) -> Failure {
        Failure::new(Retry::Never, reason)
    }

    /// The link must not be followed, or after a redirect not to where that leads.
    pub fn refused(refused: Refused, redirects: usize) -> Failure {
        Failure::never(if redirects == 0 { refused.to_string() } else { format!("after a redirect: {refused}") })
    }

    /// The answer is not the file. `None` for a status that comes with the file.
    pub fn of_status(status: StatusCode) -> Option<Failure> {
        let retry = match status.as_u16() {
            200 | 203 => return None,
            // Not there yet, or still being written.
            201..=299 | 404 | 409 | 425 => Retry::Few,
            408 | 429 | 500..=599 => Retry::Many,
            _ => Retry::Never,
        };
        Some(Failure::new(retry, format!("the answer was {}", status.as_u16())))
    }

    /// The request, or the reading of its answer, failed.
    pub fn of_request(error: &reqwest::Error) -> Failure {
        let cause = root(error);
        if let Some(refused) = find(error, &|cause| cause.downcast_ref::<Refused>().copied()) {
            return Failure::never(refused.to_string());
        }
        // The TLS library's errors come as this kind of I/O error, and nothing else does while connecting.
        if error.is_connect() && find(error, &|cause| invalid_data(cause).then_some(())).is_some() {
            return Failure::never(format!("no secure connection: {cause}"));
        }
        let what = if error.is_dns() {
            "the host's name was not resolved"
        } else if error.is_connect() {
            "no connection"
        } else if error.is_request() {
            "no answer"
        } else {
            "the answer broke off"
        };
        Failure::new(Retry::Many, format!("{what}: {cause}"))
    }

    /// Our own disk or log failed.
    pub fn of_storage(error: &Error) -> Failure {
        match error {
            Error::TooLarge(limit) => Failure::too_large(*limit),
            error => Failure::new(Retry::Many, format!("cannot be kept: {error}")),
        }
    }

    pub fn too_large(limit_bytes: u64) -> Failure {
        Failure::never(format!("larger than {limit_bytes} bytes"))
    }
}

fn invalid_data(cause: &(dyn StdError + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

/// The first of an error and its causes that `test` takes. An I/O error hides the error that it was made of from
/// `source`, so that one is looked at too.
fn find<T>(error: &(dyn StdError + 'static), test: &dyn Fn(&(dyn StdError + 'static)) -> Option<T>) -> Option<T> {
    if let Some(found) = test(error) {
        return Some(found);
    }
    cause_of(error).and_then(|cause| find(cause, test))
}

fn cause_of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// What it all comes from, in words. The outermost error alone would name the URL, and it always has a cause.
fn root(error: &reqwest::Error) -> String {
    let Some(mut cause) = cause_of(error) else { return "unknown".to_owned() };
    while let Some(deeper) = cause_of(cause) {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_answers_are_worth_another_try() {
        let retry = |status: u16| {
            let status = StatusCode::from_u16(status).expect("a status");
            Failure::of_status(status).map(|failure| failure.retry)
        };
        assert_eq!((retry(200), retry(203)), (None, None));
        for status in [202, 204, 206, 404, 409, 425] {
            assert_eq!(retry(status), Some(Retry::Few), "{status}");
        }
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(retry(status), Some(Retry::Many), "{status}");
        }
        for status in [304, 400, 401, 403, 405, 410, 416, 451] {
            assert_eq!(retry(status), Some(Retry::Never), "{status}");
        }
    }

    #[test]
    fn causes_inside_io_errors_are_found() {
        let inner = io::Error::new(io::ErrorKind::InvalidData, "bad certificate");
        let outer = io::Error::other(inner);
        assert_eq!(find(&outer, &|cause| invalid_data(cause).then_some(())), Some(()));
        let refused = io::Error::other(Refused::Address);
        assert_eq!(find(&refused, &|cause| cause.downcast_ref::<Refused>().copied()), Some(Refused::Address));
        let plain = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(find(&plain, &|cause| invalid_data(cause).then_some(())), None);
    }

    #[test]
    fn long_reasons_are_cut_off() {
        assert_eq!(Failure::never("ü".repeat(500)).reason.chars().count(), REASON_CHARACTERS);
    }
}
