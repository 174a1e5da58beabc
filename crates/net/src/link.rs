//! The handle of a link, the same at both ends.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parlour_proto::link::{Answer, RequestId, StreamId};
use parlour_wire::{Code, LinkSessionId, frame::ContentType, header::Fault};

use crate::{
    asked::{Ask, Asked},
    connect::ConnectConfig,
    driver::Driver,
    event::Events,
    port::{Action, Control, Port, SendError},
    queue::queue,
    shared::SharedDriver,
    streams::{Sink, Source},
};

/// The handle of a link. Cheap to clone; clones share it.
///
/// At the client's end the link closes when the last handle is gone, pending requests counted. At the server's end the client
/// decides how long the session lives.
pub struct Link {
    pub(crate) port: Arc<Port>,
}

impl Clone for Link {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.port))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.port.release();
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("session", &self.session()).field("up", &self.is_up()).finish()
    }
}

impl Link {
    pub(crate) fn new(port: Arc<Port>) -> Self {
        port.hold();
        Self { port }
    }

    /// Starts a link on the current Tokio runtime. It connects by itself, and again after every loss. [The
    /// guide](crate#below-the-toolkit) has an example.
    #[must_use]
    pub fn connect(config: ConnectConfig) -> (Self, Events) {
        Self::connect_guarded(config, false)
    }

    /// As [`Link::connect`]. A `guarded` link says nothing in a session before [`Control::Trust`], but for [`Asked::first`].
    pub(crate) fn connect_guarded(config: ConnectConfig, guarded: bool) -> (Self, Events) {
        let port = Arc::new(Port::default());
        let link = Self::new(Arc::clone(&port));
        let (filler, taker) = queue();
        let driver = Driver::new(config, Arc::clone(&port), filler, guarded);
        port.share(SharedDriver::spawn(driver));
        (link, Events { queue: taker })
    }

    /// Asks the peer, and waits for the answer. A link that is down is waited for within `timeout`. Dropping the future cancels
    /// the request.
    ///
    /// # Errors
    /// The peer's fault; `timed_out` after `timeout`; `link_lost` if the session ended before the answer: the request may have
    /// taken effect then.
    pub async fn request_raw(
        &self,
        name: impl Into<String>,
        content_type: ContentType,
        content: Bytes,
        timeout: Duration,
    ) -> Result<Answer, Fault> {
        self.ask_awaited(Ask { name: name.into(), content_type, content, timeout: Some(timeout), origin: None }).await
    }

    /// Asks the peer. The request keeps its place in the order of the calls, however long it waits for room in the link.
    pub fn ask(&self, ask: Ask) -> Asked {
        Asked::new(self, ask, None, false)
    }

    /// As [`Link::ask`], for a caller that asks nothing else before it has the answer: it may write the request itself.
    pub(crate) fn ask_awaited(&self, ask: Ask) -> Asked {
        Asked::new(self, ask, None, true)
    }

    /// As [`Link::ask`], but the request belongs to this session: it is sent in it or not at all, and when the session is over before
    /// the answer, for whatever reason, it fails with `link_lost`. A caller that sends again what a session has lost keeps its order by
    /// that; and an answer that means something in its session only is not given in another one.
    pub fn ask_within(&self, session: LinkSessionId, ask: Ask) -> Asked {
        Asked::new(self, ask, Some(session), false)
    }

    /// Sends an action. It leaves when the link is up; whether it arrives is not told.
    ///
    /// # Errors
    /// [`SendError`] if it was not taken.
    pub fn action_raw(&self, name: impl AsRef<str>, content_type: ContentType, content: Bytes) -> Result<(), SendError> {
        self.port.act(Action::new(name.as_ref(), content_type, content)?)
    }

