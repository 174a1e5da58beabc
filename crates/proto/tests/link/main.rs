//! The link machine on a fake network with virtual time: stories, and random operations against a small reference model.
#![allow(clippy::unwrap_used, reason = "tests")]

mod compression;
mod hold;
mod hostile;
mod origins;
mod pair;
mod random;
mod scenarios;
mod streams;
