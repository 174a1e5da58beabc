//! The task of an agent: between its link and its handlers, from session to session.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use parlour_wire::{Code, LinkSessionId, frame::ContentType, header::Fault};
use tokio::sync::{oneshot, watch};

use super::{AgentError, Credentials};
use crate::{
    asked::{Ask, Asked},
    event::{Events, LinkEvent},
    identity::PeerKey,
    link::Link,
    port::{Action, Control},
    queue::Urgency,
    service::{Incoming, IncomingAction},
    toolkit::{
        aftercare::Aftercare,
        dispatch::{Dispatcher, Shared},
        fleet::{FLEET, FleetSecret, Proof, Scene},
        handlers::HERE,
        hooks::{Event, Line},
        peer::{Facts, Peer},
        reception::Recent,
    },
};

/// How long a station may take to answer the proof of the fleet's secret before another connection is tried.
const PROOF_TIMEOUT: Duration = Duration::from_secs(10);
/// The shortest wait after a station that is to be asked again later. It may ask for a longer one, up to [`PROOF_TIMEOUT`].
const PROOF_PAUSE: Duration = Duration::from_secs(1);
/// Events taken in one turn, so that handlers have theirs.
const BATCH: usize = 256;
/// Turns before the task lets others run.
const TURNS: usize = 8;
/// How long what a session was asked may run when it is over, before it is told that nobody waits: as at a station by default.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long handlers may go on when the link has ended.
const REST: Duration = Duration::from_secs(5);

/// How an agent stands.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// It has no session yet.
    Coming,
    /// It has had a session; this is the last.
    Here(Peer),
    Gone(AgentError),
}

/// A session of an agent.
struct Visit {
    peer: Peer,
    session: LinkSessionId,
    dispatcher: Dispatcher,
    recent: Recent,
    /// The station is known to be the right one, and hooks have been told.
    admitted: bool,
    challenge: [u8; 32],
    /// The proofs of the fleet's secret, on their way.
    exchange: Option<BoxFuture<'static, Result<(), AgentError>>>,
    /// Lets handlers start once the station has proven that it knows the secret.
    proven: Option<oneshot::Sender<()>>,
}

