//! The five telephone systems, each readable on its own: its routes, its dialect and its decoder; and bulk load.

pub mod bulk;
#[cfg(test)]
pub(crate) mod fixture;
pub mod kazoo;
pub mod placetel;
pub mod planfix;
pub mod values;
pub mod virtualpbx;
pub mod voispeed;
