//! The receiving end: a server that runs every message under its marks, and notes what took effect.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use parlour_net::{Answer, Incoming, IncomingAction, ListenConfig, Marks, MarksConfig, Pusher, SessionInfo, SessionService};
use parlour_wire::{Code, frame::ContentType, header::Fault};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use crate::rig::{Address, Door, Port};

/// What took effect, in order: name and content.
pub(crate) type Effects = Arc<Mutex<Vec<(String, Bytes)>>>;

pub(crate) struct Service {
    marks: Marks,
    pub(crate) effects: Effects,
    /// `busy` puts so many messages off.
    pub(crate) busy: AtomicU32,
    /// `hold` takes effect, and is answered when the gate opens.
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) held: Arc<Semaphore>,
    /// A `hold` is over, and marked.
    pub(crate) marked: Arc<Semaphore>,
    sessions: Mutex<Vec<Pusher>>,
}

fn fault(code: Code) -> Fault {
    Fault { code, message: "not here".to_owned(), retry_after_ms: None }
}

impl Service {
    async fn take(&self, request: Incoming) -> Result<Answer, Fault> {
        let Incoming { name, content, content_type, .. } = request;
        match name.as_str() {
            "forbidden" => return Err(fault(Code::FORBIDDEN)),
            "busy" if self.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() => {
                return Err(fault(Code::OVERLOADED));
            }
            "unknown" => return Err(fault(Code::UNKNOWN_REQUEST)),
            _ => self.effects.lock().unwrap().push((name.clone(), content.clone())),
        }
        if name == "hold" {
            self.held.add_permits(1);
            self.gate.acquire().await.unwrap().forget();
        }
        Ok(Answer { content_type, content })
    }
}

struct Shared(Arc<Service>);

impl SessionService for Shared {
    type Session = ();

    fn open(&self, _info: SessionInfo, pusher: Pusher) {
        self.0.sessions.lock().unwrap().push(pusher);
    }

    fn request(&self, _session: &mut (), request: Incoming) -> BoxFuture<'static, Result<(ContentType, Bytes), Fault>> {
        let service = Arc::clone(&self.0);
        let held = request.name == "hold";
        let taken = async move {
            let origin = request.origin;
            let result = service.marks.once_raw(None, origin, service.take(request)).await;
            if held {
                service.marked.add_permits(1);
            }
            result.map(|answer| (answer.content_type, answer.content))
        };
        // What takes long outlives the session that asked for it.
        if held { Box::pin(tokio::spawn(taken).map(Result::unwrap)) } else { Box::pin(taken) }
    }

    fn action(&self, _session: &mut (), _action: IncomingAction) {}

    fn close(&self, _session: ()) {}
}

/// A server, for as long as the test wants.
pub(crate) struct Receiver {
    pub(crate) address: Address,
    pub(crate) service: Arc<Service>,
    port: Port,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Starts a receiver whose marks are in this folder, at an address that may be that of an earlier one.
    pub(crate) async fn start(folder: &Path, at: &Address, effects: Effects) -> Self {
        let marks = Marks::open(folder.join("marks"), MarksConfig::default()).await.unwrap();
        let Door { listener, address, port } = Door::open(at).await;
        let service = Arc::new(Service {
            marks,
            effects,
            busy: AtomicU32::new(0),
            gate: Arc::new(Semaphore::new(0)),
            held: Arc::new(Semaphore::new(0)),
            marked: Arc::new(Semaphore::new(0)),
            sessions: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let config = ListenConfig { stop_timeout: Duration::from_millis(50), ..ListenConfig::default() };
        let task = tokio::spawn(listener.serve(Arc::new(Shared(Arc::clone(&service))), config, stopped));
        Self { address, service, port, stop, task }
    }

    /// Ends every session, as a server does that has forgotten them.
    pub(crate) fn forget_sessions(&self) {
        for pusher in self.service.sessions.lock().unwrap().drain(..) {
            pusher.close(Fault { code: Code::LINK_LOST, message: "forgotten".to_owned(), retry_after_ms: None });
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        super::bounded(self.task).await.unwrap();
        self.service.marks.close().await;
        self.port.free().await;
    }
}

/// How often each content took effect under this name.
pub(crate) fn tally(effects: &Effects, name: &str) -> BTreeMap<Bytes, u32> {
    let mut tally = BTreeMap::new();
    for (_, content) in effects.lock().unwrap().iter().filter(|(found, _)| found == name) {
        *tally.entry(content.clone()).or_default() += 1;
    }
    tally
}

/// The contents that took effect under this name, in order.
pub(crate) fn order(effects: &Effects, name: &str) -> Vec<Bytes> {
    effects.lock().unwrap().iter().filter(|(found, _)| found == name).map(|(_, content)| content.clone()).collect()
}
