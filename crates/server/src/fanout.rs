//! Who is online, and what they are told: the observer of the store that pushes entries, welcomes, changed device lists and
//! presence.
//!
//! Everything here is quick and in memory: the store's writer calls it between two disk transactions. A push is encoded once and
//! shared. A session without room gets nothing more until it has room again; then it is told once that it lags, and reads
//! what it misses from its cursors.

mod registry;
mod runs;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parlour_wire::{
    AccountId, Code, ConversationId, DeviceId,
    api::{ConversationState, DevicesChanged, Entries, Lagging, Notice, Presence, Signal, Welcome},
    encode,
};

use self::{
    registry::Registry,
    runs::{Run, Runs},
};
use crate::{
    Rejection,
    metrics::Counters,
    service::Shared,
    store::{Committed, Observer},
};

/// The session has no room for a push at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for a push")]
pub struct SinkFull;

/// Where the pushes of one session go. Neither method may block or call back into the server.
pub trait Sink: Send + Sync {
    /// Takes a push, or says that there is no room.
    ///
    /// # Errors
    /// [`SinkFull`]; the push is lost then.
    fn push(&self, name: &'static str, content: Bytes) -> Result<(), SinkFull>;

    /// Ends the session: nothing more is taken from it.
    fn close(&self, code: Code, message: &str);
}

/// The registry of who is online. Give it to the store as its observer, and to the [`crate::Service`].
#[derive(Default)]
pub struct Fanout {
    registry: Mutex<Registry>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    pushes: AtomicU64,
    dropped: AtomicU64,
}

impl fmt::Debug for Fanout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fanout").finish_non_exhaustive()
    }
}

/// Why sessions end that did nothing wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    /// Somebody who knows the password has changed it. A device comes back with its own key.
    PasswordChanged,
    /// The device may speak no longer.
    Revoked,
    /// The device has too many sessions and this is the oldest.
    Replaced,
}

impl Ended {
    const fn reason(self) -> (Code, &'static str) {
        match self {
            Self::PasswordChanged => (Code::LINK_LOST, "the password has been changed"),
            Self::Revoked => (Code::DEVICE_REVOKED, "the device has been revoked or logged out"),
            Self::Replaced => (Code::QUOTA, "the device has too many sessions"),
        }
    }
}

/// The welcome of a commit: all whom it adds are pushed the same bytes.
struct Encoded {
    welcome: Arc<Welcome>,
    content: Option<Bytes>,
}

impl Encoded {
    fn content(&mut self) -> &Bytes {
        self.content.get_or_insert_with(|| encode(&*self.welcome).into())
    }
}

