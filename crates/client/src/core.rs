//! The machine behind a client: every decision, no socket, no clock, no task.
//!
//! A core owns the profile's database and its encryption engine. [`Core::handle`] takes one [`Input`], does its work in one
//! transaction, and gives out [`Output`]s only when that transaction is on disk. What cannot be put on disk has not happened:
//! the transaction is taken back, nothing is given out, and what came from the server is read again later.
//!
//! What is kept in memory (the `Session`) can be lost at any moment without harm: after a restart everything is found
//! again from the database and the server.
//!
//! - `enrol`: registration, login, password change, revocation. `auth`: authentication as a device, logout.
//! - `sync`: what there is at the server; reading logs. `receive`: taking entries. `welcome`: joining.
//! - `target`, `compose`: whom a word means, and writing. `content`: what messages say. `changes`: reactions, edits, deletes. `expiry`: their end.
//! - `profiles`, `import`, `typing`: as they say.
//! - `send`: the outbox. `commit`: making direct conversations and keeping devices in line. `gather`: key packages of who comes in.
//! - `groups`: commands about groups. `intents`: doing what they ask for. `membership`: what commits did to a group. `size`: its suite.
//! - `siblings`: what own devices tell each other (`own`). `handover`, `parcels`, `pack`: histories for new devices. `backup`.
//! - `shares`: earlier messages for people who come into a group.
//! - `doubt`: what a server or a member says that does not fit.
//! - `contacts`, `devices`, `presence`, `reports`, `query`: as they say.

mod auth;
mod backup;
mod changes;
mod commit;
mod compose;
mod contacts;
mod content;
mod departed;
mod devices;
mod doubt;
mod enrol;
mod expiry;
mod gather;
mod groups;
mod handover;
mod import;
mod input;
mod intents;
mod membership;
pub(crate) mod own;
pub(crate) mod pack;
mod parcels;
mod presence;
mod profiles;
mod query;
mod receive;
mod reports;
mod send;
mod session;
mod shares;
mod siblings;
#[cfg(feature = "sim")]
pub mod sim;
mod size;
mod sweep;
mod sync;
mod target;
#[cfg(test)]
mod testing;
mod transfer;
mod transfers;
mod typing;
mod welcome;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use parlour_e2ee::Engine;
use parlour_wire::{AccountId, BlobId, Code, MessageId, address::ServerUrl, api::Call};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

pub use self::groups::GroupCommand;
pub use self::input::{Command, Input, Now, Output, Reply, RequestId, Ticket};
use self::session::{Pending, Phase, Session, Timer, Waiters};
use self::size::Sizes;
pub use self::transfer::{Fetch, LocalFile, Order, Outcome, TransferId, Transferred};
use self::transfers::Transfers;
use crate::{
    error::Error,
    event::Event,
    profile::Profile,
    store::{Account, Store},
};

