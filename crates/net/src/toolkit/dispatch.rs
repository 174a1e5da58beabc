//! Runs the handlers of one peer: in order where order is promised, side by side where it is not.
//!
//! The dispatcher is no task of its own. Its host, the task of a session or of an agent, gives it messages and polls it; so a
//! handler that is ready at once costs no hop, and answers leave together.

use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context as Cx, Poll, Waker},
};

use bytes::Bytes;
use futures_util::{Stream, future::BoxFuture, stream::FuturesUnordered};
use parlour_proto::link::{Answer, Remains, RequestId};
use parlour_wire::{Code, header::Fault};

use super::{
    codec::Raw,
    context::{CallState, Context},
    handlers::{Entry, Registry},
    ledger::{Ledger, Record, Start},
    peer::Peer,
};
use crate::{
    port::weight,
    service::{Incoming, IncomingAction},
};

/// Messages that may wait for an action's handler before the peer is asked to keep the others.
const INBOX: usize = 1024;
/// Bytes of such messages.
const INBOX_BYTES: usize = parlour_wire::limits::FRAME;
/// How much more may wait before nothing is read from the peer at all: above what it has on the way when it is asked to stop, and
/// above what it sends again at the beginning of a session.
const OVERSHOOT: usize = 8;
/// Messages that may wait before the content of more gets a place of its own. Until then it stays in the buffer in which it came, with
/// whatever else came in that.
const CROWD: usize = 16;
/// Handlers of requests under way before nothing more is taken from the peer: as many as may be open, and as many that it has
/// cancelled, which run to their ends.
const REQUESTS: usize = 2 * parlour_wire::limits::REQUESTS_IN_FLIGHT;
/// Bytes of answers that the link has not taken before nothing is done for more of them.
const DUE_BYTES: usize = parlour_wire::limits::FRAME;
/// Handlers that one turn starts or finishes, so that one peer never starves the others.
const BATCH: usize = 256;

/// An answer that is due.
pub(crate) type Due = (RequestId, Result<Answer, Fault>);

/// What all dispatchers of a program share.
pub(crate) struct Shared {
    pub(crate) registry: Registry,
    pub(crate) ledger: Arc<Ledger>,
}

enum Message {
    /// With what was kept for it if its session was lost before it started.
    Request(Incoming, Option<(Arc<CallState>, Record)>),
    Action(IncomingAction),
}

impl Message {
    fn content(&mut self) -> &mut Bytes {
        match self {
            Self::Request(Incoming { content, .. }, _) | Self::Action(IncomingAction { content, .. }) => content,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Request(Incoming { content, .. }, _) | Self::Action(IncomingAction { content, .. }) => content.len(),
        }
    }

    /// Gives its content a place of its own.
    fn settle(&mut self) {
        let content = self.content();
        *content = Bytes::copy_from_slice(content);
    }
}

/// A handler under way.
struct Running {
    /// For the log.
    name: Arc<str>,
    /// The request that is answered when it is done.
    id: Option<RequestId>,
    call: Option<Arc<CallState>>,
    record: Option<Record>,
    future: BoxFuture<'static, Result<Answer, Fault>>,
}

impl Future for Running {
    type Output = Option<Due>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<Due>> {
        let this = &mut *self;
        let polled = catch_unwind(AssertUnwindSafe(|| this.future.as_mut().poll(cx)));
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(panic) => {
                tracing::error!(handler = %this.name, reason = text_of(&*panic), "a handler panicked");
                Err(Fault::new(Code::INTERNAL, "the handler failed"))
            }
        };
        if let Some(record) = this.record.take() {
            record.finish(&result);
        }
        Poll::Ready(this.id.map(|id| (id, result)))
    }
}

/// What a panic has said.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("of an unknown kind")
}

/// See the module's documentation.
pub(crate) struct Dispatcher {
    shared: Arc<Shared>,
    peer: Peer,
    /// What must be over before anything starts, in order.
    gates: VecDeque<BoxFuture<'static, ()>>,
    inbox: VecDeque<Message>,
    inbox_bytes: usize,
    behind: bool,
    /// The action's handler that is under way: what came after it waits.
    action: Option<Running>,
    requests: FuturesUnordered<Running>,
    /// Those of the requests under way.
    calls: BTreeMap<RequestId, Arc<CallState>>,
    due: VecDeque<Due>,
    due_bytes: usize,
    /// Something is left that only waits until answers are taken.
    held: bool,
    waker: Option<Waker>,
}

impl Dispatcher {
    pub(crate) fn new(shared: Arc<Shared>, peer: Peer) -> Self {
        Self {
            shared,
            peer,
            gates: VecDeque::new(),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            behind: false,
            action: None,
            requests: FuturesUnordered::new(),
            calls: BTreeMap::new(),
            due: VecDeque::new(),
            due_bytes: 0,
            held: false,
            waker: None,
        }
    }

    /// Lets nothing start before `gate` is over.
    pub(crate) fn gate(&mut self, gate: BoxFuture<'static, ()>) {
        self.gates.push_back(gate);
        self.wake();
    }

