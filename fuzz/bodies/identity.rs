//! Certificates and device lists: nothing panics, and what gets through says the same when it is read again.

use parlour_wire::identity::{VerifiedCertificate, VerifiedList};

pub(crate) fn run(data: &[u8]) {
    if let Ok(certificate) = VerifiedCertificate::parse(data) {
        assert_eq!(VerifiedCertificate::parse(certificate.as_bytes()), Ok(certificate));
    }
    if let Ok(list) = VerifiedList::parse(data) {
        assert!(!list.follows(&list));
        assert_eq!(VerifiedList::parse(list.as_bytes()), Ok(list));
    }
}
