//! Requests that come again, across the sessions of a program: the table of them, who waits for those that still run, and how the
//! caller of one that came again can cancel the one that runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use parlour_proto::link::{Answer, Remains, RequestId};
use parlour_wire::{
    Code,
    header::{Fault, Origin},
};
use tokio::sync::oneshot;

use super::{
    context::CallState,
    dedupe::{Dedupe, DedupeLimits, Verdict},
};
use crate::{durable::is_queue, identity::PeerKey, pump::now};

/// A request of a peer by where it was sent first.
type Name = (Option<PeerKey>, [u8; 16], u64);

fn name(peer: Option<PeerKey>, origin: Origin) -> Name {
    (peer, origin.session.0, origin.number)
}

/// A request that runs.
struct Open {
    call: Arc<CallState>,
    waiting: Vec<oneshot::Sender<Result<Answer, Fault>>>,
}

#[derive(Default)]
struct State {
    table: Dedupe,
    open: BTreeMap<Name, Open>,
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Ledger {
    state: Mutex<State>,
}

/// What becomes of a request that names its origin.
pub(crate) enum Start {
    /// It is to be carried out; the record takes the result.
    Run(Record),
    /// It is being carried out: by this call, with this result once it is there.
    Wait(Arc<CallState>, oneshot::Receiver<Result<Answer, Fault>>),
    /// It has been carried out.
    Done(Result<Answer, Fault>),
}

impl Ledger {
    pub(crate) fn new(limits: DedupeLimits) -> Self {
        Self { state: Mutex::new(State { table: Dedupe::new(limits), open: BTreeMap::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come that names its origin.
    pub(crate) fn begin(self: &Arc<Self>, peer: Option<PeerKey>, origin: Origin, call: &Arc<CallState>) -> Start {
        let mut state = self.lock();
        match state.table.begin(peer, origin, now()) {
            Verdict::Run => {
                state.open.insert(name(peer, origin), Open { call: Arc::clone(call), waiting: Vec::new() });
                drop(state);
                Start::Run(Record { ledger: Arc::clone(self), peer, origin, finished: false })
            }
            Verdict::Running => match state.open.get_mut(&name(peer, origin)) {
                Some(open) => {
                    let (sender, receiver) = oneshot::channel();
                    open.waiting.retain(|waiting| !waiting.is_closed());
                    open.waiting.push(sender);
                    Start::Wait(Arc::clone(&open.call), receiver)
                }
                None => Start::Done(Err(forgotten())),
            },
            Verdict::Done(result) => Start::Done(result),
            Verdict::Forgotten => Start::Done(Err(forgotten())),
        }
    }

    /// A session was lost. Gives a record for each of the requests that run.
    pub(crate) fn lost(
        self: &Arc<Self>,
        peer: Option<PeerKey>,
        remains: Remains,
        running: &BTreeMap<RequestId, Arc<CallState>>,
    ) -> BTreeMap<RequestId, Record> {
        let Remains { session, received, answers, .. } = remains;
        let numbers: BTreeSet<u64> = running.keys().map(|id| id.number()).collect();
        let mut state = self.lock();
        state.table.lost(peer, (session, received), answers, &numbers, now());
        let record = |(id, call): (&RequestId, &Arc<CallState>)| {
            let origin = Origin { session, number: id.number() };
            state.open.insert(name(peer, origin), Open { call: Arc::clone(call), waiting: Vec::new() });
            (*id, Record { ledger: Arc::clone(self), peer, origin, finished: false })
        };
        running.iter().map(record).collect()
    }

    fn finish(&self, peer: Option<PeerKey>, origin: Origin, result: Option<&Result<Answer, Fault>>) {
        let mut state = self.lock();
        match result {
            Some(result) => state.table.finish(peer, origin, result.clone(), now()),
            None => state.table.give_up(peer, origin),
        }
        let open = state.open.remove(&name(peer, origin));
        drop(state);
        let result = result.cloned().unwrap_or_else(|| Err(given_up(origin)));
        for waiting in open.into_iter().flat_map(|open| open.waiting) {
            // Who has gone wants no answer.
            let _ = waiting.send(result.clone());
        }
    }
}

/// Where the result of a request goes that may come again. Dropped without one, the request counts as done, its result unknown; one of
/// a durable queue counts as new.
pub(crate) struct Record {
    ledger: Arc<Ledger>,
    peer: Option<PeerKey>,
    origin: Origin,
    finished: bool,
}

impl Record {
    pub(crate) fn finish(mut self, result: &Result<Answer, Fault>) {
        self.finished = true;
        self.ledger.finish(self.peer, self.origin, Some(result));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.finished {
            self.ledger.finish(self.peer, self.origin, None);
        }
    }
}

/// What they are told who wait for a request that was given up. A queue sends its message again then.
fn given_up(origin: Origin) -> Fault {
    if is_queue(&origin.session) { Fault::new(Code::LINK_LOST, "the request was given up") } else { forgotten() }
}

fn forgotten() -> Fault {
    Fault::new(Code::ALREADY_EXISTS, "the request was carried out before; its result is no longer known")
}

#[cfg(test)]
mod tests {
    use parlour_wire::LinkSessionId;

    use super::*;
    use crate::durable::again;

    #[test]
    fn a_queue_is_not_told_that_what_was_given_up_is_refused_for_good() {
        let mut queue = [0; 16];
        queue[..4].copy_from_slice(b"PLQ1");
        assert!(again(&given_up(Origin { session: LinkSessionId(queue), number: 7 })));
        let of_link = given_up(Origin { session: LinkSessionId([1; 16]), number: 7 });
        assert_eq!(of_link.code, Code::ALREADY_EXISTS);
    }
}
