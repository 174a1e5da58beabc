//! Certificates and device lists.
#![no_main]

#[path = "../bodies/identity.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
