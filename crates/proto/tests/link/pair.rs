//! Two machines, a network between them that delays and breaks, and a clock that only moves when told.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parlour_proto::link::{Answer, Command, Event, Input, Link, LinkConfig, LinkError, Output, RequestId, ServerSession, Tag};
use parlour_wire::{Code, Frame, Kind, LinkSessionId, decode, frame::ContentType, header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Client, Self::Server];

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What travels towards a side.
#[derive(Debug)]
enum Item {
    Frame(Bytes),
    /// The other side has closed the connection.
    End,
}

pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) latency: Duration,
    pub(crate) grace: Duration,
    pub(crate) client: Link,
    pub(crate) server: Link,
    /// Towards the client, towards the server.
    wires: [VecDeque<(Instant, Item)>; 2],
    connected: [bool; 2],
    /// Connections that take nothing more, by their sender.
    pub(crate) congested: [bool; 2],
    /// Frames that a side takes in before it looks at what came of them, if so many are there: a driver reads up to 64.
    pub(crate) batch: usize,
    /// Frames that a side has taken in since.
    taken: [usize; 2],
    /// What this side says is forged, so it hears no acknowledgements: it would not know what they are for.
    pub(crate) puppet: Option<Side>,
    /// The server has seen the first frame of this connection.
    greeted: bool,
    server_config: Arc<LinkConfig>,
    sessions: u8,
    pub(crate) events: [Vec<Event>; 2],
    /// Every frame that was sent, by its sender.
    pub(crate) trace: Vec<(Side, Kind, u64)>,
    /// The same, as they left.
    pub(crate) frames: Vec<(Side, Frame)>,
    pub(crate) errors: Vec<(Side, LinkError)>,
}

