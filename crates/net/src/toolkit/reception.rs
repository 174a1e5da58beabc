//! What a station does with the sessions of its listener.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, OnceLock, atomic::AtomicBool},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, ready};
use parlour_proto::link::{Remains, RequestId};
use parlour_wire::{Code, frame::ContentType, header::Fault};
use tokio::sync::oneshot;

use super::{
    aftercare::Aftercare,
    dispatch::{Dispatcher, Due, Shared},
    fleet::{self, FLEET, FleetSecret, Scene},
    handlers::HERE,
    hooks::{Event, Line},
    peer::{Facts, Peer},
    station::WeakStation,
    table::Table,
};
use crate::{
    identity::PeerKey,
    listener::SessionInfo,
    pusher::Pusher,
    service::{Incoming, IncomingAction, SessionService},
};

/// How long the messages of a peer wait that has announced a proof of the fleet's secret.
const PROOF_TIMEOUT: Duration = Duration::from_secs(10);
/// Handlers of a session that is over are told that nobody waits after this at the earliest, however short the grace: who was cut off is
/// back by then as a rule, and asks again.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers that are kept until the link has certainly taken them.
const RECENT: usize = 256;
/// Bytes of such answers.
const RECENT_BYTES: usize = 256 * 1024;

type Reply = Result<(ContentType, Bytes), Fault>;

/// See the module's documentation.
pub(crate) struct Reception {
    pub(crate) shared: Arc<Shared>,
    pub(crate) table: Table,
    pub(crate) aftercare: Aftercare,
    /// See [`crate::ListenConfig::grace`].
    pub(crate) grace: Duration,
    pub(crate) key: PeerKey,
    pub(crate) fleet: Option<FleetSecret>,
    pub(crate) home: OnceLock<WeakStation>,
}

/// A session of a station.
pub(crate) struct Visit {
    peer: Peer,
    challenge: [u8; 32],
    work: Work,
    /// Where its events go, once it is let in.
    line: Option<Line>,
    /// Opened by the proof that the peer has announced.
    proof: Option<oneshot::Sender<()>>,
}

/// The handlers of a session, and the requests that wait for them.
struct Work {
    dispatcher: Dispatcher,
    replies: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    recent: Recent,
    /// The link has not taken the answers that it was given.
    held: bool,
}

impl Work {
    fn poll(&mut self, cx: &mut Context<'_>) {
        self.dispatcher.poll(cx);
        self.deliver();
    }

    fn deliver(&mut self) {
        while !self.held
            && let Some((id, result)) = self.dispatcher.next_due()
        {
            if let Some(reply) = self.replies.remove(&id) {
                self.recent.keep((id, result.clone()));
                // A session that is over takes no answer.
                let _ = reply.send(result.map(|answer| (answer.content_type, answer.content)));
            }
        }
    }

