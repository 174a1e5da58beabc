//! What goes into the core and what comes out of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use parlour_wire::{ConversationId, MessageId, address::ServerUrl, content::Attachment};
use zeroize::Zeroizing;

use super::{Fetch, GroupCommand, LocalFile, Order, Outcome, TransferId};
use crate::{
    api::{
        BackupStatus, Contact, ConversationSummary, Device, Draft, Fetched, Group, GroupMember, Imported, ImportedContact, Login,
        Message, Page, PersonalProfile, Posted, ProfileChange, Recover, Register, Settings, SignedIn, State, Status, WhoAmI,
    },
    error::Error,
    event::Event,
};

/// The two clocks, read by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Unix time in milliseconds; may jump.
    pub unix_ms: u64,
    /// Time since an arbitrary start; never goes back.
    pub steady: Duration,
}

/// Names a command until its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Names a request until its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What a caller wants. Each has one [`Reply`], sometimes much later.
#[derive(Clone, Debug)]
pub enum Command {
    /// Make an account.
    Register(Register),
    /// Add this device to an account.
    Login(Login),
    /// Add this device to an account by recovery code, and set a new password.
    Recover(Recover),
    /// Make a recovery code; the one before it is worthless then.
    MakeRecoveryCode {
        /// The account's password.
        password: Zeroizing<String>,
    },
    /// Reply when the history of a new device is here, or nobody is sending one.
    WaitHistory,
    /// Write the account's backup from this device, and reply when it holds everything.
    BackupOn,
    /// Delete the account's backup.
    BackupOff,
    /// Reply when the backup holds everything that this device has.
    BackupNow,
    /// What is known of the backup.
    BackupStatus,
    /// Take the backup in, and reply when that is done.
    RestoreBackup,
    /// Keep a text that has not been sent.
    SetDraft {
        /// For whom.
        to: String,
        /// The text; empty for none.
        text: String,
    },
    /// The text that has not been sent.
    Draft(String),
    /// Connect and stay connected.
    GoOnline,
    /// Reply when everything at the server is here and the outbox has been tried.
    WaitSynced,
    /// Leave the account.
    Logout,
    /// Change the password.
    ChangePassword {
        /// The one in force.
        old: Zeroizing<String>,
        /// The next one.
        new: Zeroizing<String>,
    },
    /// Who this profile is.
    WhoAmI,
    /// The account's devices.
    Devices,
    /// End a device.
    RevokeDevice {
        /// Its id, or a unique beginning of it.
        device: parlour_wire::DeviceId,
        /// The account's password.
        password: Zeroizing<String>,
    },
    /// All contacts.
    Contacts,
    /// Add somebody.
    AddContact(String),
    /// Forget somebody; their history stays.
    RemoveContact(String),
    /// Refuse messages, or take them again.
    Block {
        /// Whom.
        to: String,
        /// Whether to refuse.
        blocked: bool,
    },
    /// Give somebody a petname.
    RenameContact {
        /// Whom.
        to: String,
        /// The petname; empty for none.
        petname: String,
    },
    /// Contacts whose names contain a text.
    SearchContacts(String),
    /// A contact's public key.
    ContactKey(String),
    /// The safety number with a contact.
    SafetyNumber(String),
    /// Say that the safety number has been compared.
    SetVerified {
        /// Whose.
        to: String,
        /// Whether it has.
        verified: bool,
    },
    /// Something about groups.
    Group(GroupCommand),
    /// Write to somebody, or to a group.
    Send {
        /// To whom.
        to: String,
        /// CommonMark.
        text: String,
        /// The message that this one answers.
        reply_to: Option<MessageId>,
    },
    /// The same, with all that a message can have.
    Write {
        /// To whom.
        to: String,
        /// What.
        draft: Draft,
    },
    /// Send a file, with what is said beside it.
    SendFile {
        /// To whom.
        to: String,
        /// What is said; may be empty.
        draft: Draft,
        /// The file.
        file: LocalFile,
    },
    /// The same with a file that lies sealed in the profile's folder, under the name of its blob.
    SendKept {
        /// To whom.
        to: String,
        /// Which message it answers, and until when it is there; what is said stands with the file.
        draft: Draft,
        /// The file.
        attachment: Box<Attachment>,
    },
    /// Bring a file here.
    FetchFile {
        /// Of which message.
        id: MessageId,
        /// Where to.
        fetch: Fetch,
    },
    /// The owner of this profile types.
    Typing(String),
    /// Put an emoji beside a message, or take it away.
    React {
        /// Which message.
        id: MessageId,
        /// The emoji.
        emoji: String,
        /// Take it away.
        remove: bool,
    },
    /// Change what a message of one's own says.
    Edit {
        /// Which message.
        id: MessageId,
        /// What it says from here on.
        text: String,
    },
    /// Take back a message of one's own.
    Delete(MessageId),
    /// Reply when a message has come so far.
    WaitState {
        /// Which message.
        id: MessageId,
        /// How far.
        state: State,
    },
    /// Received messages that have not been shown.
    Unshown {
        /// Only from this contact.
        from: Option<String>,
        /// At most so many.
        limit: u32,
    },
    /// Messages have been shown.
    MarkShown(Vec<MessageId>),
    /// A part of a history.
    History {
        /// With whom.
        to: String,
        /// Which part.
        page: Page,
    },
    /// Everything in a conversation has been shown, up to a message or all of it.
    MarkRead {
        /// With whom.
        to: String,
        /// The last one.
        up_to: Option<MessageId>,
    },
    /// A part of the history of a conversation.
    Page {
        /// Which.
        conversation: ConversationId,
        /// Which part.
        page: Page,
    },
    /// Which conversation somebody's name means.
    Target(String),
    /// The conversations, the one with the newest message first.
    Conversations,
    /// Messages that hold words, newest first.
    Search {
        /// The words.
        text: String,
        /// Only those with this contact.
        within: Option<String>,
        /// At most so many.
        limit: u32,
    },
    /// The message whose id begins with this.
    Find(String),
    /// What somebody says about themselves; `None` asks about the owner of the profile.
    Profile(Option<String>),
    /// Change what is said about the owner of the profile.
    SetProfile(ProfileChange),
    /// What the owner has chosen.
    Settings,
    /// Whether others are told that their messages have been shown.
    SetReadReceipts(bool),
    /// Whether others are told that their messages have arrived.
    SetDeliveryReceipts(bool),
    /// One message.
    Message(MessageId),
    /// Which of these messages are not here.
    Missing(BTreeSet<MessageId>),
    /// Take in messages from an export, with the files that are in the profile's folder for them.
    Import(Vec<Imported>, BTreeMap<MessageId, Attachment>),
    /// Take in what the owner said about people, from an export.
    ImportContacts(Vec<ImportedContact>),
    /// The fate of a message.
    Status(MessageId),
    /// Drop the connection; it is restored at once.
    Cut,
    /// Say what is left to say and disconnect.
    Close,
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// Registered or logged in.
    SignedIn(SignedIn),
    /// A file that is on disk now.
    Fetched(Fetched),
    /// What is known of the backup.
    Backup(BackupStatus),
    /// A text that has not been sent.
    Draft(String),
    /// A recovery code, in groups.
    RecoveryCode(Zeroizing<String>),
    /// Who this profile is, if anyone.
    WhoAmI(Option<WhoAmI>),
    /// Devices.
    Devices(Vec<Device>),
    /// Contacts.
    Contacts(Vec<Contact>),
    /// One contact.
    Contact(Contact),
    /// A public key.
    Key([u8; 32]),
    /// A safety number and whether it has been compared.
    Safety(String, bool),
    /// One message.
    Message(Message),
    /// Messages.
    Messages(Vec<Message>),
    /// A state.
    State(State),
    /// A fate.
    Status(Status),
    /// A message that was changed.
    Posted(Posted),
    /// Which message it is.
    Found(MessageId),
    /// A conversation.
    Conversation(ConversationId),
    /// Conversations.
    Conversations(Vec<ConversationSummary>),
    /// What somebody says about themselves.
    Profile(PersonalProfile),
    /// What the owner has chosen.
    Settings(Settings),
    /// How many.
    Count(u64),
    /// Which messages.
    Ids(BTreeSet<MessageId>),
    /// A group that has been made or changed.
    Group(Group),
    /// Groups.
    Groups(Vec<Group>),
    /// Members of a group.
    Members(Vec<GroupMember>),
    /// Whether there is such a group.
    Exists(bool),
}

