//! The service: sessions, the table of handlers with their access rules, and what every request goes through.

mod accounts;
mod blobs;
mod conversations;
mod devices;
mod passwords;
mod session;

use std::{
    fmt,
    future::{Future, ready},
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parlour_wire::{
    AccountId, Code, DecodeError, DeviceId,
    api::{self, Call, Notice as _},
    codec::bounded,
    decode, encode, limits,
    name::Name,
};
use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};

pub(crate) use self::session::Shared;
pub use self::{blobs::BlobRoom, session::Session};
use self::{blobs::Landing, session::Who};
use crate::{
    Counters, Failure, Fanout, Rejection, Secrets, Sink,
    metrics::Metrics,
    store::{Refusal, Store, StoreError, Write, Written},
    throttle::{AddressKey, ThrottleConfig, Throttles},
};

/// The time of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Unix time in milliseconds.
    pub unix_ms: u64,
}

/// What a service is told at birth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// How registration works here.
    pub registration: api::Registration,
    /// Program and version, as told to clients.
    pub version: String,
    /// How often somebody may try.
    pub throttle: ThrottleConfig,
}

/// The answer to a request, on its way: CBOR of the call's answer type, or why there is none.
pub type Answering = Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + Send>>;

/// The form in which an invitation token is stored.
#[must_use]
pub fn invite_hash(token: &str) -> [u8; 32] {
    *blake3::hash(token.as_bytes()).as_bytes()
}

/// First letter of a token that an administrator has made for one name. Those of invitations are hex digits.
pub const ACCOUNT_TOKEN: char = 'n';

/// The form in which a token for one name is stored: the name is in it, so it is worth nothing under another.
#[must_use]
pub fn account_token_hash(name: &Name, token: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("parlour account token v1");
    hasher.update(name.as_str().as_bytes()).update(&[0]).update(token.as_bytes());
    *hasher.finalize().as_bytes()
}

/// What a server decides. One for all sessions; cheap to share by reference.
pub struct Service<S: Store> {
    core: Arc<Core<S>>,
    next_session: AtomicU64,
}

impl<S: Store> fmt::Debug for Service<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("config", &self.core.config).finish_non_exhaustive()
    }
}

/// What handlers share.
struct Core<S: Store> {
    config: ServiceConfig,
    store: Arc<S>,
    fanout: Arc<Fanout>,
    secrets: Secrets,
    throttles: Throttles,
    room: BlobRoom,
    landing: Landing,
    metrics: Metrics,
    rng: Mutex<StdRng>,
}

/// A write under way. In a box because what a store returns names the borrow of the store, although it does not hold it.
type Applying = Pin<Box<dyn Future<Output = Result<Result<Written, Refusal>, StoreError>> + Send>>;

impl<S: Store> Core<S> {
    /// Gives a write its place in the store's order.
    fn apply(&self, write: Write) -> Applying {
        Box::pin(self.store.apply(write))
    }

    /// Counts how a request ended, and says in the log what needs saying.
    fn note(&self, name: &str, failure: Option<&Failure>) {
        self.metrics.answered(self.metrics.row(name), failure.map(Failure::code));
        match failure {
            None => {}
            Some(Failure::Rejected(rejection)) => tracing::debug!(request = name, code = %rejection.code, "refused"),
            // Clients can bring it about; it shows in the counters.
            Some(failure) if failure.code() == Code::OVERLOADED => tracing::debug!(request = name, %failure, "not taken"),
            Some(Failure::Failed(fault)) => tracing::error!(request = name, %fault, "failed"),
        }
    }

    /// A generator of its own for one handler, so that none waits for another's arithmetic.
    fn rng(&self) -> StdRng {
        let mut seed = <StdRng as rand::SeedableRng>::Seed::default();
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut seed);
        StdRng::from_seed(seed)
    }
}

/// One request that has passed its access rule, and what its handler works with.
struct Ask<S: Store> {
    core: Arc<Core<S>>,
    session: Arc<Shared>,
    who: Who,
    now_ms: u64,
}

/// What a link must have shown for a request to be heard. What is not in the table is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Nothing.
    Anyone,
    /// The password, on this link.
    Password,
    /// A device's key, on this link.
    Device,
    /// Either of the two.
    Account,
}

