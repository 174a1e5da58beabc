//! Arguments and answers, in every content type.
#![no_main]

#[path = "../bodies/args.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
