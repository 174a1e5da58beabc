//! The server's end of a link: one task per session, small, and alive across connections.
//!
//! The task reads, answers, pushes and writes in turns. Requests are futures that it polls itself, so a request costs no task,
//! and everything that is ready in a turn leaves in one write.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parlour_proto::link::{Answer, Command, Event, Input, Remains, RequestId, Up};
use parlour_wire::{Code, LinkSessionId, frame::ContentType, header::Fault, limits};
use tokio::runtime::Handle;

use crate::{
    desk::{Desk, add_answer},
    listener::SessionInfo,
    mailbox::{Arrival, Mailbox},
    port::weight,
    pump::{Pump, later, now},
    pusher::Pusher,
    registry::Registry,
    service::{Incoming, IncomingAction, SessionService},
};

/// Turns before the task lets others run.
const TURNS: usize = 4;
/// Answers collected in one turn, so that answering never starves reading.
const ANSWER_BATCH: usize = 128;

/// Requests on their way to an answer before the client is asked to keep the others: as many as may be open, and as many that it has
/// cancelled, which run to their ends.
const PENDING: usize = 2 * limits::REQUESTS_IN_FLIGHT;
/// How much more there may be before nothing is read from the client at all: above what it has on the way when it is asked to stop. Who
/// comes that far does not heed it. To stop earlier would keep back the acknowledgements that make room for the answers that are waited
/// for.
const OVERSHOOT: usize = 4;

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
    desk: Desk,
    pending: FuturesUnordered<Pending>,
    /// Answers may be there that the link has not taken: nothing is done for more of them.
    answers_wait: bool,
    /// The session was lost, and what is pending goes on without it.
    keep_pending: bool,
    /// The client is told to go when the requests in flight are answered, or then.
    stop: Option<Instant>,
    /// When it is looked again whether the session is kept.
    look: Option<Instant>,
    stranger_timeout: Duration,
    /// Dropped last: a listener whose registry is empty has no session left that holds the service.
    place: Option<Place>,
}

/// The requests of a lost session. They count as a session until they are done, so that there are not more than are let in; for as long
/// as a session without a connection would, so that who asks for what never ends does not keep others out.
struct Late<S> {
    pending: FuturesUnordered<Pending>,
    mailbox: Arc<Mailbox>,
    service: Arc<S>,
    until: Instant,
    /// Dropped last, as that of a session.
    _place: Place,
}

impl<S: SessionService> Late<S> {
    /// Lets them come to their ends, but not beyond that of the server, nor for longer than the grace of a session.
    async fn finish(mut self) {
        while let Some(finished) = self.next().await {
            let (id, result) = finished;
            self.service.finished_late(self.mailbox.session, id.number(), result.map(answer_of));
        }
    }

    async fn next(&mut self) -> Option<(RequestId, Result<(ContentType, Bytes), Fault>)> {
        let Self { pending, mailbox, .. } = self;
        let mut next = std::pin::pin!(pending.next());
        let stop = std::future::poll_fn(|cx| {
            mailbox.port.register(cx);
            match (next.as_mut().poll(cx), mailbox.take().1) {
                (Poll::Ready(finished), _) => Poll::Ready(Ok(finished)),
                (Poll::Pending, Some(until)) => Poll::Ready(Err(until)),
                (Poll::Pending, None) => Poll::Pending,
            }
        });
        match tokio::time::timeout_at(self.until.into(), stop).await {
            Ok(Ok(finished)) => finished,
            Ok(Err(until)) => tokio::time::timeout_at(until.min(self.until).into(), next).await.ok().flatten(),
            Err(_) => None,
        }
    }
}

