//! What leaves a link, and in which order: what keeps it alive, then the frames that matter, then bulk data, each without
//! starving the next.

use parlour_wire::{Frame, Kind, header::Fault};

use super::{Link, Output, Phase, remains::End, requests::fault_header};

/// Numbered frames after which a chunk of a stream gets its turn, so that bulk data moves however busy the link is.
pub(super) const FRAMES_PER_CHUNK: u32 = 64;

impl Link {
    /// What to do with the connection next, if anything: [`Output::Send`] or [`Output::Disconnect`]. A driver asks while its
    /// connection takes more, and not at all without a connection. It may cause events.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Output> {
        if let Some(fault) = self.disconnect.take() {
            return Some(Output::Disconnect(*fault));
        }
        if let Some(greeting) = self.greeting.take() {
            return Some(Output::Send(*greeting));
        }
        match &self.phase {
            Phase::Up { .. } => self.next_frame().map(Output::Send),
            Phase::Closing { fault, flush, .. } => {
                let (fault, flush) = (fault.clone(), *flush);
                if let Some(frame) = flush.then(|| self.next_frame()).flatten() {
                    return Some(Output::Send(frame));
                }
                let frame = Frame { header: fault_header(fault.clone()), ..Frame::new(Kind::CLOSE) };
                self.disconnect = Some(Box::new(fault.clone()));
                self.finish(End::Told, fault);
                Some(Output::Send(frame))
            }
            Phase::Down { .. } | Phase::Greeting { .. } | Phase::Ended => None,
        }
    }

    /// Whether chunks and ends of streams stay where they are, because the connection takes none at the moment. What matters more is
    /// not held up by them. The next connection begins without.
    pub fn hold_chunks(&mut self, hold: bool) {
        self.chunks_held = hold;
    }

    /// Whether there are chunks that only [`Link::hold_chunks`] keeps back.
    #[must_use]
    pub fn holds_chunks(&self) -> bool {
        self.chunks_held && self.has_turn()
    }

    /// Whether the connection is to be dropped even though it takes no more frames.
    #[must_use]
    pub fn poll_disconnect(&mut self) -> Option<Fault> {
        self.disconnect.take().map(|fault| *fault)
    }

    /// Whether [`Link::poll_transmit`] has something.
    #[must_use]
    pub fn has_transmit(&self) -> bool {
        let up = matches!(self.phase, Phase::Up { .. });
        let control = self.pong.is_some()
            || self.ping.is_some()
            || self.inbox.ack_due()
            || self.hold.is_due(self.requests.parked.has_actions());
        self.disconnect.is_some()
            || self.greeting.is_some()
            || matches!(self.phase, Phase::Closing { .. })
            || up && (control || self.outbox.has_next() || !self.outbox.is_held_back() && self.has_stream_frame())
    }

    fn next_frame(&mut self) -> Option<Frame> {
        if let Some(nonce) = self.pong.take() {
            return Some(Frame { id: nonce, ..Frame::new(Kind::PONG) });
        }
        if let Some(nonce) = self.ping.take() {
            return Some(Frame { id: nonce, ..Frame::new(Kind::PING) });
        }
        if let Some(frame) = self.hold.take_frame(self.requests.parked.has_actions()) {
            return Some(frame);
        }
        if let Some(received) = self.inbox.take_ack() {
            return Some(Frame { id: received, ..Frame::new(Kind::ACK) });
        }
        let frame =
            if self.streams.is_none() || self.outbox.is_held_back() { self.outbox.take_next() } else { self.next_with_streams() };
        if self.encoding.is_none() { frame } else { frame.map(|frame| self.compressed(frame)) }
    }

    fn next_with_streams(&mut self) -> Option<Frame> {
        if let Some(frame) = self.next_credit() {
            return Some(frame);
        }
        if !self.has_chunk() {
            return self.outbox.take_next();
        }
        if self.before_chunk > 0
            && let Some(frame) = self.outbox.take_next()
        {
            self.before_chunk -= 1;
            return Some(frame);
        }
        self.before_chunk = FRAMES_PER_CHUNK;
        self.next_chunk()
    }
}
