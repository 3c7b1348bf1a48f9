//! Placetel's Call Control / Notify API: one URL takes IncomingCall, OutgoingCall, CallAccepted and HungUp.

pub mod decode;
mod route;

pub use route::routes;
