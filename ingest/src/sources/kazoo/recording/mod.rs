//! Recordings that a Kazoo uploads: what the URL says ([`target`]), what the body holds ([`body`], [`content`], [`parts`],
//! [`transfer`]) and whether it came whole ([`digest`]), how it is taken and given back ([`route`]), and what the
//! message means that is kept in the log instead of the audio ([`decode`]).

mod body;
mod content;
mod decode;
mod digest;
mod parts;
pub(super) mod route;
mod target;
mod transfer;

#[cfg(test)]
mod tests;

pub(super) use decode::decode;
