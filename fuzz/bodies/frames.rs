//! Frames: what is decoded encodes to the bytes it came from, and arrives the same whole or byte by byte.

use bytes::Bytes;
use parlour_wire::frame::{Frame, FrameDecoder};

pub(crate) fn run(data: &[u8]) {
    let whole = Frame::decode(Bytes::copy_from_slice(data));
    if let Ok(frame) = &whole {
        assert_eq!(frame.to_bytes().expect("it was decoded").as_ref(), data);
    }
    let mut decoder = FrameDecoder::default();
    for (at, byte) in data.iter().enumerate() {
        decoder.push(std::slice::from_ref(byte));
        match decoder.next_frame() {
            Ok(Some(frame)) if at + 1 == data.len() => assert!(frame.size() < data.len() || whole == Ok(frame)),
            Ok(_) => {}
            Err(_) => break,
        }
    }
}
