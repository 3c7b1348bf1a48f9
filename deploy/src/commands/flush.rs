//! `trunklog flush`: prints the offset up to which everything is folded and compacted.

use serde_json::Value;

use super::progress::Progress;
use crate::cli::Remote;
use crate::client::{Ask, Client};
use crate::config::Checked;
use crate::error::Error;
use crate::output;

pub async fn run(remote: &Remote, config: &Checked) -> Result<(), Error> {
    let client = Client::connect(remote, config).await?;
    let progress = Progress::start("folding and compacting");
    let answer = client.ask_json(Ask::post("/v1/admin/flush")).await?;
    progress.done("folded and compacted");
    match &answer["offset"] {
        // An empty archive has no offset to print.
        Value::Null => output::line("none"),
        Value::String(offset) => output::line(offset),
        offset => output::line(&offset.to_string()),
    }
    client.close().await
}