    /// Goes on without its session until nothing is left to do. Whoever waits for its caller longer than `patience` is told that there
    /// is none.
    async fn finish(mut self, patience: Duration) {
        self.held = false;
        let mut patience = std::pin::pin!(tokio::time::sleep(patience).fuse());
        std::future::poll_fn(|cx| {
            if patience.as_mut().poll(cx).is_ready() {
                self.dispatcher.give_up();
            }
            self.poll(cx);
            if self.dispatcher.is_idle() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// The last answers of a session.
#[derive(Default)]
pub(crate) struct Recent {
    answers: VecDeque<Due>,
    bytes: usize,
}

impl Recent {
    pub(crate) fn keep(&mut self, due: Due) {
        self.bytes += size(&due);
        self.answers.push_back(due);
        while self.answers.len() > RECENT || self.bytes > RECENT_BYTES {
            self.bytes -= self.answers.pop_front().as_ref().map_or(0, size);
        }
    }

    pub(crate) fn take(&mut self) -> VecDeque<Due> {
        self.bytes = 0;
        std::mem::take(&mut self.answers)
    }
}

fn size((_, result): &Due) -> usize {
    result.as_ref().map_or(0, |answer| answer.content.len())
}

impl Reception {
    /// Lets a peer in: it has a row from here on, and hooks are told.
    fn admit(&self, visit: &mut Visit) {
        let entrance = self.table.enter(&visit.peer);
        for gate in entrance.gates {
            visit.work.dispatcher.gate(gate);
        }
        visit.line = Some(entrance.line);
    }

    fn on_proof(&self, visit: &mut Visit, content: &[u8]) -> Reply {
        let Some(secret) = &self.fleet else {
            return Err(Fault::new(Code::UNKNOWN_REQUEST, "this station has no fleet's secret"));
        };
        let scene = Scene { agent: visit.peer.key(), station: self.key, challenge: visit.challenge };
        let judged = fleet::judge(secret, &scene, content);
        match &judged {
            Ok(_) if visit.line.is_none() => {
                visit.peer.set_authenticated();
                self.admit(visit);
            }
            Ok(_) => {}
            Err(fault) => tracing::info!(peer = ?visit.peer, reason = %fault, "no proof of the fleet's secret"),
        }
        if let Some(proof) = visit.proof.take() {
            // The gate that waits for it may have been given up.
            let _ = proof.send(());
        }
        judged
    }

    fn leave(&self, visit: &mut Visit, reason: Fault) {
        if let Some(line) = visit.line.take() {
            self.table.leave(&visit.peer, &line, reason);
        }
    }
}

impl SessionService for Reception {
    type Session = Visit;

    fn open(&self, info: SessionInfo, pusher: Pusher) -> Visit {
        let peer = Peer::new(Facts {
            link: pusher.link().with_codecs(self.shared.registry.codecs.clone()),
            key: info.peer_key,
            session: info.session,
            agent: info.agent,
            address: Some(info.peer),
            authenticated: AtomicBool::new(self.fleet.is_none() && info.peer_key.is_some()),
            ended: AtomicBool::new(false),
            station: self.home.get().cloned(),
        });
        let dispatcher = Dispatcher::new(Arc::clone(&self.shared), peer.clone());
        let work = Work { dispatcher, replies: BTreeMap::new(), recent: Recent::default(), held: false };
        let mut visit = Visit { peer, challenge: info.challenge, work, line: None, proof: None };
        if self.fleet.is_none() {
            self.admit(&mut visit);
        } else if info.capabilities.iter().any(|capability| capability == FLEET) {
            let (sender, receiver) = oneshot::channel();
            visit.proof = Some(sender);
            visit.work.dispatcher.gate(tokio::time::timeout(PROOF_TIMEOUT, receiver).map(drop).boxed());
        }
        visit
    }

    fn request(&self, visit: &mut Visit, request: Incoming) -> BoxFuture<'static, Reply> {
        if request.name == FLEET {
            return Box::pin(ready(self.on_proof(visit, &request.content)));
        }
        let id = request.id;
        visit.work.dispatcher.request(request);
        if let Some(result) = visit.work.dispatcher.take_due(id) {
            return Box::pin(ready(result.map(|answer| (answer.content_type, answer.content))));
        }
        let (sender, receiver) = oneshot::channel();
        visit.work.replies.insert(id, sender);
        Box::pin(async { receiver.await.unwrap_or_else(|_| Err(Fault::new(Code::LINK_LOST, "the request was given up"))) })
    }

    fn action(&self, visit: &mut Visit, action: IncomingAction) {
        if action.name == HERE {
            return;
        }
        visit.work.dispatcher.action(action);
    }

    fn cancelled(&self, visit: &mut Visit, id: RequestId) {
        visit.work.dispatcher.cancel(id);
        visit.work.deliver();
    }

    fn hold_answers(&self, visit: &mut Visit, hold: bool) {
        visit.work.held = hold;
    }

    fn poll_room(&self, visit: &mut Visit, cx: &mut Context<'_>) -> bool {
        visit.work.poll(cx);
        visit.work.dispatcher.has_room()
    }

    fn is_behind(&self, visit: &Visit) -> bool {
        visit.work.dispatcher.is_behind()
    }

    fn connection(&self, visit: &mut Visit, up: bool) {
        if up && let Some(line) = visit.line.as_ref().filter(|_| !visit.peer.is_over()) {
            line.tell(Event::Resume, &visit.peer);
        }
    }

    fn disconnected(&self, visit: &mut Visit, reason: &Fault) {
        if let Some(line) = visit.line.as_ref().filter(|_| !visit.peer.is_over()) {
            line.tell(Event::Disconnect(reason.clone()), &visit.peer);
        }
    }

    fn has_one_session_per_key(&self) -> bool {
        self.table.has_one_link_per_key()
    }

    fn is_kept(&self, visit: &Visit) -> bool {
        visit.line.is_some()
    }

    fn remains(&self, visit: &mut Visit, remains: Remains) {
        let recent = visit.work.recent.take();
        visit.work.dispatcher.lost(remains, recent);
    }

    fn ended(&self, visit: &mut Visit, reason: &Fault) {
        self.leave(visit, reason.clone());
    }

    fn close(&self, mut visit: Visit) {
        self.leave(&mut visit, Fault::new(Code::STOPPING, "the station has stopped"));
        if !visit.work.dispatcher.is_idle() {
            self.aftercare.take(visit.peer.key(), visit.work.finish(self.grace.max(PATIENCE)));
        }
    }
}
