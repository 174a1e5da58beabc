//! Decrypted content, which a malicious member may have made.

use parlour_wire::content::{Body, Content, safe_name};

pub(crate) fn run(data: &[u8]) {
    let name = safe_name(&String::from_utf8_lossy(data));
    assert_eq!(safe_name(&name), name);
    if let Ok(content) = Content::from_bytes(data) {
        if let Body::Attachment(attachment) = &content.body {
            assert_eq!(safe_name(&attachment.name), attachment.name);
        }
        let bytes = content.to_bytes().expect("what was decoded is in bounds");
        assert_eq!(Content::from_bytes(&bytes), Ok(content));
    }
}