fn answer_of((content_type, content): (ContentType, Bytes)) -> Answer {
    Answer { content_type, content }
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
        let desk = Desk::new(Arc::clone(&mailbox.port));
        Self {
            pump,
            mailbox,
            service,
            info: Some(Box::new(info)),
            session: None,
            desk,
            pending: FuturesUnordered::new(),
            answers_wait: false,
            keep_pending: false,
            stop: None,
            look: None,
            stranger_timeout,
            place: Some(place),
        }
    }

    /// One round over everything that may have happened. `true` if there is more to do.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        let now = now();
        self.pump.tick(now);
        self.desk.port.expire(now);
        self.take_mail(now);
        self.desk.take_controls(&mut self.pump, now);
        if self.desk.take_reconnect() {
            self.pump.lose(now);
        }
        let strange = self.session.is_none();
        let room = self.has_room(cx);
        let mut more = self.pump.poll_read(cx, room, now);
        self.drain_events(cx, now);
        // A service is asked for room in every turn, and has not been in this one.
        more |= strange && self.session.is_some();
        // After reading, because acknowledgements make room for answers and pushes.
        more |= self.poll_pending(cx, now);
        self.desk.take_answers(&mut self.pump, now);
        more |= self.take_calls(now);
        self.stop_when_done(now);
        self.end_strangers(now);
        self.desk.feed_streams(&mut self.pump, now);
        self.hold_if_behind();
        more |= self.pump.poll_write(cx, now).more;
        self.drain_events(cx, now);
        more |= self.desk.has_streams_ready() || self.desk.reconnect;
        more
    }

    /// Whether the client may go on.
    fn has_room(&mut self, cx: &mut Context<'_>) -> bool {
        let room = self.session.as_mut().is_none_or(|session| {
            self.service.hold_answers(session, self.answers_wait);
            self.service.poll_room(session, cx)
        });
        room && self.pending.len() < PENDING * OVERSHOOT
    }

    /// Asks the client to keep its messages while too much of what it has sent is not done. After answers were collected, so that
    /// nothing that makes room goes unsaid.
    fn hold_if_behind(&mut self) {
        let behind = self.session.as_ref().is_some_and(|session| self.service.is_behind(session));
        self.pump.machine.hold_peer(behind || self.pending.len() >= PENDING);
    }

    /// A client has come back on another connection, or the server stops.
    fn take_mail(&mut self, now: Instant) {
        let (arrival, stop) = self.mailbox.take();
        self.stop = self.stop.or(stop);
        if let Some(arrival) = arrival {
            let Arrival { carrier, frame } = *arrival;
            self.pump.connect(carrier, now);
            self.pump.handle(Input::Frame(frame), now);
        }
    }

    /// Takes calls while the machine has room, then the order to close. `true` if there is more.
    fn take_calls(&mut self, now: Instant) -> bool {
        let taken = self.desk.take_calls(&mut self.pump, now);
        if taken.relieved
            && let Some(session) = &mut self.session
        {
            self.service.drained(session);
        }
        // What found no room by now ends with the session: a client that takes nothing cannot put its end off.
        if !taken.more
            && let Some(fault) = self.desk.port.take_close()
        {
            self.pump.handle(Input::Command(Command::Close(fault)), now);
        }
        taken.more
    }

    fn drain_events(&mut self, cx: &mut Context<'_>, now: Instant) {
        while let Some(event) = self.pump.machine.poll_event() {
            let Some(event) = self.desk.deliver(event) else { continue };
            match event {
                Event::Up(up) => self.on_up(up, now),
                Event::Down { fault, .. } => {
                    tracing::debug!(session = %self.mailbox.session, reason = %fault.message, "connection lost");
                    self.desk.port.set_down();
                    if let Some(session) = &mut self.session {
                        self.service.disconnected(session, &fault);
                    }
                }
                Event::Request { id, name, content_type, content, deadline, origin } => {
                    self.on_request(Incoming { id, name, content_type, content, deadline, origin }, cx, now);
                }
                Event::Action { name, content_type, content } => {
                    if let Some(session) = &mut self.session {
                        self.service.action(session, IncomingAction { name, content_type, content });
                    }
                }
                // It runs to its end; the machine drops its answer.
                Event::Cancelled { id } => {
                    if let Some(session) = &mut self.session {
                        self.service.cancelled(session, id);
                    }
                }
                Event::Ended(fault) => {
                    tracing::debug!(session = %self.mailbox.session, reason = %fault.message, "session over");
                    if let Some(session) = &mut self.session {
                        self.service.ended(session, &fault);
                    }
                }
                Event::Remains(remains) => self.on_remains(*remains),
                // Delivered by the desk.
                Event::Answer { .. }
                | Event::Progress { .. }
                | Event::Data { .. }
                | Event::StreamEnded { .. }
                | Event::Credit { .. }
                | Event::StreamStopped { .. } => {}
            }
        }
        self.desk.wake_answered();
    }

    fn on_up(&mut self, up: Up, now: Instant) {
        self.desk.on_up(up.session, &mut self.pump, now);
        let Some(mut info) = self.info.take() else {
            self.tell_connection(true);
            return;
        };
        info.agent = up.agent;
        info.capabilities = up.capabilities;
        let pusher = Pusher::new(Arc::clone(&self.mailbox));
        self.session = Some(Box::new(self.service.open(*info, pusher)));
        self.look = Some(later(now, self.stranger_timeout));
    }

    fn on_remains(&mut self, mut remains: Remains) {
        self.leave_answers(&mut remains);
        if let Some(session) = &mut self.session {
            self.keep_pending = true;
            self.service.remains(session, remains);
        }
    }

    fn tell_connection(&mut self, up: bool) {
        if let Some(session) = &mut self.session {
            self.service.connection(session, up);
        }
    }

    fn on_request(&mut self, request: Incoming, cx: &mut Context<'_>, now: Instant) {
        let Some(session) = &mut self.session else { return };
        let id = request.id;
        if self.stop.is_some() {
            self.answer(id, Err(stopping()), now);
            return;
        }
        let mut future = self.service.request(session, request);
        if !self.pump.machine.has_answer_room() {
            self.answers_wait = true;
            self.pending.push(Pending { id, future });
            return;
        }
        // Many answers are there at once; they need no place among the others.
        match future.as_mut().poll(cx) {
            Poll::Ready(result) => self.answer(id, result, now),
            Poll::Pending => self.pending.push(Pending { id, future }),
        }
    }

    fn answer(&mut self, id: RequestId, result: Result<(ContentType, Bytes), Fault>, now: Instant) {
        self.desk.take_reports(&mut self.pump, now);
        self.pump.handle(Input::Command(Command::Answer { id, result: result.map(answer_of) }), now);
    }

    /// Collects answers while the link has room for them: until it has, they are not even made. `true` if there is more to do.
    fn poll_pending(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let waited = std::mem::replace(&mut self.answers_wait, true);
        for _ in 0..ANSWER_BATCH {
            if !self.pump.machine.has_answer_room() {
                return false;
            }
            match Pin::new(&mut self.pending).poll_next(cx) {
                Poll::Ready(Some((id, result))) => self.answer(id, result, now),
                Poll::Ready(None) | Poll::Pending => {
                    self.answers_wait = false;
                    // The service has held back what it was told to.
                    return waited;
                }
            }
        }
        true
    }

    /// What has come to its end before its session does, and was not taken by the link any more.
    fn leave_answers(&mut self, remains: &mut Remains) {
        self.desk.leave_answers(remains);
        let mut bytes = 0;
        let mut cx = Context::from_waker(Waker::noop());
        while bytes < limits::UNACKED_BYTES
            && let Poll::Ready(Some((id, result))) = Pin::new(&mut self.pending).poll_next(&mut cx)
        {
            let result = result.map(answer_of);
            bytes += weight(&result);
            add_answer(remains, id, result);
        }
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
            self.look = Some(later(now, self.stranger_timeout));
        }
        if !self.service.is_kept(session) {
            let message = "nobody has logged in".to_owned();
            let fault = Fault { code: Code::LINK_LOST, message, retry_after_ms: None };
            self.pump.handle(Input::Command(Command::Close(fault)), now);
        }
    }

    fn close(&mut self) {
        self.mailbox.close();
        self.desk.end();
        if let Some(session) = self.session.take() {
            self.service.close(*session);
        }
        if self.keep_pending
            && !self.pending.is_empty()
            && let Ok(runtime) = Handle::try_current()
            && let Some(place) = self.place.take()
        {
            let late = Late {
                pending: std::mem::take(&mut self.pending),
                mailbox: Arc::clone(&self.mailbox),
                service: Arc::clone(&self.service),
                until: later(now(), place.registry.grace),
                _place: place,
            };
            runtime.spawn(late.finish());
        }
    }
}

impl<S: SessionService> Future for SessionTask<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.desk.port.register(cx);
        for _ in 0..TURNS {
            let more = this.turn(cx);
            if this.pump.machine.is_ended() && !this.pump.machine.has_transmit() {
                this.close();
                // A server that stops waits for its sessions, and they for their last words.
                return this.pump.poll_farewell(cx);
            }
            if !more {
                this.desk.rest();
                let own = this.stop.into_iter().chain(this.look).chain(this.desk.port.deadline()).min();
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
