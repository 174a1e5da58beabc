//! The link: one protocol between any two of our programs, as a machine without socket, clock or task.
//!
//! A [`Link`] is one end of one session. The driver gives it what happens ([`Input`]) and carries out what comes of it
//! ([`Output`]); [`Link::deadline`] says when the machine wants a tick, and why.
//!
//! - **Handshake** (`handshake.rs`): a client says hello, or resume if it has a session; a server answers with a welcome.
//! - **Session** (`outbox.rs`): frames that matter are numbered from 1 in each direction, kept until they are acknowledged,
//!   and sent again on the next connection, so each takes effect exactly once however often the connection breaks.
//! - **Requests** (`requests.rs`): each gets exactly one answer: a value, an error, or the passing of its deadline. How they wait for
//!   room is in `parked.rs`, and what becomes of them when a session is lost in `remains.rs`.
//! - **Compression** (`compression.rs`): per frame, in an encoding that the peer has told it decodes.
//! - **Streams** (`streams.rs`): bulk data in chunks under credit, which never makes the other frames wait (`transmit.rs`).
//! - **Keep-alive** (`keepalive.rs`): a silent peer is pinged and at last given up; the session outlives it.
//!
//! Everything that a peer can make grow is bounded: requests by number and bytes, unacknowledged frames by number and bytes,
//! streams by number and credit. There is no queue of outgoing frames beside the unacknowledged ones and a few chunks of each
//! stream, so a driver simply stops asking while its connection is congested.

mod compression;
mod config;
mod error;
mod guard;
mod handshake;
mod hold;
mod keepalive;
mod outbox;
mod parked;
mod remains;
mod requests;
mod streams;
mod transmit;
mod vocabulary;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::Bytes;
use parlour_wire::{
    Code, DecodeError, Encoding, Frame, Kind, LinkSessionId, codec, decode, encode,
    frame::ContentType,
    header::{self, Fault},
    limits,
};

pub use config::{KeepAlive, LinkConfig, OpenRequests, ServerSession, Unsent};
pub use error::{LinkError, Refusal, Violation};
pub use remains::Remains;
pub use requests::Answer;
pub use streams::chunk_cost;
pub use vocabulary::{Command, Event, Input, Output, RequestId, StreamId, Tag, Timer, Up};

use crate::later;
use handshake::Role;
use hold::Hold;
use keepalive::{Heart, Pulse};
use outbox::{Inbox, Outbox};
use remains::End;
use requests::{Ask, Requests, fault};
use streams::Streams;
use transmit::FRAMES_PER_CHUNK;

/// Where a link is.
#[derive(Debug)]
enum Phase {
    /// Without a connection; a server's session is over at `until`.
    Down { until: Option<Instant> },
    /// Connected; hello or welcome is to come by `until`.
    Greeting { until: Instant },
    /// Both sides know each other.
    Up { heart: Heart },
    /// A close is on its way; `flush` says whether queued frames go first.
    Closing { fault: Fault, until: Instant, flush: bool },
    /// Over.
    Ended,
}

/// One end of a link: the machine.
#[derive(Debug)]
pub struct Link {
    config: Arc<LinkConfig>,
    role: Role,
    phase: Phase,
    outbox: Outbox,
    inbox: Inbox,
    requests: Requests,
    streams: Option<Box<Streams>>,
    /// Numbered frames that may leave before the next chunk of a stream.
    before_chunk: u32,
    /// See [`Link::hold_chunks`].
    chunks_held: bool,
    /// How what leaves over this connection is compressed.
    encoding: Option<Encoding>,
    events: VecDeque<Event>,
    /// First frame of this connection, not sent yet.
    greeting: Option<Box<Frame>>,
    ping: Option<u64>,
    pong: Option<u64>,
    hold: Hold,
    /// The connection is to be closed.
    disconnect: Option<Box<Fault>>,
}

impl Link {
    /// The end that connects, and comes back after a loss.
    #[must_use]
    pub fn client(config: Arc<LinkConfig>) -> Self {
        Self::new(config, Role::client())
    }

    /// The end that is connected to; it is one session.
    #[must_use]
    pub fn server(config: Arc<LinkConfig>, identity: ServerSession, now: Instant) -> Self {
        let until = Some(later(now, config.handshake_timeout));
        Self { phase: Phase::Down { until }, ..Self::new(config, Role::server(identity)) }
    }

