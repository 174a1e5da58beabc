//! What a peer says about its time.
#![no_main]

#[path = "../bodies/clock.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
