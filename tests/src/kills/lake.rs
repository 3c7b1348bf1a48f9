//! What a dead process left on disk: read from the commits, as any reader of Delta tables would.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Commits that are looked at: far more than a turn makes between a file and its commit.
const RECENT: usize = 32;
const TABLES: [&str; 3] = ["events", "calls", "recordings"];

/// Whether a commit of its table names this Parquet file.
pub fn is_committed(parquet: &Path) -> bool {
    let name = parquet.file_name().unwrap().to_str().unwrap();
    let table = parquet.ancestors().find(|above| above.join("_delta_log").is_dir()).unwrap();
    recent_commits(table).iter().any(|commit| commit.contains(name))
}

/// Whether the tables disagree about how much of the log they have: a fold was cut in two. Where the commits that are
/// left of a table name no fold, nothing is known of it, and nothing counts as torn.
pub fn is_torn(data: &Path) -> bool {
    let watermarks = TABLES.map(|table| watermark(&data.join("tables").join(table)));
    watermarks.iter().all(Option::is_some) && watermarks.iter().any(|watermark| *watermark != watermarks[0])
}

/// Whether any table has a checkpoint.
pub fn has_checkpoint(data: &Path) -> bool {
    TABLES.iter().any(|table| data.join("tables").join(table).join("_delta_log/_last_checkpoint").is_file())
}

/// The last log offset that a recent commit of this table says it has.
fn watermark(table: &Path) -> Option<i64> {
    let commits = recent_commits(table);
    let lines = commits.iter().flat_map(|commit| commit.lines());
    let transactions = lines
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|action| action.get("txn").cloned());
    let folds = transactions.filter(|transaction| {
        let application = transaction["appId"].as_str().unwrap_or_default();
        application.starts_with("trunklog/") && application != "trunklog/remover"
    });
    folds.filter_map(|transaction| transaction["version"].as_i64()).max()
}

fn recent_commits(table: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(table.join("_delta_log")).into_iter().flatten().flatten();
    let is_commit = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let mut commits: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_commit).collect();
    commits.sort();
    let recent = &commits[commits.len().saturating_sub(RECENT)..];
    recent.iter().map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect()
}
