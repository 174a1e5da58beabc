//! Between the drivers of links and the service: the same calls in the other's words, with the time added.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parlour_net::{Incoming, IncomingAction, Pusher, SessionInfo, SessionService};
use parlour_server::{Failure, Now, Service, Session, Sink, SinkFull};
use parlour_wire::{Code, frame::ContentType, header::Fault};

use crate::{data_dir::DataDir, invite::unix_ms, metrics::Metrics, sqlite::SqliteStore};

/// The service as the listener sees it.
pub(crate) struct Adapter {
    service: Arc<Service<SqliteStore>>,
    metrics: Arc<Metrics>,
    /// The data directory stays taken while a session may still write to it. Dropped last.
    _data: Arc<DataDir>,
}

impl Adapter {
    pub(crate) fn new(service: Arc<Service<SqliteStore>>, metrics: Arc<Metrics>, data: Arc<DataDir>) -> Self {
        Self { service, metrics, _data: data }
    }
}

/// A session of the service, and whether a connection carries it.
pub(crate) struct LinkSession {
    session: Session,
    connected: bool,
}

fn now() -> Now {
    Now { unix_ms: unix_ms() }
}

impl SessionService for Adapter {
    type Session = LinkSession;

    fn open(&self, info: SessionInfo, pusher: Pusher) -> LinkSession {
        self.metrics.connected();
        let session = self.service.open(info.peer.ip(), info.challenge, info.fingerprint, Arc::new(PushSink(pusher)));
        LinkSession { session, connected: true }
    }

    fn request(&self, session: &mut LinkSession, request: Incoming) -> BoxFuture<'static, Result<(ContentType, Bytes), Fault>> {
        let answering = self.service.request(&mut session.session, &request.name, &request.content, now());
        Box::pin(async move {
            match answering.await {
                Ok(content) => Ok((ContentType::CBOR, content)),
                Err(failure) => Err(Failure::to_wire(&failure)),
            }
        })
    }

    fn action(&self, session: &mut LinkSession, action: IncomingAction) {
        self.service.action(&mut session.session, &action.name, &action.content, now());
    }

    fn connection(&self, session: &mut LinkSession, up: bool) {
        if up {
            self.metrics.resumed();
        }
        match (std::mem::replace(&mut session.connected, up), up) {
            (false, true) => self.metrics.connected(),
            (true, false) => self.metrics.disconnected(),
            (true, true) | (false, false) => {}
        }
        self.service.connection(&mut session.session, up, now());
    }

    fn is_kept(&self, session: &LinkSession) -> bool {
        self.service.is_kept(&session.session, now())
    }

    fn drained(&self, session: &mut LinkSession) {
        self.service.drained(&session.session);
    }

    fn close(&self, session: LinkSession) {
        if session.connected {
            self.metrics.disconnected();
        }
        self.service.close(session.session, now());
    }
}

/// The pushes of a session, as the service sees them.
struct PushSink(Pusher);

impl Sink for PushSink {
    fn push(&self, name: &'static str, content: Bytes) -> Result<(), SinkFull> {
        // For a session that is over it makes no difference; what is too large for a frame is read from the cursors.
        self.0.push(name, content).map_err(|_| SinkFull)
    }

    fn close(&self, code: Code, message: &str) {
        self.0.close(Fault { code, message: message.to_owned(), retry_after_ms: None });
    }
}