impl Pair {
    pub(crate) fn new(client: LinkConfig, server: LinkConfig) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning; everything after it is counted")]
        let now = Instant::now();
        let server_config = Arc::new(server);
        let grace = Duration::from_secs(300);
        Self {
            now,
            latency: Duration::from_millis(10),
            grace,
            client: Link::client(Arc::new(client)),
            server: Link::server(Arc::clone(&server_config), identity(1, grace), now),
            wires: Default::default(),
            connected: [false; 2],
            congested: [false; 2],
            batch: 1,
            taken: [0; 2],
            puppet: None,
            greeted: false,
            server_config,
            sessions: 1,
            events: Default::default(),
            trace: Vec::new(),
            frames: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// A pair that is up.
    pub(crate) fn up() -> Self {
        Self::up_with(LinkConfig::default(), LinkConfig::default())
    }

    /// A pair with settings of its own that is up.
    pub(crate) fn up_with(client: LinkConfig, server: LinkConfig) -> Self {
        let mut pair = Self::new(client, server);
        pair.connect();
        pair.run(Duration::from_millis(100));
        assert!(pair.client.is_up() && pair.server.is_up());
        pair.events = Default::default();
        pair
    }

    pub(crate) fn link(&mut self, side: Side) -> &mut Link {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    pub(crate) fn events(&mut self, side: Side) -> Vec<Event> {
        std::mem::take(&mut self.events[side as usize])
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected[0] && self.connected[1]
    }

    pub(crate) fn connect(&mut self) {
        self.wires = Default::default();
        self.connected = [true; 2];
        self.greeted = false;
        self.handle(Side::Client, Input::Connected);
    }

    /// The connection breaks; of what is under way, this many frames still arrive. That it is broken may come in the same batch.
    pub(crate) fn cut(&mut self, to_client: usize, to_server: usize) {
        for (side, frames) in [(Side::Client, to_client), (Side::Server, to_server)] {
            for _ in 0..frames {
                self.deliver(side);
            }
        }
        self.wires = Default::default();
        for side in Side::BOTH {
            self.lose(side);
        }
    }

    /// The network breaks its word: of what is under way to a side, the frame at `at` and the one behind it change places.
    pub(crate) fn swap(&mut self, to: Side, at: usize) {
        let wire = &mut self.wires[to as usize];
        let at = at % wire.len().max(1);
        if let [(_, first), (_, second), ..] = &mut wire.make_contiguous()[at..] {
            std::mem::swap(first, second);
        }
    }

    /// The same: one of the frames under way to a side arrives a second time behind the others.
    pub(crate) fn double(&mut self, to: Side, at: usize) {
        let wire = &mut self.wires[to as usize];
        if let Some((_, Item::Frame(bytes))) = wire.get(at % wire.len().max(1)) {
            let again = (self.now + self.latency, Item::Frame(bytes.clone()));
            wire.push_back(again);
        }
    }

    /// One side notices that the connection is gone.
    pub(crate) fn lose(&mut self, side: Side) {
        if std::mem::take(&mut self.connected[side as usize]) && (side == Side::Client || self.greeted) {
            self.handle(side, Input::Lost);
        }
    }

    pub(crate) fn handle(&mut self, side: Side, input: Input) {
        if let Err(error) = self.try_handle(side, input) {
            self.errors.push((side, error));
        }
    }

    pub(crate) fn try_handle(&mut self, side: Side, input: Input) -> Result<(), LinkError> {
        let result = self.take_in(side, input);
        self.look(side);
        result
    }

    /// Gives a side an input, and does not look at what comes of it.
    pub(crate) fn take_in(&mut self, side: Side, input: Input) -> Result<(), LinkError> {
        let now = self.now;
        self.link(side).handle(input, now)
    }

    fn look(&mut self, side: Side) {
        self.taken[side as usize] = 0;
        self.drain();
    }

    pub(crate) fn command(&mut self, side: Side, command: Command) -> Result<(), LinkError> {
        self.try_handle(side, Input::Command(command))
    }

    pub(crate) fn act(&mut self, side: Side, n: u32) -> Result<(), LinkError> {
        self.command(side, Command::Action { name: "act".into(), content_type: ContentType::CBOR, content: number(n) })
    }

    pub(crate) fn ask(&mut self, side: Side, tag: Tag, timeout: Option<Duration>) -> Result<(), LinkError> {
        let content = number(u32::try_from(tag).unwrap());
        self.command(
            side,
            Command::Request {
                tag,
                name: "ask".into(),
                content_type: ContentType::CBOR,
                content,
                timeout,
                origin: None,
                bound: false,
            },
        )
    }

    pub(crate) fn answer(&mut self, side: Side, id: RequestId, content: Bytes) {
        let result = Ok(Answer { content_type: ContentType::CBOR, content });
        self.command(side, Command::Answer { id, result }).unwrap();
    }

    /// Puts a frame on the wire as if `side` had sent it.
    pub(crate) fn forge(&mut self, side: Side, frame: &Frame) {
        let item = Item::Frame(frame.to_bytes().unwrap());
        self.wires[side.other() as usize].push_back((self.now + self.latency, item));
    }

    /// Lets time pass, with everything that happens in it.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let deliveries = Side::BOTH.map(|side| self.wires[side as usize].front().map(|(at, _)| *at));
            let ticks = Side::BOTH.map(|side| self.link(side).deadline().map(|(at, _)| at));
            let next = deliveries.into_iter().chain(ticks).flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            for side in Side::BOTH {
                if self.is_due(side) {
                    self.deliver(side);
                    if self.taken[side as usize] > 0 && !self.is_due(side) {
                        self.look(side);
                    }
                }
                if self.link(side).deadline().is_some_and(|(at, _)| at <= self.now) {
                    self.handle(side, Input::Tick);
                }
            }
        }
        self.now = end;
    }

    /// Whether a frame is there for a side.
    fn is_due(&self, side: Side) -> bool {
        self.wires[side as usize].front().is_some_and(|(at, _)| *at <= self.now)
    }

    fn deliver(&mut self, side: Side) {
        let Some((_, item)) = self.wires[side as usize].pop_front() else { return };
        if !self.connected[side as usize] {
            return;
        }
        match item {
            Item::End => self.lose(side),
            Item::Frame(bytes) => {
                let frame = Frame::decode(bytes).unwrap();
                if side == Side::Server && !self.greeted {
                    self.greet(&frame);
                }
                if frame.kind != Kind::ACK || self.puppet != Some(side) {
                    self.read(side, frame);
                }
            }
        }
    }

