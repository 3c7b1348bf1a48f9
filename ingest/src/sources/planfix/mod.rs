//! Planfix's telephony API, with trunklog in the place of Planfix: the PBX posts `cmd=event`, `record`, `contact`.

mod contact;
pub mod decode;
pub mod links;
mod route;

pub use route::routes;
