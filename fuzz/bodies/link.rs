//! A link machine driven by bytes: whatever the bytes say happens to it, it does not panic, keeps within its bounds, and does not
//! ask for the same tick for ever. The fuzz target `link` and the replay of its corpus are this function.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parlour_proto::link::{
    Answer, Command, Event, Input, KeepAlive, Link, LinkConfig, OpenRequests, Output, RequestId, ServerSession, Unsent, Up,
};
use parlour_wire::{
    Code, Encoding, Frame, Kind, LinkSessionId, compress, encode,
    frame::ContentType,
    header::{self, Fault, Origin},
    limits,
};

/// What happened in a run, so that whoever replays a corpus can tell that it reaches what it is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The link came up as a client, as a server.
    pub(crate) up: [bool; 2],
    /// A session was resumed.
    pub(crate) resumed: bool,
    /// Names of events that came out.
    pub(crate) events: std::collections::BTreeSet<&'static str>,
    /// Kinds of frames that came out.
    pub(crate) sent: std::collections::BTreeSet<u8>,
    /// Texts of the errors.
    pub(crate) errors: std::collections::BTreeSet<String>,
}

/// Bits of the first byte.
pub(crate) mod setting {
    /// The link is a server's.
    pub(crate) const SERVER: u8 = 1;
    /// Compression is on.
    pub(crate) const COMPRESSION: u8 = 2;
    /// Remains are kept.
    pub(crate) const REMAINS: u8 = 4;
    /// Requests are sent again, and what was not sent is kept.
    pub(crate) const RESEND: u8 = 8;
    /// Little may be unacknowledged.
    pub(crate) const SMALL: u8 = 16;
    /// A dead peer is noticed soon.
    pub(crate) const KEEP_ALIVE: u8 = 32;
    /// The grace is short.
    pub(crate) const SHORT_GRACE: u8 = 64;
}

/// What a byte makes happen. Bytes beyond mean the same as those before.
pub(crate) mod op {
    /// A connection is there.
    pub(crate) const CONNECTED: u8 = 0;
    /// It is gone.
    pub(crate) const LOST: u8 = 1;
    /// Milliseconds (u16) pass.
    pub(crate) const PASS: u8 = 2;
    /// The clock moves to the deadline.
    pub(crate) const DEADLINE: u8 = 3;
    /// A frame as it is: kind, flags, number, id, size of the header, header, size of the content (u16), content.
    pub(crate) const FRAME: u8 = 4;
    /// Bytes that may be a frame: size (u16), bytes.
    pub(crate) const RAW: u8 = 5;
    /// A frame that makes sense: kind, argument.
    pub(crate) const GOOD: u8 = 6;
    /// A command: which, argument.
    pub(crate) const COMMAND: u8 = 7;
    /// So many frames leave.
    pub(crate) const TRANSMIT: u8 = 8;
    /// Chunks are held back, and the peer's messages, as two bits say.
    pub(crate) const HOLD: u8 = 9;
    /// How many there are.
    pub(crate) const COUNT: u8 = 10;
}

/// Numbers of the commands, in the order of [`Command`].
pub(crate) const COMMANDS: u8 = 13;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

struct Driver {
    link: Link,
    config: Arc<LinkConfig>,
    now: Instant,
    /// Number of the next sequenced frame of the peer.
    next: u64,
    /// The highest number that was sent to the peer.
    sent: u64,
    session: LinkSessionId,
    asked: VecDeque<RequestId>,
    tag: u64,
    seen: Seen,
}

/// Runs a machine as the bytes say.
pub(crate) fn run(data: &[u8]) -> Seen {
    let mut reader = Reader(data);
    let Some(settings) = reader.u8() else { return Seen::default() };
    let mut driver = Driver::new(settings);
    while let Some(op) = reader.u8() {
        if driver.step(op % op::COUNT, &mut reader).is_none() {
            break;
        }
        driver.drain();
        driver.check();
    }
    driver.seen
}

