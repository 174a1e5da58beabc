//! A client that says nothing to a peer that has not proven who it is: in each new session all that is asked and sent waits in the
//! link, what the session before has left included, but for the request that proves it.

use std::time::Instant;

use bytes::Bytes;
use parlour_wire::{Frame, Kind, LinkSessionId, encode, frame::ContentType, header, limits};

use super::{
    Link, Phase, Tag,
    error::{LinkError, Refusal},
    requests::Open,
};

/// Requests for the proof that a peer may leave unacknowledged. Each follows after seconds, so that is a peer that answers nothing.
const PROOFS: usize = 64;
/// The other requests of a guarded link have higher numbers. A peer takes those below the last one that it was given for requests that
/// have been here, so what is sent before must not be numbered behind.
const PROOFS_BELOW: u64 = 1 << 32;

impl Link {
    /// Has a client that has not begun keep back what it would say, in each new session until [`Link::trust`].
    pub fn guard(&mut self) {
        self.role.guard();
        self.requests.last = PROOFS_BELOW;
    }

    /// The peer of this session is the right one: what was kept back leaves. Without effect if another session has begun.
    pub fn trust(&mut self, session: LinkSessionId, now: Instant) {
        if self.session() == Some(session) && self.outbox.is_held_back() {
            self.outbox.release();
            self.role.doubt(false);
            self.tell_what_time_is_left(now);
        }
    }

    /// [`super::Command::Request`] for what a peer is known by: it goes before all that is kept back, needs no room among it, and is
    /// not carried into another session.
    ///
    /// # Errors
    /// [`LinkError::Refused`], also if nothing is kept back; nothing has changed then.
    pub fn ask_first(&mut self, tag: Tag, name: &str, content_type: ContentType, content: Bytes) -> Result<(), LinkError> {
        if matches!(self.phase, Phase::Ended | Phase::Closing { .. }) || !self.outbox.is_held_back() {
            return Err(Refusal::Closed.into());
        }
        if name.len() > limits::LABEL {
            return Err(Refusal::NameTooLong.into());
        }
        let header = Bytes::from(encode(&header::Request { name: name.to_owned(), deadline_ms: 0, origin: None }));
        let id = self.requests.last_proof + 1;
        let frame = Frame { content_type, id, header, content, ..Frame::new(Kind::REQUEST) };
        if frame.size() > limits::FRAME {
            return Err(Refusal::TooLarge.into());
        }
        if self.outbox.under_way() >= PROOFS {
            return Err(Refusal::Full.into());
        }
        self.requests.last_proof = id;
        self.requests.open.insert(id, Open::first(tag));
        self.outbox.push_first(frame);
        Ok(())
    }
}