impl Access {
    fn check(self, who: &Who) -> Result<(), Rejection> {
        let (passed, text) = match self {
            Self::Anyone => (true, ""),
            Self::Password => (who.password.is_some(), "this needs a login by password on this link"),
            Self::Device => (who.device.is_some(), "this needs an authenticated device on this link"),
            Self::Account => (who.password.or(who.device.map(|(account, _)| account)).is_some(), "this needs a login"),
        };
        if passed { Ok(()) } else { Err(Rejection::new(Code::NOT_AUTHENTICATED, text)) }
    }
}

const NOT_AUTHENTICATED: Failure =
    Failure::Rejected(Rejection { code: Code::NOT_AUTHENTICATED, text: "this needs a login", retry_after_ms: None });

impl<S: Store> Ask<S> {
    fn password(&self) -> Result<AccountId, Failure> {
        self.who.password.ok_or(NOT_AUTHENTICATED)
    }

    fn device(&self) -> Result<(AccountId, DeviceId), Failure> {
        self.who.device.ok_or(NOT_AUTHENTICATED)
    }

    fn account(&self) -> Result<AccountId, Failure> {
        self.who.password.or(self.who.device.map(|(account, _)| account)).ok_or(NOT_AUTHENTICATED)
    }
}

/// How many requests of one session are at work at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// All of them: what they hold until their answers leave is small, or their order is that of the calls.
    AtOnce,
    /// A few, [`session::READS`]: their answers can be large, or one asks the store many times.
    InTurn,
}

/// The table: which call, who may, at what pace, and by whom it is answered. A handler is a function called at once, in order of arrival; what
/// it returns is polled later.
macro_rules! handlers {
    ($($call:ident, $access:ident, $pace:ident => $handler:path;)*) => {
        const NAMES: &[&str] = &[$(<api::$call as Call>::NAME),*];

        impl<S: Store> Service<S> {
            fn dispatch(&self, session: &Session, name: &str, content: &[u8], now: Now) -> Answering {
                match name {
                    $(<api::$call as Call>::NAME => {
                        self.answer::<api::$call, _>(session, (Access::$access, Pace::$pace), content, now, $handler)
                    })*
                    _ => self.reject(name, Rejection::new(Code::UNKNOWN_REQUEST, "no handler of that name")),
                }
            }
        }
    };
}

handlers! {
    ServerInfo, Anyone, AtOnce => accounts::server_info;
    RegisterStart, Anyone, AtOnce => accounts::register_start;
    RegisterFinish, Anyone, AtOnce => accounts::register_finish;
    LoginStart, Anyone, AtOnce => passwords::login_start;
    LoginFinish, Anyone, AtOnce => passwords::login_finish;
    PasswordStart, Password, AtOnce => passwords::change_start;
    PasswordFinish, Password, AtOnce => passwords::change_finish;
    DevicesUpdate, Password, AtOnce => devices::update;
    DeviceAuth, Anyone, AtOnce => devices::authenticate;
    Logout, Device, AtOnce => devices::log_out;
    DevicesGet, Account, InTurn => devices::get;
    AccountByName, Account, InTurn => accounts::by_name;
    AccountById, Account, InTurn => accounts::by_id;
    KeyPackagesPublish, Device, AtOnce => devices::publish;
    KeyPackagesClaim, Device, InTurn => devices::claim;
    PresenceWatch, Device, InTurn => devices::watch;
    Commit, Device, AtOnce => conversations::commit;
    Send, Device, AtOnce => conversations::send;
    Read, Device, InTurn => conversations::read;
    GroupInfoGet, Device, InTurn => conversations::group_info;
    Leave, Device, AtOnce => conversations::leave;
    LeavesGet, Device, InTurn => conversations::leaves;
    GroupByName, Account, InTurn => conversations::group_by_name;
    Sync, Device, InTurn => conversations::sync;
    CursorsSet, Device, AtOnce => conversations::set_cursors;
    BlobBegin, Device, AtOnce => blobs::begin;
    BlobPut, Device, AtOnce => blobs::put;
    BlobGet, Device, InTurn => blobs::get;
    BackupSet, Device, AtOnce => blobs::set_backup;
    BackupGet, Device, InTurn => blobs::backup;
    BackupDelete, Device, AtOnce => blobs::delete_backup;
}

