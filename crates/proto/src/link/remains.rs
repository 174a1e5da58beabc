//! What becomes of requests when their session is over: which fail, which go into the next session, and what the side that was
//! asked must remember so that a request that comes again takes effect once.

use std::{collections::BTreeSet, time::Instant};

use bytes::Bytes;
use parlour_wire::{
    Code, Frame, Kind, LinkSessionId, decode, encode,
    header::{self, Fault, Origin},
};

use super::{Answer, Event, Link, Phase, RequestId, config::Unsent};

/// What an [`Origin`] adds to a header at most: the keys of it and its parts, 16 bytes of session and 8 of number with their sizes.
pub(super) const ORIGIN_BYTES: usize = 32;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer said so.
    ByPeer,
    /// This side said so, and what tells the peer has left.
    Told,
    /// This side said so, and the peer may not have heard it.
    Unheard,
    /// The connection broke and was not made good in time.
    Lost,
}

/// What a session leaves behind at the side that was asked ([`super::LinkConfig::keep_remains`]), if the other side may ask again: it
/// was lost, or this side is a server's and has ended it. Requests that run go on, unless their client was told not to come back.
///
/// A request of the session that comes again carries its [`Origin`]. If its number is above `received` it has not been here. If it
/// is among `answers` it is answered with that; if among `running`, with what that one comes to. Otherwise its answer has arrived
/// at the peer, or the peer has cancelled it, and it does not come again.
#[derive(Clone, Debug, PartialEq)]
pub struct Remains {
    /// The session.
    pub session: LinkSessionId,
    /// The highest number of a request that the application was given; 0 if it was given none.
    pub received: u64,
    /// Answers that the peer may not have: sent or queued, and never acknowledged. By the number of the request.
    pub answers: Vec<(u64, Result<Answer, Fault>)>,
    /// Requests that the application has not answered. [`super::Command::Answer`] is without effect on them.
    pub running: Vec<RequestId>,
}

impl Link {
    /// The session is over. What the configuration does not carry into the next one fails with `fault`.
    pub(super) fn forget_session(&mut self, session: Option<LinkSessionId>, end: End, fault: &Fault) {
        let over = matches!(self.phase, Phase::Closing { .. } | Phase::Ended);
        // That this peer is not trusted, or does not trust, is no answer to what it was never asked: neither now nor when the link is given
        // up for what it has said.
        if self.outbox.is_held_back() {
            self.role.doubt(true);
        }
        let unasked = self.role.is_doubted().then(|| Fault { code: Code::LINK_LOST, ..fault.clone() });
        let frames: Vec<(Frame, bool)> = self.outbox.take_all().collect();
        self.inbox = super::outbox::Inbox::default();
        match session {
            Some(session) if self.config.keep_remains && self.may_be_asked_again(end) => {
                let goes_on = end != End::Told || fault.code.retry();
                self.leave_remains(session, &frames, goes_on);
            }
            _ => self.cancel_inbound(),
        }
        let kept = if over { Vec::new() } else { self.kept(session, frames) };
        let numbers = kept.iter().filter(|frame| frame.kind == Kind::REQUEST).map(|frame| frame.id).collect();
        self.fail_open_except(&numbers, unasked.as_ref().unwrap_or(fault));
        for frame in kept {
            self.outbox.push(frame);
        }
    }

    /// Whether the other side may ask again what it has asked in a session that ended like that. A client that ends its session is
    /// through with it. One whose server ends it comes back, unless it was told not to, and that it was told does not say that it has
    /// heard it.
    fn may_be_asked_again(&self, end: End) -> bool {
        match end {
            End::Lost => true,
            End::ByPeer => false,
            End::Told | End::Unheard => !self.role.is_client(),
        }
    }

    /// The frames that go into the next session, in the order of the calls: what was sent comes before what was not.
    fn kept(&mut self, session: Option<LinkSessionId>, frames: Vec<(Frame, bool)>) -> Vec<Frame> {
        let unsent: Vec<Frame> = frames.into_iter().filter(|(_, was_sent)| !was_sent).map(|(frame, _)| frame).collect();
        let never_sent: BTreeSet<u64> = unsent.iter().filter(|frame| frame.kind == Kind::REQUEST).map(|frame| frame.id).collect();
        let mut kept = Vec::new();
        for (number, open) in &mut self.requests.open {
            let Some(frame) = &mut open.frame else { continue };
            if let Some(session) = session.filter(|_| !never_sent.contains(number)) {
                open.again = true;
                remember_origin(frame, session);
            }
            if open.again {
                kept.push(frame.clone());
            }
        }
        if self.config.unsent == Unsent::Keep {
            kept.extend(unsent.into_iter().filter(|frame| match frame.kind {
                // One that was named is sent again by whoever named it, in the order that it wants.
                Kind::REQUEST => self.requests.open.get(&frame.id).is_some_and(|open| !open.stays && !open.again),
                kind => kind == Kind::ACTION,
            }));
        }
        kept
    }