    fn new(config: Arc<LinkConfig>, role: Role) -> Self {
        Self {
            config,
            role,
            phase: Phase::Down { until: None },
            outbox: Outbox::new(),
            inbox: Inbox::default(),
            requests: Requests::default(),
            streams: None,
            before_chunk: FRAMES_PER_CHUNK,
            chunks_held: false,
            encoding: None,
            events: VecDeque::new(),
            greeting: None,
            ping: None,
            pong: None,
            hold: Hold::default(),
            disconnect: None,
        }
    }

    /// Takes note of what happened.
    ///
    /// # Errors
    /// [`LinkError::Refused`] for a command that cannot be carried out; nothing has changed then.
    /// [`LinkError::Violation`] and [`LinkError::Overrun`] for a peer that breaks the protocol; the session ends.
    pub fn handle(&mut self, input: Input, now: Instant) -> Result<(), LinkError> {
        match input {
            Input::Connected => self.on_connected(now),
            Input::Frame(frame) => {
                if let Err(violation) = self.on_frame(frame, now) {
                    self.close(violation.fault(), false, now);
                    return Err(violation.into());
                }
            }
            Input::Lost => self.lose(fault(Code::LINK_LOST, "the connection is lost"), now),
            Input::Tick => self.on_tick(now),
            Input::Command(command) => return self.on_command(command, now),
        }
        Ok(())
    }

    /// What to do next, if anything: events first.
    #[must_use]
    pub fn poll(&mut self) -> Option<Output> {
        self.poll_event().map(Output::Event).or_else(|| self.poll_transmit())
    }

