//! Attachments: known answers of another implementation, every size around the bounds of a chunk, and what a malicious server or a
//! source that changes can do.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use parlour_e2ee::attachment::{
    AttachmentError, CHUNK, Chunks, FileKey, Layout, Opener, Resealer, SEALED_CHUNK, Sealed, Sealer, TAG,
};
use parlour_wire::{content::Attachment, id::BlobId};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

#[path = "../../../fuzz/bodies/attachment.rs"]
mod body;
#[path = "../../../fuzz/replay.rs"]
mod replay;

fn file_of(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

fn key() -> FileKey {
    FileKey::from_bytes(std::array::from_fn(|at| at as u8))
}

fn first_pass(file: &[u8]) -> Sealed {
    let mut sealer = Sealer::new(&key(), file.len() as u64).unwrap();
    let mut rest = file;
    while let Some(wanted) = sealer.wanted() {
        let (chunk, after) = rest.split_at(wanted);
        sealer.take(&mut chunk.to_vec()).unwrap();
        rest = after;
    }
    sealer.finish().unwrap()
}

fn content(file: &[u8], layout: Layout, chunk: u32) -> Vec<u8> {
    let start = (chunk as usize * CHUNK).min(file.len());
    file[start..start + layout.content_len(chunk)].to_vec()
}

fn seal(file: &[u8]) -> (Attachment, Vec<u8>) {
    let sealed = first_pass(file);
    let again = Resealer::new(&key(), &sealed);
    let mut blob = Vec::new();
    for chunk in 0..sealed.layout.chunks() {
        let mut buffer = content(file, sealed.layout, chunk);
        again.seal(chunk, &mut buffer).unwrap();
        blob.extend(buffer);
    }
    (attachment(&sealed), blob)
}

fn attachment(sealed: &Sealed) -> Attachment {
    Attachment {
        blob: sealed.blob,
        key: *key().as_bytes(),
        size: sealed.layout.size(),
        blob_size: sealed.layout.blob_size(),
        hash: sealed.hash,
        content_type: "text/plain".to_owned(),
        name: "file".to_owned(),
        text: String::new(),
        thumbnail: None,
    }
}

/// Opens a blob as far as it goes.
fn open(attachment: &Attachment, blob: &[u8]) -> Result<Vec<u8>, AttachmentError> {
    let mut opener = Opener::new(attachment)?;
    let (mut file, mut rest) = (Vec::new(), blob);
    while let Some(wanted) = opener.wanted() {
        let (chunk, after) = rest.split_at(wanted.min(rest.len()));
        let mut buffer = chunk.to_vec();
        opener.take(&mut buffer)?;
        file.extend(buffer);
        rest = after;
    }
    opener.finish().map(|()| file)
}

#[test]
fn another_implementation_gives_the_same_bytes() {
    for line in include_str!("golden/attachment.txt").lines() {
        let [size, blob_size, hash, tag] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (_, blob) = seal(&file_of(size.parse().unwrap()));
        assert_eq!(blob.len().to_string(), blob_size, "{line}");
        assert_eq!(hex::encode(&blob[blob.len() - TAG..]), tag, "{line}");
        assert_eq!(hex::encode(Sha256::digest(&blob)), hash, "{line}");
    }
}

#[test]
fn every_size_around_the_bounds_of_a_chunk_comes_back() {
    for size in [0, 1, 2, 65_519, 65_520, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 10 << 20] {
        let file = file_of(size);
        let (attachment, blob) = seal(&file);
        assert_eq!(attachment.hash, *blake3::hash(&file).as_bytes(), "{size}");
        assert_eq!(attachment.blob, BlobId(*blake3::hash(&blob).as_bytes()), "{size}");
        assert!(open(&attachment, &blob).unwrap() == file, "{size}");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_where_it_is() {
    let (attachment, blob) = seal(&file_of(150_000));
    for at in [0, 1, SEALED_CHUNK - 1, SEALED_CHUNK, SEALED_CHUNK + CHUNK, blob.len() - TAG - 1, blob.len() - 1] {
        for bit in [1, 128] {
            let mut wrong = blob.clone();
            wrong[at] ^= bit;
            let chunk = (at / SEALED_CHUNK) as u32;
            assert_eq!(open(&attachment, &wrong), Err(AttachmentError::Forged { chunk }), "{at}");
        }
    }
}

#[test]
fn a_blob_that_is_cut_off_is_noticed() {
    let (attachment, blob) = seal(&file_of(150_000));
    for length in [0, 1, SEALED_CHUNK - 1, SEALED_CHUNK, SEALED_CHUNK + 1, 2 * SEALED_CHUNK, blob.len() - 1] {
        let error = open(&attachment, &blob[..length]).unwrap_err();
        assert!(matches!(error, AttachmentError::WrongLength { .. }), "{length}: {error}");
    }
    let mut opener = Opener::new(&attachment).unwrap();
    opener.take(&mut blob[..SEALED_CHUNK].to_vec()).unwrap();
    assert_eq!(opener.finish(), Err(AttachmentError::Unfinished { chunks: 1 }));
}

#[test]
fn a_blob_that_is_cut_at_a_chunk_does_not_open_as_a_shorter_file() {
    // Both sizes are chosen by the attacker; only the nonce of the last chunk is in the way.
    let (attachment, blob) = seal(&file_of(2 * CHUNK));
    let shorter = Attachment { size: CHUNK as u64, blob_size: SEALED_CHUNK as u64, ..attachment };
    assert_eq!(open(&shorter, &blob[..SEALED_CHUNK]), Err(AttachmentError::Forged { chunk: 0 }));
}

#[test]
fn a_blob_that_goes_on_does_not_open_as_a_longer_file() {
    let (attachment, mut blob) = seal(&file_of(CHUNK));
    blob.extend_from_within(..);
    let longer = Attachment { size: 2 * CHUNK as u64, blob_size: 2 * SEALED_CHUNK as u64, ..attachment };
    assert_eq!(open(&longer, &blob), Err(AttachmentError::Forged { chunk: 0 }));
}

#[test]
fn nothing_can_be_taken_behind_the_last_chunk() {
    let (attachment, blob) = seal(&file_of(10));
    let mut opener = Opener::new(&attachment).unwrap();
    opener.take(&mut blob.clone()).unwrap();
    assert_eq!(opener.wanted(), None);
    assert_eq!(opener.take(&mut blob.clone()), Err(AttachmentError::PastEnd { chunk: 1 }));
    assert_eq!(opener.finish(), Ok(()), "what was refused has left no trace");
}

#[test]
fn chunks_that_change_places_do_not_open() {
    // The same content in both: only the position differs.
    let (attachment, blob) = seal(&vec![5; 4 * CHUNK]);
    let (first, second) = (&blob[..SEALED_CHUNK], &blob[SEALED_CHUNK..2 * SEALED_CHUNK]);
    let swapped = [second, first, &blob[2 * SEALED_CHUNK..]].concat();
    assert_eq!(open(&attachment, &swapped), Err(AttachmentError::Forged { chunk: 0 }));
    let doubled = [first, first, &blob[2 * SEALED_CHUNK..]].concat();
    assert_eq!(open(&attachment, &doubled), Err(AttachmentError::Forged { chunk: 1 }));
}

#[test]
fn a_chunk_of_another_file_or_key_does_not_open() {
    let (attachment, blob) = seal(&file_of(1000));
    let other = Attachment { key: [9; 32], ..attachment };
    assert_eq!(open(&other, &blob), Err(AttachmentError::Forged { chunk: 0 }));
}

#[test]
fn a_file_whose_message_names_other_hashes_is_refused_at_its_end() {
    let (attachment, blob) = seal(&file_of(70_000));
    let content = Attachment { hash: [1; 32], ..attachment.clone() };
    assert_eq!(open(&content, &blob), Err(AttachmentError::WrongContent));
    let named = Attachment { blob: BlobId([1; 32]), ..attachment };
    assert_eq!(open(&named, &blob), Err(AttachmentError::WrongBlob));
}

#[test]
fn a_size_within_the_padding_shows_that_the_padding_holds_something() {
    // A sender seals 1024 bytes and says that the file has 1000, to hide 24 bytes behind it.
    let (attachment, blob) = seal(&[7; 1024]);
    let lying = Attachment { size: 1000, ..attachment };
    assert_eq!(open(&lying, &blob), Err(AttachmentError::BadPadding { chunk: 0 }));
}

#[test]
fn sizes_that_contradict_each_other_are_refused_before_anything_is_fetched() {
    let (attachment, _) = seal(&file_of(1000));
    for blob_size in [0, 1000, 1039, 1041, u64::MAX] {
        let lying = Attachment { blob_size, ..attachment.clone() };
        assert!(matches!(Opener::new(&lying), Err(AttachmentError::WrongSize { expected: 1040, .. })), "{blob_size}");
    }
    let huge = Attachment { size: u64::MAX, ..attachment };
    assert!(matches!(Opener::new(&huge), Err(AttachmentError::TooLarge { .. })));
}

#[test]
fn a_source_that_changes_is_noticed_before_anything_of_the_change_is_given_out() {
    let file = file_of(150_000);
    let sealed = first_pass(&file);
    let again = Resealer::new(&key(), &sealed);
    for chunk in 0..sealed.layout.chunks() {
        let right = content(&file, sealed.layout, chunk);
        let mut changed = right.clone();
        changed[0] ^= 1;
        for mut wrong in [changed, right[1..].to_vec(), Vec::new()] {
            assert_eq!(again.seal(chunk, &mut wrong), Err(AttachmentError::SourceChanged { chunk }));
            assert!(wrong.is_empty(), "nothing to send by mistake");
        }
        let (mut once, mut twice) = (right.clone(), right);
        again.seal(chunk, &mut once).unwrap();
        again.seal(chunk, &mut twice).unwrap();
        assert_eq!(once, twice, "a resumed upload sends the same bytes");
    }
    let end = sealed.layout.chunks();
    assert_eq!(again.seal(end, &mut Vec::new()), Err(AttachmentError::PastEnd { chunk: end }));
}

#[test]
fn a_source_that_ends_early_is_no_file() {
    let mut sealer = Sealer::new(&key(), 100_000).unwrap();
    sealer.take(&mut file_of(CHUNK)).unwrap();
    let short = sealer.take(&mut vec![0; 10]).unwrap_err();
    assert_eq!(short, AttachmentError::WrongLength { chunk: 1, expected: 100_000 - CHUNK, got: 10 });
    assert_eq!(sealer.finish(), Err(AttachmentError::Unfinished { chunks: 1 }));
}

#[test]
fn a_download_goes_on_with_what_is_on_disk() {
    let file = file_of(200_000);
    let (attachment, blob) = seal(&file);
    for there in 0..=3 {
        let mut opener = Opener::new(&attachment).unwrap();
        let layout = opener.layout();
        for chunk in 0..there {
            opener.skip(&mut content(&file, layout, chunk)).unwrap();
        }
        while let Some(wanted) = opener.wanted() {
            let range = layout.sealed_range(opener.position());
            let mut buffer = blob[range.start as usize..range.end as usize].to_vec();
            assert_eq!(buffer.len(), wanted);
            opener.take(&mut buffer).unwrap();
        }
        assert_eq!(opener.finish(), Ok(()), "{there}");
    }
}

#[test]
fn a_download_whose_beginning_was_spoilt_on_disk_is_noticed() {
    let file = file_of(200_000);
    let (attachment, blob) = seal(&file);
    let mut opener = Opener::new(&attachment).unwrap();
    let mut spoilt = file[..CHUNK].to_vec();
    spoilt[77] ^= 1;
    opener.skip(&mut spoilt).unwrap();
    for chunk in 1..opener.layout().chunks() {
        let range = opener.layout().sealed_range(chunk);
        opener.take(&mut blob[range.start as usize..range.end as usize].to_vec()).unwrap();
    }
    assert_eq!(opener.finish(), Err(AttachmentError::WrongContent));
}

#[test]
fn a_garbled_chunk_can_be_fetched_again() {
    let (attachment, blob) = seal(&file_of(100));
    let mut opener = Opener::new(&attachment).unwrap();
    let mut wrong = blob.clone();
    wrong[3] ^= 1;
    assert_eq!(opener.take(&mut wrong), Err(AttachmentError::Forged { chunk: 0 }));
    assert!(wrong.is_empty());
    opener.take(&mut blob.clone()).unwrap();
    assert_eq!(opener.finish(), Ok(()));
}

#[test]
fn chunks_open_in_any_order() {
    let file = file_of(200_000);
    let (attachment, blob) = seal(&file);
    let layout = Layout::checked(attachment.size, attachment.blob_size).unwrap();
    let chunks = Chunks::new(&key(), layout);
    for chunk in (0..layout.chunks()).rev() {
        let range = layout.sealed_range(chunk);
        let mut buffer = blob[range.start as usize..range.end as usize].to_vec();
        chunks.open(chunk, &mut buffer).unwrap();
        assert_eq!(buffer, content(&file, layout, chunk));
    }
}

#[test]
fn keys_differ_and_are_not_shown() {
    assert_ne!(FileKey::generate(), FileKey::generate());
    assert_eq!(format!("{:?}", key()), "FileKey(…)");
}

#[test]
fn the_corpus_of_attachments_holds() {
    replay::replay("attachment", body::run);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_opens_and_one_changed_byte_is_noticed(
        size in prop_oneof![0..3_000usize, CHUNK - 40..CHUNK + 40, 2 * CHUNK - 40..2 * CHUNK + 40],
        at in any::<prop::sample::Index>(),
        change in 1..=255u8,
    ) {
        let file = file_of(size);
        let (attachment, mut blob) = seal(&file);
        prop_assert!(open(&attachment, &blob).unwrap() == file);
        let at = at.index(blob.len());
        blob[at] ^= change;
        let forged = AttachmentError::Forged { chunk: (at / SEALED_CHUNK) as u32 };
        prop_assert_eq!(open(&attachment, &blob), Err(forged));
    }
}
