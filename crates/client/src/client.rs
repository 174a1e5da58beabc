//! The handle that callers hold: every method is one command to the core and its reply.

use std::{sync::Arc, time::Duration};

use parlour_wire::{Code, DeviceId, MessageId, address::ServerUrl, limits};
use zeroize::Zeroizing;

use crate::{
    api::{
        BackupStatus, Contact, Device, Draft, Login, Message, OpenOptions, Page, Recover, Register, ServerFacts, SignedIn, State,
        Status, WhoAmI,
    },
    core::{Command, Core, Reply},
    error::Error,
    event::Events,
    profile::Profile,
    run::{self, Driver},
};

/// How long [`Client::close`] waits for cursors, reports and the removal of ended devices to reach the server.
const CLOSE: Duration = Duration::from_secs(3);

/// A profile that is open. Clones share it; it ends with [`Client::close`] or the last clone.
///
/// The futures may be dropped at any time: what a command has put on disk stays, only its reply is lost.
#[derive(Clone)]
pub struct Client {
    driver: Arc<Driver>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Takes the reply that the core gives to a command of this kind.
macro_rules! reply {
    ($reply:expr, $pattern:pat => $value:expr) => {
        match $reply? {
            $pattern => Ok($value),
            other => Err(Error::internal(format!("the core answered {other:?}"))),
        }
    };
}

mod content;
mod files;
mod groups;

impl Client {
    /// Opens a profile, or makes it. Blocks for as long as the passphrase's key takes (about 0.2 s) and at most 2 s for
    /// another process to leave the profile. Must be called inside a tokio runtime; nothing is sent before [`Self::go_online`],
    /// [`Self::register`] or [`Self::login`].
    ///
    /// # Errors
    /// `profile_not_found`, `profile_damaged`, `profile_in_use`, `wrong_passphrase`, `read_only`, `disk_full`.
    pub fn open(options: OpenOptions) -> Result<Self, Error> {
        let profile = Profile::open(&options)?;
        let files = profile.files.clone();
        let core = Core::open(profile, run::seed()?)?;
        // Nobody else writes there yet: the profile is locked, and no command has come.
        let (folder, names) = core.kept_files()?;
        run::sweep(&folder, &names);
        Ok(Self { driver: Arc::new(Driver::start(core, files)?) })
    }

    /// What a server says about itself; needs no account.
    ///
    /// # Errors
    /// `unreachable`, `timed_out`, `certificate_changed`.
    pub async fn server_info(server: &ServerUrl, timeout: Duration) -> Result<ServerFacts, Error> {
        run::server_info(server, timeout).await
    }

    /// Listens to events from here on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.driver.events()
    }

    async fn ask(&self, command: Command) -> Result<Reply, Error> {
        self.driver.ask(command).await
    }

    async fn done(&self, command: Command) -> Result<(), Error> {
        self.ask(command).await.map(|_| ())
    }

    /// Makes an account and this device, and stays online.
    ///
    /// # Errors
    /// `name_taken`, `registration_closed`, `invite_…`, `already_exists` (the profile has an account), `unreachable`,
    /// `certificate_changed`, `usage` for a name that cannot be.
    pub async fn register(&self, register: Register) -> Result<SignedIn, Error> {
        reply!(self.ask(Command::Register(register)).await, Reply::SignedIn(signed_in) => signed_in)
    }

    /// Adds this device to an account by name and password alone, and stays online.
    ///
    /// # Errors
    /// `wrong_password`, `rate_limited`, `already_exists` (the profile has an account), `unreachable`, `certificate_changed`.
    pub async fn login(&self, login: Login) -> Result<SignedIn, Error> {
        reply!(self.ask(Command::Login(login)).await, Reply::SignedIn(signed_in) => signed_in)
    }

    /// Adds this device to an account by its recovery code, sets a new password, ends the other devices unless they are to be kept,
    /// and stays online. The code stays good. Cut short, it can be called again; at the worst the new password is set already.
    ///
    /// # Errors
    /// `usage` for a code with a mistake in typing, `wrong_password` for one that is not the account's, `rate_limited`,
    /// `already_exists` (the profile has an account), `unreachable`, `certificate_changed`.
    pub async fn recover(&self, recover: Recover) -> Result<SignedIn, Error> {
        reply!(self.ask(Command::Recover(recover)).await, Reply::SignedIn(signed_in) => signed_in)
    }

