//! Hello, resume, welcome: how two ends agree on a session.

use std::time::{Duration, Instant};

use bytes::Bytes;
use parlour_wire::{
    Code, Frame, Kind, LinkSessionId, encode,
    header::{self, Fault},
    limits,
};

use super::{
    Event, Link, Phase, Up, config::ServerSession, error::Violation, keepalive::Heart, read_header, remains::End, requests::fault,
};

/// Longest grace that a client believes, so that adding it to a point in time cannot overflow.
const GRACE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Which end this is, with what it knows of the session.
#[derive(Debug)]
pub(super) enum Role {
    Client {
        /// The session to come back to.
        session: Option<Box<ClientSession>>,
        /// Each new session begins with a proof of who the peer is.
        guarded: bool,
        /// Whoever had the last word had not proven who it is.
        doubted: bool,
    },
    Server {
        identity: Box<ServerSession>,
        /// Whether a client has been welcomed.
        begun: bool,
    },
}

#[derive(Debug)]
pub(super) struct ClientSession {
    session: LinkSessionId,
    token: [u8; 32],
    grace: Duration,
}

impl Role {
    pub(super) fn client() -> Self {
        Self::Client { session: None, guarded: false, doubted: false }
    }

    pub(super) fn server(identity: ServerSession) -> Self {
        Self::Server { identity: Box::new(identity), begun: false }
    }

    pub(super) fn guard(&mut self) {
        if let Self::Client { guarded, .. } = self {
            *guarded = true;
        }
    }

    /// Takes note of who has had the last word: somebody who has proven who it is, or not. Without a guard nobody has to.
    pub(super) fn doubt(&mut self, is_doubtful: bool) {
        if let Self::Client { guarded, doubted, .. } = self {
            *doubted = *guarded && is_doubtful;
        }
    }

    pub(super) fn is_doubted(&self) -> bool {
        matches!(self, Self::Client { doubted: true, .. })
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(self, Self::Client { .. })
    }

    /// How long the session survives without a connection.
    pub(super) fn grace(&self) -> Duration {
        match self {
            Self::Client { session, .. } => session.as_ref().map_or(Duration::ZERO, |session| session.grace),
            Self::Server { identity, .. } => identity.grace,
        }
    }

    pub(super) fn session(&self) -> Option<LinkSessionId> {
        match self {
            Self::Client { session, .. } => session.as_ref().map(|session| session.session),
            Self::Server { identity, begun } => begun.then_some(identity.session),
        }
    }

    /// The session is over. Gives its id, if there was one.
    pub(super) fn forget(&mut self) -> Option<LinkSessionId> {
        match self {
            Self::Client { session, .. } => session.take().map(|session| session.session),
            Self::Server { identity, begun } => begun.then_some(identity.session),
        }
    }

    /// A session in which the client never said anything has nothing to come back to. Keeping it would let anyone fill a server
    /// with sessions by connecting and hanging up.
    pub(super) fn ends_with_its_connection(&self, received: u64) -> bool {
        !self.is_client() && received == 0
    }
}

impl Link {
    /// Prepares the first frame of a connection.
    pub(super) fn greet(&mut self) {
        let Role::Client { session, .. } = &self.role else { return };
        let (capabilities, agent) = (self.offer(), self.config.agent.clone());
        let (kind, header) = match session {
            None => (Kind::HELLO, encode(&header::Hello { capabilities, agent })),
            Some(known) => {
                let (session, token) = (known.session, known.token);
                let received = self.inbox.told();
                (Kind::RESUME, encode(&header::Resume { capabilities, agent, session, token, received }))
            }
        };
        self.greeting = Some(Box::new(Frame { header: Bytes::from(header), ..Frame::new(kind) }));
    }