/// The machine. See the module's documentation.
pub struct Core {
    store: Store,
    /// Present while this profile has a device.
    engine: Option<Engine>,
    /// The account row, as it is in the database.
    account: Option<Account>,
    rng: StdRng,
    session: Session,
    waiters: Waiters,
    transfers: Transfers,
    sizes: Sizes,
    /// What the current step wants done, once it is on disk.
    outputs: Vec<Output>,
    /// Requests that the current step makes; forgotten if it does not reach the disk.
    issued: Vec<RequestId>,
    next_request: u64,
    now: Now,
    /// When the next message expires, Unix milliseconds.
    next_expiry: Option<u64>,
    /// What the last run left over has been cleared away.
    swept: bool,
    /// Keeps the lock.
    profile: Profile,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Core {
    /// Opens the database of a profile. Ids and pauses come from `seed`; keys and ciphertexts get
    /// their randomness from the operating system.
    ///
    /// # Errors
    /// `profile_damaged`, `read_only`, `disk_full`, `incompatible` for a profile of a newer version.
    pub fn open(profile: Profile, seed: [u8; 32]) -> Result<Self, Error> {
        let store = Store::open(&profile.database, &profile.key)?;
        let mut core = Self {
            account: None,
            engine: None,
            store,
            rng: StdRng::from_seed(seed),
            session: Session::default(),
            waiters: Waiters::default(),
            transfers: Transfers::default(),
            sizes: Sizes::default(),
            outputs: Vec::new(),
            issued: Vec::new(),
            next_request: 1,
            now: Now { unix_ms: 0, steady: Duration::ZERO },
            next_expiry: None,
            swept: false,
            profile,
        };
        core.load_account()?;
        core.load_expiry()?;
        Ok(core)
    }

    /// The profile's folder for files, which need not be there, and the names of what messages have in it. Whatever else it has is left over from
    /// runs that ended too early; it has to go before the first input, for later there is what no message has yet.
    ///
    /// # Errors
    /// `profile_damaged`.
    pub fn kept_files(&self) -> Result<(PathBuf, BTreeSet<String>), Error> {
        let names = self.store.kept_files()?.iter().map(BlobId::to_string).collect();
        Ok((self.profile.files.clone(), names))
    }

    /// Takes one input in one transaction; gives what is to be done once that is on disk.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Output> {
        self.now = now;
        let is_command = matches!(input, Input::Command(..));
        let tickets = self.session.tickets(&input);
        match self.step(input).and_then(|()| self.store.commit()) {
            Ok(()) => {
                self.swept = true;
                if let Some(engine) = &mut self.engine {
                    engine.committed();
                }
            }
            Err(error) => self.take_back(is_command, tickets, &error),
        }
        self.issued.clear();
        std::mem::take(&mut self.outputs)
    }

