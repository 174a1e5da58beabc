//! What a program wants to be told about its peers: who comes, goes, and comes back.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{FutureExt, future::BoxFuture};
use parlour_wire::header::Fault;
use tokio::sync::oneshot;

use super::peer::Peer;

/// Events of one peer that may wait while a hook takes its time; more are left out.
const WAITING: usize = 1024;

type Hook = Box<dyn Fn(Peer, Option<Fault>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Functions that are called when a peer comes, goes, or comes back: each once for every event.
///
/// Those of one peer run one after the other, in the order of the events; those of different peers side by side. The first
/// handler of a session starts after the hooks of its connect have come to their ends. A hook that panics is logged, and left. Behind
/// one that does not come to its end 1024 events of its peer wait; what happens beyond that is logged, and told to nobody.
///
/// ```
/// use parlour_net::Hooks;
///
/// let mut hooks = Hooks::new();
/// hooks.on_first_connect(|peer| async move { println!("{:?} is new", peer.key()) });
/// hooks.on_disconnect(|peer, reason| async move { println!("{:?} is away: {reason}", peer.key()) });
/// ```
#[derive(Default)]
pub struct Hooks {
    first_connect: Vec<Hook>,
    connect: Vec<Hook>,
    resume: Vec<Hook>,
    disconnect: Vec<Hook>,
    end: Vec<Hook>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first_connect, connect, resume, disconnect, end } = self;
        let counts = [first_connect, connect, resume, disconnect, end].map(Vec::len);
        f.debug_tuple("Hooks").field(&counts).finish()
    }
}

fn plain<F, Fut>(hook: F) -> Hook
where
    F: Fn(Peer) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Box::new(move |peer, _| Box::pin(hook(peer)))
}

fn reasoned<F, Fut>(hook: F) -> Hook
where
    F: Fn(Peer, Fault) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Box::new(move |peer, reason| match reason {
        Some(reason) => Box::pin(hook(peer, reason)),
        None => Box::pin(std::future::ready(())),
    })
}

impl Hooks {
    /// No hooks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A peer connects for the first time since the program started: at a station, a key that it has not seen, or a session
    /// without a key; at an agent, its station. Called before [`Hooks::on_connect`].
    pub fn on_first_connect<F, Fut>(&mut self, hook: F) -> &mut Self
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.first_connect.push(plain(hook));
        self
    }

    /// A session begins: the first one of a peer, or another one after the last was lost or closed.
    pub fn on_connect<F, Fut>(&mut self, hook: F) -> &mut Self
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.connect.push(plain(hook));
        self
    }

    /// A peer comes back to its session. Nothing was lost.
    pub fn on_resume<F, Fut>(&mut self, hook: F) -> &mut Self
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.resume.push(plain(hook));
        self
    }

    /// The connection to a peer is lost. Its session waits for it.
    pub fn on_disconnect<F, Fut>(&mut self, hook: F) -> &mut Self
    where
        F: Fn(Peer, Fault) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.disconnect.push(reasoned(hook));
        self
    }

    /// A session is over: closed by either side, lost, or replaced by another one of the same key.
    pub fn on_end<F, Fut>(&mut self, hook: F) -> &mut Self
    where
        F: Fn(Peer, Fault) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.end.push(reasoned(hook));
        self
    }

    fn of(&self, event: &Event) -> &[Hook] {
        match event {
            Event::FirstConnect => &self.first_connect,
            Event::Connect => &self.connect,
            Event::Resume => &self.resume,
            Event::Disconnect(_) => &self.disconnect,
            Event::End(_) => &self.end,
        }
    }
}

/// What happens to a peer.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    FirstConnect,
    Connect,
    Resume,
    Disconnect(Fault),
    End(Fault),
}

struct Occasion {
    event: Event,
    peer: Peer,
    /// Told when the hooks have come to their ends.
    over: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Occasion>,
    /// A task works through what waits.
    runs: bool,
}

/// The events of one peer, on their way to the hooks one after the other.
#[derive(Clone)]
pub(crate) struct Line {
    hooks: Arc<Hooks>,
    state: Arc<Mutex<State>>,
}

impl Line {
    pub(crate) fn new(hooks: Arc<Hooks>) -> Self {
        Self { hooks, state: Arc::default() }
    }

    /// Tells the hooks, if there are any.
    pub(crate) fn tell(&self, event: Event, peer: &Peer) {
        self.push(event, peer, None);
    }

    /// Tells the hooks; gives what is over when they have come to their ends, if there are any.
    pub(crate) fn tell_and_wait(&self, event: Event, peer: &Peer) -> Option<BoxFuture<'static, ()>> {
        let (over, receiver) = oneshot::channel();
        self.push(event, peer, Some(over)).then(|| receiver.map(drop).boxed())
    }

    fn push(&self, event: Event, peer: &Peer, over: Option<oneshot::Sender<()>>) -> bool {
        if self.hooks.of(&event).is_empty() {
            return false;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting.len() >= WAITING {
            tracing::warn!(?peer, ?event, "a hook takes too long: an event is left out");
            return false;
        }
        state.waiting.push_back(Occasion { event, peer: peer.clone(), over });
        if !std::mem::replace(&mut state.runs, true) {
            tokio::spawn(self.clone().run());
        }
        true
    }

    async fn run(self) {
        while let Some(occasion) = self.next() {
            let Occasion { event, peer, over } = occasion;
            let reason = match &event {
                Event::Disconnect(reason) | Event::End(reason) => Some(reason),
                Event::FirstConnect | Event::Connect | Event::Resume => None,
            };
            for hook in self.hooks.of(&event) {
                let run = AssertUnwindSafe(async { hook(peer.clone(), reason.cloned()).await });
                if run.catch_unwind().await.is_err() {
                    tracing::error!(?peer, ?event, "a hook panicked");
                }
            }
            if let Some(over) = over {
                // A session that is over does not wait.
                let _ = over.send(());
            }
        }
    }

    fn next(&self) -> Option<Occasion> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = state.waiting.pop_front();
        state.runs = next.is_some();
        next
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use parlour_wire::LinkSessionId;

    use super::*;
    use crate::{link::Link, toolkit::peer::Facts};

    #[tokio::test]
    async fn behind_a_hook_that_does_not_end_so_many_events_wait_and_no_more() {
        let mut hooks = Hooks::new();
        hooks.on_resume(|_peer| std::future::pending());
        let line = Line::new(Arc::new(hooks));
        let peer = Peer::new(Facts {
            link: Link::new(Arc::default()),
            key: None,
            session: LinkSessionId([0; 16]),
            agent: String::new(),
            address: None,
            authenticated: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            station: None,
        });
        for _ in 0..2 * WAITING {
            line.tell(Event::Resume, &peer);
        }
        assert_eq!(line.state.lock().unwrap().waiting.len(), WAITING);
        assert!(line.tell_and_wait(Event::Resume, &peer).is_none(), "no handler waits for what is left out");
    }
}
