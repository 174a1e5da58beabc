//! The sessions of a listener: who may come back to which, and when all are over.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use parlour_wire::{
    Code, LinkSessionId,
    header::{Fault, Resume},
};
use tokio::sync::Notify;

use crate::{identity::PeerKey, mailbox::Mailbox, session::stopping};

/// The sessions of a listener.
#[derive(Default)]
pub(crate) struct Registry {
    sessions: Mutex<Sessions>,
    empty: Notify,
    /// See [`crate::ListenConfig::stranger_timeout`].
    pub(crate) stranger_timeout: Duration,
    /// See [`crate::ListenConfig::grace`].
    pub(crate) grace: Duration,
}

#[derive(Default)]
struct Sessions {
    by_id: BTreeMap<LinkSessionId, Arc<Mailbox>>,
    stopping: bool,
}

impl Sessions {
    /// Whether exactly one session is of this key.
    fn has_one_of(&self, key: Option<PeerKey>) -> bool {
        key.is_some() && self.by_id.values().filter(|other| other.peer_key == key).take(2).count() == 1
    }
}

impl Registry {
    pub(crate) fn new(stranger_timeout: Duration, grace: Duration) -> Self {
        Self { stranger_timeout, grace, ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // Nothing that runs under the lock can panic half-way.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session. Beyond the limit it is taken only if it `replaces` the only other one of its key.
    pub(crate) fn insert(&self, mailbox: &Arc<Mailbox>, limit: usize, replaces: bool) -> Result<(), Fault> {
        let mut sessions = self.lock();
        if sessions.stopping {
            return Err(stopping());
        }
        if sessions.by_id.len() >= limit && !(replaces && sessions.has_one_of(mailbox.peer_key)) {
            let message = "too many sessions".to_owned();
            return Err(Fault { code: Code::OVERLOADED, message, retry_after_ms: Some(1000) });
        }
        sessions.by_id.insert(mailbox.session, Arc::clone(mailbox));
        Ok(())
    }

    /// The session that a client may come back to: it knows the secret, and is who it was. A stolen token is of no use without the
    /// key; to whoever has it the session does not exist.
    pub(crate) fn find(&self, resume: &Resume, key: Option<PeerKey>) -> Option<Arc<Mailbox>> {
        let mailbox = Arc::clone(self.lock().by_id.get(&resume.session)?);
        let difference = mailbox.token.iter().zip(&resume.token).fold(0, |difference, (a, b)| difference | (a ^ b));
        (std::hint::black_box(difference) == 0 && mailbox.peer_key == key).then_some(mailbox)
    }

    pub(crate) fn remove(&self, session: &LinkSessionId) {
        let mut sessions = self.lock();
        sessions.by_id.remove(session);
        let empty = sessions.by_id.is_empty();
        drop(sessions);
        if empty {
            self.empty.notify_waiters();
        }
    }

    pub(crate) fn stop(&self, until: Instant) {
        let mut sessions = self.lock();
        sessions.stopping = true;
        let all: Vec<Arc<Mailbox>> = sessions.by_id.values().cloned().collect();
        drop(sessions);
        for mailbox in all {
            mailbox.stop(until);
        }
    }

    pub(crate) async fn wait_until_empty(&self) {
        loop {
            let empty = self.empty.notified();
            if self.lock().by_id.is_empty() {
                return;
            }
            empty.await;
        }
    }
}
