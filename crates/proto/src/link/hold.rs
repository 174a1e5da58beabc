//! Back-pressure on messages: an application that is behind has its peer keep actions and requests for now.
//!
//! To stop reading would stop everything, the answers included that the application may be waiting for. A peer that is held keeps
//! its own messages where they are made, and goes on answering. What it had sent by then still comes.

use parlour_wire::{Frame, Kind};

use super::Link;

/// Who is held.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// The peer is to keep its messages.
    wanted: bool,
    /// It has been told so on this connection.
    told: bool,
    /// The peer wants no more of ours.
    held: bool,
}

impl Hold {
    /// What another connection does not know.
    pub(super) fn forget_connection(&mut self) {
        (self.told, self.held) = (false, false);
    }

    /// Whether the peer is to be told something. The machine itself is `behind` while actions wait in it.
    pub(super) fn is_due(&self, behind: bool) -> bool {
        (self.wanted || behind) != self.told
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    pub(super) fn take_frame(&mut self, behind: bool) -> Option<Frame> {
        self.is_due(behind).then(|| {
            self.told = !self.told;
            Frame { id: u64::from(self.told), ..Frame::new(Kind::HOLD) }
        })
    }

    pub(super) fn on_frame(&mut self, frame: &Frame) {
        self.held = frame.id != 0;
    }
}

impl Link {
    /// Whether the peer is to keep its actions and requests for now. Those that it had sent by then still come.
    pub fn hold_peer(&mut self, hold: bool) {
        self.hold.wanted = hold;
    }

    /// Whether the peer wants no more actions and requests for now: they are refused as [`super::Refusal::Full`].
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.hold.is_held()
    }
}
