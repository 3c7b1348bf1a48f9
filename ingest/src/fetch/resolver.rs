//! Names to addresses for the fetching client: what may not be connected to is left out, after the name was resolved,
//! so that a name which resolves differently the next time gains nothing.

use std::error::Error as StdError;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::Reach;
use super::policy::Refused;

/// Resolves by the system's means.
pub(super) struct Resolver(pub Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(look_up(name, self.0))
    }
}

async fn look_up(name: Name, reach: Reach) -> Result<Addrs, Box<dyn StdError + Send + Sync>> {
    // The client puts the URL's port in the place of 0.
    let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0_u16)).await?.collect();
    let known = !found.is_empty();
    let taken: Vec<SocketAddr> = found.into_iter().filter(|address| reach.takes(address.ip())).collect();
    if taken.is_empty() && known {
        return Err(Refused::Address.into());
    }
    Ok(Box::new(taken.into_iter()))
}
