//! The driver's side of a port: takes calls into the machine while it has room, and brings answers back to their callers.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    task::Waker,
    time::Instant,
};

use parlour_proto::link::{Answer, Command, Event, Input, LinkError, Refusal, Remains, RequestId, Tag};
use parlour_wire::{LinkSessionId, header::Fault};

use crate::{
    allowance::is_near,
    asked::{Ask, AskCell, Progress},
    flows::Flows,
    port::{Action, Call, Control, Port, Reply, StreamControl, closed, lost, weight},
    pump::Pump,
};

/// Calls taken in one turn, so that calling never starves reading.
const CALLS: usize = 256;
/// Calls taken under one lock.
const BATCH: usize = 32;

/// What taking calls came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// There are more, and there is room.
    pub(crate) more: bool,
    /// Pushes were refused before, and are taken again.
    pub(crate) relieved: bool,
}

/// The requests of ours that are under way, and where the next ones come from.
pub(crate) struct Desk {
    pub(crate) port: Arc<Port>,
    /// Taken from the port and not yet in the machine; empty between turns.
    batch: VecDeque<Call>,
    /// The same of answers. They stay while the machine has no room.
    answers: VecDeque<Reply>,
    waiting: BTreeMap<Tag, Arc<AskCell>>,
    last_tag: Tag,
    flows: Option<Box<Flows>>,
    /// Who is still to be told that its answer is there.
    answered: Option<Waker>,
    /// A handle wants the connection dropped.
    pub(crate) reconnect: bool,
}

impl Desk {
    pub(crate) fn new(port: Arc<Port>) -> Self {
        Self {
            port,
            batch: VecDeque::new(),
            answers: VecDeque::new(),
            waiting: BTreeMap::new(),
            last_tag: 0,
            flows: None,
            answered: None,
            reconnect: false,
        }
    }

    /// Takes calls while the machine has room.
    pub(crate) fn take_calls(&mut self, pump: &mut Pump, now: Instant) -> Taken {
        for _ in 0..CALLS / BATCH {
            let relieved = self.port.take_calls(&mut self.batch, BATCH);
            if self.batch.is_empty() {
                return Taken { more: false, relieved };
            }
            while let Some(call) = self.batch.pop_front() {
                if let Err(call) = self.take(call, pump, now) {
                    self.batch.push_front(call);
                    self.give_back();
                    return Taken::default();
                }
            }
        }
        Taken { more: true, relieved: false }
    }

    fn give_back(&mut self) {
        let asks = self.batch.iter().filter_map(|call| if let Call::Ask(cell) = call { cell.waits_until() } else { None });
        let earliest = asks.min();
        self.port.give_back(&mut self.batch, earliest);
    }

    /// The calls that wait for room are not for the next session: actions are dropped, requests fail.
    pub(crate) fn drop_calls(&mut self) {
        self.port.take_calls(&mut self.batch, usize::MAX);
        for call in self.batch.drain(..) {
            if let Call::Ask(cell) = call {
                cell.complete(Err(lost()));
            }
        }
    }

    /// Gives a call to the machine; gives it back if it has no room.
    fn take(&mut self, call: Call, pump: &mut Pump, now: Instant) -> Result<(), Call> {
        match call {
            Call::Ask(cell) => {
                if !pump.machine.has_room_for(cell.bytes()) {
                    return Err(Call::Ask(cell));
                }
                self.ask(cell, pump, now);
                Ok(())
            }
            Call::Action(Action { header, content_type, content }) => {
                match pump.machine.act_encoded(header.clone(), content_type, content.clone()) {
                    Err(LinkError::Refused(Refusal::Full)) => {
                        return Err(Call::Action(Action { header, content_type, content }));
                    }
                    Ok(()) => {}
                    Err(error) => tracing::debug!(%error, "an action is dropped"),
                }
                Ok(())
            }
        }
    }

    fn ask(&mut self, cell: Arc<AskCell>, pump: &mut Pump, now: Instant) {
        self.give(cell, pump, now, |pump, tag, (ask, bound)| {
            let Ask { name, content_type, content, timeout, origin } = ask;
            let command = Command::Request { tag, name, content_type, content, timeout, origin, bound };
            pump.try_handle(Input::Command(command), now)
        });
    }

    fn ask_first(&mut self, cell: Arc<AskCell>, pump: &mut Pump, now: Instant) {
        self.give(cell, pump, now, |pump, tag, (ask, _)| pump.machine.ask_first(tag, &ask.name, ask.content_type, ask.content));
    }

