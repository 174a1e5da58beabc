//! The server's end of a link: one task per session, small, and alive across connections.
//!
//! The task reads, answers, pushes and writes in turns. Requests are futures that it polls itself, so a request costs no task,
//! and everything that is ready in a turn leaves in one write.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, future::BoxFuture, stream::FuturesUnordered};
use parlour_proto::link::{Answer, Command, Event, Input, LinkError, Refusal, RequestId, Up};
use parlour_wire::{Code, LinkSessionId, frame::ContentType, header::Fault, limits};

use crate::{
    listener::SessionInfo,
    pump::{Pump, now},
    pusher::{Arrival, Mailbox, Pusher},
    registry::Registry,
    service::{Incoming, SessionService},
};

/// Turns before the task lets others run.
const TURNS: usize = 8;
/// Answers collected in one turn, so that answering never starves reading.
const ANSWER_BATCH: usize = 128;
/// Pushes taken in one turn.
const PUSH_BATCH: usize = 256;

/// A request on its way to an answer.
struct Pending {
    id: RequestId,
    future: BoxFuture<'static, Result<(ContentType, Bytes), Fault>>,
}

impl Future for Pending {
    type Output = (RequestId, Result<(ContentType, Bytes), Fault>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id;
        self.future.as_mut().poll(cx).map(|result| (id, result))
    }
}

/// A session with everything it has.
pub(crate) struct SessionTask<S: SessionService> {
    pub(crate) pump: Pump,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) service: Arc<S>,
    /// Known until the session is opened.
    pub(crate) info: Option<Box<SessionInfo>>,
    session: Option<Box<S::Session>>,
    pending: FuturesUnordered<Pending>,
    /// The client is told to go when the requests in flight are answered, or then.
    stop: Option<Instant>,
    /// When it is looked again whether the session is kept.
    look: Option<Instant>,
    stranger_timeout: Duration,
    /// Dropped last: a listener whose registry is empty has no session left that holds the service.
    _place: Place,
}

/// A session's place in the registry, given back when it is dropped.
struct Place {
    registry: Arc<Registry>,
    session: LinkSessionId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.remove(&self.session);
    }
}

impl<S: SessionService> SessionTask<S> {
    pub(crate) fn new(pump: Pump, mailbox: Arc<Mailbox>, registry: Arc<Registry>, service: Arc<S>, info: SessionInfo) -> Self {
        let stranger_timeout = registry.stranger_timeout;
        let place = Place { registry, session: mailbox.session };
        Self {
            pump,
            mailbox,
            service,
            info: Some(Box::new(info)),
            session: None,
            pending: FuturesUnordered::new(),
            stop: None,
            look: None,
            stranger_timeout,
            _place: place,
        }
    }

