//! The bytes of blobs on disk.
//!
//! ```text
//! blobs/HEX              a blob that is whole, under its id
//! blobs/ACCOUNT-HEX.part one on its way from an account
//! ```
//!
//! A few threads do the work. Everything about one upload goes to the same thread, so it is done in the order of the calls without
//! locks, and neither the tasks of the links nor the store wait for it. What is whole has been hashed and synced to disk before it gets
//! its name, so a file under an id is that blob, whatever happened in between.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use parlour_server::store::{
    StoreError,
    blobs::{BlobError, Blobs, Received, Upload, Work},
};
use parlour_wire::BlobId;
use tokio::sync::oneshot;

/// Threads, and the calls that may wait for each: with chunks of the largest size 32 MiB.
const THREADS: usize = 4;
const WAITING: usize = 128;
/// Uploads of which one thread knows the state of the hash. One more, and the one that has rested longest has to be begun again, and
/// is hashed again.
const KNOWN: usize = 4096;
/// Bytes that are hashed at once when an upload goes on.
const BUFFER: usize = 256 * 1024;

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// A folder of blobs.
pub(crate) struct DiskBlobs {
    threads: Vec<SyncSender<Job>>,
}

/// An upload of which the state is known.
struct Known {
    size: u64,
    received: u64,
    hasher: blake3::Hasher,
    /// All bytes are there, are the blob, and are on disk.
    whole: bool,
    /// The job of this thread that was the last for it.
    job: u64,
}

struct Worker {
    folder: Arc<Path>,
    /// Largest file; beyond it the disk is full. For tests.
    room: Option<u64>,
    known: BTreeMap<Upload, Known>,
    /// Jobs so far.
    jobs: u64,
}

fn disk(error: &io::Error) -> BlobError {
    match error.kind() {
        io::ErrorKind::NotFound => BlobError::Missing,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => StoreError::Full.into(),
        _ => StoreError::Unavailable(error.to_string()).into(),
    }
}

impl DiskBlobs {
    /// Opens or makes the folder. `room` bounds each file, as a full disk would.
    pub(crate) fn open(folder: &Path, room: Option<u64>) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if let Some(parent) = folder.parent() {
            File::open(parent)?.sync_all()?;
        }
        let folder: Arc<Path> = folder.into();
        let mut threads = Vec::with_capacity(THREADS);
        for number in 0..THREADS {
            let (jobs, waiting) = sync_channel(WAITING);
            let worker = Worker { folder: Arc::clone(&folder), room, known: BTreeMap::new(), jobs: 0 };
            std::thread::Builder::new().name(format!("blobs-{number}")).spawn(move || worker.run(&waiting))?;
            threads.push(jobs);
        }
        Ok(Self { threads })
    }

    fn work<T: Send + 'static>(
        &self,
        blob: &BlobId,
        job: impl FnOnce(&mut Worker) -> Result<T, BlobError> + Send + 'static,
    ) -> Work<T> {
        let (answer, wait) = oneshot::channel();
        let job: Job = Box::new(move |worker| {
            // An asker that went away needs no answer; the work is done all the same.
            let _gone = answer.send(job(worker));
        });
        let sent = self.threads[usize::from(blob.0[0]) % self.threads.len()].try_send(job);
        Box::pin(async move {
            match sent {
                Ok(()) => wait.await.unwrap_or_else(|_| Err(stopped())),
                Err(TrySendError::Full(_)) => Err(StoreError::Overloaded.into()),
                Err(TrySendError::Disconnected(_)) => Err(stopped()),
            }
        })
    }
}

fn stopped() -> BlobError {
    StoreError::Unavailable("the threads for blobs have stopped".to_owned()).into()
}

/// What is in a folder of blobs.
pub(crate) struct Listed {
    /// Those that are whole.
    pub(crate) blobs: Vec<BlobId>,
    /// Those on their way.
    pub(crate) uploads: Vec<Upload>,
}

/// The blobs in a folder, whatever else is in it.
pub(crate) fn listed(folder: &Path) -> io::Result<Listed> {
    let mut listed = Listed { blobs: Vec::new(), uploads: Vec::new() };
    for file in fs::read_dir(folder)? {
        let name = file?.file_name();
        let Some(name) = name.to_str() else { continue };
        listed.blobs.extend(name.parse::<BlobId>().ok());
        listed.uploads.extend(upload_of(name));
    }
    Ok(listed)
}

/// The name of an upload's file.
fn part_name(upload: &Upload) -> String {
    format!("{}-{}.part", upload.account, upload.blob)
}

