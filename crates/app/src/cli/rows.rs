//! The JSON objects of the command line. Their keys are a promise to scripts: adding is free, changing is not.

use parlour_client::{
    Contact, Device, FileInfo, Group, GroupMember, HistoryPolicy, Message, ServerFacts, SignedIn, State, Status, WhoAmI,
};
use serde::Serialize;

use super::output::Time;

/// `whoami`.
#[derive(Serialize)]
pub(crate) struct AccountRow {
    account: String,
    device: String,
    server: String,
    id: String,
    key: String,
    label: String,
}

impl From<&WhoAmI> for AccountRow {
    fn from(who: &WhoAmI) -> Self {
        Self {
            account: who.name.clone(),
            device: who.device.to_string(),
            server: who.server.to_string(),
            id: who.account.to_string(),
            key: hex::encode(who.account_key),
            label: who.label.clone(),
        }
    }
}

/// `register`, `login`, `recover`.
#[derive(Serialize)]
pub(crate) struct SignedInRow {
    #[serde(flatten)]
    account: AccountRow,
    /// The server's certificate has been pinned by this connection, and nobody has vouched for it.
    pinned: bool,
}

impl From<&SignedIn> for SignedInRow {
    fn from(signed_in: &SignedIn) -> Self {
        Self { account: AccountRow::from(&signed_in.who), pinned: signed_in.pinned_now }
    }
}

/// `registration`.
#[derive(Serialize)]
pub(crate) struct RegistrationRow {
    registration: &'static str,
    server: String,
    version: String,
}

impl From<&ServerFacts> for RegistrationRow {
    fn from(facts: &ServerFacts) -> Self {
        Self { registration: facts.registration.word(), server: facts.server.to_string(), version: facts.version.clone() }
    }
}

/// `devices`.
#[derive(Serialize)]
pub(crate) struct DeviceRow {
    device: String,
    name: String,
    this: bool,
    last_seen: Option<Time>,
    online: bool,
    created_at: Option<Time>,
}

impl From<&Device> for DeviceRow {
    fn from(device: &Device) -> Self {
        Self {
            device: device.id.to_string(),
            name: device.label.clone(),
            this: device.this,
            last_seen: Time::known(device.seen_ms),
            online: device.online,
            created_at: Time::known(device.created_ms),
        }
    }
}

/// `contacts`.
#[derive(Serialize)]
pub(crate) struct ContactRow {
    /// The name that the owner of the profile reads: the petname if there is one. No two contacts share it.
    name: String,
    id: String,
    presence: &'static str,
    verified: bool,
    last_seen: Option<Time>,
    /// The name at the server.
    user: String,
    blocked: bool,
    devices: Vec<String>,
    /// What they say about themselves.
    display_name: String,
    status: String,
}

impl From<&Contact> for ContactRow {
    fn from(contact: &Contact) -> Self {
        Self {
            name: contact.shown_name().to_owned(),
            id: contact.account.to_string(),
            presence: contact.presence.word(),
            verified: contact.verified,
            last_seen: Time::known(contact.seen_ms),
            user: contact.name.clone(),
            blocked: contact.blocked,
            devices: contact.devices.iter().map(ToString::to_string).collect(),
            display_name: contact.display_name.clone(),
            status: contact.status.clone(),
        }
    }
}

/// `key`.
#[derive(Serialize)]
pub(crate) struct KeyRow<'a> {
    /// Whose.
    pub(crate) name: &'a str,
    /// Ed25519 public key, hex.
    pub(crate) key: String,
}

/// `verify`.
#[derive(Serialize)]
pub(crate) struct SafetyRow<'a> {
    /// 60 digits in groups of five.
    pub(crate) safety_number: &'a str,
    /// Whether it has been compared.
    pub(crate) verified: bool,
}

/// `send`.
#[derive(Serialize)]
pub(crate) struct SentRow {
    id: String,
    conversation: String,
    state: &'static str,
}

impl SentRow {
    /// A message of ours that has come as far as `state`.
    pub(crate) fn new(message: &Message, state: State) -> Self {
        Self { id: message.id.to_string(), conversation: message.conversation.to_string(), state: state.word() }
    }
}

/// `recv`, `history`, `search`, and changes of a message.
#[derive(Serialize)]
pub(crate) struct MessageRow<'a> {
    id: String,
    conversation: String,
    /// `#name`, in a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    from: &'a str,
    kind: &'static str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<FileRow<'a>>,
    sent_at: Option<Time>,
    stored_at: Option<Time>,
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    outgoing: bool,
    state: &'static str,
    edited: bool,
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Time>,
    mentions_me: bool,
    /// Who shared it, if it was written before this account came into the group: that `from` wrote it is their word.
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_by: Option<&'a str>,
    reactions: Vec<ReactionRow<'a>>,
}

/// A file that a message carries.
#[derive(Serialize)]
struct FileRow<'a> {
    name: &'a str,
    size: u64,
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thumbnail_bytes: Option<usize>,
}

/// An emoji beside a message.
#[derive(Serialize)]
struct ReactionRow<'a> {
    emoji: &'a str,
    from: &'a str,
}

impl<'a> From<&'a Message> for MessageRow<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            id: message.id.to_string(),
            conversation: message.conversation.to_string(),
            group: message.group.as_deref(),
            from: &message.sender_name,
            kind: message.kind.word(),
            text: &message.text,
            file: message.file.as_ref().filter(|_| !message.deleted).map(FileRow::from),
            sent_at: Time::known(message.sent_ms),
            stored_at: message.stored_ms.and_then(Time::known),
            seq: message.seq,
            reply_to: message.reply_to.map(|id| id.to_string()),
            outgoing: message.outgoing,
            state: message.state.word(),
            edited: message.edited_ms.is_some(),
            deleted: message.deleted,
            expires_at: message.expires_ms.and_then(Time::known),
            mentions_me: message.mentions_me,
            shared_by: message.shared_by_name.as_deref(),
            reactions: message.reactions.iter().map(|it| ReactionRow { emoji: &it.emoji, from: &it.from }).collect(),
        }
    }
}