    fn read(&mut self, side: Side, frame: Frame) {
        if let Err(error) = self.take_in(side, Input::Frame(frame)) {
            self.errors.push((side, error));
        }
        self.taken[side as usize] += 1;
        if self.taken[side as usize] >= self.batch {
            self.look(side);
        }
    }

    /// Finds the session of a connection by its first frame, as a server does.
    fn greet(&mut self, frame: &Frame) {
        self.greeted = true;
        let resumes = frame.kind == Kind::RESUME
            && decode::<header::Resume>(&frame.header).is_ok_and(|resume| resume.session == LinkSessionId([self.sessions; 16]));
        let fresh = self.sessions == 1 && frame.kind == Kind::HELLO && self.server.deadline().is_some() && !self.server.is_up();
        if self.server.is_ended() || !(resumes || fresh && self.events[1].is_empty()) {
            self.abandon_server();
            self.sessions += 1;
            self.server = Link::server(Arc::clone(&self.server_config), identity(self.sessions, self.grace), self.now);
        }
        self.handle(Side::Server, Input::Connected);
        // A session that ended with its connection before; there is nothing to come back to.
        if self.server.is_ended() {
            self.connected[1] = false;
            self.wires[0].push_back((self.now + self.latency, Item::End));
        }
    }

    /// Nobody will come back to the server's session; its application hears of it as it would after the grace.
    fn abandon_server(&mut self) {
        self.server.handle(Input::Lost, self.now).unwrap();
        while let Some((at, _)) = self.server.deadline() {
            self.server.handle(Input::Tick, at).unwrap();
        }
        self.events[1].extend(std::iter::from_fn(|| self.server.poll_event()));
    }

    pub(crate) fn drain(&mut self) {
        for side in Side::BOTH {
            if self.taken[side as usize] > 0 {
                continue;
            }
            while let Some(event) = self.link(side).poll_event() {
                self.events[side as usize].push(event);
            }
            while self.connected[side as usize] && !self.congested[side as usize] && (side == Side::Client || self.greeted) {
                let Some(output) = self.link(side).poll_transmit() else { break };
                let item = match output {
                    Output::Send(frame) => {
                        let bytes = frame.to_bytes().unwrap();
                        self.trace.push((side, frame.kind, frame.seq));
                        self.frames.push((side, frame));
                        Item::Frame(bytes)
                    }
                    Output::Disconnect(_) => {
                        self.connected[side as usize] = false;
                        Item::End
                    }
                    Output::Event(event) => panic!("{event:?}"),
                };
                self.wires[side.other() as usize].push_back((self.now + self.latency, item));
            }
            while let Some(event) = self.link(side).poll_event() {
                self.events[side as usize].push(event);
            }
        }
    }
}

fn identity(number: u8, grace: Duration) -> ServerSession {
    ServerSession { session: LinkSessionId([number; 16]), token: [number; 32], challenge: [number; 32], grace }
}

pub(crate) fn number(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

pub(crate) fn read(content: &[u8]) -> u32 {
    u32::from_be_bytes(content.try_into().unwrap())
}

/// The contents of the actions among events.
pub(crate) fn actions(events: &[Event]) -> Vec<u32> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Action { content, .. } => Some(read(content)),
            _ => None,
        })
        .collect()
}

/// The requests among events.
pub(crate) fn requests(events: &[Event]) -> Vec<(RequestId, u32)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Request { id, content, .. } => Some((*id, read(content))),
            _ => None,
        })
        .collect()
}

/// The answers among events: tag, and the code of the error or the content.
pub(crate) fn answers(events: &[Event]) -> Vec<(Tag, Result<Bytes, Code>)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Answer { tag, result } => {
                Some((*tag, result.as_ref().map(|answer| answer.content.clone()).map_err(|fault| fault.code)))
            }
            _ => None,
        })
        .collect()
}
