//! The driver of a client's link, between its handle and the server.
//!
//! It connects, comes back after every loss with growing waits, and resumes the session. What the application asked for
//! meanwhile waits in the machine, within its bounds, or in front of it.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parlour_proto::link::{Command, Event, Input, Link as Machine, Unsent, Up};
use parlour_wire::{Code, header::Fault, limits};
use tokio::time::Sleep;

use crate::{
    connect::{ConnectConfig, ConnectError, Reached, Route, ServerFacts},
    desk::Desk,
    event::LinkEvent,
    port::{Port, closed},
    pump::{Pump, now},
    queue::Filler,
    tries::Tries,
};

/// Events that may wait for the application before the peer is asked to keep its messages.
const HOLD_EVENTS: usize = 1024;
/// Bytes of such events.
const HOLD_BYTES: usize = limits::FRAME;
/// Events that may wait for the application before the driver stops reading. Above what a server keeps unacknowledged.
const EVENTS: usize = 8192;
/// Bytes of such events. Above what a server keeps unacknowledged.
const EVENT_BYTES: usize = 2 * limits::UNACKED_BYTES;
/// Events that may wait for the application before the content of more gets a place of its own. Until then it stays in the buffer in
/// which it came, with whatever else came in that.
const CROWD: usize = 16;
/// Turns before the driver lets other tasks run.
const TURNS: usize = 4;