    /// When [`Input::Tick`] is due, on the steady clock; `None` if nothing is.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let timers = (!self.session.timers_wait()).then(|| self.session.timers.values().copied());
        timers.into_iter().flatten().chain(self.expiry_deadline()).min()
    }

    fn step(&mut self, input: Input) -> Result<(), Error> {
        self.store.begin()?;
        self.expire()?;
        self.dispatch(input)?;
        self.run_timers()?;
        self.pump()
    }

    fn dispatch(&mut self, input: Input) -> Result<(), Error> {
        match input {
            Input::Command(ticket, command) => self.command(ticket, command),
            Input::Abandon(ticket) => {
                self.waiters.abandon(ticket);
                self.abandon_download(ticket);
                Ok(())
            }
            Input::Up { resumed, challenge, fingerprint, trusted_by_system } => {
                self.link_up(resumed, challenge, (fingerprint, trusted_by_system))
            }
            Input::Down { error, retry_in } => self.link_down(&error, retry_in),
            Input::Answer(id, result) => match self.session.inflight.remove(&id) {
                Some(pending) => self.answered(pending, result),
                None => Ok(()),
            },
            Input::Transferred(id, outcome) => self.transferred(id, outcome),
            Input::Push { name, content } => self.pushed(&name, &content),
            Input::Tick => Ok(()),
        }
    }

    /// The step has not happened: whoever would have heard of it hears why. A refused command leaves no trace; a failing disk
    /// leaves the session's memory doubtful, so it is built anew from the database after a pause.
    fn take_back(&mut self, is_command: bool, mut tickets: Vec<Ticket>, error: &Error) {
        self.store.rollback();
        if let Some(engine) = &mut self.engine {
            engine.rolled_back();
        }
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Reply(ticket, _) if !tickets.contains(&ticket) => tickets.push(ticket),
                Output::Transfer(order) => self.transfers.ended(order.id()),
                _ => {}
            }
        }
        // Read anew, because the step may have deleted or made the first one.
        self.next_expiry = self.store.next_expiry().unwrap_or(Some(self.now.unix_ms));
        if !is_command || error.is_local() {
            self.session.start_over();
            self.set_timer(Timer::Restart, RESTART);
            // A step that changed who we are may be among those taken back.
            if let Err(error) = self.load_account() {
                self.event(Event::Trouble(error));
            }
        }
        if !is_command {
            self.event(Event::Trouble(error.clone()));
        }
        for ticket in tickets {
            self.reply(ticket, Err(error.clone()));
        }
    }

    /// Reads who this profile is and makes its engine.
    fn load_account(&mut self) -> Result<(), Error> {
        self.account = self.store.account()?;
        self.engine = match &self.account {
            Some(account) => auth::engine(account)?,
            None => None,
        };
        Ok(())
    }

    fn pushed(&mut self, name: &str, content: &[u8]) -> Result<(), Error> {
        use parlour_wire::api::{DevicesChanged, Entries, Lagging, Notice as _, Presence, Signal, Welcome};
        if self.session.phase != Phase::Ready {
            return Ok(());
        }
        match name {
            Entries::NAME => self.take_push(parlour_wire::decode::<Entries>(content)?.entries),
            Welcome::NAME => self.take_welcome(parlour_wire::decode(content)?),
            Lagging::NAME => {
                // What was left out may have been of devices.
                self.session.current.clear();
                self.start_sync()
            }
            Signal::NAME => self.take_signal(&parlour_wire::decode(content)?),
            Presence::NAME => self.take_presence(&parlour_wire::decode(content)?),
            DevicesChanged::NAME => self.devices_changed(&parlour_wire::decode(content)?),
            other => {
                tracing::debug!(name = other, "a push that this version does not know");
                Ok(())
            }
        }
    }

    fn answered(&mut self, pending: Pending, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        if let Err(error) = &result
            && auth::ends_device(error.code)
            && !matches!(pending, Pending::Enrol)
        {
            return self.signed_out(true, error.clone());
        }
        match pending {
            Pending::Enrol => self.enrol_answered(result),
            Pending::Auth => self.auth_answered(result),
            Pending::Sync => self.sync_answered(result),
            Pending::Read(conversation) => self.read_answered(conversation, result),
            Pending::Outbox(id) => self.outbox_answered(&id, result),
            Pending::GroupInfo(conversation) => self.group_info_answered(conversation, result),
            Pending::Leaves(conversation) => self.leaves_answered(conversation, result),
            Pending::Claim(conversation, account, suite) => self.claim_answered(conversation, (account, suite), result),
            Pending::Publish(suite) => self.published(suite, result),
            Pending::ByName(name, then) => self.name_answered(&name, then, result),
            Pending::ById(account) => self.account_answered(account, result),
            Pending::Presence => self.presence_answered(result),
            Pending::Cursors => self.cursors_answered(result),
            Pending::Devices(ticket) => self.devices_answered(ticket, result),
            Pending::Logout(ticket) => self.logout_answered(ticket, result),
            Pending::GroupByName(ticket, _) => self.group_exists_answered(ticket, result),
            Pending::Siblings => self.siblings_answered(result),
            Pending::Upload(blob) => self.upload_answered(&blob, result),
            Pending::Intake(blob, offset) => self.intake_answered((&blob, offset), result),
            Pending::Crumb(blob) => self.crumb_answered(&blob, result),
            Pending::BackupSet(version) => self.backup_set(version, result),
            Pending::BackupVersion => self.backup_version(result),
            Pending::BackupGet(ticket) => self.backup_answered(ticket, result),
            Pending::BackupDelete(ticket) => self.backup_deleted(ticket, result),
        }
    }

    fn run_timers(&mut self) -> Result<(), Error> {
        if self.session.timers_wait() {
            return Ok(());
        }
        let due: Vec<Timer> =
            self.session.timers.iter().filter(|(_, at)| **at <= self.now.steady).map(|(timer, _)| timer.clone()).collect();
        for timer in due {
            self.session.timers.remove(&timer);
            match timer {
                Timer::Cursors => self.send_cursors(),
                Timer::Restart => self.restart()?,
                Timer::Retry(conversation) => {
                    self.session.resting.remove(&conversation);
                    if let Some(account) = self.session.blocked.get(&conversation).copied() {
                        self.look_up_account(account)?;
                    }
                    self.session.dirty.insert(conversation);
                }
                Timer::Maintain(conversation) => self.maintain(&conversation)?,
                Timer::Transfers => self.session.transfers_rest = false,
                Timer::Room => self.look_for_room()?,
                Timer::WarmUp(conversation) => self.warm_up(&conversation)?,
                Timer::Handover(ask) => self.offer_handover(ask)?,
                Timer::Ask => {
                    self.session.asks_anyway = true;
                    self.tend_history()?;
                }
                Timer::History => self.history_due()?,
                Timer::Parcels => {
                    self.pump_parcels()?;
                    self.tend_history()?;
                    self.tend_shares()?;
                    self.tend_backup()?;
                }
                Timer::Backup => self.tend_backup()?,
            }
        }
        Ok(())
    }

    /// Does what can be done: the idempotent heart of the core. Everything that waits for a reason is found here again.
    fn pump(&mut self) -> Result<(), Error> {
        if self.session.is_usable() {
            while let Some(conversation) = self.session.dirty.pop_first() {
                self.pump_conversation(&conversation)?;
            }
            self.watch_presence()?;
            self.pump_key_packages()?;
        }
        self.pump_transfers()?;
        self.settle_history()?;
        self.settle_waiters()?;
        // A command that has just gone on may have left something to do.
        if self.session.is_usable() && !self.session.dirty.is_empty() { self.pump() } else { Ok(()) }
    }

    /// Makes a request; the answer comes back with `pending`.
    fn request<C: Call>(&mut self, call: &C, pending: Pending) -> Result<(), Error> {
        call.check().map_err(|error| Error::internal(format!("{}: {error}", C::NAME)))?;
        self.request_bytes(C::NAME, parlour_wire::encode(call), pending);
        Ok(())
    }

    fn request_bytes(&mut self, name: &'static str, content: Vec<u8>, pending: Pending) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.session.inflight.insert(id, pending);
        self.issued.push(id);
        self.outputs.push(Output::Request { id, name, content });
    }

    fn event(&mut self, event: Event) {
        self.outputs.push(Output::Event(event));
    }

    fn trouble(&mut self, error: Error) {
        self.event(Event::Trouble(error));
    }

    fn reply(&mut self, ticket: Ticket, result: Result<Reply, Error>) {
        self.outputs.push(Output::Reply(ticket, result));
    }

    fn set_timer(&mut self, timer: Timer, after: Duration) {
        let at = self.now.steady + after;
        self.session.timers.entry(timer).or_insert(at);
    }

    /// A random span between two bounds, so that many devices do not act at once.
    fn jitter(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.rng.gen_range(from_ms..to_ms))
    }

    fn new_id(&mut self) -> MessageId {
        MessageId::new(self.now.unix_ms, &self.rng.r#gen())
    }

    /// The account, if this profile has a device.
    fn signed_in(&self) -> Result<&Account, Error> {
        match &self.account {
            Some(account) if account.device_secret.is_some() => Ok(account),
            Some(Account { revoked: true, name, .. }) => {
                let message =
                    format!("this device is no longer one of {name}'s, whose other devices or recovery code have ended it");
                Err(Error::new(Code::DEVICE_REVOKED, message).hint("`login` adds it again; history and contacts are kept"))
            }
            _ => Err(Error::new(Code::PROFILE_NOT_FOUND, "this profile has no account")
                .hint("make one with `register`, or add this device to one with `login`")),
        }
    }

    fn me(&self) -> Result<AccountId, Error> {
        self.signed_in().map(|account| account.account)
    }

    /// The engine beside the database that holds its rows.
    fn engine(&mut self) -> Result<(&mut Engine, &Store), Error> {
        let engine = self.engine.as_mut().ok_or_else(|| Error::internal("no device, no engine"))?;
        Ok((engine, &self.store))
    }

    fn server_url(&self) -> Result<ServerUrl, Error> {
        self.signed_in()?.server.parse().map_err(Error::internal)
    }
}

