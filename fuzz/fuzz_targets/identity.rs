//! Certificates and device lists: nothing that is not signed gets through, and nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parlour_wire::identity::{VerifiedCertificate, VerifiedList};

fuzz_target!(|data: &[u8]| {
    let _ = VerifiedCertificate::parse(data);
    let _ = VerifiedList::parse(data);
});
