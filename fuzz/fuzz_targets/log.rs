//! The log of durable queues and of marks.
#![no_main]

#[path = "../bodies/log.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
