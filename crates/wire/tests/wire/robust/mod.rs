//! Bytes that nobody should send: decoders refuse them without panicking and without believing announced sizes.

use bytes::Bytes;
use parlour_wire::{
    frame::{Frame, FrameDecoder},
    limits,
};
use proptest::prelude::*;

use crate::samples;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic_any_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        for (_, _, reads) in samples::all() {
            let _ = reads(&bytes);
        }
    }

    #[test]
    fn damaged_messages_never_panic_any_decoder(
        pick in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let all = samples::all();
        let (_, bytes, reads) = &all[pick.index(all.len())];
        let mut damaged = bytes.clone();
        let position = at.index(damaged.len());
        damaged[position] = value;
        let _ = reads(&damaged);
        damaged.truncate(cut.index(damaged.len()));
        let _ = reads(&damaged);
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_frames(cuts in proptest::collection::vec(1usize..40, 1..40)) {
        let (_, frame, _) = samples::all().into_iter().find(|(name, ..)| *name == "frame.request").expect("it is there");
        let stream = frame.repeat(5);
        let mut decoder = FrameDecoder::default();
        let (mut rest, mut frames, mut sizes) = (&stream[..], 0, cuts.iter().cycle());
        while !rest.is_empty() {
            let size = (*sizes.next().expect("it cycles")).min(rest.len());
            decoder.push(&rest[..size]);
            rest = &rest[size..];
            while let Some(next) = decoder.next_frame().expect("valid") {
                prop_assert_eq!(next.to_bytes().expect("small"), Bytes::from(frame.clone()));
                frames += 1;
            }
        }
        prop_assert_eq!(frames, 5);
    }
}

#[test]
fn bytes_after_a_message_are_refused() {
    for (name, mut bytes, reads) in samples::all() {
        bytes.push(0);
        assert!(!reads(&bytes), "{name}");
    }
}

#[test]
fn a_signature_that_is_off_by_a_bit_is_refused() {
    let (certificate, list) = samples::identity();
    for bytes in [certificate, list] {
        let mut damaged = bytes.clone();
        *damaged.last_mut().expect("not empty") ^= 1;
        assert!(parlour_wire::identity::VerifiedCertificate::parse(&damaged).is_err());
        assert!(parlour_wire::identity::VerifiedList::parse(&damaged).is_err());
    }
}

#[test]
fn a_frame_that_announces_a_gibibyte_is_refused_at_its_proto_header() {
    let mut header = vec![b'P', 1, 4, 0, 0, 0, 0, 0];
    header.extend_from_slice(&(1u32 << 30).to_be_bytes());
    let mut decoder = FrameDecoder::default();
    decoder.push(&header);
    assert!(decoder.next_frame().is_err());
    assert!(decoder.buffered() < limits::FRAME_HEADER);
    assert!(Frame::decode(Bytes::from(header)).is_err());
}
