//! Log files as bytes in memory: torn anywhere, damaged anywhere.

use std::io::Cursor;

use parlour_wire::frame::ContentType;
use proptest::prelude::*;

use crate::durable::{
    record::{HEAD, HEADER, Header, Kind, Purpose, Record},
    recovery::{Damage, Scan, salvage, scan},
};

/// What a test puts into a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    kind: Kind,
    number: u64,
    name: Vec<u8>,
    content: Vec<u8>,
}

impl Entry {
    fn of(record: &Record<'_>) -> Self {
        Self { kind: record.kind, number: record.number, name: record.name.to_vec(), content: record.content.to_vec() }
    }

    fn record(&self) -> Record<'_> {
        let (kind, number, content_type) = (self.kind, self.number, ContentType::BYTES);
        Record { kind, number, content_type, name: &self.name, content: &self.content }
    }
}

fn header(key: u8) -> Header {
    Header { id: [7; 16], key: [key; 32], next: 1, whole: HEADER as u64 }
}

/// A file whose batches were each waited for, and where each record begins.
fn image(key: u8, batches: &[Vec<Entry>]) -> (Vec<u8>, Vec<usize>) {
    let header = header(key);
    let mut bytes = header.encode(Purpose::Queue).to_vec();
    let mut starts = Vec::new();
    for batch in batches {
        let durable = bytes.len() as u64;
        for entry in batch {
            starts.push(bytes.len());
            let offset = bytes.len() as u64;
            entry.record().encode(&header.key, offset, durable, &mut bytes);
        }
    }
    (bytes, starts)
}

fn read(bytes: &[u8]) -> (Vec<Entry>, Result<Scan, Damage>) {
    let mut entries = Vec::new();
    let scanned = scan(&mut Cursor::new(bytes), Purpose::Queue, |_, record| entries.push(Entry::of(&record)));
    (entries, scanned)
}

fn push(number: u64, content: &[u8]) -> Entry {
    Entry { kind: Kind::ACTION, number, name: b"name".to_vec(), content: content.to_vec() }
}

fn done(number: u64) -> Entry {
    Entry { kind: Kind::DONE, number, name: Vec::new(), content: Vec::new() }
}

fn batches() -> impl Strategy<Value = Vec<Vec<Entry>>> {
    let kind = prop_oneof![Just(Kind::ACTION), Just(Kind::REQUEST), Just(Kind::DONE), any::<u8>().prop_map(Kind)];
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    let entry = (kind, any::<u64>(), bytes(20), bytes(200)).prop_map(|(kind, number, name, content)| Entry {
        kind,
        number,
        name,
        content,
    });
    prop::collection::vec(prop::collection::vec(entry, 1..5), 0..6)
}

proptest! {
    #[test]
    fn what_is_written_is_read(batches in batches()) {
        let (bytes, _) = image(1, &batches);
        let (entries, scanned) = read(&bytes);
        prop_assert_eq!(entries, batches.concat());
        prop_assert_eq!(scanned.unwrap(), Scan { header: header(1), sound: bytes.len() as u64, length: bytes.len() as u64 });
    }

    #[test]
    fn any_prefix_of_a_file_reads_as_a_prefix_of_its_records(batches in batches(), cut in any::<prop::sample::Index>()) {
        let (bytes, starts) = image(1, &batches);
        let cut = HEADER + cut.index(bytes.len() - HEADER + 1);
        let (entries, scanned) = read(&bytes[..cut]);
        let ends = starts.iter().copied().skip(1).chain([bytes.len()]);
        let whole = if starts.is_empty() { 0 } else { ends.take_while(|end| *end <= cut).count() };
        prop_assert_eq!(&entries[..], &batches.concat()[..whole]);
        let sound = starts.get(whole).copied().unwrap_or(bytes.len());
        prop_assert_eq!(scanned.unwrap().sound, sound as u64);
    }

    #[test]
    fn a_changed_byte_is_found_and_never_read(
        batches in batches(),
        at in any::<prop::sample::Index>(),
        change in 1_u8..,
    ) {
        let (mut bytes, starts) = image(1, &batches);
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        let (entries, scanned) = read(&bytes);
        let hit = starts.iter().rposition(|start| *start <= at);
        let Some(hit) = hit else {
            prop_assert!(matches!(scanned, Err(Damage::NotALog)));
            return Ok(());
        };
        // Records before it are read, nothing behind it; whether it is a torn write or damage depends on who was promised it.
        prop_assert_eq!(&entries[..], &batches.concat()[..hit]);
        let last = batches.last().map_or(0, Vec::len);
        if hit < starts.len() - last {
            prop_assert!(matches!(scanned, Err(Damage::At(offset)) if offset == starts[hit] as u64), "{:?}", scanned);
        } else {
            prop_assert_eq!(scanned.unwrap().sound, starts[hit] as u64);
        }
    }

    #[test]
    fn salvage_reads_every_record_that_is_whole(
        batches in batches(),
        at in any::<prop::sample::Index>(),
        length in 1_usize..300,
    ) {
        let (mut bytes, starts) = image(1, &batches);
        let from = HEADER + at.index(bytes.len() - HEADER + 1);
        let to = (from + length).min(bytes.len());
        bytes[from..to].iter_mut().for_each(|byte| *byte = !*byte);
        let ends: Vec<usize> = starts.iter().copied().skip(1).chain([bytes.len()]).collect();
        let whole = |index: usize| ends[index] <= from || starts[index] >= to;
        let expected: Vec<Entry> =
            batches.concat().into_iter().enumerate().filter(|(index, _)| whole(*index)).map(|(_, entry)| entry).collect();
        let lost: usize = (0..starts.len()).filter(|index| !whole(*index)).map(|index| ends[index] - starts[index]).sum();
        let mut entries = Vec::new();
        let saved = salvage(&mut Cursor::new(&bytes), Purpose::Queue, |record| entries.push(Entry::of(&record)));
        prop_assert_eq!(entries, expected);
        prop_assert_eq!(saved.unwrap(), (header(1), lost as u64));
    }

    #[test]
    fn bytes_that_are_no_log_are_refused_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(matches!(read(&bytes).1, Err(Damage::NotALog)));
        let mut bytes = bytes;
        bytes.splice(..0, header(1).encode(Purpose::Queue));
        let (entries, scanned) = read(&bytes);
        prop_assert_eq!((entries.len(), scanned.unwrap().sound), (0, HEADER as u64));
    }
}

