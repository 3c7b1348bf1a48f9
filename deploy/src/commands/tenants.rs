//! `trunklog tenants`: who there is.

use serde_json::Value;

use crate::cli::Remote;
use crate::client::{Ask, Client};
use crate::config::Checked;
use crate::error::Error;
use crate::output;

pub async fn run(remote: &Remote, config: &Checked) -> Result<(), Error> {
    let client = Client::connect(remote, config).await?;
    let answer = client.ask_json(Ask::get("/v1/tenants")).await?;
    for item in answer["items"].as_array().into_iter().flatten() {
        let configured = if item["configured"] == Value::Bool(true) { " configured" } else { "" };
        output::line(&format!("{} keys={}{configured}", item["tenant"].as_str().unwrap_or_default(), item["keys"]));
    }
    client.close().await
}
