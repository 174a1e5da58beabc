//! Blobs of attachments.
#![no_main]

#[path = "../bodies/attachment.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