    /// Makes a recovery code and leaves its record at the server. It is told this once; the code before it is worthless from here
    /// on.
    ///
    /// # Errors
    /// `wrong_password`, `unreachable`.
    pub async fn make_recovery_code(&self, password: Zeroizing<String>) -> Result<Zeroizing<String>, Error> {
        reply!(self.ask(Command::MakeRecoveryCode { password }).await, Reply::RecoveryCode(code) => code)
    }

    /// Waits until the history that this new device wants is here, or nobody is sending one.
    ///
    /// # Errors
    /// `timed_out` (it goes on by itself), `unreachable`.
    pub async fn wait_history(&self, timeout: Duration) -> Result<(), Error> {
        self.bounded(Command::WaitHistory, timeout, "the history is not all here yet; the rest comes by itself").await.map(|_| ())
    }

    /// Lets this device write the account's backup at the server: everything once, from then on what has changed. Returns when
    /// everything is there.
    ///
    /// # Errors
    /// `unreachable`, `quota`.
    pub async fn backup_on(&self) -> Result<BackupStatus, Error> {
        reply!(self.ask(Command::BackupOn).await, Reply::Backup(status) => status)
    }

    /// Deletes the account's backup at the server.
    ///
    /// # Errors
    /// `unreachable`.
    pub async fn backup_off(&self) -> Result<(), Error> {
        self.done(Command::BackupOff).await
    }

    /// Brings the backup up to date.
    ///
    /// # Errors
    /// `forbidden` on a device that does not write it, `unreachable`, `quota`.
    pub async fn backup_now(&self) -> Result<BackupStatus, Error> {
        reply!(self.ask(Command::BackupNow).await, Reply::Backup(status) => status)
    }

    /// What is known here of the account's backup.
    ///
    /// # Errors
    /// `profile_not_found` without an account.
    pub async fn backup_status(&self) -> Result<BackupStatus, Error> {
        reply!(self.ask(Command::BackupStatus).await, Reply::Backup(status) => status)
    }

    /// Takes the account's backup in. What is here already stays as it is.
    ///
    /// # Errors
    /// `file_not_found` if there is none, `server_misbehaved` for one that is not the account's or older than one known of.
    pub async fn restore_backup(&self) -> Result<(), Error> {
        self.done(Command::RestoreBackup).await
    }

    /// Keeps a text that has not been sent, here and on the account's other devices; an empty one takes it away.
    ///
    /// # Errors
    /// `user_not_found`, `conversation_not_found`, `too_large`.
    pub async fn set_draft(&self, to: &str, text: &str) -> Result<(), Error> {
        self.done(Command::SetDraft { to: to.to_owned(), text: text.to_owned() }).await
    }

    /// The text that has not been sent; empty if there is none.
    ///
    /// # Errors
    /// `user_not_found`, `conversation_not_found`.
    pub async fn draft(&self, to: &str) -> Result<String, Error> {
        reply!(self.ask(Command::Draft(to.to_owned())).await, Reply::Draft(text) => text)
    }

    /// Connects and keeps the connection. Returns when this device is authenticated, or with the reason of the first failure
    /// (the client goes on trying after it if trying helps).
    ///
    /// # Errors
    /// `profile_not_found` without an account; `unreachable`, `certificate_changed`, `device_revoked`.
    pub async fn go_online(&self) -> Result<(), Error> {
        self.done(Command::GoOnline).await
    }

    /// Waits until everything that the server had is here and the outbox has been tried.
    ///
    /// # Errors
    /// `timed_out`; `unreachable` at once when there is no connection.
    pub async fn wait_synced(&self, timeout: Duration) -> Result<(), Error> {
        self.bounded(Command::WaitSynced, timeout, "the server has not sent everything yet").await.map(|_| ())
    }

    /// Leaves the account: the server forgets this device, its keys are deleted. History and contacts stay and open again
    /// with a login to the same account.
    ///
    /// # Errors
    /// `unreachable` when offline, `profile_not_found` without an account.
    pub async fn logout(&self) -> Result<(), Error> {
        self.done(Command::Logout).await
    }

    /// Changes the password; the sessions of other devices end, their keys stay.
    ///
    /// # Errors
    /// `wrong_password`, `unreachable`.
    pub async fn change_password(&self, old: Zeroizing<String>, new: Zeroizing<String>) -> Result<(), Error> {
        self.done(Command::ChangePassword { old, new }).await
    }