    /// One round over everything that may have happened. `true` if there is more to do.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        let now = now();
        self.pump.tick(now);
        self.take_arrival(now);
        let mut more = false;
        // Cancelled requests run to their end, so they count until then.
        if self.pending.len() < limits::REQUESTS_IN_FLIGHT {
            more |= self.pump.poll_read(cx, now);
        }
        self.drain_events(cx, now);
        more |= self.poll_pending(cx, now);
        // After reading, because acknowledgements make room for pushes.
        more |= self.take_pushes(now);
        self.stop_when_done(now);
        self.end_strangers(now);
        drop(self.pump.poll_write(cx, now));
        self.drain_events(cx, now);
        more
    }

    /// A client has come back on another connection.
    fn take_arrival(&mut self, now: Instant) {
        let mut mail = self.mailbox.lock();
        self.stop = self.stop.or(mail.stop);
        let arrival = mail.arrival.take();
        drop(mail);
        if let Some(Arrival { carrier, frame }) = arrival {
            self.pump.connect(carrier, now);
            self.pump.handle(Input::Frame(frame), now);
        }
    }

    /// Takes pushes while the machine has room, then the order to close. `true` if there is more.
    fn take_pushes(&mut self, now: Instant) -> bool {
        let mailbox = Arc::clone(&self.mailbox);
        let mut mail = mailbox.lock();
        let mut taken = 0;
        while taken < PUSH_BATCH
            && let Some(push) = mail.pushes.front()
        {
            match self.pump.machine.act_encoded(push.header.clone(), ContentType::CBOR, push.content.clone()) {
                Err(LinkError::Refused(Refusal::Full)) => break,
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "a push is dropped"),
            }
            mail.push_bytes -= push.content.len();
            mail.pushes.pop_front();
            taken += 1;
        }
        let more = taken == PUSH_BATCH;
        let drained = mail.pushes.is_empty();
        if drained {
            mail.pushes.shrink_to_fit();
        }
        let relieved = drained && std::mem::take(&mut mail.full);
        // What found no room by now ends with the session: a client that takes nothing cannot put its end off.
        let close = if more { None } else { mail.close.take() };
        drop(mail);
        if relieved && let Some(session) = &mut self.session {
            self.service.drained(session);
        }
        if let Some(fault) = close {
            self.pump.handle(Input::Command(Command::Close(fault)), now);
        }
        more
    }

    fn drain_events(&mut self, cx: &mut Context<'_>, now: Instant) {
        while let Some(event) = self.pump.machine.poll_event() {
            match event {
                Event::Up(up) => self.on_up(up, now),
                Event::Down { fault, .. } => {
                    tracing::debug!(session = %self.mailbox.session, reason = %fault.message, "connection lost");
                    self.tell_connection(false);
                }
                Event::Request { id, name, content_type, content, .. } => {
                    self.on_request(id, Incoming { name, content_type, content }, cx, now);
                }
                Event::Action { name, content_type, content } => {
                    if let Some(session) = &mut self.session {
                        self.service.action(session, Incoming { name, content_type, content });
                    }
                }
                Event::Ended(fault) => tracing::debug!(session = %self.mailbox.session, reason = %fault.message, "session over"),
                // A cancelled request runs to its end; the machine drops its answer. The server asks nothing.
                Event::Cancelled { .. } | Event::Answer { .. } | Event::Progress { .. } => {}
                Event::Remains(_)
                | Event::Data { .. }
                | Event::StreamEnded { .. }
                | Event::Credit { .. }
                | Event::StreamStopped { .. } => {}
            }
        }
    }

    fn on_up(&mut self, up: Up, now: Instant) {
        let Some(mut info) = self.info.take() else {
            self.tell_connection(true);
            return;
        };
        info.agent = up.agent;
        let pusher = Pusher { mailbox: Arc::clone(&self.mailbox) };
        self.session = Some(Box::new(self.service.open(*info, pusher)));
        self.look = Some(now + self.stranger_timeout);
    }

    fn tell_connection(&mut self, up: bool) {
        if let Some(session) = &mut self.session {
            self.service.connection(session, up);
        }
    }

    fn on_request(&mut self, id: RequestId, request: Incoming, cx: &mut Context<'_>, now: Instant) {
        let Some(session) = &mut self.session else { return };
        if self.stop.is_some() {
            self.answer(id, Err(stopping()), now);
            return;
        }
        let mut future = self.service.request(session, request);
        // Many answers are there at once; they need no place among the others.
        match future.as_mut().poll(cx) {
            Poll::Ready(result) => self.answer(id, result, now),
            Poll::Pending => self.pending.push(Pending { id, future }),
        }
    }

    fn answer(&mut self, id: RequestId, result: Result<(ContentType, Bytes), Fault>, now: Instant) {
        let result = result.map(|(content_type, content)| Answer { content_type, content });
        self.pump.handle(Input::Command(Command::Answer { id, result }), now);
    }

    /// Collects answers. `true` if there may be more.
    fn poll_pending(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        for _ in 0..ANSWER_BATCH {
            match Pin::new(&mut self.pending).poll_next(cx) {
                Poll::Ready(Some((id, result))) => self.answer(id, result, now),
                Poll::Ready(None) | Poll::Pending => return false,
            }
        }
        true
    }

    fn stop_when_done(&mut self, now: Instant) {
        if let Some(until) = self.stop
            && (self.pending.is_empty() || until <= now)
        {
            self.pump.handle(Input::Command(Command::Close(stopping())), now);
        }
    }

    /// Ends a session that is not kept, when its connection is gone or it has been here long enough.
    fn end_strangers(&mut self, now: Instant) {
        let Some(session) = &self.session else { return };
        let left = !self.pump.is_connected() && self.pending.is_empty();
        let due = self.look.is_some_and(|look| look <= now);
        if !left && !due {
            return;
        }
        if due {
            self.look = Some(now + self.stranger_timeout);
        }
        if !self.service.is_kept(session) {
            let message = "nobody has logged in".to_owned();
            let fault = Fault { code: Code::LINK_LOST, message, retry_after_ms: None };
            self.pump.handle(Input::Command(Command::Close(fault)), now);
        }
    }

    fn close(&mut self) {
        let mut mail = self.mailbox.lock();
        mail.closed = true;
        mail.pushes.clear();
        let arrival = mail.arrival.take();
        drop(mail);
        // A client that comes back at the very end is sent away, and begins a fresh session.
        drop(arrival);
        if let Some(session) = self.session.take() {
            self.service.close(*session);
        }
    }
}

impl<S: SessionService> Future for SessionTask<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.mailbox.waker.register(cx.waker());
        for _ in 0..TURNS {
            let more = this.turn(cx);
            if this.pump.machine.is_ended() && !this.pump.machine.has_transmit() {
                return Poll::Ready(());
            }
            if !more {
                let own = this.stop.into_iter().chain(this.look).min();
                this.pump.arm(cx, own);
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: SessionService> Drop for SessionTask<S> {
    fn drop(&mut self) {
        self.close();
    }
}

pub(crate) fn stopping() -> Fault {
    Fault { code: Code::STOPPING, message: "the server is stopping".to_owned(), retry_after_ms: None }
}
