//! Certificates of strangers.
#![no_main]

#[path = "../bodies/certificate.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
