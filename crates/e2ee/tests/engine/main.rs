//! The engine from outside: conversations between accounts, their rules, and crashes.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs, reason = "tests")]

mod crash;
mod groups;
mod history;
mod intruder;
mod rogue;
mod room;
mod rules;
mod server;
mod storage;
mod talk;
mod trees;
mod world;
