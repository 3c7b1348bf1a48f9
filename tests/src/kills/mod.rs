//! The kill test's parts: traffic whose truth is known, senders that never give up, a strike at a chosen moment that is
//! recognised from outside, and what the dead process left behind.

mod check;
pub mod lake;
mod moment;
mod script;
mod senders;
mod strike;
mod traffic;
mod watch;

pub use check::{Delivered, check};
pub use moment::{Aim, Moment};
pub use script::{Message, Stage};
pub use senders::Senders;
pub use strike::{Strike, Struck, kill_while_starting};
pub use traffic::Traffic;