    pub(super) fn on_greeting(&mut self, frame: &Frame, now: Instant) -> Result<(), Violation> {
        if frame.seq != 0 {
            return Err(Violation::Numbering(frame.kind));
        }
        match (self.role.is_client(), frame.kind) {
            (true, Kind::WELCOME) => self.on_welcome(read_header(frame)?, now),
            (false, Kind::HELLO) => self.on_hello(read_header::<header::Hello>(frame)?.checked()?, now),
            (false, Kind::RESUME) => self.on_resume(read_header::<header::Resume>(frame)?.checked()?, now),
            (true, Kind::CLOSE) => {
                let mut fault: Fault = read_header(frame)?;
                fault.message.truncate(fault.message.floor_char_boundary(limits::ERROR_TEXT));
                if fault.code == Code::TIMED_OUT && matches!(self.role, Role::Client { session: Some(_), .. }) {
                    // What was to bring the session back came too late on this connection. The server has it still, or says at the next
                    // that it has not.
                    self.drop_connection(fault, now);
                    return Ok(());
                }
                // Nobody proves anything before a session begins.
                self.role.doubt(true);
                self.on_close(fault);
                Ok(())
            }
            (_, kind) => Err(Violation::OutOfState(kind)),
        }
    }

    fn on_hello(&mut self, hello: header::Hello, now: Instant) -> Result<(), Violation> {
        match self.role {
            Role::Server { begun: false, .. } => {}
            _ => return Err(Violation::OutOfState(Kind::HELLO)),
        }
        self.welcome(false, hello.capabilities, hello.agent, now);
        Ok(())
    }

    /// The session goes on if this is it; a machine that has not begun takes the resume for a hello.
    fn on_resume(&mut self, resume: header::Resume, now: Instant) -> Result<(), Violation> {
        let Role::Server { identity, begun } = &self.role else { return Err(Violation::OutOfState(Kind::RESUME)) };
        let resumed = *begun;
        if resumed {
            if identity.session != resume.session || !same(&identity.token, &resume.token) {
                return Err(Violation::WrongSession);
            }
            self.outbox.resume(resume.received)?;
        }
        self.welcome(resumed, resume.capabilities, resume.agent, now);
        Ok(())
    }

    fn welcome(&mut self, resumed: bool, capabilities: Vec<String>, agent: String, now: Instant) {
        let offer = self.offer();
        let Role::Server { identity, begun } = &mut self.role else { return };
        *begun = true;
        let header = header::Welcome {
            capabilities: offer,
            session: identity.session,
            token: if resumed { [0; 32] } else { identity.token },
            resumed,
            received: self.inbox.told(),
            grace_ms: u64::try_from(identity.grace.as_millis()).unwrap_or(u64::MAX),
            challenge: identity.challenge,
        };
        let (session, challenge, grace) = (identity.session, identity.challenge, identity.grace);
        self.greeting = Some(Box::new(Frame { header: Bytes::from(encode(&header)), ..Frame::new(Kind::WELCOME) }));
        self.agree(&capabilities);
        self.phase = Phase::Up { heart: Heart::new(now) };
        self.event(Event::Up(Up { session, resumed, challenge, capabilities, agent, grace }));
    }

    fn on_welcome(&mut self, welcome: header::Welcome, now: Instant) -> Result<(), Violation> {
        parlour_wire::codec::bounded("capabilities", welcome.capabilities.len(), limits::CAPABILITIES)?;
        let Role::Client { session, guarded, .. } = &mut self.role else { return Err(Violation::OutOfState(Kind::WELCOME)) };
        let (grace, guarded) = (Duration::from_millis(welcome.grace_ms).min(GRACE_MAX), *guarded);
        let header::Welcome { capabilities, session: id, resumed, challenge, .. } = welcome;
        if resumed {
            if session.as_ref().is_none_or(|known| known.session != id) {
                return Err(Violation::WrongSession);
            }
            self.outbox.resume(welcome.received)?;
        } else {
            let lost = session.replace(Box::new(ClientSession { session: id, token: welcome.token, grace }));
            if let Some(lost) = lost {
                self.forget_session(Some(lost.session), End::Lost, &fault(Code::LINK_LOST, "the session is lost"));
            }
            self.tell_what_time_is_left(now);
            if guarded {
                self.outbox.hold_back();
            }
        }
        self.agree(&capabilities);
        self.phase = Phase::Up { heart: Heart::new(now) };
        self.event(Event::Up(Up { session: id, resumed, challenge, capabilities, agent: String::new(), grace }));
        Ok(())
    }
}

/// Compares secrets without telling by time where they differ.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
}
