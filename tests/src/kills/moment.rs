//! The moments at which the process is killed, and how each is recognised in its data directory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::Rng;

use super::watch::{Change, Kind};

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// A frame was written to the log; its senders have no answer yet.
    LogWritten,
    /// A Parquet file is in place that no commit names yet.
    ParquetWritten,
    /// A commit is in place; the other tables lack it, memory does not know of it, the log is not trimmed.
    Committed,
    /// While nothing is to be folded, a file of the final tier is in place: the swap of a day is under way.
    Compaction,
    /// A superseded file was deleted, or a checkpoint is being written.
    Vacuum,
    /// A segment of the log was taken away.
    Truncation,
    /// A segment of the log was prepared or begun.
    Rolling,
    /// A file of the index was put in place or taken away.
    Index,
    /// Any other.
    Random,
    /// The process is starting: it reads the log and the tables, and does not listen yet.
    Starting,
}

impl Moment {
    /// Each of them.
    pub const ALL: [Moment; 10] = [
        Moment::LogWritten,
        Moment::ParquetWritten,
        Moment::Committed,
        Moment::Compaction,
        Moment::Vacuum,
        Moment::Truncation,
        Moment::Rolling,
        Moment::Index,
        Moment::Random,
        Moment::Starting,
    ];

    /// How long to wait for it before the turn counts as missed. Most come within milliseconds; a vacuum may first need
    /// a hundred commits.
    pub fn patience(self) -> Duration {
        match self {
            Moment::Vacuum => Duration::from_secs(10),
            _ => Duration::from_secs(4),
        }
    }
}

/// A moment as one turn waits for it.
#[derive(Clone, Debug)]
pub struct Aim {
    /// Which.
    pub moment: Moment,
    /// Of which table, where the moment belongs to one.
    table: &'static str,
    data: PathBuf,
    /// How long after it the kill comes, so that what follows it is hit as well.
    pub delay: Duration,
}

impl Aim {
    /// An aim at this moment of the server on this data directory; table and delay are drawn.
    pub fn new(moment: Moment, data: &Path) -> Aim {
        let mut random = rand::rng();
        // Before the commit, and before the other tables follow, every microsecond counts; work that takes longer is
        // hit all along.
        let longest = match moment {
            Moment::ParquetWritten | Moment::Committed => 0,
            Moment::LogWritten | Moment::Truncation | Moment::Rolling => 1_000,
            _ => 8_000,
        };
        let table = if random.random_bool(0.5) { "events" } else { "calls" };
        let delay = Duration::from_micros(random.random_range(0..=longest));
        Aim { moment, table, data: data.to_owned(), delay }
    }

    /// Whether this change is the moment.
    pub fn is_seen_in(&self, change: &Change) -> bool {
        let Ok(path) = change.path.strip_prefix(&self.data) else { return false };
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let within = |folder: &str| path.components().any(|part| part.as_os_str() == folder);
        let appeared = change.kind == Kind::Appeared;
        let gone = change.kind == Kind::Gone;
        let at_rest = within("tables") && !within("_delta_log") && name.ends_with(".parquet");
        let segment = within("log") && name.ends_with(".seg");
        match self.moment {
            Moment::LogWritten => segment && change.kind == Kind::Written,
            Moment::ParquetWritten => appeared && at_rest && within(self.table),
            Moment::Committed => appeared && is_commit(path) && within(self.table),
            Moment::Compaction => appeared && at_rest && within("tier=final"),
            Moment::Vacuum => {
                gone && (at_rest || is_commit(path)) || within("_delta_log") && name.contains("checkpoint")
            }
            Moment::Truncation => gone && segment,
            Moment::Rolling => within("log") && appeared && (segment || name.ends_with(".spare")),
            Moment::Index => within("index") && change.kind != Kind::Written,
            Moment::Random | Moment::Starting => false,
        }
    }
}

/// `_delta_log/` and twenty digits, whole: not the staged file beside it.
fn is_commit(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let number = name.strip_suffix(".json").unwrap_or_default();
    let below_the_log = path.parent().and_then(Path::file_name) == Some(OsStr::new("_delta_log"));
    below_the_log && number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit())
}