    /// A session begins: what its peer is told of how long a request is waited for is what is left of that.
    pub(super) fn tell_what_time_is_left(&mut self, now: Instant) {
        let Self { outbox, requests, .. } = self;
        outbox.rewrite(|frame| {
            if frame.kind == Kind::REQUEST
                && let Some(deadline) = requests.open.get(&frame.id).and_then(|open| open.deadline)
            {
                let left = deadline.saturating_duration_since(now);
                let mut header: header::Request = decode(&frame.header).expect("a header of our own");
                header.deadline_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
                frame.header = Bytes::from(encode(&header));
            }
        });
    }

    fn leave_remains(&mut self, session: LinkSessionId, frames: &[(Frame, bool)], goes_on: bool) {
        let received = self.take_given();
        let answers = frames.iter().filter_map(|(frame, _)| Some((frame.id, result_of(frame)?))).collect();
        let running = self.take_inbound();
        let cancelled = if goes_on { Vec::new() } else { running.clone() };
        self.event(Event::Remains(Box::new(Remains { session, received, answers, running })));
        for id in cancelled {
            self.event(Event::Cancelled { id });
        }
    }

    fn cancel_inbound(&mut self) {
        self.take_given();
        for id in self.take_inbound() {
            self.event(Event::Cancelled { id });
        }
    }

    /// Forgets the requests of the peer. Gives those that the application has and has not answered.
    fn take_inbound(&mut self) -> Vec<RequestId> {
        let generation = self.requests.generation;
        self.requests.generation += 1;
        let (mut parked, mut actions) = (BTreeSet::new(), Vec::new());
        for event in self.requests.parked.take() {
            match event {
                Event::Request { id, .. } => drop(parked.insert(id.number)),
                action => actions.push(action),
            }
        }
        // They are acknowledged and do not come again.
        for action in actions.into_iter().rev() {
            self.events.push_front(action);
        }
        self.requests.inbound_bytes = 0;
        let numbers = std::mem::take(&mut self.requests.inbound).into_keys().filter(|number| !parked.contains(number));
        numbers.map(|number| RequestId { generation, number }).collect()
    }

    fn fail_open_except(&mut self, kept: &BTreeSet<u64>, fault: &Fault) {
        let lost: Vec<u64> = self.requests.open.keys().filter(|number| !kept.contains(number)).copied().collect();
        for number in lost {
            let open = self.requests.close_open(number).expect("just listed");
            let code = if open.bound { Code::LINK_LOST } else { fault.code };
            self.event(Event::Answer { tag: open.tag, result: Err(Fault { code, ..fault.clone() }) });
        }
    }
}

/// Names the session in which a request was sent first, so that the peer knows it again.
fn remember_origin(frame: &mut Frame, session: LinkSessionId) {
    let mut header: header::Request = decode(&frame.header).expect("a header of our own");
    if header.origin.is_none() {
        header.origin = Some(Origin { session, number: frame.id });
        frame.header = Bytes::from(encode(&header));
    }
}

/// The answer that a frame carries, if it carries one.
fn result_of(frame: &Frame) -> Option<Result<Answer, Fault>> {
    match frame.kind {
        Kind::RESPONSE => Some(Ok(Answer { content_type: frame.content_type, content: frame.content.clone() })),
        Kind::ERROR => Some(Err(decode(&frame.header).expect("a header of our own"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_adds_no_more_than_is_kept_free_for_it() {
        for name in ["", "ask", &"x".repeat(parlour_wire::limits::LABEL)] {
            for deadline_ms in [0, 1000, u64::MAX] {
                let header = Bytes::from(encode(&header::Request { name: name.to_owned(), deadline_ms, origin: None }));
                let mut frame = Frame { id: u64::MAX, header, ..Frame::new(Kind::REQUEST) };
                let before = frame.size();
                remember_origin(&mut frame, LinkSessionId([255; 16]));
                assert!((before + 1..=before + ORIGIN_BYTES).contains(&frame.size()), "{before} {}", frame.size());
            }
        }
    }
}
