//! What programs on a local network know of each other: their clocks, and that they are there. All in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

mod clock;
mod crowds;
mod finder;
mod intervals;
mod rivals;
mod support;
