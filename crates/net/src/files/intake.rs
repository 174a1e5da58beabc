//! The receiver's side of a stream's contents: what may come when, what is compared with what, and when a file is complete. It
//! runs on a thread of its own, because it writes and hashes.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parlour_wire::{
    codec::bounded,
    decode,
    files::{Closing, FILE_SIZE, MARK_INTERVAL, Mark, Opening, Whole},
    limits,
};
use tokio::sync::mpsc;

use super::{
    begin::{Beats, hash_part},
    error::FileError,
    meter::Meter,
    part::{Naming, Part},
    quota::Reservation,
    seats::Seat,
};

/// A chunk of the stream: its mark, its content.
pub(super) type Chunk = (Bytes, Bytes);

/// What the stream brings to the thread that writes.
#[derive(Debug)]
pub(super) enum Delivery {
    /// Chunks in their order.
    Chunks(Vec<Chunk>),
    /// The sender's last words.
    End(Bytes),
    /// Nothing is to be kept.
    Discard,
}

/// What the receiver expects, and what it does with what comes.
#[derive(Debug)]
pub(super) struct Terms {
    /// Size of the file, if it was announced before.
    pub(super) announced: Option<u64>,
    /// The largest file that is taken.
    pub(super) limit: u64,
    /// Whether the file may take the place of another.
    pub(super) replace: bool,
    /// Whether it keeps the time of its last change.
    pub(super) keep_modified: bool,
    /// Space that is set aside for it.
    pub(super) reservation: Option<Reservation>,
    /// Held while a file of the same root gets its name.
    pub(super) names: Arc<Mutex<()>>,
    /// The place among the transfers, until the thread has ended.
    pub(super) _seat: Option<Arc<Seat>>,
}

/// A file on its way in.
#[derive(Debug)]
pub(super) struct Intake {
    part: Part,
    terms: Terms,
    opening: Option<Opening>,
    meter: Arc<Meter>,
    /// Size of the file whose place it has taken, if there was one.
    replaced: Option<u64>,
}

impl Intake {
    /// Goes on after what the part file holds, which has been hashed.
    pub(super) fn new(part: Part, terms: Terms, meter: Arc<Meter>) -> Self {
        Self { part, terms, opening: None, meter, replaced: None }
    }

