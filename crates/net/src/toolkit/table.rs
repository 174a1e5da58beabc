//! The peers of a station: one row for each key, however often it comes back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures_util::future::BoxFuture;
use parlour_wire::{Code, LinkSessionId, header::Fault};

use super::{
    hooks::{Event, Hooks, Line},
    peer::Peer,
};
use crate::{identity::PeerKey, pump::now};

/// Keys that a station remembers to tell a first connect from another one. Those that have been away for longest are forgotten.
const KNOWN: usize = 65_536;

/// A key that is or was here.
struct Row {
    line: Line,
    /// Its sessions, oldest first.
    sessions: Vec<Peer>,
    left: Instant,
}

#[derive(Default)]
struct Rows {
    by_key: BTreeMap<PeerKey, Row>,
    without_key: BTreeMap<LinkSessionId, (Peer, Line)>,
}

impl Rows {
    /// Makes room for one more key.
    fn forget_one(&mut self) {
        if self.by_key.len() < KNOWN {
            return;
        }
        let away = self.by_key.iter().filter(|(_, row)| row.sessions.is_empty());
        if let Some(key) = away.min_by_key(|(_, row)| row.left).map(|(key, _)| *key) {
            self.by_key.remove(&key);
        }
    }
}

/// See the module's documentation.
pub(crate) struct Table {
    hooks: Arc<Hooks>,
    /// Whether a session takes the place of those that its key had before.
    one_per_key: bool,
    rows: Mutex<Rows>,
}

/// A peer that has been let in.
pub(crate) struct Entrance {
    /// Where its events go.
    pub(crate) line: Line,
    /// What must be over before its first handler starts.
    pub(crate) gates: Vec<BoxFuture<'static, ()>>,
}

impl Table {
    pub(crate) fn has_one_link_per_key(&self) -> bool {
        self.one_per_key
    }

    pub(crate) fn new(hooks: Arc<Hooks>, one_per_key: bool) -> Self {
        Self { hooks, one_per_key, rows: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        // Nothing that runs under the lock can panic half-way.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session of a peer begins.
    pub(crate) fn enter(&self, peer: &Peer) -> Entrance {
        let mut rows = self.lock();
        let fresh = || Line::new(Arc::clone(&self.hooks));
        let Some(key) = peer.key() else {
            let line = fresh();
            rows.without_key.insert(peer.session(), (peer.clone(), line.clone()));
            return Entrance { gates: greet(&line, peer, true), line };
        };
        let first = !rows.by_key.contains_key(&key);
        if first {
            rows.forget_one();
        }
        let row = rows.by_key.entry(key).or_insert_with(|| Row { line: fresh(), sessions: Vec::new(), left: now() });
        if self.one_per_key {
            for before in row.sessions.drain(..) {
                let reason = Fault::new(Code::ALREADY_EXISTS, "another link with the same key has taken its place");
                if before.end() {
                    row.line.tell(Event::End(reason.clone()), &before);
                }
                before.link().port.close(reason);
            }
        }
        row.sessions.push(peer.clone());
        Entrance { gates: greet(&row.line, peer, first), line: row.line.clone() }
    }

    /// A session that was let in is over.
    pub(crate) fn leave(&self, peer: &Peer, line: &Line, reason: Fault) {
        let mut rows = self.lock();
        match peer.key() {
            None => drop(rows.without_key.remove(&peer.session())),
            Some(key) => {
                if let Some(row) = rows.by_key.get_mut(&key) {
                    row.sessions.retain(|other| other.session() != peer.session());
                    row.left = now();
                }
            }
        }
        // Under the lock, so that the end is told before whatever the same key does next.
        if peer.end() {
            line.tell(Event::End(reason), peer);
        }
    }

    /// The peers that have a session, each once.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let rows = self.lock();
        let with_key = rows.by_key.values().filter_map(|row| row.sessions.last());
        with_key.chain(rows.without_key.values().map(|(peer, _)| peer)).cloned().collect()
    }

    pub(crate) fn peer(&self, key: &PeerKey) -> Option<Peer> {
        self.lock().by_key.get(key).and_then(|row| row.sessions.last()).cloned()
    }
}

/// Tells the hooks that a session begins.
fn greet(line: &Line, peer: &Peer, first: bool) -> Vec<BoxFuture<'static, ()>> {
    let first = first.then(|| line.tell_and_wait(Event::FirstConnect, peer)).flatten();
    first.into_iter().chain(line.tell_and_wait(Event::Connect, peer)).collect()
}
