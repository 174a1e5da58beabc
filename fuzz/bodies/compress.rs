//! Compressed content: no decoder panics or gives more than its limit, and what is compressed comes out as it went in.

use parlour_wire::{CompressError, Encoding, compress, decompress};

/// The first byte says which encoding (2 bits) and how large the limit is; the rest is what arrived.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let encoding = Encoding::ALL[usize::from(choice & 3)];
    let limit = 64 << (choice >> 4);
    match decompress(data, encoding, limit) {
        Ok(content) => {
            assert!(content.len() <= limit);
            if let Some(smaller) = content.len().checked_sub(1) {
                assert_eq!(decompress(data, encoding, smaller), Err(CompressError::TooLarge));
            }
        }
        Err(CompressError::TooLarge) => assert!(decompress(data, encoding, limit / 2).is_err()),
        Err(_) => {}
    }
    if let Some(bytes) = compress(data, encoding) {
        assert!(bytes.len() < data.len());
        assert_eq!(decompress(&bytes, encoding, data.len()).as_deref(), Ok(data));
    }
}
