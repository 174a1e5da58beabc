//! The time of a peer over a real link.
mod placeholder {}
