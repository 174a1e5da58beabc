//! Compressed content.
#![no_main]

#[path = "../bodies/compress.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
