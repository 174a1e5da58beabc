//! What is between a device and the server: two queues in order, each thing with the time at which it arrives. A link can stand
//! still for a while (and its session goes on after it, if the server still has it) or be lost with all that is in it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parlour_client::core::{Input, Output, RequestId};
use parlour_server::{Session, Sink, SinkFull};
use parlour_wire::Code;

/// Pushes that may be under way to one device before the server gives it up as lagging.
const PUSHES: usize = 48;
/// How long a request may take; as in the driver of the client.
pub(crate) const REQUEST: Duration = Duration::from_secs(30);
/// How long the server keeps a session without a connection; as the server program does.
pub(crate) const GRACE: Duration = Duration::from_secs(5 * 60);

/// Where the server puts what it says to one session.
#[derive(Default)]
pub(crate) struct Inbox {
    said: Mutex<VecDeque<Input>>,
    closed: Mutex<Option<Code>>,
    pushes: AtomicUsize,
}

impl Sink for Inbox {
    fn push(&self, name: &'static str, content: Bytes) -> Result<(), SinkFull> {
        if self.pushes.load(Ordering::Relaxed) >= PUSHES {
            return Err(SinkFull);
        }
        self.pushes.fetch_add(1, Ordering::Relaxed);
        self.say(Input::Push { name: name.to_owned(), content: content.to_vec() });
        Ok(())
    }

    fn close(&self, code: Code, _: &str) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = Some(code);
    }
}

impl Inbox {
    pub(crate) fn say(&self, input: Input) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).push_back(input);
    }

    pub(crate) fn take(&self) -> VecDeque<Input> {
        std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn closed(&self) -> Option<Code> {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A push has arrived; whether there is room again after none was left.
    pub(crate) fn arrived(&self) -> bool {
        self.pushes.fetch_sub(1, Ordering::Relaxed) >= PUSHES
    }
}

/// Nothing gets through for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standstill {
    pub(crate) since: Duration,
    pub(crate) until: Duration,
    /// When the ends find out.
    pub(crate) noticed_at: Duration,
    pub(crate) noticed: bool,
}

/// A session between a device and the server.
pub(crate) struct Link {
    pub(crate) session: Session,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) to_server: VecDeque<(Duration, Output)>,
    pub(crate) to_client: VecDeque<(Duration, Input)>,
    /// Requests without an answer, and when they are given up.
    pub(crate) asked: BTreeMap<RequestId, Duration>,
    pub(crate) standstill: Option<Standstill>,
}

impl Link {
    pub(crate) fn new(session: Session, inbox: Arc<Inbox>) -> Self {
        let (to_server, to_client) = (VecDeque::new(), VecDeque::new());
        Self { session, inbox, to_server, to_client, asked: BTreeMap::new(), standstill: None }
    }

    /// Puts something on its way to the server; it does not overtake what went before.
    pub(crate) fn send(&mut self, at: Duration, output: Output) {
        let at = self.to_server.back().map_or(at, |(last, _)| at.max(*last));
        self.to_server.push_back((at, output));
    }

    /// The same to the device.
    pub(crate) fn deliver(&mut self, at: Duration, input: Input) {
        let at = self.to_client.back().map_or(at, |(last, _)| at.max(*last));
        self.to_client.push_back((at, input));
    }

    /// Forgets a request whose answer will not be waited for.
    pub(crate) fn withdraw(&mut self, request: RequestId) {
        self.to_server.retain(|(_, output)| !matches!(output, Output::Request { id, .. } if *id == request));
    }
}
