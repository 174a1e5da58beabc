//! Compressed content: what goes in comes out, and what nobody should send is refused by name.

use std::io::Write;

use parlour_wire::{CompressError, Encoding, compress, decompress, limits};
use proptest::prelude::*;

/// Content that shrinks: words of a small vocabulary.
fn prose(words: usize) -> Vec<u8> {
    let vocabulary = ["the ", "table ", "of ", "the ", "house ", "has ", "four ", "legs "];
    (0..words).flat_map(|n| vocabulary[(n * n + n / 3) % vocabulary.len()].bytes()).collect()
}

fn compressed(encoding: Encoding) -> (Vec<u8>, Vec<u8>) {
    let content = prose(500);
    let bytes = compress(&content, encoding).expect("prose shrinks");
    (content, bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out(
        pattern in proptest::collection::vec(any::<u8>(), 1..300),
        repeats in 1usize..400,
        pick in any::<prop::sample::Index>(),
    ) {
        let content = pattern.repeat(repeats);
        let encoding = *pick.get(&Encoding::ALL);
        if let Some(bytes) = compress(&content, encoding) {
            prop_assert!(bytes.len() < content.len());
            prop_assert_eq!(decompress(&bytes, encoding, content.len()), Ok(content.into()));
        }
    }

    #[test]
    fn damaged_content_is_refused_or_decoded_but_never_beyond_the_limit(
        pick in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let encoding = *pick.get(&Encoding::ALL);
        let (content, mut bytes) = compressed(encoding);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(out) = decompress(&bytes, encoding, content.len()) {
            prop_assert!(out.len() <= content.len());
        }
    }

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), pick in any::<prop::sample::Index>()) {
        let encoding = *pick.get(&Encoding::ALL);
        prop_assert!(decompress(&bytes, encoding, limits::FRAME).is_err());
    }
}

#[test]
fn a_whole_frame_of_content_survives() {
    let content = &prose(300_000)[..limits::FRAME];
    for encoding in Encoding::ALL {
        let bytes = compress(content, encoding).expect("prose shrinks");
        assert_eq!(decompress(&bytes, encoding, limits::FRAME).as_deref(), Ok(content), "{encoding:?}");
    }
}

#[test]
fn what_would_not_shrink_is_not_compressed() {
    let noise: Vec<u8> = (0..64u64).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
    for encoding in Encoding::ALL {
        for content in [&noise[..], b"", b"a", b"ab"] {
            assert_eq!(compress(content, encoding), None, "{encoding:?}");
        }
    }
}

#[test]
fn content_cut_at_any_byte_is_truncated() {
    for encoding in Encoding::ALL {
        let (content, bytes) = compressed(encoding);
        for end in 0..bytes.len() {
            let refused = decompress(&bytes[..end], encoding, content.len());
            assert_eq!(refused, Err(CompressError::Truncated), "{encoding:?} cut at {end} of {}", bytes.len());
        }
    }
}

#[test]
fn a_limit_is_exact() {
    for encoding in Encoding::ALL {
        let (content, bytes) = compressed(encoding);
        assert_eq!(decompress(&bytes, encoding, content.len()).as_deref(), Ok(&content[..]), "{encoding:?}");
        for limit in [0, 1, content.len() - 1] {
            assert_eq!(decompress(&bytes, encoding, limit), Err(CompressError::TooLarge), "{encoding:?}");
        }
    }
}

#[test]
fn what_follows_the_content_is_refused() {
    for encoding in Encoding::ALL {
        let (content, bytes) = compressed(encoding);
        let twice = [&bytes[..], &bytes[..]].concat();
        let garbage = [&bytes[..], b"\0"].concat();
        for bytes in [twice, garbage] {
            let refused = decompress(&bytes, encoding, 3 * content.len());
            assert_eq!(refused, Err(CompressError::Trailing), "{encoding:?}");
        }
    }
}

#[test]
fn another_encoding_than_the_named_one_is_malformed() {
    for (encoding, named) in Encoding::ALL.into_iter().zip(Encoding::ALL.into_iter().cycle().skip(1)) {
        let (content, bytes) = compressed(encoding);
        assert_eq!(decompress(&bytes, named, content.len()), Err(CompressError::Malformed), "{encoding:?} as {named:?}");
    }
}

#[test]
fn a_stream_that_asks_for_a_large_decoder_is_refused() {
    let content = prose(1000);
    let mut xz = Vec::new();
    let mut encoder = liblzma::write::XzEncoder::new(&mut xz, 6);
    encoder.write_all(&content).and_then(|()| encoder.try_finish()).expect("memory");
    drop(encoder);
    assert_eq!(decompress(&xz, Encoding::Xz, limits::FRAME), Err(CompressError::Memory));

    // Without the size of the content in it, the frame names the whole window of its level.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 19).expect("a level");
    encoder.window_log(24).expect("a window");
    encoder.write_all(&content).expect("memory");
    let zstd = encoder.finish().expect("memory");
    assert_eq!(decompress(&zstd, Encoding::Zstd, limits::FRAME), Err(CompressError::Memory));
}

#[test]
fn the_strongest_levels_of_bzip2_and_gzip_are_read() {
    let content = prose(1000);
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    bzip2.write_all(&content).expect("memory");
    let bytes = bzip2.finish().expect("memory");
    assert_eq!(decompress(&bytes, Encoding::Bzip2, content.len()).as_deref(), Ok(&content[..]));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&content).expect("memory");
    let bytes = gzip.finish().expect("memory");
    assert_eq!(decompress(&bytes, Encoding::Gzip, content.len()).as_deref(), Ok(&content[..]));
}