fn upload_of(name: &str) -> Option<Upload> {
    let (account, blob) = name.strip_suffix(".part")?.split_once('-')?;
    Some(Upload { account: account.parse().ok()?, blob: blob.parse().ok()? })
}

/// Deletes a blob, if it is there.
pub(crate) fn delete(folder: &Path, blob: &BlobId) -> io::Result<()> {
    delete_file(&folder.join(blob.to_string()))
}

/// Deletes what there is of an upload.
pub(crate) fn delete_part(folder: &Path, upload: &Upload) -> io::Result<()> {
    delete_file(&folder.join(part_name(upload)))
}

fn delete_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Blobs for DiskBlobs {
    fn begin(&self, upload: Upload, size: u64) -> Work<Received> {
        self.work(&upload.blob, move |worker| worker.begin(upload, size))
    }

    fn put(&self, upload: Upload, offset: u64, data: Vec<u8>) -> Work<Received> {
        self.work(&upload.blob, move |worker| worker.put(upload, offset, &data))
    }

    fn land(&self, upload: Upload, size: u64) -> Work<()> {
        self.work(&upload.blob, move |worker| worker.land(upload, size))
    }

    fn discard(&self, upload: Upload) -> Work<()> {
        self.work(&upload.blob, move |worker| worker.discard(upload).map_err(|error| disk(&error)))
    }

    fn read(&self, blob: BlobId, offset: u64, length: usize) -> Work<Vec<u8>> {
        self.work(&blob, move |worker| read(&worker.whole(&blob), offset, length).map_err(|error| disk(&error)))
    }

    fn remove(&self, blob: BlobId) -> Work<()> {
        self.work(&blob, move |worker| delete(&worker.folder, &blob).map_err(|error| disk(&error)))
    }
}

fn read(path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let left = file.metadata()?.len().saturating_sub(offset);
    let mut bytes = vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            self.jobs += 1;
            job(&mut self);
        }
    }

    fn whole(&self, blob: &BlobId) -> PathBuf {
        self.folder.join(blob.to_string())
    }

    fn part(&self, upload: &Upload) -> PathBuf {
        self.folder.join(part_name(upload))
    }

    fn begin(&mut self, upload: Upload, size: u64) -> Result<Received, BlobError> {
        // A content has one size, so what is there of another is none of it and need not be read.
        if self.known.get(&upload).is_some_and(|known| known.size != size) {
            self.discard(upload).map_err(|error| disk(&error))?;
        }
        if !self.known.contains_key(&upload) {
            let known = self.resume(&upload, size).map_err(|error| disk(&error))?;
            if self.known.len() >= KNOWN
                && let Some(rested) = self.known.iter().min_by_key(|(_, known)| known.job).map(|(upload, _)| *upload)
            {
                self.known.remove(&rested);
            }
            self.known.insert(upload, known);
        }
        self.progress(upload)
    }

    /// Reads what is there of an upload, to know its hash so far.
    fn resume(&self, upload: &Upload, size: u64) -> io::Result<Known> {
        let path = self.part(upload);
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
        if file.metadata()?.len() > size {
            file.set_len(0)?;
        }
        let mut known = Known { size, received: 0, hasher: blake3::Hasher::new(), whole: false, job: 0 };
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(known);
            }
            known.hasher.update(&buffer[..read]);
            known.received += read as u64;
        }
    }

    fn put(&mut self, upload: Upload, offset: u64, data: &[u8]) -> Result<Received, BlobError> {
        let path = self.part(&upload);
        let room = self.room;
        let known = self.known.get_mut(&upload).ok_or(BlobError::Missing)?;
        if offset.saturating_add(data.len() as u64) > known.size {
            return Err(BlobError::TooLong);
        }
        let skip = known.received.checked_sub(offset).and_then(|skip| usize::try_from(skip).ok());
        let fresh = skip.and_then(|skip| data.get(skip..)).unwrap_or_default();
        if !fresh.is_empty() {
            append(&path, known.received, fresh, room).map_err(|error| disk(&error))?;
            known.hasher.update(fresh);
            known.received += fresh.len() as u64;
        }
        self.progress(upload)
    }

    /// How far an upload is. With its last byte it is compared with its id and synced.
    fn progress(&mut self, upload: Upload) -> Result<Received, BlobError> {
        let known = self.known.get_mut(&upload).ok_or(BlobError::Missing)?;
        known.job = self.jobs;
        let received = Received { bytes: known.received, size: known.size, whole: known.received == known.size };
        if received.whole && !known.whole {
            if known.hasher.finalize().as_bytes() != upload.blob.as_bytes() {
                self.discard(upload).map_err(|error| disk(&error))?;
                return Err(BlobError::Mismatch);
            }
            File::open(self.part(&upload)).and_then(|file| file.sync_all()).map_err(|error| disk(&error))?;
            self.known.entry(upload).and_modify(|known| known.whole = true);
        }
        Ok(received)
    }

    /// Other calls may have come since the upload was whole, so what has its name is looked at again.
    fn land(&mut self, upload: Upload, size: u64) -> Result<(), BlobError> {
        if !self.known.get(&upload).is_some_and(|known| known.whole && known.size == size) {
            return Err(BlobError::Missing);
        }
        let rename = || {
            fs::rename(self.part(&upload), self.whole(&upload.blob))?;
            File::open(&self.folder)?.sync_all()
        };
        rename().map_err(|error| disk(&error))?;
        self.known.remove(&upload);
        Ok(())
    }

    fn discard(&mut self, upload: Upload) -> io::Result<()> {
        self.known.remove(&upload);
        delete_part(&self.folder, &upload)
    }
}

