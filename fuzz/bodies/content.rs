//! Decrypted content, which a malicious member may have made.

use parlour_wire::content::{Body, Content};

pub(crate) fn run(data: &[u8]) {
    if let Ok(content) = Content::from_bytes(data)
        && !matches!(content.body, Body::Unknown(_))
    {
        let bytes = content.to_bytes().expect("what was decoded is in bounds");
        assert_eq!(Content::from_bytes(&bytes), Ok(content));
    }
}
