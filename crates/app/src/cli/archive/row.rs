//! The lines of an export, written and read.

use std::path::{Component, Path};

use jiff::Timestamp;
use parlour_client::{
    AccountId, Contact, ConversationId, ConversationSummary, FileInfo, Imported, ImportedContact, ImportedFile, ImportedPlace,
    Message, MessageKind, State,
};
use serde::{Deserialize, Serialize};

/// A conversation.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ConversationLine {
    pub(super) conversation: String,
    /// `direct` or `group`.
    pub(super) kind: String,
    /// The name of the other person, or `#name` of the group.
    pub(super) name: String,
    /// The other account of a direct one.
    pub(super) account: Option<String>,
}

impl From<&ConversationSummary> for ConversationLine {
    fn from(it: &ConversationSummary) -> Self {
        Self {
            conversation: it.conversation.to_string(),
            kind: if it.peer.is_some() { "direct" } else { "group" }.to_owned(),
            name: it.name.clone(),
            account: it.peer.map(|peer| peer.to_string()),
        }
    }
}

/// A contact.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ContactLine {
    /// Their name at the server.
    pub(super) name: String,
    pub(super) account: String,
    /// What the owner calls them.
    pub(super) petname: Option<String>,
    #[serde(default)]
    pub(super) blocked: bool,
    /// The safety number had been compared.
    #[serde(default)]
    pub(super) verified: bool,
    /// What they say about themselves.
    #[serde(default)]
    pub(super) display_name: String,
    #[serde(default)]
    pub(super) status: String,
}

impl From<&Contact> for ContactLine {
    fn from(it: &Contact) -> Self {
        let Contact { name, petname, blocked, verified, display_name, status, .. } = it.clone();
        Self { name, account: it.account.to_string(), petname, blocked, verified, display_name, status }
    }
}

impl ContactLine {
    /// The contact to be taken in; what is wrong with the line otherwise.
    pub(super) fn imported(self) -> Result<ImportedContact, &'static str> {
        let account = self.account.parse().map_err(|_| "account is no account")?;
        Ok(ImportedContact { account, name: self.name, petname: self.petname, blocked: self.blocked })
    }
}

/// The owner of the profile.
#[derive(Debug, Serialize)]
pub(super) struct OwnerLine {
    pub(super) name: String,
    pub(super) account: String,
    pub(super) display_name: String,
    pub(super) status: String,
    pub(super) read_receipts: bool,
    pub(super) delivery_receipts: bool,
}

/// A message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MessageLine {
    pub(super) id: String,
    pub(super) conversation: String,
    /// The name of the other person, or `#name` of the group.
    pub(super) with: String,
    /// The other account of a direct conversation.
    pub(super) with_account: Option<String>,
    pub(super) from: String,
    pub(super) from_account: String,
    pub(super) outgoing: bool,
    pub(super) kind: String,
    pub(super) text: String,
    pub(super) sent_at: Option<Timestamp>,
    pub(super) stored_at: Option<Timestamp>,
    pub(super) reply_to: Option<String>,
    pub(super) state: String,
    pub(super) edited_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) deleted: bool,
    pub(super) expires_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) reactions: Vec<ReactionLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<FileLine>,
    /// The member of the group that shared it later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shared_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shared_by_account: Option<String>,
}

/// The file of a message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileLine {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) content_type: String,
    /// BLAKE3, hex, if the file is there.
    pub(super) blake3: Option<String>,
    /// Where it is, below the folder of the export.
    pub(super) path: Option<String>,
    /// Why it is not there.
    pub(super) missing: Option<String>,
}

impl From<&FileInfo> for FileLine {
    fn from(it: &FileInfo) -> Self {
        let (name, content_type) = (it.name.clone(), it.content_type.clone());
        Self { name, size: it.size, content_type, blake3: None, path: None, missing: None }
    }
}