    /// Waits until there is room for actions. Who sends many calls it when [`Link::action_raw`] says [`SendError::Full`].
    ///
    /// # Errors
    /// [`SendError::Closed`] if the link has ended.
    pub async fn ready(&self) -> Result<(), SendError> {
        self.wait(|port| port.has_room().map(|room| room.then_some(())).transpose()).await
    }

    /// Answers a request of the peer that came as [`crate::LinkEvent::Request`]. An answer waits until the peer has taken those
    /// before it; one that comes too late is dropped.
    ///
    /// # Errors
    /// [`SendError::Closed`] if the link has ended.
    pub fn answer(&self, id: RequestId, result: Result<Answer, Fault>) -> Result<(), SendError> {
        self.port.answer((id, result))
    }

    /// Tells the peer how far its request has come. A report may be left out if there are many.
    ///
    /// # Errors
    /// [`SendError`] if it was not taken.
    pub fn progress(&self, id: RequestId, done: u64, total: Option<u64>) -> Result<(), SendError> {
        self.port.control(Control::Progress { id, done, total })
    }

    /// Opens the receiving end of a stream. The peer is told its name and credit in a request or an answer, and sends.
    ///
    /// `credit` is how many bytes may be under way, and so what the stream may hold of this side's memory. On a way of high delay
    /// it bounds the speed: what fits into one round trip. It is at least twice the largest chunk. Over iroh, and
    /// without a connection, it begins with 256 KiB at most, and stays so if the peer is nearer than a round trip of 5 ms, because all else
    /// would wait for what is under way; [`Sink::credit`] says what it begins with. Without a connection the stream begins with the next one.
    #[must_use]
    pub fn sink(&self, credit: u32) -> Sink {
        Sink::new(self, credit)
    }

    /// Opens the sending end of a stream that the peer has asked for, with the name and credit that it told.
    #[must_use]
    pub fn source(&self, stream: StreamId, credit: u64) -> Source {
        Source::new(self, stream, credit)
    }

    /// Drops the connection at once, without a word to the peer. A client connects again, also when it was waiting between two
    /// tries, and resumes the session.
    pub fn reconnect(&self) {
        // A link that has ended has no connection to drop.
        let _ = self.port.control(Control::Reconnect);
    }

    /// Ends the session and waits until the peer has been told, within bounds. Requests without an answer fail.
    pub async fn close(&self) {
        self.close_with(Fault { code: Code::CANCELLED, message: "closed by the peer".to_owned(), retry_after_ms: None }).await;
    }

    /// As [`Link::close`], with the reason that the peer is told. A client comes back with a fresh session if the reason of its
    /// server is one after which another try makes sense.
    pub async fn close_with(&self, fault: Fault) {
        self.port.close(fault);
        self.wait(|port| port.is_closed().then_some(())).await;
    }

    /// Whether a connection is there and both ends know each other.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.port.is_up()
    }

    /// Why a link of the end that connects does not work: what the last try has come to, or how the last connection ended. `None`
    /// while it works, and before anything has gone wrong.
    #[must_use]
    pub fn trouble(&self) -> Option<Fault> {
        self.port.trouble()
    }

    /// Waits until the link is up.
    ///
    /// # Errors
    /// [`SendError::Closed`] if it has ended.
    pub async fn wait_up(&self) -> Result<(), SendError> {
        self.wait(|port| match (port.is_closed(), port.is_up()) {
            (true, _) => Some(Err(SendError::Closed)),
            (false, up) => up.then_some(Ok(())),
        })
        .await
    }

    /// Waits until the link has ended for good.
    pub async fn ended(&self) {
        self.wait(|port| port.is_closed().then_some(())).await;
    }

    /// The session, once there is one; the last one while the link is down.
    #[must_use]
    pub fn session(&self) -> Option<LinkSessionId> {
        self.port.session()
    }

    /// Looks at the state of the link until it gives something.
    async fn wait<T>(&self, mut look: impl FnMut(&Port) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.port.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = look(&self.port) {
                return found;
            }
            changed.await;
        }
    }
}