    /// Sets space aside, and hashes what there is of an earlier try, unless that is to be forgotten. `reserve` is given its size.
    pub(super) fn begin(
        mut self,
        reserve: impl FnOnce(u64) -> Result<Option<Reservation>, FileError>,
        afresh: bool,
        beats: &Beats,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<(Self, parlour_wire::files::Part), FileError> {
        match self.prepare(reserve, afresh, beats, is_wanted) {
            Ok(have) => Ok((self, have)),
            Err(error) => {
                self.abandon(error.clone());
                Err(error)
            }
        }
    }

    fn prepare(
        &mut self,
        reserve: impl FnOnce(u64) -> Result<Option<Reservation>, FileError>,
        afresh: bool,
        beats: &Beats,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<parlour_wire::files::Part, FileError> {
        let size = self.part.size();
        self.terms.reservation = reserve(size)?;
        if afresh || self.terms.announced.is_some_and(|announced| announced < size) {
            self.part.clear()?;
        }
        hash_part(&mut self.part, beats, is_wanted)
    }

    /// Takes what comes until the file is complete, and gives it its name. When nothing more comes, what is there is kept.
    ///
    /// # Errors
    /// What is wrong with what came, or with the disk; [`FileError::Cancelled`] if the sender gave up, or nothing more came.
    pub(super) fn run(mut self, mut deliveries: mpsc::Receiver<Delivery>) -> Result<Whole, FileError> {
        let result = self.take_all(&mut deliveries);
        self.leave(result)
    }

    fn take_all(&mut self, deliveries: &mut mpsc::Receiver<Delivery>) -> Result<Whole, Failure> {
        loop {
            match deliveries.blocking_recv() {
                Some(Delivery::Chunks(chunks)) => {
                    for (mark, content) in &chunks {
                        self.chunk(mark, content)?;
                    }
                    self.report();
                }
                Some(Delivery::End(words)) => return self.end(&words),
                Some(Delivery::Discard) => return Err(Failure::lost(FileError::Cancelled)),
                None => return Err(Failure::kept(FileError::Cancelled)),
            }
        }
    }

    fn report(&self) {
        if let Some(opening) = &self.opening {
            self.meter.report(self.part.size(), opening.size);
        }
    }

    fn chunk(&mut self, mark: &Bytes, content: &Bytes) -> Result<(), Failure> {
        self.meter.moved(content.len());
        let Some(opening) = self.opening else { return self.before_opening(mark, content) };
        let at = self.part.size();
        if !mark.is_empty() {
            self.compare(mark, at)?;
        } else if at.is_multiple_of(MARK_INTERVAL) && at > opening.from && !content.is_empty() {
            return Err(Failure::kept(FileError::Rules("a mark is missing")));
        }
        let end = at + content.len() as u64;
        if end > opening.size {
            return Err(Failure::lost(FileError::SizeMismatch { announced: opening.size, sent: end }));
        }
        if !content.is_empty() && at / MARK_INTERVAL != (end - 1) / MARK_INTERVAL {
            return Err(Failure::kept(FileError::Rules("a chunk reaches over a mark")));
        }
        Ok(self.part.append(content)?)
    }

    /// Compares the sender's hash of all before this chunk with ours. Behind a difference nothing counts.
    fn compare(&mut self, mark: &Bytes, at: u64) -> Result<(), Failure> {
        let Mark { hash } = decode(mark).map_err(FileError::from)?;
        if !at.is_multiple_of(MARK_INTERVAL) {
            return Err(Failure::kept(FileError::Rules("a mark at the wrong place")));
        }
        if hash != self.part.hash() {
            return Err(self.mismatch());
        }
        self.part.confirm();
        Ok(())
    }

    fn mismatch(&mut self) -> Failure {
        match self.part.cut_back() {
            Ok(offset) => Failure::kept(FileError::HashMismatch { offset }),
            Err(error) => error.into(),
        }
    }

    fn before_opening(&mut self, mark: &Bytes, content: &Bytes) -> Result<(), Failure> {
        if !content.is_empty() {
            return Err(Failure::kept(FileError::Rules("data before the opening")));
        }
        if mark.is_empty() {
            // The sender is alive.
            return Ok(());
        }
        bounded("mark", mark.len(), limits::STREAM_MARK).map_err(FileError::from)?;
        let opening: Opening = decode(mark).map_err(FileError::from)?;
        if let Some(announced) = self.terms.announced.filter(|announced| *announced != opening.size) {
            return Err(Failure::kept(FileError::SizeMismatch { announced, sent: opening.size }));
        }
        let limit = self.terms.limit.min(FILE_SIZE);
        if opening.size > limit {
            return Err(Failure::lost(FileError::TooLarge { size: opening.size, limit }));
        }
        match opening.from {
            from if from == self.part.size() => {}
            0 => self.part.clear()?,
            _ => return Err(Failure::kept(FileError::Rules("the data begins at the wrong place"))),
        }
        // Begun there, it is agreed on up to there.
        self.part.confirm();
        self.opening = Some(opening);
        self.report();
        Ok(())
    }

    fn end(&mut self, words: &Bytes) -> Result<Whole, Failure> {
        let Closing { whole } = decode(words).map_err(FileError::from)?;
        let Some(whole) = whole else { return Err(Failure::lost(FileError::Cancelled)) };
        let Some(opening) = self.opening else { return Err(Failure::kept(FileError::Rules("an end before the opening"))) };
        let here = self.part.size();
        if here != opening.size || whole.size != opening.size {
            return Err(Failure::kept(FileError::SizeMismatch { announced: opening.size, sent: here }));
        }
        if whole.hash != self.part.hash() {
            return Err(self.mismatch());
        }
        self.part.confirm();
        let modified_ms = opening.modified_ms.filter(|_| self.terms.keep_modified);
        self.replaced = self.part.commit(Naming { replace: self.terms.replace, modified_ms }, &self.terms.names)?;
        Ok(whole)
    }

    /// Leaves the disk as the end of the transfer demands.
    fn leave(self, result: Result<Whole, Failure>) -> Result<Whole, FileError> {
        let Self { part, terms, replaced, .. } = self;
        let (result, left, replaced) = match result {
            Ok(whole) => (Ok(whole), Some(whole.size), replaced),
            Err(Failure { error, keep: true }) => {
                let size = part.size();
                part.keep();
                (Err(error), (size > 0).then_some(size), None)
            }
            Err(Failure { error, keep: false }) => {
                part.remove();
                (Err(error), None, None)
            }
        };
        if let Some(reservation) = terms.reservation {
            reservation.settle(left, replaced);
        }
        result
    }

    /// Gives up before anything has come.
    pub(super) fn abandon(self, error: FileError) {
        let failure = Failure::from(error);
        drop(self.leave(Err(failure)));
    }
}

/// Why a file does not come in, and whether its part file is of use to a later try.
#[derive(Debug)]
struct Failure {
    error: FileError,
    keep: bool,
}

impl Failure {
    fn kept(error: FileError) -> Self {
        Self { error, keep: true }
    }

    fn lost(error: FileError) -> Self {
        Self { error, keep: false }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        // A full disk hurts everybody on the machine; and a name that is taken is so for the next try too.
        let keep = !matches!(error, FileError::DiskFull | FileError::Exists | FileError::NotAFile);
        Self { error, keep }
    }
}