/// A handler: called with a decoded and checked request.
trait Handler<S: Store, C: Call> {
    type Answer: Future<Output = Result<C::Answer, Failure>> + Send + 'static;
    fn call(self, ask: Ask<S>, call: C) -> Self::Answer;
}

impl<S, C, F, A> Handler<S, C> for F
where
    S: Store,
    C: Call,
    F: FnOnce(Ask<S>, C) -> A,
    A: Future<Output = Result<C::Answer, Failure>> + Send + 'static,
{
    type Answer = A;
    fn call(self, ask: Ask<S>, call: C) -> A {
        self(ask, call)
    }
}

fn read_call<C: Call>(content: &[u8]) -> Result<C, DecodeError> {
    let call: C = decode(content)?;
    call.check()?;
    Ok(call)
}

impl<S: Store> Service<S> {
    /// A service over a store whose observer is `fanout`. `seed` must be random and used once.
    #[must_use]
    pub fn new(config: ServiceConfig, store: Arc<S>, fanout: Arc<Fanout>, secrets: Secrets, seed: [u8; 32]) -> Self {
        Self::with_blobs(config, store, fanout, secrets, seed, BlobRoom::in_memory())
    }

    /// The same, with a place for blobs; [`Self::new`] keeps them in memory.
    #[must_use]
    pub fn with_blobs(
        config: ServiceConfig,
        store: Arc<S>,
        fanout: Arc<Fanout>,
        secrets: Secrets,
        seed: [u8; 32],
        room: BlobRoom,
    ) -> Self {
        let throttles = Throttles::new(&config.throttle);
        let (metrics, rng) = (Metrics::new(NAMES), Mutex::new(StdRng::from_seed(seed)));
        let landing = Landing::default();
        let core = Core { config, store, fanout, secrets, throttles, room, landing, metrics, rng };
        Self { core: Arc::new(core), next_session: AtomicU64::new(1) }
    }

    /// Begins a session: a link from `peer` that has been welcomed with `challenge` under the certificate of `fingerprint`.
    /// Pushes go to `sink`.
    pub fn open(&self, peer: IpAddr, challenge: [u8; 32], fingerprint: [u8; 32], sink: Arc<dyn Sink>) -> Session {
        let key = self.next_session.fetch_add(1, Ordering::Relaxed);
        self.core.metrics.sessions.fetch_add(1, Ordering::Relaxed);
        Session(Arc::new(Shared::new(key, AddressKey::of(peer), challenge, fingerprint, sink)))
    }

    /// Answers a request. To be called in the order in which a session's requests arrive: what must keep that order is ordered by
    /// the call, whenever the answer is polled.
    pub fn request(&self, session: &mut Session, name: &str, content: &[u8], now: Now) -> Answering {
        self.core.fanout.drained(&session.0);
        self.dispatch(session, name, content, now)
    }

    fn answer<C, H>(&self, session: &Session, rule: (Access, Pace), content: &[u8], now: Now, handler: H) -> Answering
    where
        C: Call,
        H: Handler<S, C>,
    {
        let (access, pace) = rule;
        let admitted = session.0.who().and_then(|who| {
            access.check(&who)?;
            Ok((who, read_call::<C>(content)?))
        });
        let (who, call) = match admitted {
            Ok(admitted) => admitted,
            Err(rejection) => return self.reject(C::NAME, rejection),
        };
        let core = Arc::clone(&self.core);
        let session = Arc::clone(&session.0);
        let ask = Ask { core: Arc::clone(&core), session: Arc::clone(&session), who, now_ms: now.unix_ms };
        let answering = handler.call(ask, call);
        Box::pin(async move {
            // Until the link has room for the answer, too: it waits inside this future, and nobody looks at it before.
            let _turn = match pace {
                Pace::AtOnce => None,
                Pace::InTurn => Some(session.reads.take().await),
            };
            // Most questions to the store name an account and no device. So what ends a session ends all that it has asked for too:
            // what has not begun does not begin, and what was read is not given away.
            let answer = match session.who() {
                Ok(_) => answering.await.and_then(|answer| session.who().map(|_| answer).map_err(Failure::from)),
                Err(rejection) => Err(rejection.into()),
            };
            core.note(C::NAME, answer.as_ref().err());
            answer.map(|answer| encode(&answer).into())
        })
    }

