//! Getting out of a damaged queue what can still be read.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use super::{
    error::QueueError,
    log::{beside, lock, random, replace, sync_folder},
    record::{HEAD, HEADER, Header, Kind, Purpose},
    recovery::{self, Damage},
};

/// What was saved of a damaged queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// Messages that wait in the fresh file.
    pub records: usize,
    /// Bytes of the damaged file that could not be read.
    pub lost_bytes: u64,
    /// Where the damaged file is kept.
    pub damaged: PathBuf,
}

pub(crate) fn salvage(path: &Path) -> Result<Salvaged, QueueError> {
    let _lock = lock(path)?;
    let failed = |error: io::Error| QueueError::io(path, &error);
    let broken = |damage: Damage| QueueError::damage(path, damage);
    let file = File::open(path).map_err(failed)?;

    let (mut live, mut highest) = (BTreeMap::new(), 0);
    let (before, lost_bytes) = recovery::salvage(&mut BufReader::new(&file), Purpose::Queue, |record| match record.kind {
        Kind::ACTION | Kind::REQUEST => {
            highest = highest.max(record.number);
            live.insert(record.number, record.size() as u64);
        }
        Kind::DONE => drop(live.remove(&record.number)),
        _ => {}
    })
    .map_err(broken)?;

    // Numbers that stood in the lost part must not be given again: a receiver would take the messages for doubles.
    let next = before.next.max(highest.saturating_add(1)).saturating_add(lost_bytes / HEAD as u64 + 1);
    let whole = HEADER as u64 + live.values().sum::<u64>();
    let header = Header { id: before.id, key: random()?, next, whole };
    let damaged = keep(path).map_err(failed)?;
    replace(path, |fresh| {
        let mut writer = BufWriter::new(fresh);
        writer.write_all(&header.encode(Purpose::Queue))?;
        let (mut offset, mut bytes, mut written) = (HEADER as u64, Vec::new(), Ok(()));
        let read = recovery::salvage(&mut BufReader::new(&file), Purpose::Queue, |record| {
            if matches!(record.kind, Kind::ACTION | Kind::REQUEST) && live.contains_key(&record.number) && written.is_ok() {
                bytes.clear();
                record.encode(&header.key, offset, whole, &mut bytes);
                offset += bytes.len() as u64;
                written = writer.write_all(&bytes);
            }
        });
        read.map_err(|damage| io::Error::other(broken(damage).to_string()))?;
        written?;
        writer.flush()
    })
    .map_err(failed)?;
    sync_folder(path).map_err(failed)?;
    Ok(Salvaged { records: live.len(), lost_bytes, damaged })
}

/// Gives the damaged file a second name, the first of its kind that is free.
fn keep(path: &Path) -> io::Result<PathBuf> {
    for number in 1_u32.. {
        let name = beside(path, &format!(".damaged-{number}"));
        if name.try_exists()? {
            continue;
        }
        // A copy where the file system knows no second names. It must be on disk before the file itself is replaced.
        std::fs::hard_link(path, &name).or_else(|_| std::fs::copy(path, &name).and_then(|_| File::open(&name)?.sync_all()))?;
        return Ok(name);
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