#[test]
fn a_later_write_of_the_same_batch_does_not_make_a_torn_one_damage() {
    // Disks write the blocks of a batch in any order: the end can be there without the middle.
    let (mut bytes, starts) = image(1, &[vec![push(1, b"one")], vec![push(2, b"two"), push(3, b"three"), done(1)]]);
    bytes[starts[1]..starts[2]].fill(0);
    let (entries, scanned) = read(&bytes);
    assert_eq!((entries, scanned.unwrap().sound), (vec![push(1, b"one")], starts[1] as u64));
}

#[test]
fn a_record_of_another_file_or_place_does_not_pass() {
    let inner = image(2, &[vec![push(1, b"inner")]]).0;
    let (mut bytes, starts) = image(1, &[vec![push(1, &inner)], vec![push(2, b"two")]]);
    assert_eq!(read(&bytes).0.len(), 2);
    // Moved by the length of its own: whole, and not where it was written.
    let second = bytes[starts[1]..].to_vec();
    bytes.extend_from_slice(&second);
    let (entries, scanned) = read(&bytes);
    assert_eq!((entries.len(), scanned.unwrap().sound), (2, (bytes.len() - second.len()) as u64));
}

#[test]
fn what_a_rewrite_has_made_is_damaged_if_it_is_short() {
    let mut header = header(1);
    let mut records = Vec::new();
    push(1, b"one").record().encode(&header.key, HEADER as u64, 0, &mut records);
    header.whole = (HEADER + records.len()) as u64;
    let mut bytes = header.encode(Purpose::Queue).to_vec();
    bytes.extend_from_slice(&records);
    assert!(read(&bytes).1.is_ok());
    for cut in HEADER..bytes.len() {
        assert!(matches!(read(&bytes[..cut]).1, Err(Damage::At(offset)) if offset == HEADER as u64));
    }
}

#[test]
fn marks_are_no_queue() {
    let bytes = header(1).encode(Purpose::Marks);
    assert!(matches!(read(&bytes).1, Err(Damage::NotALog)));
}

#[test]
fn the_layout_of_a_file_is_as_it_was() {
    // Files outlive programs: who changes this reads both.
    let (bytes, starts) = image(9, &[vec![push(0x0102, b"content")]]);
    assert_eq!((HEADER, HEAD, bytes.len(), &starts[..]), (96, 40, 96 + 40 + 11 + 16, &[96][..]));
    assert_eq!(&bytes[..32], [&b"parlour queue 1\n"[..], &[7; 16]].concat());
    assert_eq!(&bytes[96..124], b"\xf1Rec\0\0\0\x0b\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x60\x01\0\0\x04");
    assert_eq!(&bytes[136..147], b"namecontent");
    let digest = blake3::hash(&bytes).to_hex();
    assert_eq!(&digest[..16], "6ca0af99be1153bc");
}
