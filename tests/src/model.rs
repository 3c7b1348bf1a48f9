//! The parts of the model-based test (`tests/all/model.rs`): messages as the five telephone systems send them, a naive
//! fold of them in memory, what the archive shows, the comparison of the two, and images of a data directory as a
//! crash leaves it.
//!
//! The fold takes what each message says from the real decoders and joins it with the real semilattice, whose laws
//! `laws.rs` tests. What it does by itself, and by the simplest means, is everything that depends on the order of the
//! log: keys of calls without ids, home days, duplicate marks, decisions, bookkeeping. It has no batches, no tiers,
//! no disk and no index.

pub mod compare;
pub mod fold;
pub mod generator;
pub mod image;
mod nameless;
mod pieces;
mod read;
mod receipts;
mod scripts;