    fn give(
        &mut self,
        cell: Arc<AskCell>,
        pump: &mut Pump,
        now: Instant,
        give: impl FnOnce(&mut Pump, Tag, (Ask, bool)) -> Result<(), LinkError>,
    ) {
        let tag = self.last_tag + 1;
        let Some(ask) = cell.take(tag, pump.machine.session(), now) else { return };
        self.last_tag = tag;
        // Before, so that it is told whatever becomes of this link.
        self.waiting.insert(tag, Arc::clone(&cell));
        let taken = give(pump, tag, ask);
        if taken.is_err() {
            self.waiting.remove(&tag);
        }
        match taken {
            Ok(()) => {}
            Err(LinkError::Refused(refusal)) => {
                let fault = Fault { code: refusal.code(), message: refusal.to_string(), retry_after_ms: None };
                cell.complete(Err(fault));
            }
            Err(error) => {
                tracing::error!(%error, "a command cannot be a violation");
                cell.complete(Err(closed()));
            }
        }
    }

    /// Whether a handle wants the connection dropped.
    pub(crate) fn take_reconnect(&mut self) -> bool {
        std::mem::take(&mut self.reconnect)
    }

    /// Carries out what a handler has reported, before it is answered for.
    pub(crate) fn take_reports(&mut self, pump: &mut Pump, now: Instant) {
        if self.port.has_reports() {
            self.take_controls(pump, now);
        }
    }

    /// Carries out what does not wait for room.
    pub(crate) fn take_controls(&mut self, pump: &mut Pump, now: Instant) {
        for control in self.port.take_controls() {
            let command = match control {
                Control::Progress { id, done, total } => Command::Progress { id, done, total },
                Control::Cancel(tag) => Command::Cancel { tag },
                Control::Reconnect => {
                    self.reconnect = true;
                    continue;
                }
                Control::First(cell) => {
                    self.ask_first(cell, pump, now);
                    continue;
                }
                Control::Trust(session) => {
                    pump.machine.trust(session, now);
                    continue;
                }
                Control::Stream(control) => {
                    if matches!(control, StreamControl::Grant { .. }) && pump.is_connected() {
                        self.port.set_far(!is_near(pump.round_trip()));
                    }
                    self.flows.get_or_insert_default().control(control, pump, now);
                    continue;
                }
            };
            pump.handle(Input::Command(command), now);
        }
    }

    /// Gives the machine the answers that it has room for.
    pub(crate) fn take_answers(&mut self, pump: &mut Pump, now: Instant) {
        self.port.take_answers(&mut self.answers);
        if self.answers.is_empty() {
            return;
        }
        // What was reported before an answer was given is told before it.
        self.take_reports(pump, now);
        let mut bytes = 0;
        while pump.machine.has_answer_room()
            && let Some((id, result)) = self.answers.pop_front()
        {
            bytes += weight(&result);
            pump.handle(Input::Command(Command::Answer { id, result }), now);
        }
        // Those that nobody waits for any more would wait for room all the same, and a peer may cancel as often as it likes.
        self.answers.retain(|(id, result)| {
            let asked = pump.machine.is_asked(*id);
            bytes += if asked { 0 } else { weight(result) };
            asked
        });
        self.port.answered(bytes);
    }

    /// A session is over: its answers that still wait here go with what it leaves.
    pub(crate) fn leave_answers(&mut self, remains: &mut Remains) {
        self.port.take_answers(&mut self.answers);
        let mut bytes = 0;
        for (id, result) in self.answers.drain(..) {
            bytes += weight(&result);
            add_answer(remains, id, result);
        }
        self.port.answered(bytes);
    }

