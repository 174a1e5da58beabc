//! Frames: what is decoded encodes to the bytes it came from, whether it arrives at once or byte by byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parlour_wire::frame::{Frame, FrameDecoder};

fuzz_target!(|data: &[u8]| {
    if let Ok(frame) = Frame::decode(bytes::Bytes::copy_from_slice(data)) {
        assert_eq!(frame.to_bytes().expect("it was decoded").as_ref(), data);
    }
    let mut decoder = FrameDecoder::default();
    for byte in data {
        decoder.push(std::slice::from_ref(byte));
        match decoder.next_frame() {
            Ok(_) => {}
            Err(_) => break,
        }
    }
});
