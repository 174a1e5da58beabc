//! The link machine, driven by bytes in either role: frames, commands, losses, time. The body is the one that the tests of
//! `parlour-proto` replay the corpus with.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "what was seen, and the names of the settings, are for the tests")]
#[path = "../bodies/link.rs"]
mod bytes;

fuzz_target!(|data: &[u8]| {
    bytes::run(data);
});