    /// Delivers what belongs to callers; gives back what belongs to the driver.
    pub(crate) fn deliver(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Answer { tag, result } => {
                if let Some(cell) = self.waiting.remove(&tag) {
                    self.on_answer(&cell, result);
                }
            }
            Event::Progress { tag, done, total } => {
                if let Some(cell) = self.waiting.get(&tag) {
                    cell.report(Progress { done, total });
                }
            }
            Event::Data { stream, mark, content, cost } => self.streams(|flows| flows.on_data(stream, mark, content, cost)),
            Event::StreamEnded { stream, result } => self.streams(|flows| flows.on_ended(stream, result)),
            Event::Credit { stream } => self.streams(|flows| flows.on_credit(stream)),
            Event::StreamStopped { stream, fault } => self.streams(|flows| flows.on_stopped(stream, fault)),
            other => return Some(other),
        }
        None
    }

    /// Who waits for the only request under way may ask again at once. It is told when the driver can be at rest again by then.
    fn on_answer(&mut self, cell: &AskCell, result: Result<Answer, Fault>) {
        let waker = cell.settle(result);
        self.wake_answered();
        if self.is_at_rest() {
            self.answered = waker;
        } else if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Who is still to be told that its answer is there.
    #[must_use]
    pub(crate) fn take_answered(&mut self) -> Option<Waker> {
        self.answered.take()
    }

    /// Tells who is still to be told that its answer is there.
    pub(crate) fn wake_answered(&mut self) {
        if let Some(waker) = self.answered.take() {
            waker.wake();
        }
    }

    fn streams(&mut self, tell: impl FnOnce(&mut Flows)) {
        if let Some(flows) = &mut self.flows {
            tell(flows);
        }
    }

    /// A connection is there, and both ends know each other.
    pub(crate) fn on_up(&mut self, session: LinkSessionId, pump: &mut Pump, now: Instant) {
        // Before anybody is told, who may begin a stream at once. How far it is the first grant says: to shake hands takes long on a busy
        // machine.
        self.port.set_far(pump.round_trip().is_none());
        self.port.set_up(session);
        if let Some(flows) = &mut self.flows {
            flows.on_up(pump, now);
        }
    }

    /// Gives the machine what it has room for of the streams that are sent.
    pub(crate) fn feed_streams(&mut self, pump: &mut Pump, now: Instant) {
        if let Some(flows) = &mut self.flows {
            flows.feed(pump, now);
        }
    }

    /// Whether streams want [`Desk::feed_streams`].
    pub(crate) fn has_streams_ready(&self) -> bool {
        self.flows.as_ref().is_some_and(|flows| flows.is_ready())
    }

    /// Whether no request waits for its answer, and no stream is open.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.waiting.is_empty() && self.flows.is_none()
    }

    /// Nothing is to be done before something happens.
    pub(crate) fn rest(&mut self) {
        if self.flows.as_ref().is_some_and(|flows| flows.is_empty()) {
            self.flows = None;
        }
        if self.batch.capacity() > 0 {
            self.batch = VecDeque::new();
            self.port.shrink();
        }
        if self.answers.is_empty() {
            self.answers = VecDeque::new();
        }
    }

    /// The link is over: everybody who waits is told.
    pub(crate) fn end(&mut self) {
        self.port.end();
        self.wake_answered();
        let taken = std::mem::take(&mut self.batch).into_iter().filter_map(|call| match call {
            Call::Ask(cell) => Some(cell),
            Call::Action(_) => None,
        });
        for cell in std::mem::take(&mut self.waiting).into_values().chain(taken) {
            cell.complete(Err(closed()));
        }
        if let Some(mut flows) = self.flows.take() {
            flows.end();
        }
    }
}

