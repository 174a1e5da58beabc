//! Datagrams of the local network.
#![no_main]

#[path = "../bodies/announce.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