/// The task of an agent, between its link and its handlers.
pub(super) struct Task {
    link: Link,
    events: Events,
    shared: Arc<Shared>,
    line: Line,
    aftercare: Arc<Aftercare>,
    standing: watch::Sender<Standing>,
    credentials: Credentials,
    visit: Option<Visit>,
    /// Why the connection of the session is gone.
    down: Option<Fault>,
    first: bool,
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        for _ in 0..TURNS {
            this.poll_proof(cx);
            // After the events of the turn before, so that nothing of them is left unpolled.
            this.work(cx);
            match this.take_events(cx) {
                Turn::Idle => return Poll::Pending,
                Turn::Busy => {}
                Turn::Over => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What a turn of an agent comes to.
enum Turn {
    /// Nothing more to do before something happens.
    Idle,
    /// There is more to do.
    Busy,
    /// The link has ended.
    Over,
}

impl Task {
    pub(super) fn new(
        (link, events): (Link, Events),
        shared: Arc<Shared>,
        line: Line,
        standing: watch::Sender<Standing>,
        credentials: Credentials,
    ) -> Self {
        let aftercare = Arc::default();
        Self { link, events, shared, line, aftercare, standing, credentials, visit: None, down: None, first: true }
    }

    fn take_events(&mut self, cx: &mut Context<'_>) -> Turn {
        for taken in 0..BATCH {
            if self.may_wait(cx) {
                return if taken > 0 { Turn::Busy } else { Turn::Idle };
            }
            match self.events.queue.poll_next(cx) {
                Poll::Ready(Some(event)) => self.on_event(event),
                Poll::Ready(None) => {
                    self.finish(AgentError::Closed);
                    return Turn::Over;
                }
                Poll::Pending => return if taken > 0 { Turn::Busy } else { Turn::Idle },
            }
        }
        Turn::Busy
    }

    /// Whether events stay in the queue of the link, which knows when it is too much, because the handlers are behind. Handlers that
    /// do not come to an end keep neither the end of the link nor another session from being noticed: then they are given what is
    /// before that, the more so as nothing is added to it.
    fn may_wait(&self, cx: &mut Context<'_>) -> bool {
        let Some(dispatcher) = self.visit.as_ref().map(|visit| &visit.dispatcher) else { return false };
        dispatcher.is_behind()
            && match self.events.queue.poll_urgency(cx) {
                Urgency::None => true,
                Urgency::News => !dispatcher.has_room(),
                Urgency::Closed => false,
            }
    }

    /// Moves the handlers on, and hands their answers to the link.
    fn work(&mut self, cx: &mut Context<'_>) {
        if let Some(visit) = &mut self.visit {
            visit.dispatcher.poll(cx);
            visit.deliver(&self.link, cx);
        }
    }

    fn on_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { session, resumed, challenge, peer_key, .. } => self.on_up(session, resumed, challenge, peer_key),
            LinkEvent::Down { fault, .. } => self.on_down(fault),
            LinkEvent::Failed(error) => self.finish(error.into()),
            other => {
                let Some(visit) = &mut self.visit else { return };
                match other {
                    LinkEvent::Action { name, content_type, content } => {
                        visit.dispatcher.action(IncomingAction { name, content_type, content });
                    }
                    LinkEvent::Request { id, name, content_type, content, deadline, origin } => {
                        visit.dispatcher.request(Incoming { id, name, content_type, content, deadline, origin });
                    }
                    LinkEvent::Cancelled { id } => visit.dispatcher.cancel(id),
                    LinkEvent::Remains(remains) => {
                        let recent = visit.recent.take();
                        visit.dispatcher.lost(*remains, recent);
                    }
                    LinkEvent::Up { .. } | LinkEvent::Down { .. } | LinkEvent::Failed(_) => {}
                }
            }
        }
    }

    fn on_up(&mut self, session: LinkSessionId, resumed: bool, challenge: [u8; 32], key: Option<PeerKey>) {
        if let Some(visit) = self.visit.as_ref().filter(|visit| resumed && visit.session == session) {
            match self.down.take() {
                Some(_) if visit.admitted => self.line.tell(Event::Resume, &visit.peer),
                _ => self.prove(),
            }
            return;
        }
        self.leave(Fault::new(Code::LINK_LOST, "the session was lost"));
        self.down = None;
        let peer = Peer::new(Facts {
            link: self.link.clone(),
            key,
            session,
            agent: String::new(),
            address: None,
            authenticated: AtomicBool::new(self.credentials.fleet.is_none() && (self.credentials.known || key.is_some())),
            ended: AtomicBool::new(false),
            station: None,
        });
        let mut dispatcher = Dispatcher::new(Arc::clone(&self.shared), peer.clone());
        let proven = self.credentials.fleet.is_some().then(|| {
            let (proven, gate) = oneshot::channel();
            dispatcher.gate(Box::pin(async { drop(gate.await) }));
            proven
        });
        let recent = Recent::default();
        self.visit = Some(Visit { peer, session, dispatcher, recent, admitted: false, challenge, exchange: None, proven });
        if self.credentials.fleet.is_some() {
            self.prove();
            return;
        }
        // A link that takes nothing more has other things to say.
        if let Ok(here) = Action::new(HERE, ContentType::BYTES, Bytes::new()) {
            let _ = self.link.port.act(here);
        }
        self.admit();
    }

    /// Exchanges proofs of the fleet's secret, unless that is done or under way.
    fn prove(&mut self) {
        if let Some(visit) = &mut self.visit
            && let Some(secret) = &self.credentials.fleet
            && !visit.admitted
            && visit.exchange.is_none()
        {
            let keys = (self.credentials.key, visit.peer.key());
            let session = (visit.session, visit.challenge);
            visit.exchange = Some(Box::pin(exchange(self.link.clone(), secret.clone(), keys, session)));
        }
    }

    /// The station is the right one.
    fn admit(&mut self) {
        let Some(visit) = &mut self.visit else { return };
        visit.admitted = true;
        let first = std::mem::take(&mut self.first).then(|| self.line.tell_and_wait(Event::FirstConnect, &visit.peer)).flatten();
        for gate in first.into_iter().chain(self.line.tell_and_wait(Event::Connect, &visit.peer)) {
            visit.dispatcher.gate(gate);
        }
        self.standing.send_replace(Standing::Here(visit.peer.clone()));
    }

    fn poll_proof(&mut self, cx: &mut Context<'_>) {
        let Some(visit) = &mut self.visit else { return };
        let Some(exchange) = &mut visit.exchange else { return };
        let Poll::Ready(result) = exchange.as_mut().poll(cx) else { return };
        visit.exchange = None;
        match result {
            Ok(()) => {
                visit.peer.set_authenticated();
                let (proven, session) = (visit.proven.take(), visit.session);
                self.admit();
                // A link that has ended has nothing left to say.
                let _ = self.link.port.control(Control::Trust(session));
                // After the hooks have been told, so that their gates are there.
                proven.map(|proven| proven.send(()));
            }
            // The station did not answer; another connection brings another try.
            Err(AgentError::Closed) => self.link.reconnect(),
            Err(error) => {
                tracing::warn!(%error, "the station is not trusted");
                self.link.port.close(error.clone().into());
                self.finish(error);
            }
        }
    }

    fn on_down(&mut self, fault: Fault) {
        // Every try to connect that fails says so again.
        if self.down.is_none()
            && let Some(visit) = &self.visit
        {
            if visit.admitted {
                self.line.tell(Event::Disconnect(fault.clone()), &visit.peer);
            }
            self.down = Some(fault);
        }
    }

    /// The session is over.
    fn leave(&mut self, reason: Fault) {
        let Some(visit) = self.visit.take() else { return };
        if visit.admitted && visit.peer.end() {
            self.line.tell(Event::End(reason), &visit.peer);
        }
        if !visit.dispatcher.is_idle() {
            self.aftercare.take(visit.peer.key(), visit.finish());
        }
    }

    /// The link has ended.
    fn finish(&mut self, error: AgentError) {
        let gone = self.standing.send_if_modified(|standing| {
            let news = !matches!(standing, Standing::Gone(_));
            if news {
                *standing = Standing::Gone(error.clone());
            }
            news
        });
        if gone {
            self.leave(error.into());
            let aftercare = Arc::clone(&self.aftercare);
            tokio::spawn(async move { aftercare.finish(REST).await });
        }
    }
}

impl Visit {
    /// Hands answers to the link while few wait there. The others keep the handlers from making more.
    fn deliver(&mut self, link: &Link, cx: &Context<'_>) {
        while self.dispatcher.has_due()
            && link.port.poll_answers(cx)
            && let Some((id, result)) = self.dispatcher.next_due()
        {
            self.recent.keep((id, result.clone()));
            // A link that has ended takes no answers.
            let _ = link.answer(id, result);
        }
    }