    fn reject(&self, name: &str, rejection: Rejection) -> Answering {
        let failure = Failure::Rejected(rejection);
        self.core.note(name, Some(&failure));
        Box::pin(ready(Err(failure)))
    }

    /// Takes an action. Like a request, in order of arrival; what is wrong with it is not told to anybody.
    pub fn action(&self, session: &mut Session, name: &str, content: &[u8], now: Now) {
        self.core.fanout.drained(&session.0);
        let taken = match name {
            api::Cursors::NAME => self.take_cursors(session, content, now),
            api::Signal::NAME => self.take_signal(session, content, now),
            _ => Err(Rejection::new(Code::UNKNOWN_REQUEST, "no handler of that name")),
        };
        if let Err(rejection) = taken {
            tracing::debug!(code = %rejection.code, "action refused");
        }
    }

    fn take_cursors(&self, session: &Session, content: &[u8], now: Now) -> Result<(), Rejection> {
        let who = session.0.who()?;
        Access::Device.check(&who)?;
        let api::Cursors { cursors } = decode(content)?;
        let call = api::CursorsSet { cursors };
        call.check()?;
        if let Some((_, device)) = who.device {
            let taken = self.core.throttles.cursors.take_many(&device.0, call.cursors.len(), now.unix_ms);
            taken.map_err(Rejection::rate_limited)?;
            // Cursors that are lost with a broken store are sent again with the next ones.
            drop(self.core.apply(Write::MoveCursors { device, cursors: call.cursors }));
        }
        Ok(())
    }

    fn take_signal(&self, session: &Session, content: &[u8], now: Now) -> Result<(), Rejection> {
        let who = session.0.who()?;
        Access::Device.check(&who)?;
        let signal: api::Signal = decode(content)?;
        bounded("payload", signal.payload.len(), limits::SIGNAL)?;
        if let Some((_, device)) = who.device {
            self.core.throttles.signals.take(&device.0, now.unix_ms).map_err(Rejection::rate_limited)?;
            self.core.fanout.signal(&device, &signal);
        }
        Ok(())
    }

    /// Lets go of blobs that nothing needs: references of messages stored before `before_ms` (unless messages are kept for ever), what was
    /// begun and not finished in a day, and what was stored and not named in a day. To be called from time to time.
    ///
    /// # Errors
    /// [`StoreError`]; what was not done then is done by the next call.
    pub async fn collect_blobs(&self, before_ms: Option<u64>, now: Now) -> Result<(), StoreError> {
        blobs::collect(&self.core, before_ms, now.unix_ms).await
    }

    /// The session's carrier has been lost (`up` is false) or is back. Its presence follows; it stays authenticated.
    pub fn connection(&self, session: &mut Session, up: bool, now: Now) {
        self.note_seen(session, now);
        self.core.fanout.connection(&session.0, up, now.unix_ms);
    }

    /// The session's sink, which was full, has room again.
    pub fn drained(&self, session: &Session) {
        self.core.fanout.drained(&session.0);
    }

    /// Whether a session must not end with its connection: it has shown who it is, or is about to. What strangers leave behind
    /// is worth nothing to them, and would fill the server.
    #[must_use]
    pub fn is_kept(&self, session: &Session, now: Now) -> bool {
        session.0.is_kept(now.unix_ms)
    }

    /// The session is over.
    pub fn close(&self, session: Session, now: Now) {
        self.note_seen(&session, now);
        session.0.end(Code::LINK_LOST, "the session is over");
        self.core.fanout.leave(&session.0, now.unix_ms);
        self.core.metrics.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    fn note_seen(&self, session: &Session, now: Now) {
        if let Ok(Who { device: Some((_, device)), .. }) = session.0.who() {
            drop(self.core.apply(Write::Seen { device, now_ms: now.unix_ms }));
        }
    }

    /// Counters at this moment.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.core.metrics.snapshot();
        self.core.fanout.count(&mut counters);
        counters
    }
}
