//! Tests of the core against a real service over a store in memory: no sockets, no clock, every step by hand.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod conversations;
mod enrolment;
mod group_faults;
mod groups;
mod harness;
mod live;
mod profiles;
mod schedules;
mod trust;