impl Driver {
    fn new(settings: u8) -> Self {
        let is = |bit: u8| settings & bit != 0;
        let usual = LinkConfig::default();
        let keep_alive = KeepAlive { idle: Duration::from_secs(1), interval: Duration::from_millis(300), fails: 2 };
        let config = Arc::new(LinkConfig {
            compression: if is(setting::COMPRESSION) { Encoding::ALL.to_vec() } else { Vec::new() },
            keep_remains: is(setting::REMAINS),
            open_requests: if is(setting::RESEND) { OpenRequests::Resend } else { OpenRequests::Fail },
            unsent: if is(setting::RESEND) { Unsent::Keep } else { Unsent::Drop },
            unacked_frames: if is(setting::SMALL) { 4 } else { usual.unacked_frames },
            unacked_bytes: if is(setting::SMALL) { 8192 } else { usual.unacked_bytes },
            keep_alive: is(setting::KEEP_ALIVE).then_some(keep_alive),
            ..usual
        });
        #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning; everything after it is counted")]
        let now = Instant::now();
        let session = LinkSessionId([1; 16]);
        let grace = if is(setting::SHORT_GRACE) { Duration::ZERO } else { Duration::from_secs(300) };
        let identity = ServerSession { session, token: [1; 32], challenge: [1; 32], grace };
        let link = if is(setting::SERVER) {
            Link::server(Arc::clone(&config), identity, now)
        } else {
            Link::client(Arc::clone(&config))
        };
        Self { link, config, now, next: 1, sent: 0, session, asked: VecDeque::new(), tag: 0, seen: Seen::default() }
    }

    fn step(&mut self, op: u8, reader: &mut Reader<'_>) -> Option<()> {
        match op {
            op::CONNECTED => self.handle(Input::Connected),
            op::LOST => self.handle(Input::Lost),
            op::PASS => {
                self.now += Duration::from_millis(reader.u16()?.into());
                self.tick();
            }
            op::DEADLINE => {
                if let Some((deadline, _)) = self.link.deadline() {
                    self.now = self.now.max(deadline);
                }
                self.tick();
            }
            op::FRAME => {
                let frame = self.any_frame(reader)?;
                self.receive(frame);
            }
            op::RAW => {
                let length = reader.u16()?;
                if let Ok(frame) = Frame::decode(Bytes::copy_from_slice(reader.take(length.into()))) {
                    self.receive(frame);
                }
            }
            op::GOOD => {
                let frame = self.good_frame(Kind(reader.u8()?), reader.u8()?);
                self.receive(frame);
            }
            op::COMMAND => {
                let command = self.command(reader.u8()?, reader.u8()?);
                self.handle(Input::Command(command));
            }
            op::TRANSMIT => self.transmit(reader.u8()?),
            _ => {
                let bits = reader.u8()?;
                self.link.hold_chunks(bits & 1 != 0);
                self.link.hold_peer(bits & 2 != 0);
            }
        }
        Some(())
    }

    fn handle(&mut self, input: Input) {
        if let Err(error) = self.link.handle(input, self.now) {
            self.seen.errors.insert(error.to_string());
        }
    }

    fn receive(&mut self, frame: Frame) {
        // Only one that is next counts.
        if frame.seq == self.next && self.link.is_up() {
            self.next += 1;
        }
        self.handle(Input::Frame(frame));
    }

    fn tick(&mut self) {
        // A tick may lead to a state with a deadline of its own that has passed, but not round in circles.
        for _ in 0..4 {
            if self.link.deadline().is_none_or(|(deadline, _)| deadline > self.now) {
                return;
            }
            self.handle(Input::Tick);
        }
        assert!(self.link.deadline().is_none_or(|(deadline, _)| deadline > self.now), "a deadline that ticks do not move");
    }

