//! The black-box tests, linked once: one file per promise.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod arrows;
mod bad_input;
mod bad_numbers;
mod crash;
mod kills;
mod laws;
mod linking;
mod messages;
mod model;
mod operations;
mod own_writes;
mod reading;
mod recordings;
mod replay;
mod reports;
mod scenarios;
mod secrets;
mod truth;
