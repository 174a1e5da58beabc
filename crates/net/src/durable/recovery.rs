//! Reading a log file from its beginning: which records are whole, where a crash has torn it, where it is damaged.
//!
//! A file that ends in the middle of something is the ordinary trace of a crash: the writer had promised nobody what stands
//! there, so it is cut. Bytes that do not pass although they were on disk once, because a later record says so, are damage;
//! the file is left as it is, for [`salvage`].

use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
};

use super::record::{HEAD, HEADER, Head, Header, MARKER, Purpose, Record};

/// Bytes that a search behind damage reads at a time.
const CHUNK: usize = 64 * 1024;

/// Why a file cannot be read to its end.
#[derive(Debug)]
pub(crate) enum Damage {
    /// The file does not begin like a log of this purpose.
    NotALog,
    /// What stands here was on disk, and does not pass.
    At(u64),
    /// The disk.
    Io(io::Error),
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a whole file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) header: Header,
    /// Bytes that are whole; what stands behind them is torn.
    pub(crate) sound: u64,
    /// Bytes of the file.
    pub(crate) length: u64,
}

/// Reads every record in order, with its place.
///
/// # Errors
/// [`Damage`]; records before it have been visited.
pub(crate) fn scan<R: Read + Seek>(
    file: &mut R,
    purpose: Purpose,
    mut visit: impl FnMut(u64, Record<'_>),
) -> Result<Scan, Damage> {
    let (header, length) = begin(file, purpose)?;
    let mut at = HEADER as u64;
    let mut buffer = Vec::new();
    while at < length {
        match read_record(file, &header.key, at, length, &mut buffer)? {
            Some(record) => {
                let size = record.size() as u64;
                visit(at, record);
                at += size;
            }
            None if at < header.whole || promised(file, &header, at, length)? => return Err(Damage::At(at)),
            None => break,
        }
    }
    if at < header.whole {
        return Err(Damage::At(at));
    }
    Ok(Scan { header, sound: at, length })
}

/// Reads every record that is whole, over damage. Gives the header and how many bytes were passed over.
///
/// # Errors
/// [`Damage`] if there is no header to go by, or the disk fails.
pub(crate) fn salvage<R: Read + Seek>(
    file: &mut R,
    purpose: Purpose,
    mut visit: impl FnMut(Record<'_>),
) -> Result<(Header, u64), Damage> {
    let (header, length) = begin(file, purpose)?;
    let (mut at, mut lost) = (HEADER as u64, 0);
    let mut buffer = Vec::new();
    while at < length {
        if let Some(record) = read_record(file, &header.key, at, length, &mut buffer)? {
            let size = record.size() as u64;
            visit(record);
            at += size;
        } else {
            let next = find_head(file, &header.key, at + 1..length, |_| true)?.unwrap_or(length);
            lost += next - at;
            at = next;
        }
    }
    Ok((header, lost))
}

fn begin<R: Read + Seek>(file: &mut R, purpose: Purpose) -> Result<(Header, u64), Damage> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut bytes = [0; HEADER];
    if length < HEADER as u64 {
        return Err(Damage::NotALog);
    }
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut bytes)?;
    let header = Header::decode(&bytes, purpose).ok_or(Damage::NotALog)?;
    file.seek(SeekFrom::Start(HEADER as u64))?;
    Ok((header, length))
}

/// The record at `at`, if a whole one stands there; then the file stands behind it.
fn read_record<'a, R: Read + Seek>(
    file: &mut R,
    key: &[u8; 32],
    at: u64,
    length: u64,
    buffer: &'a mut Vec<u8>,
) -> io::Result<Option<Record<'a>>> {
    let left = length - at;
    if left < HEAD as u64 {
        return Ok(None);
    }
    let mut bytes = [0; HEAD];
    file.read_exact(&mut bytes)?;
    let Some(head) = Head::decode(&bytes, key, at) else { return Ok(None) };
    if left - (HEAD as u64) < head.rest() as u64 {
        return Ok(None);
    }
    buffer.resize(head.rest(), 0);
    file.read_exact(buffer)?;
    Ok(head.record(buffer, key, at))
}

/// Whether something behind `at` says that the byte at `at` was on disk.
fn promised<R: Read + Seek>(file: &mut R, header: &Header, at: u64, length: u64) -> io::Result<bool> {
    Ok(find_head(file, &header.key, at + 1..length, |head| head.durable > at)?.is_some())
}

/// Where the first sound head in this part of the file is that `wanted` takes; the file stands at it then.
fn find_head<R: Read + Seek>(
    file: &mut R,
    key: &[u8; 32],
    Range { mut start, end }: Range<u64>,
    wanted: impl Fn(&Head) -> bool,
) -> io::Result<Option<u64>> {
    let mut buffer = Vec::new();
    while start + (HEAD as u64) <= end {
        let size = (end - start).min(CHUNK as u64);
        buffer.resize(usize::try_from(size).expect("a chunk fits memory"), 0);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut buffer)?;
        for (offset, window) in (start..).zip(buffer.windows(HEAD)) {
            if window[..MARKER.len()] == MARKER
                && let Ok(bytes) = window.try_into()
                && Head::decode(bytes, key, offset).is_some_and(|head| wanted(&head))
            {
                file.seek(SeekFrom::Start(offset))?;
                return Ok(Some(offset));
            }
        }
        // The next chunk begins with what is too short for a head in this one.
        start += size - (HEAD as u64 - 1);
    }
    Ok(None)
}