    /// What to tell the application next, if anything.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.next_event()
    }

    /// When the machine wants [`Input::Tick`], and why.
    #[must_use]
    pub fn deadline(&self) -> Option<(Instant, Timer)> {
        let requests = self.requests.deadline().map(|at| (at, Timer::Request));
        let own = match &self.phase {
            Phase::Down { until } => until.map(|at| (at, Timer::Grace)),
            Phase::Greeting { until } => Some((*until, Timer::Handshake)),
            Phase::Up { heart } => {
                let pulse = self.config.keep_alive.as_ref().map(|config| (heart.deadline(config), Timer::KeepAlive));
                pulse.into_iter().chain(self.inbox.deadline().map(|at| (at, Timer::Acknowledge))).min()
            }
            Phase::Closing { until, .. } => Some((*until, Timer::Linger)),
            Phase::Ended => None,
        };
        requests.into_iter().chain(own).min()
    }

    /// Whether the session is over for good.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// The session in which a request would be sent that is asked at this moment; none if it is still to begin.
    #[must_use]
    pub fn session(&self) -> Option<LinkSessionId> {
        self.role.session()
    }

    /// Whether a close is on its way: what arrives is ignored.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// Whether the driver reads nothing on purpose, because the application takes nothing more. Then the peer is not given up for its
    /// silence, and hears pings, so that it does not give this side up.
    pub fn set_paused(&mut self, paused: bool, now: Instant) {
        if let Phase::Up { heart } = &mut self.phase {
            heart.set_paused(paused, now);
        }
    }

    /// Whether a connection is there and both sides know each other.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    /// Frames and bytes that wait for the peer's acknowledgement.
    #[must_use]
    pub fn unacknowledged(&self) -> (usize, usize) {
        (self.outbox.len(), self.outbox.bytes())
    }

    /// Requests in flight: ours, and the peer's.
    #[must_use]
    pub fn in_flight(&self) -> (usize, usize) {
        (self.requests.open(), self.requests.inbound())
    }

    fn on_connected(&mut self, now: Instant) {
        match self.phase {
            Phase::Ended => return,
            // One that is being closed ends by that: what is still to be said belongs to the connection before.
            Phase::Greeting { .. } | Phase::Up { .. } | Phase::Closing { .. } => {
                self.lose(fault(Code::LINK_LOST, "replaced by another connection"), now)
            }
            Phase::Down { .. } => {}
        }
        if self.is_ended() {
            return;
        }
        self.disconnect = None;
        self.phase = Phase::Greeting { until: later(now, self.config.handshake_timeout) };
        self.greet();
    }

    fn on_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        match &mut self.phase {
            Phase::Greeting { .. } => self.on_greeting(&frame, now),
            Phase::Up { heart } => {
                heart.heard(now);
                self.on_session_frame(frame, now)
            }
            // Frames that were under way when the connection was given up, or the session closed.
            Phase::Down { .. } | Phase::Closing { .. } | Phase::Ended => Ok(()),
        }
    }

    fn on_session_frame(&mut self, mut frame: Frame, now: Instant) -> Result<(), Violation> {
        let kind = frame.kind;
        match kind {
            Kind::HELLO | Kind::WELCOME | Kind::RESUME => return Err(Violation::OutOfState(kind)),
            Kind::ACK | Kind::PING | Kind::PONG | Kind::CLOSE | Kind::HOLD if frame.seq != 0 => {
                return Err(Violation::Numbering(kind));
            }
            _ if kind.is_of_stream() && frame.seq != 0 => return Err(Violation::Numbering(kind)),
            _ if kind.is_sequenced() && frame.seq == 0 => return Err(Violation::Numbering(kind)),
            _ => {}
        }
        // A kind that this version does not know may be numbered too.
        if frame.seq != 0 && !self.inbox.accept(&frame, now)? {
            return Ok(());
        }
        if kind.is_sequenced() || kind.is_of_stream() {
            self.decompress(&mut frame)?;
        }
        match kind {
            Kind::ACTION => {
                let header: header::Action = read_header(&frame)?;
                check_name(&header.name)?;
                self.event(Event::Action { name: header.name, content_type: frame.content_type, content: frame.content });
            }
            Kind::REQUEST => self.on_request(frame, now)?,
            Kind::RESPONSE | Kind::ERROR => self.on_answer(frame)?,
            Kind::PROGRESS => self.on_progress(&frame)?,
            Kind::CANCEL => self.on_cancel(frame.id),
            Kind::STREAM_DATA => self.on_stream_data(frame)?,
            Kind::STREAM_CREDIT => self.on_stream_credit(&frame)?,
            Kind::STREAM_END => self.on_stream_end(frame)?,
            Kind::ACK => self.outbox.acknowledge(frame.id)?,
            Kind::PING => self.pong = Some(frame.id),
            Kind::HOLD => self.hold.on_frame(&frame),
            Kind::CLOSE => {
                let mut fault: Fault = read_header(&frame)?;
                fault.message.truncate(fault.message.floor_char_boundary(limits::ERROR_TEXT));
                self.on_close(fault);
            }
            _ => {}
        }
        Ok(())
    }

    /// The peer ended the session.
    fn on_close(&mut self, fault: Fault) {
        self.disconnect = Some(Box::new(fault.clone()));
        self.finish(End::ByPeer, fault);
    }

    /// The session is over: nothing of it is left but the news. A client may begin another one, unless it closed this one.
    fn finish(&mut self, end: End, fault: Fault) {
        let again = self.role.is_client() && !matches!(self.phase, Phase::Closing { .. });
        self.phase = if again { Phase::Down { until: None } } else { Phase::Ended };
        self.forget_connection();
        self.end_streams(&fault);
        let session = self.role.forget();
        self.forget_session(session, end, &fault);
        self.event(Event::Ended(fault));
    }

    fn forget_connection(&mut self) {
        self.greeting = None;
        self.ping = None;
        self.pong = None;
        self.chunks_held = false;
        self.hold.forget_connection();
    }

    /// Ends the session from this side.
    fn close(&mut self, fault: Fault, flush: bool, now: Instant) {
        let up = matches!(self.phase, Phase::Up { .. });
        match self.phase {
            Phase::Ended | Phase::Closing { .. } => return,
            Phase::Down { .. } => {
                self.phase = Phase::Closing { fault: fault.clone(), until: now, flush: false };
                self.finish(End::Unheard, fault);
                return;
            }
            Phase::Greeting { .. } | Phase::Up { .. } => {}
        }
        if !up {
            self.greeting = None;
        }
        // A welcome that is still to leave goes before what follows it.
        self.end_streams(&fault);
        self.phase = Phase::Closing { fault, until: later(now, self.config.linger), flush: flush && up };
    }

    /// The connection is gone.
    fn lose(&mut self, reason: Fault, now: Instant) {
        self.disconnect = None;
        match &self.phase {
            Phase::Down { .. } | Phase::Ended => return,
            Phase::Closing { fault, .. } => {
                let fault = fault.clone();
                self.finish(End::Unheard, fault);
                return;
            }
            Phase::Greeting { .. } | Phase::Up { .. } => {}
        }
        let was_up = self.is_up();
        self.forget_connection();
        self.end_streams(&reason);
        if self.role.ends_with_its_connection(self.inbox.received()) {
            self.finish(End::Lost, reason);
            return;
        }
        let until = later(now, self.role.grace());
        self.phase = Phase::Down { until: (!self.role.is_client()).then_some(until) };
        self.outbox.shrink();
        if was_up {
            self.event(Event::Down { fault: reason, until });
        }
    }

    /// Gives the connection up from this side; the session goes on.
    fn drop_connection(&mut self, reason: Fault, now: Instant) {
        self.lose(reason.clone(), now);
        self.disconnect = Some(Box::new(reason));
    }

    fn on_tick(&mut self, now: Instant) {
        self.expire_requests(now);
        match &mut self.phase {
            Phase::Down { until: Some(until) } if *until <= now => {
                self.finish(End::Lost, fault(Code::LINK_LOST, "nobody came back to the session"));
            }
            Phase::Greeting { until } if *until <= now => {
                self.drop_connection(fault(Code::TIMED_OUT, "no greeting within the deadline"), now);
            }
            Phase::Closing { fault, until, .. } if *until <= now => {
                let fault = fault.clone();
                self.disconnect = Some(Box::new(fault.clone()));
                self.finish(End::Unheard, fault);
            }
            Phase::Up { heart } => {
                if self.inbox.tick(now) {
                    self.outbox.shrink();
                    self.requests.shrink();
                    self.events.shrink_to_fit();
                    streams::shrink(&mut self.streams);
                }
                match self.config.keep_alive.as_ref().map_or(Pulse::Quiet, |config| heart.tick(config, now)) {
                    Pulse::Quiet => {}
                    Pulse::Ping(nonce) => self.ping = Some(nonce),
                    Pulse::Dead => self.drop_connection(fault(Code::LINK_LOST, "the peer is silent"), now),
                }
            }
            _ => {}
        }
    }

    fn on_command(&mut self, command: Command, now: Instant) -> Result<(), LinkError> {
        if matches!(self.phase, Phase::Ended | Phase::Closing { .. }) {
            return match command {
                Command::Answer { .. }
                | Command::Close(_)
                | Command::Grant { .. }
                | Command::Stop { .. }
                | Command::Abort { .. } => Ok(()),
                Command::Cancel { tag } => {
                    self.cancel(tag);
                    Ok(())
                }
                _ => Err(Refusal::Closed.into()),
            };
        }
        match command {
            Command::Action { name, content_type, content } => self.act(name, content_type, content),
            Command::Request { tag, name, content_type, content, timeout, origin, bound } => {
                self.ask(Ask { tag, name: &name, content_type, content, timeout, origin, bound }, now)
            }
            Command::Answer { id, result } => self.answer(id, result, now),
            Command::Progress { id, done, total } => self.report_progress(id, done, total),
            Command::Cancel { tag } => {
                self.cancel(tag);
                Ok(())
            }
            Command::Close(fault) => {
                self.close(fault, true, now);
                Ok(())
            }
            stream => self.on_stream_command(stream),
        }
    }

    fn act(&mut self, name: String, content_type: ContentType, content: Bytes) -> Result<(), LinkError> {
        if name.len() > limits::LABEL {
            return Err(Refusal::NameTooLong.into());
        }
        self.act_encoded(Bytes::from(encode(&header::Action { name })), content_type, content)
    }

    /// [`Command::Action`] with the header ([`action_header`]) made by the caller: who sends one message to many links makes it
    /// once.
    ///
    /// # Errors
    /// [`LinkError::Refused`]; nothing has changed then.
    pub fn act_encoded(&mut self, header: Bytes, content_type: ContentType, content: Bytes) -> Result<(), LinkError> {
        if matches!(self.phase, Phase::Ended | Phase::Closing { .. }) {
            return Err(Refusal::Closed.into());
        }
        if self.is_held() {
            return Err(Refusal::Full.into());
        }
        let frame = Frame { content_type, header, content, ..Frame::new(Kind::ACTION) };
        self.check_room(&frame)?;
        self.outbox.push(frame);
        Ok(())
    }

    fn check_room(&self, frame: &Frame) -> Result<(), Refusal> {
        if frame.size() > limits::FRAME {
            return Err(Refusal::TooLarge);
        }
        let bytes = self.outbox.bytes() + frame.size();
        if self.outbox.len() >= self.config.unacked_frames || bytes > self.config.unacked_bytes.max(limits::FRAME) {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }
}

/// The header of an action, for [`Link::act_encoded`].
#[must_use]
pub fn action_header(name: &str) -> Bytes {
    Bytes::from(encode(&header::Action { name: name.to_owned() }))
}

fn read_header<'f, H: minicbor::Decode<'f, ()>>(frame: &'f Frame) -> Result<H, DecodeError> {
    decode(&frame.header)
}

fn check_name(name: &str) -> Result<(), DecodeError> {
    codec::bounded("name", name.len(), limits::LABEL)
}
