//! `trunklog verify`: reads every row of every table; with `--hash` prints what they hash to.

use super::progress::Progress;
use crate::cli::VerifyArgs;
use crate::client::{Ask, Client};
use crate::config::Checked;
use crate::error::Error;
use crate::output;

pub async fn run(arguments: VerifyArgs, config: &Checked) -> Result<(), Error> {
    let client = Client::connect(&arguments.remote, config).await?;
    let path = match arguments.as_of {
        Some(offset) => format!("/v1/admin/hash?as_of={offset}"),
        None => "/v1/admin/hash".to_owned(),
    };
    let progress = Progress::start("reading every table");
    let answer = client.ask_json(Ask::get(path)).await?;
    progress.done("read every table");
    let tables = answer["tables"].as_array().ok_or_else(|| Error::Answer("it names no tables".into()))?;
    for table in tables {
        let text = |field: &str| table[field].as_str().unwrap_or_default();
        let verdict = if arguments.hash { format!("sha256={}", text("sha256")) } else { "ok".to_owned() };
        output::line(&format!("{} rows={} {verdict}", text("table"), table["rows"]));
    }
    client.close().await
}
