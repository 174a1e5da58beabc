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

/// Sessions of one key that may come in beyond the limit, those included that are over and whose requests go on.
const PER_KEY: usize = 8;

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
    /// The sessions of each key, among them those that are over and whose requests go on.
    by_key: BTreeMap<PeerKey, Vec<Arc<Mailbox>>>,
    stopping: bool,
}

impl Sessions {
    /// Whether this key is here, with one session at most that is not over, and few that are.
    fn is_replaced_by(&self, key: Option<PeerKey>) -> bool {
        let Some(same) = key.and_then(|key| self.by_key.get(&key)) else { return false };
        same.len() < PER_KEY && same.iter().filter(|other| !other.is_closed()).count() <= 1
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

    /// Adds a session. Beyond the limit it is taken only if it `replaces` the one that its key has.
    pub(crate) fn insert(&self, mailbox: &Arc<Mailbox>, limit: usize, replaces: bool) -> Result<(), Fault> {
        let mut sessions = self.lock();
        if sessions.stopping {
            return Err(stopping());
        }
        if sessions.by_id.len() >= limit && !(replaces && sessions.is_replaced_by(mailbox.peer_key)) {
            let message = "too many sessions".to_owned();
            return Err(Fault { code: Code::OVERLOADED, message, retry_after_ms: Some(1000) });
        }
        if let Some(key) = mailbox.peer_key {
            sessions.by_key.entry(key).or_default().push(Arc::clone(mailbox));
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
        let key = sessions.by_id.remove(session).and_then(|mailbox| mailbox.peer_key);
        if let Some(key) = key
            && let Some(same) = sessions.by_key.get_mut(&key)
        {
            same.retain(|mailbox| mailbox.session != *session);
            if same.is_empty() {
                sessions.by_key.remove(&key);
            }
        }
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
