//! The bytes of the wire, pinned, and every decoder against bytes that nobody should send.

mod announce;
mod compress;
mod golden;
mod robust;
mod samples;
