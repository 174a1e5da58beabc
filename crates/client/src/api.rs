//! The types of the SDK's interface: what callers give and get.

mod content;
mod files;

use std::path::PathBuf;

pub use parlour_e2ee::HistoryPolicy;
use parlour_wire::{
    AccountId, ConversationId, DeviceId, MessageId,
    address::ServerUrl,
    api::{Registration, Role, Suite},
};
use zeroize::Zeroizing;

pub use self::content::{
    Avatar, ConversationSummary, Draft, Imported, ImportedContact, ImportedPlace, PersonalProfile, Posted, ProfileChange,
    Reaction, Settings, Taken,
};
pub use self::files::{FetchOptions, Fetched, FileInfo, ImportedFile, Preview};
use crate::key::KeySource;

/// How to open a profile.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The profile's folder; made with mode 0700 if `create`.
    pub home: PathBuf,
    /// What opens the database.
    pub key: KeySource,
    /// Whether to make the profile if there is none.
    pub create: bool,
}

/// What a new account needs.
#[derive(Clone, Debug)]
pub struct Register {
    /// The server; with a fingerprint, its certificate must match. Without one, the system's authorities vouch for it, or it is
    /// pinned.
    pub server: ServerUrl,
    /// The name wanted.
    pub name: String,
    /// The password; never leaves this process.
    pub password: Zeroizing<String>,
    /// Invitation token, where registration is by invitation.
    pub invite: Option<String>,
    /// What the owner calls this device.
    pub label: String,
}

/// What adding this device to an account needs.
#[derive(Clone, Debug)]
pub struct Login {
    /// The server; with a fingerprint, its certificate must match. Without one, the system's authorities vouch for it, or it is
    /// pinned.
    pub server: ServerUrl,
    /// The account's name.
    pub name: String,
    /// The password; never leaves this process.
    pub password: Zeroizing<String>,
    /// What the owner calls this device.
    pub label: String,
}

/// What bringing this device into an account by recovery code needs.
#[derive(Clone, Debug)]
pub struct Recover {
    /// The server; with a fingerprint, its certificate must match. Without one, the system's authorities vouch for it, or it is
    /// pinned.
    pub server: ServerUrl,
    /// The account's name.
    pub name: String,
    /// The recovery code, however it was typed; never leaves this process.
    pub code: Zeroizing<String>,
    /// The password to be set; never leaves this process.
    pub password: Zeroizing<String>,
    /// What the owner calls this device.
    pub label: String,
    /// The other devices stay in the account. Otherwise they are ended.
    pub keep_devices: bool,
}

/// Who writes the account's backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupState {
    /// Nobody.
    Off,
    /// This device.
    Here,
    /// Another device of the account.
    Elsewhere(DeviceId),
}

/// What is known of the account's backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupStatus {
    /// Who writes it.
    pub state: BackupState,
    /// The highest version known here; 0 if none.
    pub version: u64,
    /// When this device wrote it last, Unix milliseconds; 0 if never.
    pub saved_ms: u64,
    /// Messages of this device that it does not hold as they are now.
    pub pending: u64,
    /// Packs in it, as this device wrote it.
    pub packs: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Why it could not be written the last time.
    pub trouble: Option<String>,
}

/// Who this profile is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhoAmI {
    /// The account's name at its server.
    pub name: String,
    /// The account.
    pub account: AccountId,
    /// The account's Ed25519 public key.
    pub account_key: [u8; 32],
    /// This device.
    pub device: DeviceId,
    /// What the owner calls this device.
    pub label: String,
    /// The server, with the fingerprint of its certificate if that is pinned. Without one, the system's authorities must vouch
    /// for it.
    pub server: ServerUrl,
}

/// The outcome of a registration or login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// Who this profile is.
    pub who: WhoAmI,
    /// Nobody vouched for the server's certificate, and this connection has pinned it (trust on first use).
    pub pinned_now: bool,
}

/// What a server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// How registration works.
    pub registration: Registration,
    /// Program and version.
    pub version: String,
    /// Its address, with the fingerprint of the certificate that it showed unless the system's authorities vouch for that.
    pub server: ServerUrl,
}

/// A device of one's own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Which.
    pub id: DeviceId,
    /// What the owner calls it.
    pub label: String,
    /// Whether it is this one.
    pub this: bool,
    /// Whether it is online.
    pub online: bool,
    /// When it was last at the server, Unix milliseconds; 0 if never.
    pub seen_ms: u64,
    /// When it was added, Unix milliseconds.
    pub created_ms: u64,
}

/// Whether somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A device is connected.
    Online,
    /// No device is connected.
    Offline,
    /// This client is offline, or not allowed to know.
    Unknown,
}

impl Presence {
    /// The word for it on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }
}

/// Somebody this profile knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The account: the hash of its key, so it never changes hands.
    pub account: AccountId,
    /// The name at the server.
    pub name: String,
    /// What the owner of this profile calls them.
    pub petname: Option<String>,
    /// The name to show, which is theirs alone on this profile.
    pub shown: String,
    /// Messages from and to them are refused.
    pub blocked: bool,
    /// The safety number has been compared.
    pub verified: bool,
    /// Added by the owner; otherwise they wrote first or were written to.
    pub added: bool,
    /// Whether they are there.
    pub presence: Presence,
    /// When they were last there, Unix milliseconds; 0 if not known.
    pub seen_ms: u64,
    /// The devices that may speak for them, from the pinned device list; none before it is known.
    pub devices: Vec<DeviceId>,
    /// How they would like to be called, empty if they have not said. Anybody can write anything here.
    pub display_name: String,
    /// A line about themselves; may be empty.
    pub status: String,
}

