//! Sequenced frames on their way out: numbered, kept until acknowledged, sent again after a loss. And the count of those coming in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parlour_wire::{Frame, Kind};

use super::error::Violation;

/// Frames received before an acknowledgement is due, so that one ack serves many.
const ACK_FRAMES: u64 = 32;
/// Bytes received before an acknowledgement is due: a small part of `limits::UNACKED_BYTES`, so large frames never stall.
const ACK_BYTES: usize = 64 * 1024;
/// How long an acknowledgement may wait for company.
const ACK_DELAY: Duration = Duration::from_millis(50);

/// The sequenced frames of one direction, from the sender's side.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Frames `base..`, in order, without gaps.
    frames: VecDeque<Frame>,
    base: u64,
    /// The number that is sent next over this connection.
    next: u64,
    /// The highest number that was ever written to a connection.
    sent: u64,
    bytes: usize,
    /// If set, nothing leaves but what has left before, and the request of this number.
    held: Option<u64>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { frames: VecDeque::new(), base: 1, next: 1, sent: 0, bytes: 0, held: None }
    }

    /// Keeps back what has not left, until [`Outbox::release`].
    pub(super) fn hold_back(&mut self) {
        self.held = Some(0);
    }

    pub(super) fn release(&mut self) {
        self.held = None;
    }

    pub(super) fn is_held_back(&self) -> bool {
        self.held.is_some()
    }

    /// Numbers a frame and queues it.
    pub(super) fn push(&mut self, mut frame: Frame) {
        frame.seq = self.base + self.frames.len() as u64;
        self.bytes += frame.size();
        self.frames.push_back(frame);
    }

    /// Queues a request before all that is held back, and lets it leave. It takes the place of the one before it that has not left
    /// either.
    pub(super) fn push_first(&mut self, frame: Frame) {
        let unsent = self.unsent();
        let before = self.held.replace(frame.id);
        if self.frames.get(unsent).is_some_and(|waits| waits.kind == Kind::REQUEST && before == Some(waits.id))
            && let Some(given_up) = self.frames.remove(unsent)
        {
            self.bytes -= given_up.size();
        }
        self.bytes += frame.size();
        self.frames.insert(unsent, frame);
        for (seq, frame) in (self.base..).zip(&mut self.frames).skip(unsent) {
            frame.seq = seq;
        }
    }

    /// Where the frames begin that have not left.
    fn unsent(&self) -> usize {
        usize::try_from((self.sent + 1).saturating_sub(self.base)).unwrap_or(usize::MAX)
    }

    /// Frames that have left and wait for their acknowledgement.
    pub(super) fn under_way(&self) -> usize {
        self.unsent().min(self.frames.len())
    }

    fn next(&self) -> Option<&Frame> {
        let index = usize::try_from(self.next - self.base).expect("the queue fits memory");
        self.frames.get(index).filter(|frame| {
            self.held.is_none_or(|first| frame.seq <= self.sent || frame.kind == Kind::REQUEST && frame.id == first)
        })
    }

    /// The next frame to write to the connection.
    pub(super) fn take_next(&mut self) -> Option<Frame> {
        let frame = self.next()?.clone();
        self.sent = self.sent.max(self.next);
        self.next += 1;
        Some(frame)
    }

    pub(super) fn has_next(&self) -> bool {
        self.next().is_some()
    }

    /// Forgets the frames up to `received`. An old acknowledgement is no news.
    pub(super) fn acknowledge(&mut self, received: u64) -> Result<(), Violation> {
        if received > self.sent {
            return Err(Violation::AckBeyond(received));
        }
        while self.base <= received {
            let frame = self.frames.pop_front().expect("a frame that was sent and not acknowledged is kept");
            self.bytes -= frame.size();
            self.base += 1;
        }
        self.next = self.next.max(self.base);
        Ok(())
    }

    /// A connection of the same session begins, and the peer has `received`: what follows is sent again.
    pub(super) fn resume(&mut self, received: u64) -> Result<(), Violation> {
        if received < self.base - 1 {
            return Err(Violation::AckedBefore(received));
        }
        self.acknowledge(received)?;
        self.next = self.base;
        Ok(())
    }

    /// Every frame that is not acknowledged, and whether it was ever sent. Leaves a queue that begins at 1 again.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (Frame, bool)> + use<> {
        let sent = self.sent;
        std::mem::replace(self, Self::new()).frames.into_iter().map(move |frame| {
            let was_sent = frame.seq <= sent;
            (frame, was_sent)
        })
    }

    /// Changes frames that have not been sent in this session.
    pub(super) fn rewrite(&mut self, mut change: impl FnMut(&mut Frame)) {
        let unsent = self.unsent();
        for frame in self.frames.iter_mut().skip(unsent) {
            self.bytes -= frame.size();
            change(frame);
            self.bytes += frame.size();
        }
    }

    /// Takes back the first frame that has not been sent in this session and is the one that is meant, if there is one. Those behind it
    /// move up: nobody has seen their numbers.
    pub(super) fn take_back(&mut self, meant: impl FnMut(&Frame) -> bool) -> bool {
        let first = self.unsent();
        let Some(at) = self.frames.iter().skip(first).position(meant) else { return false };
        let Some(frame) = self.frames.remove(first + at) else { return false };
        self.bytes -= frame.size();
        for frame in self.frames.iter_mut().skip(first + at) {
            frame.seq -= 1;
        }
        true
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives the memory of past bursts back.
    pub(super) fn shrink(&mut self) {
        self.frames.shrink_to_fit();
    }
}

/// What has come in of the peer's sequenced frames.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    received: u64,
    acknowledged: u64,
    bytes: usize,
    unpacked: usize,
    due: bool,
    deadline: Option<Instant>,
}

impl Inbox {
    /// Takes note of a numbered frame: `true` if it is the next one, `false` if it has been here before.
    pub(super) fn accept(&mut self, frame: &Frame, now: Instant) -> Result<bool, Violation> {
        let expected = self.received + 1;
        if frame.seq > expected {
            return Err(Violation::Gap { expected, got: frame.seq });
        }
        self.deadline.get_or_insert(now + ACK_DELAY);
        if frame.seq < expected {
            return Ok(false);
        }
        self.received = frame.seq;
        self.bytes += frame.size();
        self.due |= self.received - self.acknowledged >= ACK_FRAMES || self.bytes >= ACK_BYTES;
        Ok(true)
    }

    /// A frame that was accepted is larger than it was on the wire.
    pub(super) fn weigh(&mut self, more: usize) {
        self.bytes += more;
        self.due |= self.bytes >= ACK_BYTES;
    }

    /// What arrived takes more memory than it did on the wire.
    pub(super) fn unpacked(&mut self, more: usize) {
        self.unpacked += more;
    }

    /// What it takes more since the last look.
    pub(super) fn take_unpacked(&mut self) -> usize {
        std::mem::take(&mut self.unpacked)
    }

    /// The number to acknowledge, if it is time.
    pub(super) fn take_ack(&mut self) -> Option<u64> {
        self.due.then(|| self.told())
    }

    /// The last number received, which the caller tells the peer.
    pub(super) fn told(&mut self) -> u64 {
        *self = Self { received: self.received, acknowledged: self.received, unpacked: self.unpacked, ..Self::default() };
        self.received
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn ack_due(&self) -> bool {
        self.due
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.filter(|_| !self.due)
    }

    /// Whether an acknowledgement has become due because nothing more came.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let lull = !self.due && self.deadline.is_some_and(|deadline| deadline <= now);
        self.due |= lull;
        lull
    }
}