    /// Goes on without its session until nothing is left to do. Whoever waits for its caller for too long is told that there is none.
    async fn finish(mut self) {
        let mut patience = std::pin::pin!(tokio::time::sleep(PATIENCE).fuse());
        std::future::poll_fn(|cx| {
            if patience.as_mut().poll(cx).is_ready() {
                self.dispatcher.give_up();
            }
            self.dispatcher.poll(cx);
            while self.dispatcher.next_due().is_some() {}
            if self.dispatcher.is_idle() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Proves the fleet's secret to the station, and has it prove the same.
async fn exchange(
    link: Link,
    secret: FleetSecret,
    (agent, station): (Option<PeerKey>, Option<PeerKey>),
    (session, challenge): (LinkSessionId, [u8; 32]),
) -> Result<(), AgentError> {
    // Without a key to name, a proof could be passed on.
    let station = station.ok_or(AgentError::NotOfTheFleet)?;
    let proof = Proof::new(&secret, &Scene { agent, station, challenge }).map_err(|error| {
        tracing::error!(%error, "no random numbers");
        AgentError::Closed
    })?;
    let ask = Ask {
        name: FLEET.to_owned(),
        content_type: ContentType::CBOR,
        content: proof.content.clone(),
        timeout: None,
        origin: None,
    };
    let answered = tokio::time::timeout(PROOF_TIMEOUT, Asked::first(&link, ask, session)).await;
    match answered.unwrap_or_else(|_| Err(Fault::new(Code::TIMED_OUT, "no proof in time"))) {
        Ok(answer) if proof.is_met(&answer.content) => Ok(()),
        Err(fault) if fault.code.retry() => {
            // Another connection at once would be more work for a station that has too much of it.
            let asked = fault.retry_after_ms.map_or(PROOF_PAUSE, Duration::from_millis);
            tokio::time::sleep(asked.clamp(PROOF_PAUSE, PROOF_TIMEOUT)).await;
            Err(AgentError::Closed)
        }
        Err(fault) if fault.code == Code::FORBIDDEN => Err(AgentError::SecretRefused(fault)),
        Ok(_) | Err(_) => Err(AgentError::NotOfTheFleet),
    }
}

#[cfg(test)]
mod tests;