impl FileLine {
    fn imported(self, folder: &Path) -> Result<ImportedFile, &'static str> {
        let inside = |path: &str| {
            let path = Path::new(path);
            path.components().all(|part| matches!(part, Component::Normal(_))).then(|| folder.join(path))
        };
        let source = self.path.map(|path| inside(&path).ok_or("the path of its file leads out of the folder")).transpose()?;
        Ok(ImportedFile { name: self.name, size: self.size, content_type: self.content_type, source })
    }
}

/// An emoji beside a message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReactionLine {
    pub(super) emoji: String,
    pub(super) from: String,
    pub(super) account: String,
}

fn time(unix_ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()
}

fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

impl From<&Message> for MessageLine {
    fn from(it: &Message) -> Self {
        let reaction = |it: &parlour_client::Reaction| ReactionLine {
            emoji: it.emoji.clone(),
            from: it.from.clone(),
            account: it.account.to_string(),
        };
        Self {
            id: it.id.to_string(),
            conversation: it.conversation.to_string(),
            with: it.peer_name.clone(),
            with_account: it.peer.map(|peer| peer.to_string()),
            from: it.sender_name.clone(),
            from_account: it.sender.to_string(),
            outgoing: it.outgoing,
            kind: it.kind.word().to_owned(),
            text: it.text.clone(),
            sent_at: time(it.sent_ms),
            stored_at: it.stored_ms.and_then(time),
            reply_to: it.reply_to.map(|id| id.to_string()),
            state: it.state.word().to_owned(),
            edited_at: it.edited_ms.and_then(time),
            deleted: it.deleted,
            expires_at: it.expires_ms.and_then(time),
            reactions: it.reactions.iter().map(reaction).collect(),
            file: it.file.as_ref().filter(|_| !it.deleted).map(FileLine::from),
            shared_by: it.shared_by_name.clone(),
            shared_by_account: it.shared_by.map(|account| account.to_string()),
        }
    }
}

impl MessageLine {
    /// The message to be taken in, from an export in `folder`; what is wrong with the line otherwise. It names people as they were shown, so
    /// it does not say their names at the server.
    pub(super) fn imported(self, folder: &Path) -> Result<Imported, &'static str> {
        let place = match &self.with_account {
            Some(peer) => {
                let peer: AccountId = peer.parse().map_err(|_| "with_account is no account")?;
                ImportedPlace::Direct { peer, name: String::new() }
            }
            None => {
                let conversation: ConversationId = self.conversation.parse().map_err(|_| "conversation is no conversation")?;
                ImportedPlace::Group { conversation, name: self.with.trim_start_matches('#').to_owned() }
            }
        };
        let kind = match self.kind.as_str() {
            "text" => MessageKind::Text,
            "file" => MessageKind::File,
            "unknown" => MessageKind::Unknown,
            "system" => MessageKind::System,
            _ => return Err("kind is not text, file, unknown or system"),
        };
        let states = [State::Failed, State::Stored, State::Delivered, State::Read];
        let state = states.into_iter().find(|state| state.word() == self.state);
        let sharer: Option<AccountId> =
            self.shared_by_account.map(|id| id.parse()).transpose().map_err(|_| "shared_by_account is no account")?;
        let account = |it: ReactionLine| Some((it.account.parse().ok()?, it.emoji));
        let reactions: Option<Vec<_>> = self.reactions.into_iter().map(account).collect();
        Ok(Imported {
            id: self.id.parse().map_err(|_| "id is no id")?,
            place,
            sender: self.from_account.parse().map_err(|_| "from_account is no account")?,
            sender_name: String::new(),
            outgoing: self.outgoing,
            kind,
            text: self.text,
            file: self.file.map(|file| file.imported(folder)).transpose()?,
            reply_to: self.reply_to.map(|id| id.parse()).transpose().map_err(|_| "reply_to is no id")?,
            sent_ms: self.sent_at.map_or(0, millis),
            stored_ms: self.stored_at.map(millis),
            edited_ms: self.edited_at.map(millis),
            deleted: self.deleted,
            expires_ms: self.expires_at.map(millis),
            state: state.unwrap_or(State::Stored),
            reactions: reactions.ok_or("the account of a reaction is no account")?,
            shared_by: sharer.map(|account| (account, String::new())),
        })
    }
}