impl Counts {
    /// Pushes to a session, or takes note that it lags.
    fn push(&self, session: &Shared, name: &'static str, content: &Bytes) {
        if !self.catch_up(session) || session.sink.push(name, content.clone()).is_err() {
            session.set_lagging();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            self.pushes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells a session that it lags, if it does and has room. Answers whether it may be pushed to.
    fn catch_up(&self, session: &Shared) -> bool {
        if !session.take_lagging() {
            return true;
        }
        if session.sink.push(Lagging::NAME, encode(&Lagging {}).into()).is_err() {
            session.set_lagging();
            return false;
        }
        self.pushes.fetch_add(1, Ordering::Relaxed);
        true
    }
}

fn close(session: &Shared, why: Ended) {
    let (code, text) = why.reason();
    session.end(code, text);
    session.sink.close(code, text);
}

impl Fanout {
    /// Nobody is online.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills in what is counted here.
    pub(crate) fn count(&self, counters: &mut Counters) {
        counters.devices = self.registry().devices_online();
        counters.pushes = self.counts.pushes.load(Ordering::Relaxed);
        counters.dropped_pushes = self.counts.dropped.load(Ordering::Relaxed);
    }

    /// A session is authorised for an account by password.
    pub(crate) fn enter_account(&self, session: &Arc<Shared>, account: AccountId) {
        self.registry().enter(session, account);
    }

    /// A session is authenticated as a device. Its conversations follow by [`Self::load`], until [`Self::loaded`]; what
    /// commits do to them in between is not lost.
    pub(crate) fn enter_device(&self, session: &Arc<Shared>, account: AccountId, device: DeviceId, now_ms: u64) {
        let mut registry = self.registry();
        let was_online = registry.is_online(&account);
        registry.enter(session, account);
        if let Some(oldest) = registry.enter_device(session.key, device, now_ms) {
            close(&oldest, Ended::Replaced);
            registry.leave(oldest.key);
        }
        self.tell_presence(&registry, account, was_online, now_ms);
    }

    /// A session that has entered as a device speaks for it from here on, unless it has left meanwhile: whatever ends a device finds its
    /// sessions by their seats, so one without a seat could never be ended.
    pub(crate) fn become_device(&self, session: &Shared, account: AccountId, device: DeviceId) -> Result<(), Rejection> {
        let registry = self.registry();
        if registry.is_seated(session.key, account, device) {
            session.set_device(account, device)
        } else {
            Err(Rejection::new(Code::NOT_AUTHENTICATED, "the link has been logged out meanwhile"))
        }
    }

    /// A page of the conversations of a device that has entered.
    pub(crate) fn load(&self, device: &DeviceId, states: &[ConversationState]) {
        self.registry().load(device, states);
    }

    /// All pages have been read, or it was given up.
    pub(crate) fn loaded(&self, device: &DeviceId) {
        self.registry().loaded(device);
    }

    /// A session is over.
    pub(crate) fn leave(&self, session: &Shared, now_ms: u64) {
        self.take_seat(&mut self.registry(), session, now_ms);
    }

    /// A session is authorised for nothing any more, but may log in again. Both under one lock, so that it never speaks for a device without
    /// a seat.
    pub(crate) fn forget(&self, session: &Shared, now_ms: u64) {
        let mut registry = self.registry();
        session.forget();
        self.take_seat(&mut registry, session, now_ms);
    }

    fn take_seat(&self, registry: &mut Registry, session: &Shared, now_ms: u64) {
        if let Some(account) = registry.account_of(session.key) {
            let was_online = registry.is_online(&account);
            registry.leave(session.key);
            self.tell_presence(registry, account, was_online, now_ms);
        }
    }

    /// The carrier of a session is lost or back.
    pub(crate) fn connection(&self, session: &Shared, up: bool, now_ms: u64) {
        let mut registry = self.registry();
        if let Some(account) = registry.account_of(session.key) {
            let was_online = registry.is_online(&account);
            registry.set_connected(session.key, up, now_ms);
            self.tell_presence(&registry, account, was_online, now_ms);
        }
        drop(registry);
        if up {
            self.drained(session);
        }
    }

    /// A session may have room again: tells it that it lags, if it does.
    pub(crate) fn drained(&self, session: &Shared) {
        self.counts.catch_up(session);
    }

    /// Ends all sessions of an account but one.
    pub(crate) fn end_others(&self, account: &AccountId, but: &Shared, now_ms: u64) {
        let mut registry = self.registry();
        let was_online = registry.is_online(account);
        for session in registry.sessions_of(account).into_iter().filter(|session| session.key != but.key) {
            close(&session, Ended::PasswordChanged);
            registry.leave(session.key);
        }
        self.tell_presence(&registry, *account, was_online, now_ms);
    }

    /// Watches the presence of accounts, and of no others any more. Answers those that the session may see, with whether they
    /// are online.
    pub(crate) fn watch(&self, session: &Shared, accounts: Vec<AccountId>) -> Vec<(AccountId, bool)> {
        let mut registry = self.registry();
        let visible = registry.watch(session.key, accounts);
        visible.into_iter().map(|account| (account, registry.is_online(&account))).collect()
    }

    /// Whether a device is here.
    pub(crate) fn is_device_online(&self, device: &DeviceId) -> bool {
        self.registry().is_device_online(device)
    }

    fn tell_presence(&self, registry: &Registry, account: AccountId, was_online: bool, now_ms: u64) {
        let online = registry.is_online(&account);
        if online != was_online {
            let content = Bytes::from(encode(&Presence { account, online, seen_ms: now_ms }));
            registry.each_watcher(&account, |session| self.counts.push(session, Presence::NAME, &content));
        }
    }

    fn tell_welcome(&self, registry: &mut Registry, device: DeviceId, welcome: &mut Encoded) {
        registry.join(&welcome.welcome.conversation, &welcome.welcome.members, device);
        if registry.is_device_here(&device) {
            let content = welcome.content();
            registry.each_session(&device, |session| self.counts.push(session, Welcome::NAME, content));
        }
    }

    fn tell_devices(&self, registry: &mut Registry, account: AccountId, version: u64, ended: &[DeviceId]) {
        let (was_online, seen_ms) = (registry.is_online(&account), registry.last_seen(&account));
        for device in ended {
            for session in registry.sessions_of_device(device) {
                close(&session, Ended::Revoked);
                registry.leave(session.key);
            }
        }
        self.tell_presence(registry, account, was_online, seen_ms);
        let content = Bytes::from(encode(&DevicesChanged { account, version }));
        registry.each_neighbour(&account, |session| self.counts.push(session, DevicesChanged::NAME, &content));
    }

    fn tell_run(&self, registry: &Registry, conversation: &ConversationId, run: &Run) {
        let mut content = None;
        registry.each_in(conversation, |device, session| {
            if device != run.from && !run.added.contains(&device) {
                let content = content.get_or_insert_with(|| run.encode());
                self.counts.push(session, Entries::NAME, content);
            }
        });
    }

    fn tell_entry(&self, registry: &mut Registry, conversation: ConversationId, run: &Run) {
        self.tell_run(registry, &conversation, run);
        if let Some(members) = &run.members {
            registry.set_members(&conversation, members, &run.parted);
        }
        if run.joined {
            registry.join(&conversation, &[], run.from);
        }
        for device in &run.removed {
            registry.part(&conversation, device);
        }
    }

    /// Passes a signal on to the other devices of a conversation that are online, if its sender is in it. What has no room for it
    /// does without.
    pub(crate) fn signal(&self, from: &DeviceId, signal: &Signal) {
        let registry = self.registry();
        if !registry.is_in(&signal.conversation, from) {
            return;
        }
        let content = Bytes::from(encode(signal));
        registry.each_in(&signal.conversation, |device, session| {
            if device != *from && !session.is_lagging() {
                let counter = if session.sink.push(Signal::NAME, content.clone()).is_ok() {
                    &self.counts.pushes
                } else {
                    &self.counts.dropped
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

impl Observer for Fanout {
    fn committed(&self, changes: Vec<Committed>) {
        let mut registry = self.registry();
        let mut runs = Runs::default();
        let mut welcomed: Option<Encoded> = None;
        for change in changes {
            match change {
                Committed::Entry { entry, from, added, removed, members, parted, joined } => {
                    let run = Run { added, removed, members, parted, joined, ..Run::of(entry, from) };
                    for (conversation, run) in runs.push(run) {
                        self.tell_entry(&mut registry, conversation, &run);
                    }
                }
                Committed::Welcome { device, welcome } => {
                    if let Some(run) = runs.take(&welcome.conversation) {
                        self.tell_entry(&mut registry, welcome.conversation, &run);
                    }
                    let shared = match welcomed.take().filter(|before: &Encoded| Arc::ptr_eq(&before.welcome, &welcome)) {
                        Some(before) => welcomed.insert(before),
                        None => welcomed.insert(Encoded { welcome, content: None }),
                    };
                    self.tell_welcome(&mut registry, device, shared);
                }
                Committed::Devices { account, version, ended } => {
                    for (conversation, run) in std::mem::take(&mut runs) {
                        self.tell_entry(&mut registry, conversation, &run);
                    }
                    self.tell_devices(&mut registry, account, version, &ended);
                }
            }
        }
        for (conversation, run) in runs {
            self.tell_entry(&mut registry, conversation, &run);
        }
    }
}