impl Contact {
    /// The name to show: the petname if there is one, or else the name at the server, as `name@host:port` if another contact was given
    /// that as petname. Either is taken wherever a name is asked for.
    #[must_use]
    pub fn shown_name(&self) -> &str {
        &self.shown
    }
}

/// How far a message has come. States only move forward, in this order, but for a message that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It will never be sent: the server has refused it for good, or its file has gone or changed. Nobody has heard of it.
    Failed = -1,
    /// Safe on this device's disk; it goes out when it can.
    Queued,
    /// Safe on the server's disk.
    Stored,
    /// Decrypted and stored by at least one device of the recipient. In a group: of every other member that was in it when the
    /// message was written and still is.
    Delivered,
    /// Shown to the recipient; in a group, to every such member.
    Read,
}

impl State {
    /// The word for it on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Queued => "queued",
            Self::Stored => "stored",
            Self::Delivered => "delivered",
            Self::Read => "read",
        }
    }
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Text in CommonMark.
    Text,
    /// A file, with text beside it or none.
    File,
    /// Something that this version cannot show; it is kept.
    Unknown,
    /// Said by this program about the conversation, such as that something could not be read.
    System,
}

impl MessageKind {
    /// The word for it on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::File => "file",
            Self::Unknown => "unknown",
            Self::System => "system",
        }
    }
}

/// A message as this profile keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Made by its sender.
    pub id: MessageId,
    /// Where.
    pub conversation: ConversationId,
    /// Who else is in a direct conversation.
    pub peer: Option<AccountId>,
    /// `#name` of the group, if it is in one.
    pub group: Option<String>,
    /// The peer's name, or the group's with its `#`, as it is to be shown.
    pub peer_name: String,
    /// The account that wrote it.
    pub sender: AccountId,
    /// The writer's name as it is to be shown.
    pub sender_name: String,
    /// The device that wrote it.
    pub device: DeviceId,
    /// Written by this account (on this or another device).
    pub outgoing: bool,
    /// What it is.
    pub kind: MessageKind,
    /// What it says; beside a file, if it is one.
    pub text: String,
    /// The file that it carries.
    pub file: Option<FileInfo>,
    /// The message that it answers.
    pub reply_to: Option<MessageId>,
    /// When its sender wrote it, Unix milliseconds (the sender's claim).
    pub sent_ms: u64,
    /// When the server stored it, Unix milliseconds.
    pub stored_ms: Option<u64>,
    /// Its number in the conversation's log.
    pub seq: Option<u64>,
    /// How far it has come; [`State::Delivered`] for what has been received.
    pub state: State,
    /// Whether it has been shown here ([`crate::Client::mark_shown`]).
    pub shown: bool,
    /// When its writer last changed it, Unix milliseconds.
    pub edited_ms: Option<u64>,
    /// Its writer has taken it back; nothing of it is left.
    pub deleted: bool,
    /// When it is deleted everywhere, Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// It names the owner of this profile.
    pub mentions_me: bool,
    /// Who shared it with this account, which came into the group later. That the writer wrote it is what they say.
    pub shared_by: Option<AccountId>,
    /// Their name as it is to be shown.
    pub shared_by_name: Option<String>,
    /// What people put beside it, oldest first; one for each emoji of each account.
    pub reactions: Vec<Reaction>,
}

/// The fate of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which message.
    pub id: MessageId,
    /// How far it has come in all.
    pub state: State,
    /// How far it has come on each device of the recipient that reported.
    pub devices: Vec<DeviceStatus>,
}

/// How far a message has come on one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceStatus {
    /// Which device.
    pub device: DeviceId,
    /// Whose device it is, if that is known.
    pub account: Option<AccountId>,
    /// Their name as it is to be shown; empty if not known.
    pub name: String,
    /// How far.
    pub state: State,
    /// When the report arrived, Unix milliseconds.
    pub at_ms: u64,
}

/// A group that this account is in, or was in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its conversation.
    pub id: ConversationId,
    /// Its name, without the `#`.
    pub name: String,
    /// What this account may do in it.
    pub role: Role,
    /// How it is encrypted: hybrid (post-quantum and classical) up to 150 devices, classical above.
    pub suite: Suite,
    /// What people who come in get of the messages before.
    pub history: HistoryPolicy,
    /// How many members it has, this account among them.
    pub members: usize,
    /// This account is in it no more.
    pub left: bool,
}

/// Somebody in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The account.
    pub account: AccountId,
    /// The name to show.
    pub name: String,
    /// The name at the server; empty if it is not known yet.
    pub user: String,
    /// What they may do.
    pub role: Role,
    /// How many devices they have, as far as known.
    pub devices: usize,
    /// Whether it is this account.
    pub this: bool,
    /// How the group is encrypted.
    pub suite: Suite,
}

/// Which part of a history. Without `before` and `after`: the newest. The bounds are message ids and are left out themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most so many messages.
    pub limit: u32,
    /// Only older ones than this; the newest of them.
    pub before: Option<MessageId>,
    /// Only newer ones than this; the oldest of them.
    pub after: Option<MessageId>,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: 50, before: None, after: None }
    }
}
