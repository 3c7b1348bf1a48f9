//! The command line: every command, its arguments and its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use trunklog_storage::position::Position;

use crate::config::{Overrides, Role, Span};
use crate::simulate::SimulateArgs;

/// Call analytics and recording archive: telephone systems in, SQL out.
#[derive(Debug, Parser)]
#[command(name = "trunklog", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub command: Command,
}

/// Where configuration and data are.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE", env = "TRUNKLOG_CONFIG")]
    pub config: Option<PathBuf>,
    /// Data directory [default: ./trunklog-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// How to reach a running server: through its socket in the data directory, or by URL and key.
#[derive(Clone, Debug, Args)]
pub struct Remote {
    /// Talk to the server at this URL instead of the one on the data directory
    #[arg(long, value_name = "URL", env = "TRUNKLOG_URL", requires = "key")]
    pub url: Option<String>,
    /// Key for --url
    #[arg(long, value_name = "KEY", env = "TRUNKLOG_KEY", hide_env_values = true)]
    pub key: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(ServeArgs),
    /// Send realistic traffic of all five telephone systems to a server
    Simulate(SimulateArgs),
    /// Ask a question in SQL
    Sql(SqlArgs),
    /// Fold and compact everything up to now; prints the offset
    Flush(Remote),
    /// Drop all projections and fold them again from the messages
    Rebuild(Remote),
    /// Fold all messages again with this version and configuration, beside the tables
    Replay(ReplayArgs),
    /// Read every table; with --hash, print SHA-256 over its rows
    Verify(VerifyArgs),
    /// Make, list and revoke keys
    Keys(KeysArgs),
    /// List tenants
    Tenants(Remote),
    /// Print the configuration in force and where each value came from
    Config(BindArgs),
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Make a demo tenant with a small history and a slow live stream
    #[arg(long)]
    pub demo: bool,
    #[command(flatten)]
    pub bind: BindArgs,
}

/// What the server is and where it listens.
#[derive(Debug, Args)]
pub struct BindArgs {
    /// What this process does [default: all]
    #[arg(long, value_enum)]
    pub role: Option<Role>,
    /// HTTP address [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Postgres wire address [default: 127.0.0.1:5433]
    #[arg(long, value_name = "ADDR|off")]
    pub pg_listen: Option<String>,
    /// Arrow Flight SQL address [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDR|off")]
    pub flight_listen: Option<String>,
    /// Listen beyond loopback without TLS: keys and calls then cross the network in clear text
    #[arg(long)]
    pub insecure_bind: bool,
}

#[derive(Debug, Args)]
pub struct SqlArgs {
    /// The statement
    pub sql: String,
    /// Form of the answer [default: table on a terminal, csv elsewhere]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Read only this tenant (for administrators, who else read all)
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub remote: Remote,
}

/// Forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Ndjson,
    Csv,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// List the rows that would change, column by column; nothing is published. Status 1 if there are any
    #[arg(long)]
    pub diff: bool,
    /// Form of the list [default: table on a terminal, csv elsewhere]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// List at most so many rows; all are counted [default: 1000 in a table, else all]
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<u64>,
}

fn offset(text: &str) -> Result<Position, String> {
    Position::parse(text).ok_or_else(|| format!("`{text}` is no offset"))
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Print SHA-256 over the rows of each table, sorted by key
    #[arg(long)]
    pub hash: bool,
    /// As the tables were at this offset
    #[arg(long, value_name = "OFFSET", value_parser = offset)]
    pub as_of: Option<Position>,
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    pub command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key; prints the token alone, this once
    Create(CreateKeyArgs),
    /// List all keys, without their tokens
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// End a key at once
    Revoke {
        /// `key_…`, from the list
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Args)]
pub struct CreateKeyArgs {
    /// Tenant of the key; made if need be. Keys with scope `admin` have none
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    /// ingest:<source>, ingest:*, query, recordings:read, export, admin; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    pub scopes: Vec<String>,
    /// Placetel's shared secret: a valid signature is then required besides the key
    #[arg(long, value_name = "SECRET")]
    pub hmac_secret: Option<String>,
    /// When the key ends: a span of time from now (30d) or a time (RFC 3339)
    #[arg(long, value_name = "WHEN", value_parser = parse_expiry)]
    pub expires: Option<i64>,
    /// IP address or network that may use the key; may be given several times
    #[arg(long = "address", value_name = "ADDR")]
    pub addresses: Vec<String>,
    #[command(flatten)]
    pub remote: Remote,
}

fn parse_expiry(text: &str) -> Result<i64, String> {
    if let Some(at) = trunklog_storage::event::parse_time(text) {
        return Ok(at);
    }
    let span =
        Span::parse(text).map_err(|_| format!("`{text}` is neither a span of time (30d) nor a time (RFC 3339)"))?;
    Ok(trunklog_storage::event::now().saturating_add(span.micros()))
}

/// Reads the command line; prints help and usage errors itself.
pub fn parse() -> Cli {
    Cli::parse()
}

impl Place {
    /// The layers of configuration that every command reads.
    pub fn overrides(&self) -> Overrides {
        let mut overrides = Overrides { file: self.config.clone(), ..Overrides::default() };
        let data_dir = self.data_dir.as_ref().map(|path| path.display().to_string());
        overrides.set("data_dir", data_dir, "--data-dir");
        overrides
    }
}

impl BindArgs {
    /// Adds these flags.
    pub fn apply(&self, overrides: &mut Overrides) {
        overrides.set("role", self.role.map(Role::as_str), "--role");
        overrides.set("listen", self.listen.clone(), "--listen");
        overrides.set("pg_listen", self.pg_listen.clone(), "--pg-listen");
        overrides.set("flight_listen", self.flight_listen.clone(), "--flight-listen");
        overrides.set("insecure_bind", self.insecure_bind.then_some(true), "--insecure-bind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn place_is_taken_before_and_after_the_command() {
        let after = Cli::try_parse_from(["trunklog", "keys", "list", "--data-dir", "/x"]).expect("is right");
        let before = Cli::try_parse_from(["trunklog", "--data-dir", "/x", "keys", "list"]).expect("is right");
        assert_eq!(after.place.data_dir, before.place.data_dir);
        assert!(after.place.data_dir.is_some());
    }
}