    /// Who this profile is; `None` without an account.
    pub async fn whoami(&self) -> Option<WhoAmI> {
        match self.ask(Command::WhoAmI).await {
            Ok(Reply::WhoAmI(who)) => who,
            _ => None,
        }
    }

    /// The account's devices; asks the server when online, else as last known.
    ///
    /// # Errors
    /// `profile_not_found` without an account.
    pub async fn devices(&self) -> Result<Vec<Device>, Error> {
        reply!(self.ask(Command::Devices).await, Reply::Devices(devices) => devices)
    }

    /// Ends another device of the account. It is taken out of the conversations at once, which [`Self::close`] waits for; where that
    /// takes longer, it goes on in the next session, and nothing is written to the device in any case.
    ///
    /// # Errors
    /// `wrong_password`, `device_not_found`, `unreachable`, `usage` for this device itself.
    pub async fn revoke_device(&self, device: DeviceId, password: Zeroizing<String>) -> Result<(), Error> {
        self.done(Command::RevokeDevice { device, password }).await
    }

    /// All contacts, by name.
    ///
    /// # Errors
    /// Only of the local database.
    pub async fn contacts(&self) -> Result<Vec<Contact>, Error> {
        reply!(self.ask(Command::Contacts).await, Reply::Contacts(contacts) => contacts)
    }

    /// Adds a contact by name. Asks the server who that is.
    ///
    /// # Errors
    /// `user_not_found`, `unreachable`, `key_changed` if the name is known under another key.
    pub async fn add_contact(&self, to: &str) -> Result<Contact, Error> {
        reply!(self.ask(Command::AddContact(to.to_owned())).await, Reply::Contact(contact) => contact)
    }

    /// Takes a contact from the list and forgets its verification; the history stays.
    ///
    /// # Errors
    /// `user_not_found`.
    pub async fn remove_contact(&self, to: &str) -> Result<(), Error> {
        self.done(Command::RemoveContact(to.to_owned())).await
    }

    /// Refuses messages from and to somebody, or takes them again.
    ///
    /// # Errors
    /// `user_not_found`, `unreachable`.
    pub async fn block(&self, to: &str, blocked: bool) -> Result<Contact, Error> {
        reply!(self.ask(Command::Block { to: to.to_owned(), blocked }).await, Reply::Contact(contact) => contact)
    }

    /// Gives a contact a petname; an empty one takes it away.
    ///
    /// # Errors
    /// `user_not_found`; `already_exists` if another contact goes by it.
    pub async fn rename_contact(&self, to: &str, petname: &str) -> Result<Contact, Error> {
        let command = Command::RenameContact { to: to.to_owned(), petname: petname.to_owned() };
        reply!(self.ask(command).await, Reply::Contact(contact) => contact)
    }

    /// Contacts whose name or petname contains `text`, whatever its case.
    ///
    /// # Errors
    /// Only of the local database.
    pub async fn search_contacts(&self, text: &str) -> Result<Vec<Contact>, Error> {
        reply!(self.ask(Command::SearchContacts(text.to_owned())).await, Reply::Contacts(contacts) => contacts)
    }

    /// The Ed25519 account key of a contact.
    ///
    /// # Errors
    /// `user_not_found`, `unreachable`.
    pub async fn contact_key(&self, to: &str) -> Result<[u8; 32], Error> {
        reply!(self.ask(Command::ContactKey(to.to_owned())).await, Reply::Key(key) => key)
    }

    /// The safety number with a contact: 60 digits, the same on both sides; and whether it has been compared.
    ///
    /// # Errors
    /// `user_not_found`, `unreachable`, `profile_not_found` without an account.
    pub async fn safety_number(&self, to: &str) -> Result<(String, bool), Error> {
        let reply = self.ask(Command::SafetyNumber(to.to_owned())).await;
        reply!(reply, Reply::Safety(number, verified) => (number, verified))
    }

    /// Notes that the safety number has been compared, or takes that back.
    ///
    /// # Errors
    /// `user_not_found`, `unreachable`.
    pub async fn set_verified(&self, to: &str, verified: bool) -> Result<Contact, Error> {
        let command = Command::SetVerified { to: to.to_owned(), verified };
        reply!(self.ask(command).await, Reply::Contact(contact) => contact)
    }