/// What happens to a core.
#[derive(Clone, Debug)]
pub enum Input {
    /// A caller wants something.
    Command(Ticket, Command),
    /// A caller no longer waits for its reply.
    Abandon(Ticket),
    /// A link session began, or an old one was resumed.
    Up {
        /// The session goes on where it was; nothing in flight is lost.
        resumed: bool,
        /// To be signed for authentication.
        challenge: [u8; 32],
        /// SHA-256 of the certificate that the server showed.
        fingerprint: [u8; 32],
        /// The system's authorities vouch for the certificate, so that its fingerprint need not be remembered.
        trusted_by_system: bool,
    },
    /// The connection was lost or could not be made.
    Down {
        /// Why.
        error: Error,
        /// When the driver tries again; `None` if it has given up.
        retry_in: Option<Duration>,
    },
    /// The answer to a request.
    Answer(RequestId, Result<Vec<u8>, Error>),
    /// An order has come to its end.
    Transferred(TransferId, Outcome),
    /// Something that the server says without being asked.
    Push {
        /// Its name.
        name: String,
        /// Its CBOR.
        content: Vec<u8>,
    },
    /// A deadline has passed.
    Tick,
}

/// What a core wants done. Given out only after everything that it rests on is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect and stay connected until [`Output::Disconnect`].
    Connect {
        /// The server; with a fingerprint, its certificate must match.
        server: ServerUrl,
        /// Without a fingerprint, a certificate that no authority of the system vouches for is accepted, and only it as long as
        /// the link lives. Otherwise such a certificate is refused.
        first_use: bool,
    },
    /// Give up the connection.
    Disconnect,
    /// Drop the connection and make it again; the session goes on if it can.
    Cut,
    /// Make a request; its answer comes back as [`Input::Answer`]. Requests go out in order.
    Request {
        /// For the answer.
        id: RequestId,
        /// The handler.
        name: &'static str,
        /// Its CBOR.
        content: Vec<u8>,
    },
    /// Say something without an answer.
    Action {
        /// The handler.
        name: &'static str,
        /// Its CBOR.
        content: Vec<u8>,
    },
    /// Do something with a file, beside everything else.
    Transfer(Order),
    /// Stop doing so; nothing more is told of it.
    StopTransfer(TransferId),
    /// Delete a file that no message needs any more.
    Erase(PathBuf),
    /// The reply to a command.
    Reply(Ticket, Result<Reply, Error>),
    /// Something to tell listeners.
    Event(Event),
}