impl<'a> From<&'a FileInfo> for FileRow<'a> {
    fn from(file: &'a FileInfo) -> Self {
        let thumbnail_bytes = file.thumbnail.as_ref().map(Vec::len);
        Self { name: &file.name, size: file.size, content_type: &file.content_type, thumbnail_bytes }
    }
}

/// `group create`, `group list`, and changes of a group.
#[derive(Serialize)]
pub(crate) struct GroupRow {
    /// `#name`.
    group: String,
    id: String,
    /// Of this account.
    role: &'static str,
    members: usize,
    suite: &'static str,
    history: String,
    left: bool,
}

impl From<&Group> for GroupRow {
    fn from(group: &Group) -> Self {
        Self {
            group: format!("#{}", group.name),
            id: group.id.to_string(),
            role: group.role.word(),
            members: group.members,
            suite: group.suite.word(),
            history: match group.history {
                HistoryPolicy::None => "none".to_owned(),
                HistoryPolicy::Last(count) => count.to_string(),
                HistoryPolicy::All => "all".to_owned(),
            },
            left: group.left,
        }
    }
}

/// `group members`, `group add`, `group role`.
#[derive(Serialize)]
pub(crate) struct MemberRow {
    /// The name that the owner of the profile reads.
    member: String,
    role: &'static str,
    id: String,
    devices: usize,
    /// Whether it is this account.
    this: bool,
    group: String,
    suite: &'static str,
}

impl MemberRow {
    /// A member of a group that has just been changed.
    pub(crate) fn new(member: &GroupMember, group: &Group) -> Self {
        Self::listed(member, &format!("#{}", group.name))
    }

    /// A member of the group that goes by this name, `#` included.
    pub(crate) fn listed(member: &GroupMember, group: &str) -> Self {
        Self {
            member: member.name.clone(),
            role: member.role.word(),
            id: member.account.to_string(),
            devices: member.devices,
            this: member.this,
            group: group.to_owned(),
            suite: member.suite.word(),
        }
    }
}

/// `status`.
#[derive(Serialize)]
pub(crate) struct StatusRow {
    id: String,
    state: &'static str,
    devices: Vec<StatusDevice>,
}

#[derive(Serialize)]
struct StatusDevice {
    device: String,
    /// Whose device it is.
    name: String,
    state: &'static str,
    at: Option<Time>,
}

impl From<&Status> for StatusRow {
    fn from(status: &Status) -> Self {
        let devices = status.devices.iter().map(|device| StatusDevice {
            device: device.device.to_string(),
            name: device.name.clone(),
            state: device.state.word(),
            at: Time::known(device.at_ms),
        });
        Self { id: status.id.to_string(), state: status.state.word(), devices: devices.collect() }
    }
}

#[cfg(test)]
mod tests {
    use parlour_client::{AccountId, ConversationId, DeviceId, MessageId, MessageKind, Presence};

    use super::*;

    #[test]
    fn a_message_has_the_keys_of_the_contract() {
        let message = Message {
            id: MessageId([1; 16]),
            conversation: ConversationId([2; 32]),
            peer: Some(AccountId([3; 32])),
            group: None,
            peer_name: "alice".to_owned(),
            sender: AccountId([3; 32]),
            sender_name: "alice".to_owned(),
            device: DeviceId([4; 16]),
            outgoing: false,
            kind: MessageKind::Text,
            text: "hello".to_owned(),
            file: None,
            reply_to: None,
            sent_ms: 1_700_000_000_000,
            stored_ms: Some(1_700_000_000_001),
            seq: Some(7),
            state: State::Delivered,
            shown: false,
            edited_ms: None,
            deleted: false,
            expires_ms: None,
            mentions_me: false,
            shared_by: None,
            shared_by_name: None,
            reactions: Vec::new(),
        };
        let expected = format!(
            concat!(
                r#"{{"id":"01010101-0101-0101-0101-010101010101","conversation":"{}","from":"alice","kind":"text","#,
                r#""text":"hello","sent_at":"2023-11-14T22:13:20.000Z","stored_at":"2023-11-14T22:13:20.001Z","seq":7,"#,
                r#""outgoing":false,"state":"delivered","edited":false,"deleted":false,"mentions_me":false,"reactions":[]}}"#
            ),
            "02".repeat(32)
        );
        assert_eq!(serde_json::to_string(&MessageRow::from(&message)).expect("a row"), expected);
    }

    #[test]
    fn a_contact_goes_by_the_name_that_its_owner_gave() {
        let contact = Contact {
            account: AccountId([3; 32]),
            name: "robert".to_owned(),
            petname: Some("bob".to_owned()),
            shown: "bob".to_owned(),
            blocked: false,
            verified: true,
            added: true,
            presence: Presence::Unknown,
            seen_ms: 0,
            devices: Vec::new(),
            display_name: "Robert \u{1b}B.".to_owned(),
            status: String::new(),
        };
        let expected = format!(
            r#"{{"name":"bob","id":"{}","presence":"unknown","verified":true,"last_seen":null,"user":"robert","blocked":false,"devices":[],"display_name":"Robert \u001bB.","status":""}}"#,
            "03".repeat(32)
        );
        assert_eq!(serde_json::to_string(&ContactRow::from(&contact)).expect("a row"), expected);
    }
}