    pub(crate) fn request(&mut self, request: Incoming) {
        self.accept(Message::Request(request, None));
    }

    pub(crate) fn action(&mut self, action: IncomingAction) {
        self.accept(Message::Action(action));
    }

    fn accept(&mut self, mut message: Message) {
        if self.is_clear() && self.inbox.is_empty() && !self.waits(&message) {
            self.start(message);
        } else {
            if self.inbox.len() >= CROWD {
                message.settle();
            }
            self.inbox_bytes += message.weight();
            self.inbox.push_back(message);
        }
    }

    /// Whether the next message may start.
    fn is_clear(&self) -> bool {
        self.gates.is_empty() && self.action.is_none()
    }

    /// Whether a message is one that waits until answers are taken.
    fn waits(&mut self, message: &Message) -> bool {
        let waits = matches!(message, Message::Request(..)) && self.due_bytes >= DUE_BYTES;
        self.held |= waits;
        waits
    }

    /// The peer no longer waits for an answer.
    pub(crate) fn cancel(&mut self, id: RequestId) {
        if let Some(call) = self.calls.get(&id) {
            call.interest.cancel();
        }
        let waits = self.inbox.iter().position(|message| matches!(message, Message::Request(request, _) if request.id == id));
        if let Some(message) = waits.and_then(|at| self.inbox.remove(at)) {
            self.inbox_bytes -= message.weight();
            self.push_due((id, Err(Fault::new(Code::CANCELLED, "the request was cancelled"))));
        }
    }

    /// The session is over for so long that nobody is expected to ask again: requests that no later session waits for are told so.
    pub(crate) fn give_up(&mut self) {
        self.calls.values().for_each(|call| call.interest.give_up());
        for message in &self.inbox {
            if let Message::Request(_, Some((call, _))) = message {
                call.interest.give_up();
            }
        }
    }

    /// The next answer that is due.
    pub(crate) fn next_due(&mut self) -> Option<Due> {
        let due = self.due.pop_front()?;
        self.due_bytes -= weight(&due.1);
        if self.held && self.due_bytes < DUE_BYTES {
            self.held = false;
            self.wake();
        }
        Some(due)
    }

    /// Whether there is one.
    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    fn push_due(&mut self, due: Due) {
        self.due_bytes += weight(&due.1);
        self.due.push_back(due);
    }

    /// The answer of the request that came last, if it was ready at once.
    pub(crate) fn take_due(&mut self, id: RequestId) -> Option<Result<Answer, Fault>> {
        if self.due.back().is_none_or(|(last, _)| *last != id) {
            return None;
        }
        let (_, result) = self.due.pop_back()?;
        self.due_bytes -= weight(&result);
        Some(result)
    }

    /// Whether more messages may come.
    pub(crate) fn has_room(&self) -> bool {
        self.inbox.len() < INBOX * OVERSHOOT
            && self.inbox_bytes < INBOX_BYTES * OVERSHOOT
            && self.requests.len() < REQUESTS * OVERSHOOT
    }

