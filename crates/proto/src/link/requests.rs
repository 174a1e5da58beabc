//! Requests in flight, both ways: who waits for which answer, until when, and how much memory that may take.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use parlour_wire::{
    Code, Frame, Kind, encode,
    frame::ContentType,
    header::{self, Fault, Origin},
    limits,
};

use super::{
    Event, Link, Phase, RequestId, Tag,
    config::OpenRequests,
    error::{LinkError, Refusal, Violation},
    parked::Parked,
    remains::{End, ORIGIN_BYTES},
};

/// Frames beyond the soft limit that answers may use: every request that was let in, and as many cancels.
const ANSWER_FRAMES: usize = 2 * limits::REQUESTS_IN_FLIGHT;
/// The soft limit of bytes, times this, is what answers may use.
const ANSWER_BYTES_FACTOR: usize = 4;

/// What a request takes beside its name and content at most: the fixed part of a frame, the rest of its header, and its origin.
const BESIDE_BYTES: usize = 128;

/// The value that answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How to read the content.
    pub content_type: ContentType,
    /// The content.
    pub content: Bytes,
}

/// A request of ours that waits for its answer.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) tag: Tag,
    pub(super) deadline: Option<Instant>,
    bytes: usize,
    /// Kept for another session if requests are sent again.
    pub(super) frame: Option<Frame>,
    /// The application named its origin, so it is the application that sends it again; or it is of one session.
    pub(super) stays: bool,
    /// It is of one session, so the end of that is all that its end says.
    pub(super) bound: bool,
    /// A session that is over had sent it.
    pub(super) again: bool,
    /// It went before all others ([`Link::ask_first`]).
    first: bool,
}

impl Open {
    /// One that goes before all others. It is answered at once or never, and whoever asks it bounds how many there are.
    pub(super) fn first(tag: Tag) -> Self {
        Self { tag, deadline: None, bytes: 0, frame: None, stays: true, bound: false, again: false, first: true }
    }
}

/// The table of requests of one link.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) last: u64,
    /// Of those that go before all others.
    pub(super) last_proof: u64,
    pub(super) open: BTreeMap<u64, Open>,
    deadlines: BTreeSet<(Instant, u64)>,
    open_bytes: usize,
    /// The peer's requests, by its number, with their size.
    pub(super) inbound: BTreeMap<u64, usize>,
    pub(super) inbound_bytes: usize,
    /// Requests of the peer that wait until there is room for their answers, and what waits behind them.
    pub(super) parked: Parked,
    /// The highest number of a request of this session that the application was given.
    pub(super) given: u64,
    /// Counts sessions, so that an answer to a request of a lost session cannot hit one of this session.
    pub(super) generation: u32,
    /// The header of the last request, which the next one probably shares.
    header: Option<(String, u64, Bytes)>,
}

impl Requests {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Gives the memory of past bursts back.
    pub(super) fn shrink(&mut self) {
        self.parked.shrink();
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn inbound(&self) -> usize {
        self.inbound.len()
    }

    pub(super) fn close_open(&mut self, number: u64) -> Option<Open> {
        let open = self.open.remove(&number)?;
        self.open_bytes -= open.bytes;
        if let Some(deadline) = open.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        Some(open)
    }

    fn close_inbound(&mut self, number: u64) -> bool {
        let Some(bytes) = self.inbound.remove(&number) else { return false };
        self.inbound_bytes -= bytes;
        true
    }

    /// The CBOR of a request's header. Programs ask the same thing many times in a row.
    fn header(&mut self, name: &str, deadline_ms: u64, origin: Option<Origin>) -> Bytes {
        match &self.header {
            _ if origin.is_some() => Bytes::from(encode(&header::Request { name: name.to_owned(), deadline_ms, origin })),
            Some((last, last_deadline, bytes)) if last == name && *last_deadline == deadline_ms => bytes.clone(),
            _ => {
                let bytes = Bytes::from(encode(&header::Request { name: name.to_owned(), deadline_ms, origin }));
                self.header = Some((name.to_owned(), deadline_ms, bytes.clone()));
                bytes
            }
        }
    }
}

/// A request, as the application gives it to the machine.
pub(super) struct Ask<'a> {
    pub(super) tag: Tag,
    pub(super) name: &'a str,
    pub(super) content_type: ContentType,
    pub(super) content: Bytes,
    pub(super) timeout: Option<Duration>,
    pub(super) origin: Option<Origin>,
    pub(super) bound: bool,
}

