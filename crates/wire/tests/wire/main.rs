//! The bytes of the wire, pinned, and every decoder against bytes that nobody should send.

mod announce;
mod compress;
mod content;
mod fuzzed;
mod golden;
mod robust;
mod samples;
