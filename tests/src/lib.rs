//! Fixtures of the black-box tests: a server of one's own, keys, requests, SQL answers, the simulator's truth.
//!
//! The tests speak to the built binary as its users do: by command line, HTTP and the files it leaves. Nothing here
//! looks into the server's memory; [`model`] alone has an archive of its own, without a server.
#![allow(clippy::unwrap_used, reason = "a fixture that panics fails its test, which is what it is for")]
#![allow(clippy::missing_panics_doc, reason = "every fixture panics when its server misbehaves")]

mod answer;
mod binary;
pub mod expect;
pub mod kills;
pub mod load;
pub mod model;
pub mod naive;
mod raw;
pub mod reports;
pub mod scan;
mod server;
pub mod simulate;
pub mod truth;
pub mod wire;

pub use answer::{Answer, Table, number_of};
pub use binary::{binary, command};
pub use raw::{RawAnswer, raw_request};
pub use server::{Options, Request, Server};

/// The size of a test: the environment's (`.ci/full` sets it), else the everyday one.
pub fn size(variable: &str, everyday: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("`{variable}` is not a number: `{text}`")),
        Err(_) => everyday,
    }
}
