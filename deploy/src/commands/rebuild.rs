//! `trunklog rebuild`: drops the projections and folds them again.

use super::progress::Progress;
use crate::cli::Remote;
use crate::client::{Ask, Client};
use crate::config::Checked;
use crate::error::Error;
use crate::output;

pub async fn run(remote: &Remote, config: &Checked) -> Result<(), Error> {
    let client = Client::connect(remote, config).await?;
    let progress = Progress::start("rebuilding");
    let answer = client.ask_json(Ask::post("/v1/admin/rebuild")).await?;
    progress.done("rebuilt");
    output::line(&format!("rebuilt calls={} messages={}", answer["calls"], answer["messages"]));
    client.close().await
}