    /// Whether the peer should keep its messages for now.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind || self.requests.len() >= REQUESTS
    }

    fn look_behind(&mut self) {
        let part = if self.behind { 4 } else { 1 };
        self.behind = self.inbox.len() >= INBOX / part || self.inbox_bytes >= INBOX_BYTES / part;
    }

    /// Whether nothing waits and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.action.is_none() && self.requests.is_empty()
    }

    /// Moves on everything that can move.
    pub(crate) fn poll(&mut self, cx: &mut Cx<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        while let Some(gate) = self.gates.front_mut() {
            match gate.as_mut().poll(cx) {
                Poll::Ready(()) => drop(self.gates.pop_front()),
                Poll::Pending => break,
            }
        }
        let more = self.poll_action(cx) | self.poll_requests(cx);
        self.look_behind();
        if more {
            cx.waker().wake_by_ref();
        }
    }

    /// Goes on with the action under way and what waits behind it. `true` if there may be more to do.
    fn poll_action(&mut self, cx: &mut Cx<'_>) -> bool {
        for _ in 0..BATCH {
            if let Some(action) = &mut self.action {
                let Poll::Ready(due) = Pin::new(action).poll(cx) else { return false };
                self.action = None;
                self.settle(due);
            }
            if !self.is_clear() {
                return false;
            }
            let Some(message) = self.inbox.pop_front() else { return false };
            if self.waits(&message) {
                self.inbox.push_front(message);
                return false;
            }
            self.inbox_bytes -= message.weight();
            self.start(message);
        }
        true
    }

    /// Collects what is done. `true` if there may be more to do.
    fn poll_requests(&mut self, cx: &mut Cx<'_>) -> bool {
        for _ in 0..BATCH {
            if self.due_bytes >= DUE_BYTES {
                self.held = true;
                return false;
            }
            match Pin::new(&mut self.requests).poll_next(cx) {
                Poll::Ready(Some(due)) => self.settle(due),
                Poll::Ready(None) | Poll::Pending => return false,
            }
        }
        true
    }

    fn settle(&mut self, due: Option<Due>) {
        if let Some((id, result)) = due {
            self.calls.remove(&id);
            self.push_due((id, result));
        }
    }

    fn start(&mut self, message: Message) {
        match message {
            Message::Request(request, kept) => {
                let id = request.id;
                if let Err(fault) = self.start_request(request, kept) {
                    self.push_due((id, Err(fault)));
                }
            }
            Message::Action(IncomingAction { name, content_type, content }) => {
                if let Err(fault) = self.start_action(&name, Raw { content_type, content }) {
                    tracing::debug!(handler = %name, peer = ?self.peer, reason = %fault, "an action is dropped");
                }
            }
        }
    }

    fn start_action(&mut self, name: &str, raw: Raw) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        let entry = self.admit(&shared, name)?;
        if !entry.action {
            return Err(Fault::new(Code::BAD_REQUEST, "this is a request, and was sent as an action"));
        }
        let future = (entry.run)(Context::new(self.peer.clone(), None), &shared.registry.codecs, raw);
        self.launch(Running { name: Arc::clone(&entry.name), id: None, call: None, record: None, future }, true);
        Ok(())
    }

    fn start_request(&mut self, request: Incoming, kept: Option<(Arc<CallState>, Record)>) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        let entry = match self.admit(&shared, &request.name) {
            Ok(entry) => entry,
            Err(fault) => {
                if let Some((_, record)) = kept {
                    record.finish(&Err(fault.clone()));
                }
                return Err(fault);
            }
        };
        let Incoming { id, content_type, content, deadline, origin, .. } = request;
        let name = Arc::clone(&entry.name);
        let (call, kept) = match kept {
            Some((call, record)) => (call, Some(record)),
            None => (Arc::new(CallState::new(id, deadline, origin)), None),
        };
        let record = match origin.map(|origin| shared.ledger.begin(self.peer.key(), origin, &call)) {
            None => kept,
            Some(Start::Run(record)) => Some(record),
            Some(Start::Done(result)) => {
                self.push_due((id, result));
                return Ok(());
            }
            Some(Start::Wait(first, result)) => {
                first.interest.ask_again();
                let future = Box::pin(async { result.await.unwrap_or_else(|_| Err(lost())) });
                self.launch(Running { name, id: Some(id), call: Some(first), record: None, future }, false);
                return Ok(());
            }
        };
        let cx = Context::new(self.peer.clone(), Some(Arc::clone(&call)));
        let future = (entry.run)(cx, &shared.registry.codecs, Raw { content_type, content });
        self.launch(Running { name, id: Some(id), call: Some(call), record, future }, entry.action);
        Ok(())
    }

    /// The handler of that name, if the peer may call it.
    fn admit<'s>(&self, shared: &'s Shared, name: &str) -> Result<&'s Entry, Fault> {
        let entry = shared.registry.find(name).ok_or_else(|| Fault::new(Code::UNKNOWN_REQUEST, "no handler of that name"))?;
        shared.registry.access(entry).check(self.peer.key().as_ref(), self.peer.is_authenticated())?;
        Ok(entry)
    }

    /// Polls a handler for the first time; most are ready then.
    fn launch(&mut self, mut running: Running, action: bool) {
        // What is not ready is polled again by `poll`, with a waker that counts.
        match Pin::new(&mut running).poll(&mut Cx::from_waker(Waker::noop())) {
            Poll::Ready(Some(due)) => self.push_due(due),
            Poll::Ready(None) => {}
            Poll::Pending => {
                if let (Some(id), Some(call)) = (running.id, &running.call) {
                    self.calls.insert(id, Arc::clone(call));
                }
                if action {
                    self.action = Some(running);
                } else {
                    self.requests.push(running);
                }
                self.wake();
            }
        }
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// The session was lost: what its requests come to is kept for when they come again. `answered` are those that were answered
    /// last, which the link may not have taken any more.
    pub(crate) fn lost(&mut self, remains: Remains, answered: impl IntoIterator<Item = Due>) {
        let fresh = |id: &RequestId| Arc::new(CallState::new(*id, None, None));
        let running = remains.running.iter().map(|id| (*id, self.calls.get(id).cloned().unwrap_or_else(|| fresh(id))));
        let calls: BTreeMap<RequestId, Arc<CallState>> = running.collect();
        let mut records = self.shared.ledger.lost(self.peer.key(), remains, &calls);
        for running in self.requests.iter_mut().chain(&mut self.action) {
            let record = running.id.and_then(|id| records.remove(&id));
            if running.record.is_none() {
                running.record = record;
            }
        }
        for message in &mut self.inbox {
            if let Message::Request(request, kept) = message
                && let Some(record) = records.remove(&request.id)
            {
                *kept = Some((Arc::clone(&calls[&request.id]), record));
            }
        }
        for (id, result) in answered.into_iter().chain(self.due.iter().cloned()) {
            if let Some(record) = records.remove(&id) {
                record.finish(&result);
            }
        }
        // What nobody knows any more counts as done.
        drop(records);
    }
}

fn lost() -> Fault {
    Fault::new(Code::LINK_LOST, "the request was given up")
}
