//! What happens before a file moves, at whichever end receives it: its part file is opened, locked and hashed.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parlour_wire::files::{Hash, Part as WirePart};

use super::{
    error::FileError,
    part::{Part, Place},
    receive::finished,
};

/// How long a transfer that has just ended may hold its part file.
const BUSY: Duration = Duration::from_secs(5);
/// How long to wait before the next look at a part file that is held, at first and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// Runs what may block on a thread for that.
pub(super) async fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    finished(tokio::task::spawn_blocking(work)).await
}

/// Tries again for a while if another transfer holds the part file: that one may just be ending.
pub(super) async fn unless_busy<T, F: Future<Output = Result<T, FileError>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, FileError> {
    let (mut pause, longest) = LOOK;
    let patience = tokio::time::sleep(BUSY);
    tokio::pin!(patience);
    loop {
        match attempt().await {
            Err(FileError::Busy) => {}
            result => return result,
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (2 * pause).min(longest),
            () = &mut patience => return Err(FileError::Busy),
        }
    }
}

/// How many bytes of what is there have been hashed.
#[derive(Clone, Debug, Default)]
pub(super) struct Beats(Arc<AtomicU64>);

impl Beats {
    pub(super) fn done(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn note(&self, done: u64, is_wanted: &dyn Fn() -> bool) -> Result<(), FileError> {
        self.0.store(done, Ordering::Relaxed);
        if is_wanted() { Ok(()) } else { Err(FileError::Cancelled) }
    }
}

/// What there is at the place of a file that is to come.
#[derive(Debug)]
pub(super) enum Prepared {
    /// The very same file.
    There,
    /// A part file.
    Part(Box<Part>),
}

/// What is known of a file that is to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// Its size, if that is known.
    pub(super) size: Option<u64>,
    /// Its hash, if that is known.
    pub(super) hash: Option<Hash>,
    /// It may take the place of another.
    pub(super) replace: bool,
}

/// Looks at a place and opens its part file. A file that may be the very one is hashed: `beats` says how far that has come, and it
/// ends when it is wanted no more.
pub(super) fn prepare(
    place: Place,
    expected: Expected,
    beats: &Beats,
    is_wanted: &dyn Fn() -> bool,
) -> Result<Prepared, FileError> {
    let existing = place.existing()?;
    if let (Some(size), Some(hash)) = (expected.size, expected.hash)
        && place.holds(size, &hash, &mut |done| beats.note(done, is_wanted))?
    {
        return Ok(Prepared::There);
    }
    if existing.is_some() && !expected.replace {
        return Err(FileError::Exists);
    }
    let part = place.open()?;
    Ok(Prepared::Part(Box::new(part)))
}

/// Hashes what there is of an earlier try, and says it in the words of the wire.
pub(super) fn hash_part(part: &mut Part, beats: &Beats, is_wanted: &dyn Fn() -> bool) -> Result<WirePart, FileError> {
    part.hash_prefix(&mut |done| beats.note(done, is_wanted))?;
    Ok(WirePart { size: part.size(), hash: part.hash() })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use cap_std::{ambient_authority, fs::Dir};

    use super::*;

    const SIZE: u64 = 1024 * 1024;

    fn place(folder: &tempfile::TempDir) -> Place {
        Place::new(Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap(), "x".into(), 7)
    }

    /// The bytes of a file whose hash is known, and what a sender says of it.
    fn known() -> (Vec<u8>, Expected) {
        let bytes = vec![3; usize::try_from(SIZE).unwrap()];
        let hash = *blake3::hash(&bytes).as_bytes();
        (bytes, Expected { size: Some(SIZE), hash: Some(hash), replace: true })
    }

    #[test]
    fn hashing_the_file_that_is_there_tells_how_far_it_is_and_ends_when_it_is_wanted_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let (bytes, expected) = known();
        std::fs::write(folder.path().join("x"), bytes).unwrap();
        let beats = Beats::default();
        let seen = Cell::new(0);
        let watch = || {
            assert!(beats.done() > seen.replace(beats.done()), "further at every look");
            true
        };
        assert!(matches!(prepare(place(&folder), expected, &beats, &watch), Ok(Prepared::There)));
        assert_eq!(beats.done(), SIZE);

        let beats = Beats::default();
        let half = || beats.done() < SIZE / 2;
        assert_eq!(prepare(place(&folder), expected, &beats, &half).err(), Some(FileError::Cancelled));
        assert_eq!(beats.done(), SIZE / 2);
    }

    #[test]
    fn hashing_a_part_tells_how_far_it_is_and_ends_when_it_is_wanted_no_more_and_the_part_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (bytes, expected) = known();
        let open = || match prepare(place(&folder), expected, &Beats::default(), &|| true) {
            Ok(Prepared::Part(part)) => part,
            other => panic!("{other:?}"),
        };
        let mut part = open();
        part.append(&bytes).unwrap();
        part.keep();
        let (mut part, beats) = (open(), Beats::default());
        let half = || beats.done() < SIZE / 2;
        assert_eq!(hash_part(&mut part, &beats, &half), Err(FileError::Cancelled));
        assert_eq!(beats.done(), SIZE / 2);
        let whole = hash_part(&mut part, &beats, &|| true).unwrap();
        assert_eq!((Some(whole.size), Some(whole.hash), beats.done()), (expected.size, expected.hash, SIZE));
    }
}
