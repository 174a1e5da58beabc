//! The sender's side of a stream's contents: reads a file in blocks, hashes what it reads, notices when the file changes. It runs
//! on a thread of its own.

use std::{
    collections::VecDeque,
    fs::File,
    io::{Read, Seek, SeekFrom},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use blake3::Hasher;
use bytes::{Bytes, BytesMut};
use parlour_wire::{
    encode,
    files::{FILE_SIZE, MARK_INTERVAL, Mark, Opening, Part, Whole},
};
use tokio::sync::mpsc;

use super::{error::FileError, part::hash_up_to, seats::Seat};

/// Bytes that are read at once: several chunks, so that threads meet seldom.
pub(super) const BLOCK: usize = 256 * 1024;
/// Blocks that are read ahead.
pub(super) const READ_AHEAD: usize = 2;
/// Bytes of the receiver's part after which it is told that hashing them goes on.
const BEAT: u64 = 64 * 1024 * 1024;

/// A block on its way to the stream: cut into chunks there, the first of which carries the mark. An empty one is a chunk too.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) mark: Bytes,
    pub(super) data: Bytes,
    /// Where in the file its data ends.
    pub(super) end: u64,
}

/// A file on its way out.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    stamp: Stamp,
    hasher: Hasher,
    buffers: Buffers,
    /// The place among the transfers, until the thread has ended.
    seat: Option<Arc<Seat>>,
}

/// What a file looks like from outside; another look means that it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(file: &File) -> Result<Self, FileError> {
        let found = file.metadata().map_err(|error| FileError::io("read", &error))?;
        Ok(Self { size: found.len(), modified: found.modified().ok() })
    }
}

/// A time on the wire.
pub(super) fn in_ms(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

impl Reader {
    /// Begins with a file that is open.
    pub(super) fn new(file: File, seat: Option<Arc<Seat>>) -> Result<Self, FileError> {
        let stamp = Stamp::of(&file)?;
        if stamp.size > FILE_SIZE {
            return Err(FileError::TooLarge { size: stamp.size, limit: FILE_SIZE });
        }
        Ok(Self { file, stamp, hasher: Hasher::new(), buffers: Buffers::new(stamp.size), seat })
    }

    /// Size of the file in bytes.
    pub(super) fn size(&self) -> u64 {
        self.stamp.size
    }

    /// Reads the file, from the end of the receiver's part on if that is the same here.
    ///
    /// # Errors
    /// [`FileError::SourceChanged`], what the system says, or [`FileError::Cancelled`] if nobody takes the blocks any more.
    pub(super) fn run(mut self, part: &Part, blocks: &mpsc::Sender<Block>) -> Result<Whole, FileError> {
        let from = self.find_beginning(part, blocks)?;
        let opening = Opening { from, size: self.stamp.size, modified_ms: self.stamp.modified.and_then(in_ms) };
        give(blocks, Block { mark: encode(&opening).into(), data: Bytes::new(), end: from })?;
        let mut at = from;
        while at < self.stamp.size {
            let mark = if at % MARK_INTERVAL == 0 && at > from { self.mark()? } else { Bytes::new() };
            let data = self.read_block(at)?;
            at += data.len() as u64;
            give(blocks, Block { mark, data, end: at })?;
        }
        self.check()?;
        Ok(Whole { size: self.stamp.size, hash: *self.hasher.finalize().as_bytes() })
    }

    /// Hashes what the receiver has, and says where the data begins.
    fn find_beginning(&mut self, part: &Part, blocks: &mpsc::Sender<Block>) -> Result<u64, FileError> {
        if part.size == 0 || part.size > self.stamp.size {
            return Ok(0);
        }
        let mut told = 0;
        let seat = &self.seat;
        hash_up_to(&mut self.file, part.size, &mut self.hasher, &mut |done| {
            if let Some(seat) = seat {
                seat.works();
            }
            if done - told >= BEAT {
                told = done;
                give(blocks, Block { mark: Bytes::new(), data: Bytes::new(), end: 0 })?;
            }
            Ok(())
        })?;
        if self.hasher.finalize() == part.hash {
            return Ok(part.size);
        }
        self.hasher.reset();
        self.file.seek(SeekFrom::Start(0)).map_err(|error| FileError::io("read", &error))?;
        Ok(0)
    }

    fn mark(&self) -> Result<Bytes, FileError> {
        self.check()?;
        Ok(encode(&Mark { hash: *self.hasher.finalize().as_bytes() }).into())
    }

    fn check(&self) -> Result<(), FileError> {
        if Stamp::of(&self.file)? == self.stamp { Ok(()) } else { Err(FileError::SourceChanged) }
    }

    /// Reads up to the next mark, or a block.
    fn read_block(&mut self, at: u64) -> Result<Bytes, FileError> {
        let to_mark = MARK_INTERVAL - at % MARK_INTERVAL;
        let wanted = to_mark.min(self.stamp.size - at).min(BLOCK as u64);
        let mut buffer = self.buffers.take();
        let wanted = usize::try_from(wanted).unwrap_or(BLOCK).min(buffer.len());
        let mut filled = 0;
        while filled < wanted {
            match self.file.read(&mut buffer[filled..wanted]) {
                Ok(0) => return Err(FileError::SourceChanged),
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FileError::io("read", &error)),
            }
        }
        self.hasher.update(&buffer[..wanted]);
        Ok(self.buffers.lend(buffer, wanted))
    }
}

fn give(blocks: &mpsc::Sender<Block>, block: Block) -> Result<(), FileError> {
    blocks.blocking_send(block).map_err(|_| FileError::Cancelled)
}

/// Buffers that come back when the last slice of them is gone: without them every block would be a visit to the allocator, and to
/// the kernel for fresh pages.
#[derive(Debug)]
struct Buffers {
    /// Of each, in bytes.
    size: usize,
    lent: VecDeque<Bytes>,
}

/// Buffers that are remembered: as many as can be under way between the file and the connection.
const LENT: usize = 8;

impl Buffers {
    fn new(file: u64) -> Self {
        Self { size: usize::try_from(file).unwrap_or(BLOCK).min(BLOCK), lent: VecDeque::new() }
    }

    fn take(&mut self) -> BytesMut {
        match self.lent.pop_front() {
            Some(oldest) => oldest.try_into_mut().unwrap_or_else(|busy| {
                self.lent.push_front(busy);
                BytesMut::zeroed(self.size)
            }),
            None => BytesMut::zeroed(self.size),
        }
    }

    fn lend(&mut self, buffer: BytesMut, filled: usize) -> Bytes {
        let whole = buffer.freeze();
        let data = whole.slice(..filled);
        self.lent.push_back(whole);
        if self.lent.len() > LENT {
            self.lent.pop_front();
        }
        data
    }
}
