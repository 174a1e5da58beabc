//! The link machine on a fake network with virtual time: stories, and random operations against a small reference model.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bounds;
#[path = "../../../../fuzz/bodies/link.rs"]
mod bytes;
mod carried;
mod compression;
mod corpus;
mod guarded;
mod hold;
mod hostile;
mod origins;
mod pair;
mod random;
mod scenarios;
mod streams;
