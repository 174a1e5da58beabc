//! The framing of QUIC streams, for the fuzz target `quic`.

use bytes::BytesMut;
use parlour_wire::Frame;

use super::ways::{cut, put};

/// The frames of a stream that brings these bytes in pieces of this size, and whether it ends behind one; or why it is given up.
///
/// # Errors
/// What the carrier says.
pub fn quic(limit: usize, piece: usize, bytes: &[u8]) -> Result<(Vec<Frame>, bool), String> {
    let cut = cut(limit, piece, bytes).map_err(|error| error.to_string());
    if let Ok((frames, whole)) = &cut {
        let mut written = BytesMut::new();
        frames.iter().for_each(|frame| put(&mut written, frame).expect("a frame that was read can be written"));
        assert!(written.len() <= bytes.len() && (!whole || written.len() == bytes.len()), "bytes got lost between frames");
    }
    cut
}
