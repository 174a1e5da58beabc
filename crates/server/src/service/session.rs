//! One session: what it has shown, and what it is in the middle of.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use parlour_wire::{AccountId, Code, DeviceId, limits, name::Name};

use crate::{Rejection, Sink, opaque::LoginState, throttle::AddressKey, turns::Turns};

/// Logins in progress on one session: a client needs one, and may have lost the answer of another.
const LOGINS: usize = 4;
/// How long the second step of a login or registration may take, in milliseconds: a slow phone stretches the password for
/// seconds.
const STEP_MS: u64 = 60_000;

/// Requests of one session at once whose answers can be large. Half a megabyte each, they fill a link as far as it may be filled; more
/// would only wait in memory, and in front of other people's questions to the store.
pub(crate) const READS: usize = 8;

const _: () = assert!(READS * limits::READ_BYTES <= limits::UNACKED_BYTES);

/// A session, as its driver holds it.
pub struct Session(pub(crate) Arc<Shared>);

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.0.key).finish()
    }
}

/// What a session has shown. Both may hold; then they are of one account.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Who {
    /// It knows the account's password.
    pub(crate) password: Option<AccountId>,
    /// It holds the device's key.
    pub(crate) device: Option<(AccountId, DeviceId)>,
}

/// A login between its two steps.
pub(crate) struct PendingLogin {
    pub(crate) number: u64,
    pub(crate) name: Name,
    /// By recovery code.
    pub(crate) recovery: bool,
    /// The account and a hash of the record that the login began with; absent for an unknown name.
    pub(crate) known: Option<(AccountId, [u8; 32])>,
    pub(crate) state: LoginState,
    pub(crate) started_ms: u64,
}

#[derive(Default)]
struct State {
    who: Who,
    ended: Option<(Code, &'static str)>,
    logins: Vec<PendingLogin>,
    registration: Option<(Name, u64)>,
}

/// A session, as the service, its handlers and the fan-out share it.
pub(crate) struct Shared {
    /// Unique in this process.
    pub(crate) key: u64,
    pub(crate) address: AddressKey,
    pub(crate) challenge: [u8; 32],
    pub(crate) fingerprint: [u8; 32],
    pub(crate) sink: Arc<dyn Sink>,
    /// One for each request under way that is answered in turn.
    pub(crate) reads: Turns,
    lagging: AtomicBool,
    state: Mutex<State>,
}

fn check_device(who: &Who, account: AccountId, device: DeviceId) -> Result<(), Rejection> {
    let fits = who.password.is_none_or(|other| other == account) && who.device.is_none_or(|other| other == (account, device));
    if fits { Ok(()) } else { Err(Rejection::new(Code::FORBIDDEN, "this link belongs to another account or device")) }
}

impl Shared {
    pub(crate) fn new(key: u64, address: AddressKey, challenge: [u8; 32], fingerprint: [u8; 32], sink: Arc<dyn Sink>) -> Self {
        let (reads, lagging, state) = (Turns::new(READS), AtomicBool::new(false), Mutex::default());
        Self { key, address, challenge, fingerprint, sink, reads, lagging, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the session has shown; or why it is over.
    pub(crate) fn who(&self) -> Result<Who, Rejection> {
        let state = self.state();
        match state.ended {
            Some((code, text)) => Err(Rejection::new(code, text)),
            None => Ok(state.who),
        }
    }

    /// Whether the session has shown something, or is between the two steps of a login or registration.
    pub(crate) fn is_kept(&self, now_ms: u64) -> bool {
        let state = self.state();
        let in_time = |begun: u64| now_ms.saturating_sub(begun) <= STEP_MS;
        state.who.password.is_some()
            || state.who.device.is_some()
            || state.logins.iter().any(|login| in_time(login.started_ms))
            || state.registration.as_ref().is_some_and(|(_, begun)| in_time(*begun))
    }

    /// Notes that the session has shown a password, unless it speaks for another account already.
    pub(crate) fn set_password(&self, account: AccountId) -> Result<(), Rejection> {
        let mut state = self.state();
        if state.who.device.is_some_and(|(other, _)| other != account) || state.who.password.is_some_and(|other| other != account)
        {
            return Err(Rejection::new(Code::FORBIDDEN, "this link belongs to another account"));
        }
        state.who.password = Some(account);
        Ok(())
    }

    /// Whether the session could become this device's.
    pub(crate) fn may_be(&self, account: AccountId, device: DeviceId) -> Result<(), Rejection> {
        check_device(&self.who()?, account, device)
    }

    /// Notes that the session has shown a device's key, unless it speaks for another one already.
    pub(crate) fn set_device(&self, account: AccountId, device: DeviceId) -> Result<(), Rejection> {
        let mut state = self.state();
        check_device(&state.who, account, device)?;
        state.who.device = Some((account, device));
        Ok(())
    }

    /// The session speaks for nobody any more, but may log in again.
    pub(crate) fn forget(&self) {
        self.state().who = Who::default();
    }

    /// The session is over, whatever it had shown.
    pub(crate) fn end(&self, code: Code, text: &'static str) {
        let mut state = self.state();
        *state = State { ended: Some(state.ended.unwrap_or((code, text))), ..State::default() };
    }

    pub(crate) fn set_lagging(&self) {
        self.lagging.store(true, Ordering::Release);
    }

    pub(crate) fn is_lagging(&self) -> bool {
        self.lagging.load(Ordering::Acquire)
    }

    /// Whether it lagged; it does not afterwards. Read first: this is asked for every push and request.
    pub(crate) fn take_lagging(&self) -> bool {
        self.lagging.load(Ordering::Acquire) && self.lagging.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn begin_login(&self, login: PendingLogin) {
        let mut state = self.state();
        if state.logins.len() >= LOGINS {
            state.logins.remove(0);
        }
        state.logins.push(login);
    }

    /// Takes a login for its second step; it cannot be taken again.
    pub(crate) fn take_login(&self, number: u64, now_ms: u64) -> Result<PendingLogin, Rejection> {
        let mut state = self.state();
        let at = state.logins.iter().position(|login| login.number == number);
        let login = state.logins.remove(at.ok_or(Rejection::bad("no login of that number on this link"))?);
        if now_ms.saturating_sub(login.started_ms) > STEP_MS {
            return Err(Rejection::new(Code::TIMED_OUT, "the login took too long"));
        }
        Ok(login)
    }

    pub(crate) fn begin_registration(&self, name: Name, now_ms: u64) {
        self.state().registration = Some((name, now_ms));
    }

    /// Takes the registration that was begun for this name.
    pub(crate) fn take_registration(&self, name: &Name, now_ms: u64) -> Result<(), Rejection> {
        match self.state().registration.take() {
            Some((begun, at)) if begun == *name && now_ms.saturating_sub(at) <= STEP_MS => Ok(()),
            Some((begun, _)) if begun == *name => Err(Rejection::new(Code::TIMED_OUT, "the registration took too long")),
            _ => Err(Rejection::bad("no registration of that name was begun on this link")),
        }
    }
}