    /// Writes to somebody, or to a `#group`. When this returns, the message is safe on disk ([`State::Queued`] or further) and goes out as soon
    /// as it can, also after a restart.
    ///
    /// A text of more than 64 KiB becomes a file, `message.md`, with its beginning beside it; it is kept here, sealed, so that
    /// [`Self::fetch_file`] gives it back without a server. Above 16 MiB it is refused: [`Self::send_file`] does not hold it in memory.
    ///
    /// # Errors
    /// `user_not_found`; `unreachable` when the name is not known here and the server cannot be asked (nothing is queued);
    /// `conversation_not_found` for a group that is not known here, `not_member` for one that this account is in no more;
    /// `message_not_found` for an answer to what is not in the conversation; `key_changed`, `blocked`, `too_large`, `disk_full`,
    /// `profile_not_found` without an account.
    pub async fn send(&self, to: &str, text: &str, reply_to: Option<MessageId>) -> Result<Message, Error> {
        if text.len() > limits::MESSAGE_INLINE {
            return files::write_long(self, to, Draft { text: text.to_owned(), reply_to, expires: None }).await;
        }
        let command = Command::Send { to: to.to_owned(), text: text.to_owned(), reply_to };
        reply!(self.ask(command).await, Reply::Message(message) => message)
    }

    /// Waits until a message of this account has come as far as `state`; returns how far it is then.
    ///
    /// # Errors
    /// `timed_out` (the message stays queued), `message_not_found`.
    pub async fn wait_state(&self, id: MessageId, state: State, timeout: Duration) -> Result<State, Error> {
        let command = Command::WaitState { id, state };
        let what = format!("the message has not been {} yet; it is kept and goes on by itself", state.word());
        reply!(self.bounded(command, timeout, &what).await, Reply::State(state) => state)
    }

    /// Received messages that have not been shown, oldest first.
    ///
    /// # Errors
    /// `user_not_found` for `from`.
    pub async fn unshown(&self, from: Option<&str>, limit: u32) -> Result<Vec<Message>, Error> {
        let command = Command::Unshown { from: from.map(str::to_owned), limit };
        reply!(self.ask(command).await, Reply::Messages(messages) => messages)
    }

    /// Notes that messages have been shown, and lets their senders know (encrypted, batched).
    ///
    /// # Errors
    /// Only of the local database.
    pub async fn mark_shown(&self, ids: &[MessageId]) -> Result<(), Error> {
        self.done(Command::MarkShown(ids.to_vec())).await
    }

    /// A part of the history with somebody, oldest first.
    ///
    /// # Errors
    /// `user_not_found`; `message_not_found` for a bound that is not in this history.
    pub async fn history(&self, to: &str, page: Page) -> Result<Vec<Message>, Error> {
        reply!(self.ask(Command::History { to: to.to_owned(), page }).await, Reply::Messages(messages) => messages)
    }

    /// The fate of one message.
    ///
    /// # Errors
    /// `message_not_found`.
    pub async fn status(&self, id: MessageId) -> Result<Status, Error> {
        reply!(self.ask(Command::Status(id)).await, Reply::Status(status) => status)
    }

    /// Drops the connection. The session is restored at once; nothing is lost by it.
    ///
    /// # Errors
    /// Only if the client is closed.
    pub async fn cut(&self) -> Result<(), Error> {
        self.done(Command::Cut).await
    }

    /// Tells the server how far this device is, sends waiting reports, takes ended devices out, and disconnects; at most 3 seconds. Everything is on
    /// disk before and after.
    ///
    /// # Errors
    /// Only of the local database.
    pub async fn close(&self) -> Result<(), Error> {
        let outcome = self.bounded(Command::Close, CLOSE, "the server did not answer").await;
        self.driver.stop().await;
        match outcome {
            Err(error) if !error.is_transient() => Err(error),
            _ => Ok(()),
        }
    }

    async fn bounded(&self, command: Command, timeout: Duration, what: &str) -> Result<Reply, Error> {
        match tokio::time::timeout(timeout, self.ask(command)).await {
            Ok(reply) => reply,
            Err(_) => Err(Error::new(Code::TIMED_OUT, format!("after {} s: {what}", timeout.as_secs_f32()))),
        }
    }
}
