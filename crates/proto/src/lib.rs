//! Parlour's pure protocol machines: no socket, no clock, no task, no randomness.
//!
//! - [`link`]: the protocol between any two of our programs, with sessions that survive the loss of their connection.

pub mod link;