    fn transmit(&mut self, count: u8) {
        for _ in 0..count {
            let had = self.link.has_transmit();
            match self.link.poll_transmit() {
                Some(Output::Send(frame)) => {
                    assert!(had);
                    self.sent = self.sent.max(frame.seq);
                    self.seen.sent.insert(frame.kind.0);
                    assert!(frame.to_bytes().is_ok(), "what leaves is within the wire's bounds");
                }
                Some(Output::Disconnect(_)) => self.handle(Input::Lost),
                Some(Output::Event(event)) => panic!("{event:?}"),
                None => {
                    assert!(!had);
                    return;
                }
            }
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.link.poll_event() {
            let name = match event {
                Event::Up(up) => {
                    self.on_up(&up);
                    "up"
                }
                Event::Request { id, .. } => {
                    self.asked.push_back(id);
                    "request"
                }
                Event::Cancelled { id } => {
                    self.asked.retain(|asked| *asked != id);
                    "cancelled"
                }
                Event::Down { .. } => "down",
                Event::Ended(_) => "ended",
                Event::Action { .. } => "action",
                Event::Answer { .. } => "answer",
                Event::Progress { .. } => "progress",
                Event::Remains(_) => "remains",
                Event::Data { content, mark, .. } => {
                    assert!(content.len() <= limits::STREAM_CHUNK && mark.len() <= limits::STREAM_MARK);
                    "data"
                }
                Event::StreamEnded { .. } => "stream ended",
                Event::Credit { .. } => "credit",
                Event::StreamStopped { .. } => "stream stopped",
            };
            self.seen.events.insert(name);
        }
    }

    fn on_up(&mut self, up: &Up) {
        // A client is not told the agent of its server.
        self.seen.up[usize::from(!up.agent.is_empty())] = true;
        self.seen.resumed |= up.resumed;
        self.session = up.session;
        if !up.resumed {
            (self.next, self.sent) = (1, 0);
        }
    }

    fn check(&self) {
        let (frames, bytes) = self.link.unacknowledged();
        let requests = limits::REQUESTS_IN_FLIGHT;
        // Answers and cancels of the requests that were let in may come on top.
        assert!(frames <= self.config.unacked_frames + 3 * requests, "{frames} unacknowledged frames");
        assert!(bytes <= 4 * self.config.unacked_bytes.max(limits::FRAME) + requests * 64, "{bytes} unacknowledged bytes");
        let (ours, theirs) = self.link.in_flight();
        assert!(ours <= requests && theirs <= requests, "{ours} and {theirs} requests");
        let (sources, sinks) = self.link.streams();
        assert!(sources <= limits::STREAMS && sinks <= limits::STREAMS, "{sources} and {sinks} streams");
        // Each chunk may have a mark as large as what it costs at least.
        assert!(self.link.stream_bytes() <= sources * 2 * limits::STREAM_QUEUE, "{} bytes of chunks", self.link.stream_bytes());
    }

    fn any_frame(&mut self, reader: &mut Reader<'_>) -> Option<Frame> {
        let (kind, flags) = (Kind(reader.u8()?), reader.u8()?.into());
        let seq = match reader.u8()? {
            1 => self.next,
            2 => u64::MAX,
            other => other.into(),
        };
        let id = match reader.u8()? {
            255 => u64::MAX,
            other => other.into(),
        };
        let length = reader.u8()?;
        let header = Bytes::copy_from_slice(reader.take(length.into()));
        let length = reader.u16()?;
        let content = Bytes::copy_from_slice(reader.take(length.into()));
        Some(Frame { kind, content_type: ContentType::BYTES, flags, seq, id, header, content })
    }

    /// A frame of this kind as a peer might send it in this state.
    fn good_frame(&mut self, kind: Kind, argument: u8) -> Frame {
        let (session, seq) = (self.session, if kind.is_sequenced() { self.next } else { 0 });
        let (capabilities, agent) = (Encoding::ALL.map(|encoding| encoding.capability().into()).to_vec(), "fuzz".to_owned());
        let fault = Fault { code: Code(argument.into()), message: "fuzz".into(), retry_after_ms: None };
        let received = self.sent.min(argument.into());
        let header = match kind {
            Kind::HELLO => encode(&header::Hello { capabilities, agent }),
            Kind::RESUME => encode(&header::Resume { capabilities, agent, session, token: [1; 32], received }),
            Kind::WELCOME => encode(&header::Welcome {
                capabilities,
                session: if argument & 128 == 0 { session } else { LinkSessionId([argument; 16]) },
                token: [1; 32],
                resumed: argument & 64 != 0,
                received: received & 63,
                grace_ms: 1000,
                challenge: [1; 32],
            }),
            Kind::ACTION => encode(&header::Action { name: "act".into() }),
            Kind::REQUEST => {
                let origin = (argument & 1 != 0).then_some(Origin { session, number: argument.into() });
                encode(&header::Request { name: "ask".into(), deadline_ms: argument.into(), origin })
            }
            Kind::PROGRESS => encode(&header::Progress { done: argument.into(), total: None }),
            Kind::STREAM_CREDIT => {
                let credit = u64::MAX.rotate_right(argument.into()) >> (argument & 63);
                encode(&header::Credit { credit, stop: (argument & 128 != 0).then_some(fault) })
            }
            Kind::ERROR | Kind::CLOSE => encode(&fault),
            Kind::STREAM_END if argument & 128 != 0 => encode(&fault),
            _ => Vec::new(),
        };
        let id = match kind {
            Kind::ACK => received,
            Kind::STREAM_DATA | Kind::STREAM_CREDIT | Kind::STREAM_END => u64::from(argument & 7),
            _ => u64::from(argument),
        };
        let frame = Frame { seq, id, header: header.into(), ..Frame::new(kind) };
        self.with_content(frame, argument)
    }

    /// Content for the kinds that have it, compressed if the argument says so.
    fn with_content(&self, mut frame: Frame, argument: u8) -> Frame {
        if frame.kind.may_be_compressed() {
            let content = vec![argument; usize::from(argument) * 64];
            let encoding = Encoding::from_number(argument >> 4 & 7);
            if let Some((encoding, content)) = encoding.and_then(|encoding| Some((encoding, compress(&content, encoding)?))) {
                frame.flags = encoding.number().into();
                frame.content = content.into();
            } else {
                frame.content = content.into();
            }
        }
        frame
    }

    fn command(&mut self, which: u8, argument: u8) -> Command {
        let content = Bytes::from(vec![argument; usize::from(argument) * 64]);
        let content_type = ContentType::BYTES;
        let stream = u64::from(argument & 7);
        let fault = || Fault { code: Code(argument.into()), message: "fuzz".into(), retry_after_ms: None };
        let id = self.asked.get(usize::from(argument & 3)).copied();
        match (which % COMMANDS, id) {
            (1, _) => {
                self.tag += 1;
                let timeout = (argument & 1 != 0).then_some(Duration::from_millis(argument.into()));
                let origin = (argument & 2 != 0).then_some(Origin { session: self.session, number: argument.into() });
                Command::Request { tag: self.tag, name: "ask".into(), content_type, content, timeout, origin, bound: false }
            }
            (2, Some(id)) => {
                self.asked.retain(|asked| *asked != id);
                let result = if argument & 128 == 0 { Ok(Answer { content_type, content }) } else { Err(fault()) };
                Command::Answer { id, result }
            }
            (3, Some(id)) => Command::Progress { id, done: argument.into(), total: Some(1) },
            (4, _) => Command::Cancel { tag: self.tag.saturating_sub((argument & 3).into()) },
            (5, _) => Command::Sink { stream, credit: u64::from(argument) << (argument & 31) },
            (6, _) => Command::Grant { stream, credit: u64::MAX >> (argument & 63) },
            (7, _) => Command::Stop { stream, fault: fault() },
            (8, _) => Command::Source { stream, credit: u64::from(argument) << (argument & 31) },
            (9, _) => {
                let mark = Bytes::from(vec![argument; usize::from(argument & 15) * 17]);
                Command::Data { stream, mark, content }
            }
            (10, _) => Command::Finish { stream, content: content.slice(..content.len() / 3) },
            (11, _) => Command::Abort { stream, fault: fault() },
            (12, _) => Command::Close(fault()),
            _ => Command::Action { name: "act".into(), content_type, content },
        }
    }
}
