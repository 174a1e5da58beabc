//! Frames on QUIC streams.
#![no_main]

#[path = "../bodies/quic.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