/// Writes bytes behind the first `received`, or leaves no trace of them.
fn append(path: &Path, received: u64, data: &[u8], room: Option<u64>) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    let end = received + data.len() as u64;
    let written = if room.is_some_and(|room| end > room) {
        let half = &data[..data.len() / 2];
        file.write_all(half).and(Err(io::ErrorKind::StorageFull.into()))
    } else {
        file.write_all(data)
    };
    if written.is_err() {
        file.set_len(received)?;
    }
    written
}

#[cfg(test)]
mod tests {
    use parlour_server::store::suite::block_on;
    use parlour_wire::AccountId;

    use super::*;

    /// All of one thread, since the first bytes of their ids are the same.
    fn upload(n: usize) -> Upload {
        let mut blob = BlobId([0; 32]);
        blob.0[24..].copy_from_slice(&(n as u64).to_be_bytes());
        Upload { account: AccountId([1; 32]), blob }
    }

    /// What was put under an id stays there: every call for an upload may come between its last byte and its landing.
    #[test]
    fn nothing_lands_but_what_is_whole_then() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let blobs = DiskBlobs::open(dir.path(), None).expect("a folder");
        let bytes = vec![7; 1000];
        let blob = BlobId(*blake3::hash(&bytes).as_bytes());
        let of = |n| Upload { account: AccountId([n; 32]), blob };
        let whole = |upload| {
            block_on(blobs.begin(upload, 1000)).expect("room");
            assert!(block_on(blobs.put(upload, 0, bytes.clone())).expect("its bytes").whole);
        };
        whole(of(1));
        block_on(blobs.land(of(1), 1000)).expect("whole");
        let missing = |work: Work<()>| assert!(matches!(block_on(work), Err(BlobError::Missing)));
        whole(of(2));
        block_on(blobs.begin(of(2), 1)).expect("begun anew");
        missing(blobs.land(of(2), 1000));
        missing(blobs.land(of(2), 1));
        whole(of(3));
        missing(blobs.land(of(3), 999));
        block_on(blobs.land(of(3), 1000)).expect("whole");
        block_on(blobs.begin(of(3), 1000)).expect("begun again");
        missing(blobs.land(of(3), 1000));
        assert!(block_on(blobs.read(blob, 0, 2000)).expect("it is there") == bytes);
    }

    #[test]
    fn what_was_sent_of_another_size_is_not_gone_over() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let blobs = DiskBlobs::open(dir.path(), None).expect("a folder");
        block_on(blobs.begin(upload(1), 10)).expect("room");
        block_on(blobs.put(upload(1), 0, vec![7; 5])).expect("its bytes");
        assert_eq!(block_on(blobs.begin(upload(1), 11)).expect("begun anew").bytes, 0);
        let listed = listed(dir.path()).expect("a folder");
        assert_eq!((listed.blobs.len(), listed.uploads), (0, vec![upload(1)]));
    }

    #[test]
    fn of_more_uploads_than_a_thread_knows_the_one_that_rested_longest_begins_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let blobs = DiskBlobs::open(dir.path(), None).expect("a folder");
        for n in 0..KNOWN {
            block_on(blobs.begin(upload(n), 2)).expect("room");
        }
        block_on(blobs.put(upload(0), 0, vec![7])).expect("it is known");
        block_on(blobs.begin(upload(KNOWN), 2)).expect("room");
        assert!(block_on(blobs.put(upload(1), 0, vec![7])).is_err_and(|error| matches!(error, BlobError::Missing)));
        for n in [0, 2, KNOWN - 1, KNOWN] {
            block_on(blobs.put(upload(n), 0, vec![7])).expect("it is known still");
        }
    }
}
