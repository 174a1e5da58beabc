//! What a server does with its sessions: the trait that a listener's user implements.

use std::{task::Context, time::Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parlour_proto::link::{Answer, Remains, RequestId};
use parlour_wire::{
    LinkSessionId,
    frame::ContentType,
    header::{Fault, Origin},
};

use crate::{listener::SessionInfo, pusher::Pusher};

/// A request of the client.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Which one, for [`crate::Link::progress`].
    pub id: RequestId,
    /// Name of the handler.
    pub name: String,
    /// How to read the content.
    pub content_type: ContentType,
    /// The content.
    pub content: Bytes,
    /// When the client no longer waits.
    pub deadline: Option<Instant>,
    /// Where it was sent first, if that was not in this session: it may have taken effect there.
    pub origin: Option<Origin>,
}

/// An action of the client.
#[derive(Clone, Debug)]
pub struct IncomingAction {
    /// Name of the handler.
    pub name: String,
    /// How to read the content.
    pub content_type: ContentType,
    /// The content.
    pub content: Bytes,
}

/// What a server does with its sessions.
///
/// Everything is called from the session's task, one call at a time per session. No call may block: what takes time belongs
/// into the future of [`SessionService::request`].
///
/// [The guide](crate#below-the-toolkit) has a whole one.
pub trait SessionService: Send + Sync + 'static {
    /// What the service keeps for a session.
    type Session: Send;

    /// A session begins.
    fn open(&self, info: SessionInfo, pusher: Pusher) -> Self::Session;

    /// A request, called in order of arrival. What must keep that order is done in the call; the future is polled concurrently
    /// with those of other requests. It runs to its end even if the client cancels, but not beyond the session.
    fn request(&self, session: &mut Self::Session, request: Incoming) -> BoxFuture<'static, Result<(ContentType, Bytes), Fault>>;

    /// An action, called in order of arrival with requests.
    fn action(&self, session: &mut Self::Session, action: IncomingAction);

    /// The client no longer waits for the answer of a request that has been passed on. Its future runs to its end all the same.
    fn cancelled(&self, session: &mut Self::Session, id: RequestId) {
        let _ = (session, id);
    }

    /// Whether there is room for more requests and actions. If not, nothing more is read from the client until the service wakes
    /// the task of `cx`, which is the session's.
    fn poll_room(&self, session: &mut Self::Session, cx: &mut Context<'_>) -> bool {
        let _ = (session, cx);
        true
    }

    /// Whether there are answers that the link has not taken, because the client is slow to take those before them. Until it has,
    /// the futures of requests are not polled; a service that works outside of them does well to wait, too. Told before
    /// [`SessionService::poll_room`].
    fn hold_answers(&self, session: &mut Self::Session, hold: bool) {
        let _ = (session, hold);
    }

    /// Whether the service is behind with requests and actions. Then the client is asked to keep those that it has not sent yet;
    /// answers, and what else keeps a link going, come in all the same. Asked after [`SessionService::poll_room`].
    fn is_behind(&self, session: &Self::Session) -> bool {
        let _ = session;
        false
    }

    /// The connection is lost (`false`), or the client has come back (`true`). Not called for the first connection.
    fn connection(&self, session: &mut Self::Session, up: bool) {
        let _ = (session, up);
    }

    /// The connection is lost, and why. Calls [`SessionService::connection`] unless it is told otherwise.
    fn disconnected(&self, session: &mut Self::Session, reason: &Fault) {
        let _ = reason;
        self.connection(session, false);
    }

    /// Whether a session is worth keeping: it outlives its connection, and may stay as long as it likes. The others end with
    /// their connection once their requests are answered, and after [`crate::ListenConfig::stranger_timeout`] at the latest.
    fn is_kept(&self, session: &Self::Session) -> bool {
        let _ = session;
        true
    }

    /// Whether a session ends an older one of the same key. Then who comes again finds a place where there is none for others: that of
    /// the older one, which it is about to end.
    fn has_one_session_per_key(&self) -> bool {
        false
    }

    /// Pushes were refused as [`crate::PushError::Full`]; from now on they are taken again.
    fn drained(&self, session: &mut Self::Session) {
        let _ = session;
    }

    /// The session has been lost, and this is what the service must remember so that requests of it that come again take effect
    /// once. Only if the links are configured so ([`crate::LinkConfig::keep_remains`]). [`SessionService::close`] follows, and for
    /// each of the requests that run [`SessionService::finished_late`], whenever that is, if it is within
    /// [`crate::ListenConfig::grace`] from then.
    fn remains(&self, session: &mut Self::Session, remains: Remains) {
        let _ = (session, remains);
    }

    /// A request that was running when its session was lost has come to its end. It is told by the session and its number there,
    /// which is what the origin says of a request that comes again.
    fn finished_late(&self, session: LinkSessionId, number: u64, result: Result<Answer, Fault>) {
        let _ = (session, number, result);
    }

    /// The session is over, and why. [`SessionService::close`] follows.
    fn ended(&self, session: &mut Self::Session, reason: &Fault) {
        let _ = (session, reason);
    }

    /// The session is over: closed by either side, or nobody came back to it.
    fn close(&self, session: Self::Session);
}