/// A request that was running has its answer, which the peer has not.
pub(crate) fn add_answer(remains: &mut Remains, id: RequestId, result: Result<Answer, Fault>) {
    if let Some(at) = remains.running.iter().position(|running| *running == id) {
        remains.running.swap_remove(at);
        remains.answers.push((id.number(), result));
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use bytes::Bytes;
    use futures_util::FutureExt;
    use parlour_proto::link::{Link as Machine, LinkConfig, Output, ServerSession};
    use parlour_wire::{Code, Frame, Kind, encode, frame::ContentType, header, limits};

    use super::*;
    use crate::{
        link::Link,
        pump::{GOODBYE, now},
    };

    /// Answers that fill the link.
    const ROOM: u64 = 16;

    fn sent(machine: &mut Machine) -> Frame {
        match machine.poll_transmit() {
            Some(Output::Send(frame)) => frame,
            other => panic!("{other:?}"),
        }
    }

    /// A client's end that is up, and has no room for more than [`ROOM`] answers.
    fn up() -> Pump {
        up_with(LinkConfig { unacked_frames: usize::try_from(ROOM).unwrap(), ..LinkConfig::default() })
    }

    fn up_with(config: LinkConfig) -> Pump {
        let config = Arc::new(config);
        let mut pump = Pump::new(Machine::client(Arc::clone(&config)));
        let identity = ServerSession { session: LinkSessionId([1; 16]), token: [1; 32], challenge: [1; 32], grace: GOODBYE };
        let mut server = Machine::server(config, identity, now());
        pump.handle(Input::Connected, now());
        server.handle(Input::Connected, now()).unwrap();
        server.handle(Input::Frame(sent(&mut pump.machine)), now()).unwrap();
        pump.handle(Input::Frame(sent(&mut server)), now());
        assert!(pump.machine.is_up());
        pump
    }

    fn request(number: u64, seq: u64) -> Frame {
        let header = header::Request { name: "nothing".to_owned(), deadline_ms: 0, origin: None };
        Frame { seq, id: number, header: Bytes::from(encode(&header)), ..Frame::new(Kind::REQUEST) }
    }

    /// Answers as a program does that has no handler of that name.
    fn refuse(desk: &mut Desk, pump: &mut Pump) -> usize {
        let mut refused = 0;
        while let Some(event) = pump.machine.poll_event() {
            if let Event::Request { id, .. } = event {
                desk.port.answer((id, Err(Fault::new(Code::UNKNOWN_REQUEST, "none")))).unwrap();
                refused += 1;
            }
        }
        desk.take_answers(pump, now());
        refused
    }

    #[test]
    fn answers_that_nobody_waits_for_any_more_do_not_wait_for_room() {
        let (mut desk, mut pump) = (Desk::new(Arc::default()), up());
        for n in 1..=ROOM {
            pump.handle(Input::Frame(request(n, n)), now());
            assert_eq!(refuse(&mut desk, &mut pump), 1);
        }
        assert!(!pump.machine.has_answer_room());
        let mut refused = 0;
        for (n, seq) in (ROOM + 1..).zip((ROOM + 1..).step_by(2)).take(5000) {
            pump.handle(Input::Frame(request(n, seq)), now());
            pump.handle(Input::Frame(Frame { seq: seq + 1, id: n, ..Frame::new(Kind::CANCEL) }), now());
            refused += refuse(&mut desk, &mut pump);
            assert!(desk.answers.len() <= limits::REQUESTS_IN_FLIGHT, "{}", desk.answers.len());
        }
        assert_eq!(refused, 5000);
    }

    #[test]
    fn a_request_that_finds_no_room_beside_what_is_there_waits_for_it() {
        for (unacked_bytes, beside) in [(limits::FRAME, 400_000), (limits::FRAME, 0), (1, 0), (0, 0)] {
            let (mut desk, mut pump) =
                (Desk::new(Arc::default()), up_with(LinkConfig { unacked_bytes, ..LinkConfig::default() }));
            let act = |size: usize| Command::Action {
                name: "act".to_owned(),
                content_type: ContentType::BYTES,
                content: Bytes::from(vec![0; size]),
            };
            if beside > 0 {
                pump.handle(Input::Command(act(beside)), now());
                sent(&mut pump.machine);
            }
            let link = Link::new(Arc::clone(&desk.port));
            let (name, content_type, content) = ("ask".to_owned(), ContentType::BYTES, Bytes::from(vec![0; 700_000]));
            let mut asked = link.ask(Ask { name, content_type, content, timeout: None, origin: None });
            desk.take_calls(&mut pump, now());
            assert_eq!(pump.machine.in_flight().0, usize::from(beside == 0), "{unacked_bytes}");
            assert!((&mut asked).now_or_never().is_none(), "it is not refused");
            pump.handle(Input::Frame(Frame { id: u64::from(beside > 0), ..Frame::new(Kind::ACK) }), now());
            desk.take_calls(&mut pump, now());
            assert_eq!(pump.machine.in_flight().0, 1);
        }
    }

    #[test]
    fn answers_without_content_take_room_too() {
        let (desk, mut pump) = (Desk::new(Arc::default()), up());
        pump.handle(Input::Frame(request(1, 1)), now());
        let id = std::iter::from_fn(|| pump.machine.poll_event()).find_map(|event| match event {
            Event::Request { id, .. } => Some(id),
            _ => None,
        });
        let cx = Context::from_waker(Waker::noop());
        let mut answers = 0;
        while desk.port.poll_answers(&cx) {
            desk.port.answer((id.unwrap(), Err(Fault::new(Code::UNKNOWN_REQUEST, "none")))).unwrap();
            answers += 1;
            assert!(answers < 20_000);
        }
    }
}