/// Pause after a step that the disk refused.
const RESTART: Duration = Duration::from_secs(2);

/// What tests look at or break.
#[cfg(test)]
impl Core {
    pub(crate) fn enrol_for_test(&mut self, account: &Account, list: &parlour_wire::identity::VerifiedList) {
        self.store.set_account(account).expect("a database");
        self.store.pin(list).expect("a database");
        self.load_account().expect("a database");
    }

    /// As after a login.
    pub(crate) fn want_history_for_test(&mut self) {
        self.want_history().expect("a database");
    }

    /// Says anything in any conversation, as a device that does not keep to the rules would.
    pub(crate) fn say_in_for_test(&mut self, conversation: &parlour_wire::ConversationId, body: parlour_wire::content::Body) {
        let (id, content) = (self.new_id(), parlour_wire::content::Content::new(self.now.unix_ms, body));
        self.store.begin().expect("a database");
        let kind = crate::store::OutboxKind::Report;
        assert!(self.seal_content(conversation, id, &content, kind).expect("a conversation"), "it can be said");
        self.store.commit().expect("a database");
        if let Some(engine) = &mut self.engine {
            engine.committed();
        }
        self.session.dirty.insert(*conversation);
    }

    /// Puts messages into the history, as if they had come long ago.
    pub(crate) fn fill_for_test(&mut self, peer: &AccountId, count: u32) {
        use crate::core::pack::PackedMessage;
        let me = self.me().expect("an account");
        let conversation = parlour_wire::ConversationId::direct(&me, peer);
        self.store.begin().expect("a database");
        self.store.direct_conversation(&conversation, peer).expect("a database");
        for n in 0..count {
            let sender = if n % 2 == 0 { me } else { *peer };
            let message = PackedMessage {
                id: MessageId::new(u64::from(n), &self.rng.r#gen()),
                conversation: 0,
                sender,
                device: parlour_wire::DeviceId([1; 16]),
                kind: 0,
                body: format!("old {n}"),
                reply_to: None,
                sent_ms: u64::from(n),
                stored_ms: Some(u64::from(n)),
                seq: None,
                state: 2,
                shown: n % 3 != 0,
                content: None,
                edited_ms: None,
                deleted: false,
                expires_ms: None,
                mentions_me: false,
                reactions: Vec::new(),
                shared_by: None,
            };
            let position = i64::from(n) - i64::from(count) - 1_000_000;
            assert!(self.store.put_packed(position, (&conversation, sender == me), &message).expect("a database"));
        }
        self.store.commit().expect("a database");
    }

    pub(crate) fn wanted_for_test(&self) -> bool {
        self.store.wanted().expect("a database").is_some()
    }

    pub(crate) fn device_for_test(&self) -> parlour_wire::DeviceId {
        self.account.as_ref().expect("an account").device
    }

    pub(crate) fn contact_for_test(&self, name: &str) -> crate::store::ContactRow {
        self.store.contact_by_name("", name).expect("a database").expect("a contact")
    }

    pub(crate) fn update_contact_for_test(&self, contact: &crate::store::ContactRow) {
        self.store.update_contact(contact).expect("a database");
    }

    /// The last entry taken of the only conversation.
    pub(crate) fn head_for_test(&self) -> u64 {
        self.store.conversations().expect("a database")[0].seq
    }

    /// The only group, and the home's epoch of it here.
    pub(crate) fn group_for_test(&mut self) -> (parlour_wire::ConversationId, u64) {
        let mut all = self.store.conversations().expect("a database").into_iter();
        let id = all.find(crate::store::Conversation::is_group).expect("a group").id;
        let (engine, store) = self.engine().expect("an engine");
        (id, engine.epoch(store, &id).expect("in the group"))
    }

    pub(crate) fn fill_disk_for_test(&self, full: bool) {
        let pages = if full { self.store.page_count() } else { u32::MAX };
        self.store.limit_pages(pages);
    }
}
