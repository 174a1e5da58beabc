//! Tests of the core against a real service over a store in memory: no sockets, no clock, every step by hand.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod any_answer;
mod bringing_in;
mod changes;
mod conversations;
mod crash_steps;
mod enrolment;
mod events;
mod expiry;
mod files;
mod forgotten;
mod foundings;
mod group_faults;
mod groups;
mod handover;
mod harness;
mod hostile;
mod live;
mod malicious_log;
mod malicious_member;
mod malicious_server;
mod newcomer;
mod personal;
mod profiles;
mod recovery;
mod refusals;
mod restores;
mod resumed;
mod rollback;
mod schedules;
mod search;
mod shares;
mod siblings;
mod size;
mod trust;
