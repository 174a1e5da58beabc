//! Log files in memory, for the fuzz target `log`.

use std::io::Cursor;

use parlour_wire::frame::ContentType;

use super::{
    index::{Index, Room},
    log::Place,
    marks, queue,
    record::{HEADER, Header, Kind, Purpose, Record},
    recovery::{salvage, scan},
    table::{Bounds, Table},
};

/// A record: its kind, number, name and content.
pub type LogEntry = (u8, u64, Vec<u8>, Vec<u8>);

fn purpose(marks: bool) -> Purpose {
    if marks { Purpose::Marks } else { Purpose::Queue }
}

fn entry(record: &Record<'_>) -> LogEntry {
    (record.kind.0, record.number, record.name.to_vec(), record.content.to_vec())
}

/// The bytes of a file with these records. Each comes with whether all before it was on disk when it was written.
#[must_use]
pub fn log_file(marks: bool, entries: &[(LogEntry, bool)]) -> Vec<u8> {
    let header = Header { id: [7; 16], key: [9; 32], next: 1, whole: HEADER as u64 };
    let mut bytes = header.encode(purpose(marks)).to_vec();
    let mut durable = bytes.len() as u64;
    for ((kind, number, name, content), synced) in entries {
        let offset = bytes.len() as u64;
        if *synced {
            durable = offset;
        }
        let record = Record { kind: Kind(*kind), number: *number, content_type: ContentType::CBOR, name, content };
        record.encode(&header.key, offset, durable, &mut bytes);
    }
    bytes
}

/// What a queue, or marks, read of a file; and how many bytes of it are sound, if it is a whole one or one that a crash has torn.
#[must_use]
pub fn log_read(marks: bool, bytes: &[u8]) -> (Vec<LogEntry>, Option<u64>) {
    let mut entries = Vec::new();
    let mut index = Index::new(Room { records: 64, bytes: 1 << 20 });
    let mut table = Table::new(Bounds { queues: 8, queues_per_peer: 4 });
    let scanned = scan(&mut Cursor::new(bytes), purpose(marks), |offset, record| {
        let place = Place { offset, size: record.size() as u64 };
        if marks {
            marks::take_in(&mut table, place, &record);
            drop(marks::told(&record));
        } else {
            queue::take_in(&mut index, place, &record);
        }
        entries.push(entry(&record));
    });
    assert!(table.queues().count() <= 8, "more queues than are remembered");
    (entries, scanned.ok().map(|scan| scan.sound))
}

/// What can be saved of a damaged file; `None` if it has no header to go by.
#[must_use]
pub fn log_salvage(marks: bool, bytes: &[u8]) -> Option<Vec<LogEntry>> {
    let mut entries = Vec::new();
    salvage(&mut Cursor::new(bytes), purpose(marks), |record| entries.push(entry(&record))).ok()?;
    Some(entries)
}