impl Link {
    pub(super) fn ask(&mut self, ask: Ask<'_>, now: Instant) -> Result<(), LinkError> {
        if self.requests.open.len() >= limits::REQUESTS_IN_FLIGHT {
            return Err(Refusal::TooManyRequests.into());
        }
        if ask.name.len() > limits::LABEL {
            return Err(Refusal::NameTooLong.into());
        }
        if self.is_held() {
            return Err(Refusal::Full.into());
        }
        let deadline_ms = ask.timeout.map_or(0, |timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1));
        let frame = Frame {
            content_type: ask.content_type,
            id: self.requests.last + 1,
            header: self.requests.header(ask.name, deadline_ms, ask.origin),
            content: ask.content,
            ..Frame::new(Kind::REQUEST)
        };
        self.check_room(&frame)?;
        let stays = ask.bound || ask.origin.is_some();
        let carried = self.role.is_client() && self.config.open_requests == OpenRequests::Resend && !stays;
        // What is carried into another session must fit there too, where it says that it comes from this one.
        let bytes = frame.size() + if carried { ORIGIN_BYTES } else { 0 };
        if bytes > limits::FRAME {
            return Err(Refusal::TooLarge.into());
        }
        // However small the setting is, a request that may be sent at all finds room when nothing else is open.
        if self.requests.open_bytes + bytes > self.open_bytes_most().max(limits::FRAME) {
            return Err(Refusal::TooManyRequests.into());
        }
        self.requests.last += 1;
        let deadline = ask.timeout.and_then(|timeout| now.checked_add(timeout));
        self.requests.deadlines.extend(deadline.map(|deadline| (deadline, frame.id)));
        self.requests.open_bytes += bytes;
        let kept = carried.then(|| frame.clone());
        let open = Open { tag: ask.tag, deadline, bytes, frame: kept, stays, bound: ask.bound, again: false, first: false };
        self.requests.open.insert(frame.id, open);
        self.outbox.push(frame);
        Ok(())
    }

    /// Whether another request of a usual size would be taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.is_held()
            && self.requests.open.len() < limits::REQUESTS_IN_FLIGHT
            && self.requests.open_bytes < (self.open_bytes_most() / 2).max(1)
            && self.outbox.len() < self.config.unacked_frames
            && self.outbox.bytes() < (self.config.unacked_bytes / 2).max(1)
    }

    /// Whether a request whose name and content have so many bytes would be taken, or be refused however long it waits. A driver leaves its
    /// callers waiting until it would.
    #[must_use]
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let bytes = bytes + BESIDE_BYTES;
        let fits = self.requests.open_bytes + bytes <= self.open_bytes_most().max(limits::FRAME)
            && self.outbox.bytes() + bytes <= self.config.unacked_bytes.max(limits::FRAME);
        self.has_room() && (fits || self.requests.open.is_empty() && self.outbox.len() == 0)
    }

    /// Bytes of open requests, at most: more than that is more than the peer lets in, whatever this side would keep.
    fn open_bytes_most(&self) -> usize {
        self.config.unacked_bytes.min(limits::UNACKED_BYTES)
    }

    /// The application has lost interest: it gets its answer here, and the peer is told.
    pub(super) fn cancel(&mut self, tag: Tag) {
        let number = self.requests.open.iter().find(|(_, open)| open.tag == tag).map(|(number, _)| *number);
        if let Some(number) = number {
            self.give_up(number, fault(Code::CANCELLED, "the request was cancelled"));
        }
    }

    fn give_up(&mut self, number: u64, fault: Fault) {
        let Some(open) = self.requests.close_open(number) else { return };
        self.event(Event::Answer { tag: open.tag, result: Err(fault) });
        // What never left has no effect. One that an earlier session sent may run, so its peer hears of it and then of its end.
        if !open.again && self.outbox.take_back(|frame| frame.kind == Kind::REQUEST && frame.id == number) {
            return;
        }
        if !open.first {
            self.outbox.push(Frame { id: number, ..Frame::new(Kind::CANCEL) });
        }
    }

    pub(super) fn expire_requests(&mut self, now: Instant) {
        while let Some((deadline, number)) = self.requests.deadlines.first().copied() {
            if deadline > now {
                return;
            }
            self.give_up(number, fault(Code::TIMED_OUT, "no answer within the deadline"));
        }
    }

    /// Answers a request of the peer. An answer to what was cancelled or belongs to a lost session is dropped.
    pub(super) fn answer(&mut self, id: RequestId, result: Result<Answer, Fault>, now: Instant) -> Result<(), LinkError> {
        if id.generation != self.requests.generation || !self.requests.close_inbound(id.number) {
            return Ok(());
        }
        let frame = answer_frame(id.number, result);
        let limit = self.config.unacked_bytes.max(limits::FRAME).saturating_mul(ANSWER_BYTES_FACTOR);
        if self.outbox.len() >= self.config.unacked_frames + ANSWER_FRAMES || self.outbox.bytes() + frame.size() > limit {
            self.overrun(now);
            return Err(LinkError::Overrun);
        }
        self.outbox.push(frame);
        Ok(())
    }

    /// Whether the peer waits for the answer to a request of its own. An answer to any other is dropped, so a driver that keeps answers
    /// until there is room need not keep that.
    #[must_use]
    pub fn is_asked(&self, id: RequestId) -> bool {
        id.generation == self.requests.generation && self.requests.inbound.contains_key(&id.number)
    }

    /// Whether the peer has taken so much of what it was sent that another answer can go to it. A driver keeps answers until then;
    /// one that does not ends the session with [`LinkError::Overrun`] at last.
    #[must_use]
    pub fn has_answer_room(&self) -> bool {
        // What a session that is being closed would take is not what it leaves.
        !self.is_closing() && self.outbox.len() < self.config.unacked_frames && self.outbox.bytes() < self.config.unacked_bytes
    }

    /// The peer takes too little, or the driver asks too little. A server says so, and its client may begin again; a client that said
    /// so would end for good by its server's doing, so it begins again by itself.
    fn overrun(&mut self, now: Instant) {
        let fault = fault(Code::OVERLOADED, "answers are not taken");
        if !self.role.is_client() {
            return self.close(fault, false, now);
        }
        let connected = matches!(self.phase, Phase::Up { .. } | Phase::Greeting { .. });
        self.finish(End::Lost, fault.clone());
        self.disconnect = connected.then(|| Box::new(fault));
    }

    pub(super) fn report_progress(&mut self, id: RequestId, done: u64, total: Option<u64>) -> Result<(), LinkError> {
        if !self.is_asked(id) {
            return Ok(());
        }
        let header = Bytes::from(encode(&header::Progress { done, total }));
        let frame = Frame { id: id.number, header, ..Frame::new(Kind::PROGRESS) };
        self.check_room(&frame)?;
        self.outbox.push(frame);
        Ok(())
    }

    pub(super) fn on_request(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        let header: header::Request = super::read_header(&frame)?;
        super::check_name(&header.name)?;
        let bytes = frame.size();
        if self.requests.inbound.len() >= limits::REQUESTS_IN_FLIGHT
            || self.requests.inbound_bytes + bytes > limits::UNACKED_BYTES
        {
            return Err(Violation::TooManyRequests);
        }
        if self.requests.inbound.insert(frame.id, bytes).is_some() {
            return Err(Violation::DuplicateRequest(frame.id));
        }
        self.requests.inbound_bytes += bytes;
        let deadline = (header.deadline_ms > 0).then(|| now.checked_add(Duration::from_millis(header.deadline_ms))).flatten();
        self.event(Event::Request {
            id: RequestId { generation: self.requests.generation, number: frame.id },
            name: header.name,
            content_type: frame.content_type,
            content: frame.content,
            deadline,
            origin: header.origin,
        });
        Ok(())
    }

    /// An answer of the peer. One that nobody waits for any more is dropped: it crossed our cancel.
    pub(super) fn on_answer(&mut self, frame: Frame) -> Result<(), Violation> {
        let result = if frame.kind == Kind::ERROR {
            let mut fault: Fault = super::read_header(&frame)?;
            shorten(&mut fault.message);
            Err(fault)
        } else {
            Ok(Answer { content_type: frame.content_type, content: frame.content })
        };
        if let Some(open) = self.requests.close_open(frame.id) {
            self.event(Event::Answer { tag: open.tag, result });
        }
        Ok(())
    }

    pub(super) fn on_progress(&mut self, frame: &Frame) -> Result<(), Violation> {
        let header: header::Progress = super::read_header(frame)?;
        if let Some(open) = self.requests.open.get(&frame.id) {
            let tag = open.tag;
            self.event(Event::Progress { tag, done: header.done, total: header.total });
        }
        Ok(())
    }

    pub(super) fn on_cancel(&mut self, number: u64) {
        if !self.requests.close_inbound(number) {
            return;
        }
        if !self.requests.parked.forget(number) {
            self.event(Event::Cancelled { id: RequestId { generation: self.requests.generation, number } });
        }
    }
}

fn answer_frame(number: u64, result: Result<Answer, Fault>) -> Frame {
    let fault = match result {
        Ok(Answer { content_type, content }) => {
            let frame = Frame { id: number, content_type, content, ..Frame::new(Kind::RESPONSE) };
            if frame.size() <= limits::FRAME {
                return frame;
            }
            fault(Code::TOO_LARGE, "the answer is larger than a frame may be")
        }
        Err(fault) => fault,
    };
    Frame { id: number, header: fault_header(fault), ..Frame::new(Kind::ERROR) }
}

/// The header of an error or close frame, its text within bounds.
pub(super) fn fault_header(mut fault: Fault) -> Bytes {
    shorten(&mut fault.message);
    Bytes::from(encode(&fault))
}

pub(super) fn shorten(text: &mut String) {
    text.truncate(text.floor_char_boundary(limits::ERROR_TEXT));
}

pub(super) fn fault(code: Code, message: &str) -> Fault {
    Fault { code, message: message.to_owned(), retry_after_ms: None }
}
