//! `trunklog keys`: over a running server's socket or URL, else on the key file under the data directory's lock.

use std::fs::File;

use serde_json::{Value, json};
use trunklog_storage::event::format_time;
use trunklog_storage::keys::{Keys, NewKey};
use trunklog_storage::log::embedded::lock_directory;

use crate::cli::{CreateKeyArgs, KeysCommand};
use crate::client::{Ask, Client};
use crate::config::Checked;
use crate::error::Error;
use crate::output;
use crate::server::{directory, shown_key};

pub async fn run(command: KeysCommand, config: &Checked) -> Result<(), Error> {
    match command {
        KeysCommand::Create(arguments) => create(arguments, config).await,
        KeysCommand::List { remote } => match Client::running(&remote, config).await? {
            Some(client) => {
                let answer = client.ask_json(Ask::get("/v1/keys")).await?;
                answer["items"].as_array().into_iter().flatten().for_each(print);
                Ok(())
            }
            None => {
                Locked::open(config).await?.keys.list().iter().map(shown_key).for_each(|key| print(&key));
                Ok(())
            }
        },
        KeysCommand::Revoke { id, remote } => match Client::running(&remote, config).await? {
            Some(client) => {
                let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
                client.ask(Ask::delete(format!("/v1/keys/{id}"))).await.map(|_| ())
            }
            None if Locked::open(config).await?.keys.revoke(&id)? => Ok(()),
            None => Err(Error::Usage(format!("there is no key `{id}`"))),
        },
    }
}

async fn create(arguments: CreateKeyArgs, config: &Checked) -> Result<(), Error> {
    let running = Client::running(&arguments.remote, config).await?;
    let request = NewKey {
        tenant: arguments.tenant,
        scopes: arguments.scopes,
        hmac_secret: arguments.hmac_secret,
        expires_at: arguments.expires,
        addresses: arguments.addresses,
    };
    request.check().map_err(|invalid| Error::Usage(invalid.to_string()))?;
    let Some(client) = running else {
        let created = Locked::open(config).await?.keys.create(request)?;
        output::line(&created.token);
        return Ok(());
    };
    let body = json!({
        "tenant": request.tenant,
        "scopes": request.scopes,
        "hmac_secret": request.hmac_secret,
        "expires_at": request.expires_at.map(format_time),
        "addresses": request.addresses,
    });
    let answer = client.ask_json(Ask::post("/v1/keys").json(&body)).await?;
    let token = answer["token"].as_str().ok_or_else(|| Error::Answer("it holds no token".into()))?;
    output::line(token);
    Ok(())
}

/// The key file of a data directory that no server runs on, or that of a bucket that nodes share.
struct Locked {
    keys: Keys,
    _lock: Option<File>,
}

impl Locked {
    async fn open(config: &Checked) -> Result<Locked, Error> {
        if let Some(bucket) = config.archive.bucket.as_ref().filter(|_| config.archive.is_shared()) {
            return Ok(Locked { keys: Keys::shared(bucket, &config.data_dir).await?, _lock: None });
        }
        let log = config.data_dir.join("log");
        directory::make(&config.data_dir)?;
        let lock = lock_directory(&log).map_err(|error| match error {
            trunklog_storage::error::Error::Conflict(_) => Error::Held(config.data_dir.clone()),
            error => Error::Storage(error),
        })?;
        Ok(Locked { keys: Keys::open(&config.data_dir)?, _lock: Some(lock) })
    }
}

/// One key on one line.
fn print(key: &Value) {
    let text = |field: &str| key[field].as_str().unwrap_or("-");
    let list = |field: &str| {
        let items: Vec<&str> = key[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        items.join(",")
    };
    let mut line = format!("{} tenant={} scopes={}", text("id"), text("tenant"), list("scopes"));
    for (name, field) in [("created", "created_at"), ("expires", "expires_at"), ("revoked", "revoked_at")] {
        if let Some(at) = key[field].as_str() {
            line.push_str(&format!(" {name}={at}"));
        }
    }
    let addresses = list("addresses");
    if !addresses.is_empty() {
        line.push_str(&format!(" addresses={addresses}"));
    }
    if key["hmac_secret"] == Value::Bool(true) {
        line.push_str(" hmac_secret=yes");
    }
    output::line(&line);
}