/// How the driver stands to its server.
enum Way {
    Connecting(BoxFuture<'static, Result<Reached, ConnectError>>),
    Waiting(Pin<Box<Sleep>>),
    Connected { server: ServerFacts },
}

/// The task of a client's link.
pub(crate) struct Driver {
    config: ConnectConfig,
    route: Option<Arc<Route>>,
    pump: Pump,
    way: Way,
    tries: Tries,
    desk: Desk,
    events: Filler<LinkEvent>,
    /// There is a session to come back to.
    has_session: bool,
    /// The session has ended by the server's word.
    ended: Option<Fault>,
    closing: bool,
    /// The application is behind with its events.
    holds: bool,
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.desk.port.register(cx);
        for _ in 0..TURNS {
            match this.turn(cx) {
                Turn::Idle => {
                    this.rest(cx);
                    return Poll::Pending;
                }
                Turn::Busy => {}
                Turn::Over => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What a turn of the driver comes to.
pub(crate) enum Turn {
    /// Nothing more to do before something happens.
    Idle,
    /// There is more to do.
    Busy,
    /// The link has ended.
    Over,
}

impl Driver {
    pub(crate) fn new(config: ConnectConfig, port: Arc<Port>, events: Filler<LinkEvent>, guarded: bool) -> Self {
        let mut machine = Machine::client(Arc::new(config.link.clone()));
        if guarded {
            machine.guard();
        }
        let pump = Pump::new(machine);
        let (route, way) = match Route::new(&config) {
            Ok(route) => {
                let route = Arc::new(route);
                let way = Way::Connecting(Box::pin(Arc::clone(&route).reach(config.connect_timeout)));
                (Some(route), way)
            }
            Err(error) => (None, Way::Connecting(Box::pin(std::future::ready(Err(error.into()))))),
        };
        let desk = Desk::new(port);
        Self {
            config,
            route,
            pump,
            way,
            tries: Tries::default(),
            desk,
            events,
            has_session: false,
            ended: None,
            closing: false,
            holds: false,
        }
    }

    /// How long callers may look for an answer.
    pub(crate) fn spin(&self) -> Duration {
        self.config.spin
    }

    /// One that is connected.
    #[cfg(test)]
    pub(crate) fn over(carrier: Box<dyn crate::carrier::Carrier>, port: Arc<Port>, events: Filler<LinkEvent>) -> Self {
        let url = "wss://localhost:1".parse().expect("a URL");
        let mut driver = Self::new(ConnectConfig::new(url, crate::tls::Trust::Fingerprint([0; 32])), port, events, false);
        let server = ServerFacts { fingerprint: [0; 32], trusted_by_system: false, peer_key: None };
        driver.way = Way::Connected { server };
        driver.pump.connect(carrier, now());
        driver
    }

    /// Whether nothing is under way that has the task of the driver work anyway, or that a caller would have to work for.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.pump.is_connected() && !self.pump.machine.has_transmit() && self.desk.is_at_rest()
    }

    /// A poll that takes one turn only. With more to do than that the task must be woken.
    pub(crate) fn turn_once(&mut self, cx: &mut Context<'_>) -> Turn {
        self.desk.port.register(cx);
        let turn = self.turn(cx);
        if matches!(turn, Turn::Idle) {
            self.rest(cx);
        }
        turn
    }

    /// Who is to be told that its answer is there, once the driver can be polled by others.
    #[must_use]
    pub(crate) fn take_answered(&mut self) -> Option<Waker> {
        self.desk.take_answered()
    }

    /// It has panicked, and is dropped next: whoever listens to the link learns why it has ended.
    pub(crate) fn on_panic(&self) {
        let fault = Fault::new(Code::INTERNAL, "the driver of the link has failed");
        self.events.push(LinkEvent::Failed(ConnectError::Refused(fault)));
    }

    fn rest(&mut self, cx: &mut Context<'_>) {
        self.desk.rest();
        self.pump.arm(cx, self.desk.port.deadline());
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        let now = now();
        self.desk.wake_answered();
        self.pump.tick(now);
        self.desk.port.expire(now);
        self.desk.take_controls(&mut self.pump, now);
        if self.desk.take_reconnect() {
            self.reconnect(now);
        }
        let mut more = match self.poll_way(cx, now) {
            Ok(more) => more,
            Err(error) => return self.fail(error, now),
        };
        self.hold_if_behind(cx);
        let room = self.events.poll_below(cx, EVENTS, EVENT_BYTES);
        more |= self.pump.poll_read(cx, room, now);
        self.drain_events(now);
        let more_calls = self.desk.take_calls(&mut self.pump, now).more;
        if !more_calls {
            self.close_if_wanted(now);
        }
        // After reading, because acknowledgements make room for answers.
        self.desk.take_answers(&mut self.pump, now);
        self.desk.feed_streams(&mut self.pump, now);
        // Nobody waits for what is written for others.
        if self.pump.machine.has_transmit() {
            self.desk.wake_answered();
        }
        let written = self.pump.poll_write(cx, now);
        more |= written.more;
        self.drain_events(now);
        more |= self.desk.has_streams_ready();
        if self.pump.machine.is_ended() && !self.pump.is_connected() {
            // Whoever closes a link may end the program next.
            let said = !self.closing || self.pump.poll_farewell(cx).is_ready();
            return if said { self.finish() } else { Turn::Idle };
        }
        match self.after_loss(written.given_up, now) {
            Ok(retried) if more || more_calls || retried => Turn::Busy,
            Ok(_) => Turn::Idle,
            Err(error) => self.fail(error, now),
        }
    }

    /// Has the peer keep its messages while the application has many, and go on when few are left.
    fn hold_if_behind(&mut self, cx: &mut Context<'_>) {
        let part = if self.holds { 4 } else { 1 };
        let behind = !self.events.poll_below(cx, HOLD_EVENTS / part, HOLD_BYTES / part);
        self.holds = behind;
        self.pump.machine.hold_peer(behind);
    }

    /// Connects, or waits for the next try. `true` if something came of it.
    fn poll_way(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, ConnectError> {
        match &mut self.way {
            Way::Connected { .. } => Ok(false),
            Way::Waiting(sleep) => {
                let over = sleep.as_mut().poll(cx).is_ready();
                if over {
                    self.begin();
                }
                Ok(over)
            }
            Way::Connecting(attempt) => match attempt.as_mut().poll(cx) {
                Poll::Pending => Ok(false),
                Poll::Ready(Ok(Reached { carrier, server })) => {
                    self.way = Way::Connected { server };
                    self.pump.connect(carrier, now);
                    Ok(true)
                }
                Poll::Ready(Err(error)) if error.is_permanent() => Err(error),
                Poll::Ready(Err(error)) => {
                    self.retry(error.fault());
                    Ok(true)
                }
            },
        }
    }

    fn begin(&mut self) {
        if let Some(route) = &self.route {
            self.way = Way::Connecting(Box::pin(Arc::clone(route).reach(self.config.connect_timeout)));
        }
    }

    /// Waits before the next try, at least as long as the server asked.
    fn retry(&mut self, fault: Fault) {
        let mut random = [0; 2];
        if let Err(error) = getrandom::fill(&mut random) {
            tracing::warn!(%error, "no random numbers: clients will not be spread in time");
        }
        let asked = fault.retry_after_ms.map_or(Duration::ZERO, Duration::from_millis).min(self.config.backoff.longest);
        let retry_in = self.tries.wait(self.config.backoff, asked, u16::from_ne_bytes(random));
        self.way = Way::Waiting(Box::pin(tokio::time::sleep(retry_in)));
        self.tell_down(fault, retry_in);
    }

    /// Content as it may wait for long.
    fn settled(&self, content: Bytes) -> Bytes {
        if self.events.waiting() < CROWD { content } else { Bytes::copy_from_slice(&content) }
    }

    /// Tells that the link does not work. An application that takes no events for a year is not to find a million failed tries.
    fn tell_down(&self, fault: Fault, retry_in: Duration) {
        self.desk.port.set_trouble(fault.clone());
        self.events.push_latest(LinkEvent::Down { fault, retry_in }, |event| matches!(event, LinkEvent::Down { .. }));
    }

    /// A connection that has gone since the last look leads to the next one.
    fn after_loss(&mut self, given_up: Option<Fault>, now: Instant) -> Result<bool, ConnectError> {
        if !matches!(self.way, Way::Connected { .. }) || self.pump.is_connected() {
            return Ok(false);
        }
        self.tries.lost(now);
        let lost = || Fault { code: Code::LINK_LOST, message: "the connection is lost".to_owned(), retry_after_ms: None };
        let fault = self.ended.take().or(given_up).unwrap_or_else(lost);
        if !fault.code.retry() {
            return Err(ConnectError::Refused(fault));
        }
        self.retry(fault);
        Ok(true)
    }

    fn drain_events(&mut self, now: Instant) {
        while let Some(event) = self.pump.machine.poll_event() {
            let Some(event) = self.desk.deliver(event) else { continue };
            match event {
                Event::Up(up) => {
                    if self.has_session && !up.resumed {
                        self.on_session_over();
                    }
                    self.has_session = true;
                    self.on_up(up, now);
                }
                Event::Action { name, content_type, content } => {
                    let content = self.settled(content);
                    self.events.push(LinkEvent::Action { name, content_type, content });
                }
                Event::Request { id, name, content_type, content, deadline, origin } => {
                    let content = self.settled(content);
                    self.events.push(LinkEvent::Request { id, name, content_type, content, deadline, origin });
                }
                Event::Remains(mut remains) => {
                    self.desk.leave_answers(&mut remains);
                    self.events.push(LinkEvent::Remains(remains));
                }
                Event::Cancelled { id } => self.events.push(LinkEvent::Cancelled { id }),
                Event::Ended(fault) => {
                    self.desk.port.set_down();
                    self.has_session = false;
                    self.on_session_over();
                    self.ended = Some(fault);
                }
                // Told by the driver, with the time of the next try.
                Event::Down { .. } => self.desk.port.set_down(),
                // Delivered by the desk.
                Event::Answer { .. }
                | Event::Progress { .. }
                | Event::Data { .. }
                | Event::StreamEnded { .. }
                | Event::Credit { .. }
                | Event::StreamStopped { .. } => {}
            }
        }
    }

    /// What waits in front of a full link is of the session that was there when it was called, as what the machine had room for is.
    fn on_session_over(&mut self) {
        if self.config.link.unsent == Unsent::Drop {
            self.desk.drop_calls();
        }
    }

    fn on_up(&mut self, up: Up, now: Instant) {
        let Way::Connected { server: ServerFacts { fingerprint, trusted_by_system, peer_key }, .. } = self.way else { return };
        tracing::debug!(session = %up.session, resumed = up.resumed, "link up");
        self.tries.succeeded(now);
        self.desk.on_up(up.session, &mut self.pump, now);
        self.events.push(LinkEvent::Up {
            session: up.session,
            resumed: up.resumed,
            challenge: up.challenge,
            fingerprint,
            trusted_by_system,
            peer_key,
            capabilities: up.capabilities,
        });
    }

    fn reconnect(&mut self, now: Instant) {
        if self.pump.is_connected() {
            self.tries.lost(now);
            self.pump.lose(now);
            let message = "the connection was dropped on purpose".to_owned();
            let fault = Fault { code: Code::LINK_LOST, message, retry_after_ms: None };
            self.tell_down(fault, Duration::ZERO);
        }
        self.begin();
    }

    /// Closes the link if somebody asked for it, or nobody holds it any more. Calls that found no room by then fail.
    fn close_if_wanted(&mut self, now: Instant) {
        if self.closing {
            return;
        }
        let left = || Fault { code: Code::CANCELLED, message: "closed by the peer".to_owned(), retry_after_ms: None };
        let asked = self.desk.port.take_close();
        if let Some(fault) = asked.or_else(|| (!self.desk.port.is_held()).then(left)) {
            self.closing = true;
            self.pump.handle(Input::Command(Command::Close(fault)), now);
        }
    }

    /// The link cannot work until somebody changes something.
    fn fail(&mut self, error: ConnectError, now: Instant) -> Turn {
        self.desk.port.set_trouble(error.fault());
        self.pump.handle(Input::Command(Command::Close(error.fault())), now);
        self.drain_events(now);
        self.events.push(LinkEvent::Failed(error));
        self.desk.end();
        Turn::Over
    }

    fn finish(&mut self) -> Turn {
        if !self.closing {
            let fault = self.ended.take().unwrap_or_else(closed);
            self.desk.port.set_trouble(fault.clone());
            self.events.push(LinkEvent::Failed(ConnectError::Refused(fault)));
        }
        self.desk.end();
        Turn::Over
    }
}
