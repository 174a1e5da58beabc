//! The command table, and the commands that only read.

use std::collections::{BTreeMap, BTreeSet};

use parlour_wire::{AccountId, Code, ConversationId, MessageId};

use super::{Command, Core, Output, Reply, Ticket, profiles, session::Phase, target::short, transfers::file_info};
use crate::{
    api::{ConversationSummary, DeviceStatus, Draft, Message, MessageKind, Page, Reaction, State, Status},
    error::Error,
    store::{Conversation, MessageRow, ReactionRow},
};

impl Core {
    pub(super) fn command(&mut self, ticket: Ticket, command: Command) -> Result<(), Error> {
        match command {
            Command::Register(register) => return self.register(ticket, register),
            Command::Login(login) => return self.login(ticket, login),
            Command::Recover(recover) => return self.recover(ticket, recover),
            Command::MakeRecoveryCode { password } => return self.make_recovery_code(ticket, password),
            Command::WaitHistory => return self.wait_history(ticket),
            Command::BackupOn => return self.backup_on(ticket),
            Command::BackupOff => return self.backup_off(ticket),
            Command::BackupNow => return self.backup_now(ticket),
            Command::RestoreBackup => return self.restore_backup(ticket),
            Command::SetDraft { to, text } => return self.set_draft(ticket, &to, &text),
            Command::GoOnline => return self.go_online(ticket),
            Command::WaitSynced => return self.wait_synced(ticket),
            Command::Logout => return self.logout(ticket),
            Command::ChangePassword { old, new } => return self.change_password(ticket, old, new),
            Command::Devices => return self.ask_devices(ticket),
            Command::RevokeDevice { device, password } => return self.revoke_device(ticket, device, password),
            Command::AddContact(to) => return self.add_contact(ticket, to),
            Command::RemoveContact(to) => return self.remove_contact(ticket, &to),
            Command::Block { to, blocked } => return self.block(ticket, &to, blocked),
            Command::RenameContact { to, petname } => return self.rename_contact(ticket, &to, &petname),
            Command::ContactKey(to) => return self.contact_key(ticket, &to),
            Command::SafetyNumber(to) => return self.safety_number(ticket, &to),
            Command::SetVerified { to, verified } => return self.set_verified(ticket, &to, verified),
            Command::Group(command) => return self.group_command(ticket, command),
            Command::Send { to, text, reply_to } => {
                return self.write(ticket, to, Draft { text, reply_to, expires: None });
            }
            Command::Write { to, draft } => return self.write(ticket, to, draft),
            Command::SendFile { to, draft, file } => return self.send_file(ticket, to, draft, file),
            Command::SendKept { to, draft, attachment } => return self.send_kept(ticket, to, draft, *attachment),
            Command::FetchFile { id, fetch } => return self.fetch_file(ticket, id, fetch),
            Command::React { id, emoji, remove } => return self.react(ticket, &id, &emoji, remove),
            Command::Edit { id, text } => return self.edit(ticket, &id, &text),
            Command::Delete(id) => return self.delete(ticket, &id),
            Command::SetProfile(change) => return self.set_own_profile(ticket, change),
            Command::Import(messages, files) => return self.import(ticket, messages, files),
            Command::ImportContacts(contacts) => return self.import_contacts(ticket, contacts),
            Command::Typing(to) => self.typing(&to)?,
            Command::SetReadReceipts(on) => self.set_receipts(profiles::READ_RECEIPTS, on)?,
            Command::SetDeliveryReceipts(on) => self.set_receipts(profiles::DELIVERY_RECEIPTS, on)?,
            Command::MarkRead { to, up_to } => self.mark_read(&to, up_to.as_ref())?,
            Command::WaitState { id, state } => return self.wait_state(ticket, id, state),
            Command::Close => {
                self.session.dirty.extend(self.store.conversations_with_work()?);
                self.waiters.closing = Some(ticket);
                return Ok(());
            }
            Command::Cut => {
                if self.session.phase != Phase::Off {
                    self.outputs.push(Output::Cut);
                }
            }
            Command::MarkShown(ids) => self.mark_shown(&ids)?,
            query => {
                let reply = self.query(query)?;
                self.reply(ticket, Ok(reply));
                return Ok(());
            }
        }
        self.reply(ticket, Ok(Reply::Done));
        Ok(())
    }

    fn query(&self, command: Command) -> Result<Reply, Error> {
        match command {
            Command::WhoAmI => Ok(Reply::WhoAmI(self.whoami()?)),
            Command::BackupStatus => self.backup_status(),
            Command::Draft(to) => self.draft(&to),
            Command::Contacts => self.contacts(|_| true),
            Command::SearchContacts(text) => {
                let text = text.to_lowercase();
                self.contacts(|name| name.to_lowercase().contains(&text))
            }
            Command::Unshown { from, limit } => self.unshown(from.as_deref(), limit),
            Command::History { to, page } => self.history(&to, &page),
            Command::Status(id) => self.status(&id),
            Command::Search { text, within, limit } => self.search(&text, within.as_deref(), limit),
            Command::Find(prefix) => self.find(&prefix),
            Command::Message(id) => self.message(&id),
            Command::Missing(ids) => self.missing(ids),
            Command::Page { conversation, page } => self.page(&conversation, &page),
            Command::Target(to) => Ok(Reply::Conversation(self.conversation_with(&to)?)),
            Command::Conversations => self.conversations(),
            Command::Profile(to) => Ok(Reply::Profile(self.profile_of(to.as_deref())?)),
            Command::Settings => Ok(Reply::Settings(self.settings()?)),
            other => Err(Error::internal(format!("{other:?} is no query"))),
        }
    }

    fn contacts(&self, wanted: impl Fn(&str) -> bool) -> Result<Reply, Error> {
        let rows = self.store.contacts()?.into_iter();
        let rows = rows.filter(|row| wanted(&row.name) || row.petname.as_deref().is_some_and(&wanted));
        rows.map(|row| self.shown_contact(row)).collect::<Result<_, _>>().map(Reply::Contacts)
    }

    fn unshown(&self, from: Option<&str>, limit: u32) -> Result<Reply, Error> {
        let from = from.map(|from| self.conversation_with(from)).transpose()?;
        let rows = self.store.unshown(from.as_ref(), limit)?;
        self.shown_messages(rows)
    }

    fn history(&self, to: &str, page: &Page) -> Result<Reply, Error> {
        self.page(&self.conversation_with(to)?, page)
    }

    fn page(&self, conversation: &ConversationId, page: &Page) -> Result<Reply, Error> {
        let rows = self.store.history(conversation, page)?;
        let rows = rows.ok_or_else(|| no_message("the message named as a bound is not in this history"))?;
        self.shown_messages(rows)
    }

    fn search(&self, text: &str, within: Option<&str>, limit: u32) -> Result<Reply, Error> {
        let within = within.map(|to| self.conversation_with(to)).transpose()?;
        self.shown_messages(self.store.search(text, within.as_ref(), limit)?)
    }

    fn message(&self, id: &MessageId) -> Result<Reply, Error> {
        let row = self.store.message(id)?.filter(|row| !row.hidden);
        let row = row.ok_or_else(|| no_message(&format!("there is no message {id}")))?;
        let conversation = self.store.conversation(&row.conversation)?;
        let conversation = conversation.ok_or_else(|| Error::internal("a message without its conversation"))?;
        Ok(Reply::Message(self.shown_message(row, &conversation)?))
    }

    /// The message whose id begins so.
    fn find(&self, prefix: &str) -> Result<Reply, Error> {
        let none = || no_message(&format!("there is no message `{prefix}`"));
        let digits: String = prefix.chars().filter(|c| *c != '-').collect();
        let bound = |fill: &str| -> Option<[u8; 16]> {
            let padded = format!("{digits}{}", fill.repeat(32usize.checked_sub(digits.len())?));
            hex::decode(padded).ok()?.try_into().ok()
        };
        let (Some(low), Some(high)) = (bound("0"), bound("f")) else { return Err(none()) };
        match self.store.message_ids(&low, &high)?.as_slice() {
            [id] => Ok(Reply::Found(*id)),
            [] => Err(none()),
            _ => {
                Err(Error::new(Code::USAGE, format!("more than one message begins with `{prefix}`")).hint("give more of the id"))
            }
        }
    }

    fn conversations(&self) -> Result<Reply, Error> {
        let mut summaries = Vec::new();
        // What own devices say to each other is nothing to show.
        for conversation in self.store.conversations()?.into_iter().filter(|it| !it.is_own()) {
            let (last, unread) = self.store.newest(&conversation.id)?;
            let position = last.as_ref().and_then(|last| last.stored_ms).unwrap_or(u64::MAX);
            let last = last.map(|last| self.shown_message(last, &conversation)).transpose()?;
            let name = self.title(&conversation)?;
            summaries.push((
                position,
                ConversationSummary { conversation: conversation.id, peer: conversation.peer, name, last, unread },
            ));
        }
        summaries.sort_by_key(|(position, _)| std::cmp::Reverse(*position));
        Ok(Reply::Conversations(summaries.into_iter().map(|(_, summary)| summary).collect()))
    }

    fn status(&self, id: &MessageId) -> Result<Reply, Error> {
        let message = self.store.message(id)?.ok_or_else(|| no_message(&format!("there is no message {id}")))?;
        let conversation = self.store.conversation(&message.conversation)?;
        let peer = conversation.and_then(|conversation| conversation.peer);
        let devices = self.store.receipts(id)?.into_iter().map(|receipt| {
            let account = receipt.account.or(peer);
            let name = account.map_or(Ok(String::new()), |account| self.shown_name(&account))?;
            Ok(DeviceStatus { device: receipt.device, account, name, state: receipt.state, at_ms: receipt.at_ms })
        });
        Ok(Reply::Status(Status { id: *id, state: message.state, devices: devices.collect::<Result<_, Error>>()? }))
    }

    fn wait_state(&mut self, ticket: Ticket, id: MessageId, state: State) -> Result<(), Error> {
        let message = self.store.message(&id)?.filter(|message| message.outgoing);
        let message = message.ok_or_else(|| no_message(&format!("there is no sent message {id}")))?;
        if let Some(error) = self.transfers.failure(&id) {
            return Err(error.clone());
        }
        if message.state == State::Failed {
            return Err(Error::new(Code::CANCELLED, "the message failed and is not sent any more").hint("send it again"));
        }
        if message.state >= state {
            self.reply(ticket, Ok(Reply::State(message.state)));
        } else {
            self.waiters.states.push((ticket, id, state));
        }
        Ok(())
    }

    fn wait_synced(&mut self, ticket: Ticket) -> Result<(), Error> {
        self.signed_in()?;
        if self.session.phase == Phase::Off {
            return Err(Error::new(Code::UNREACHABLE, "not connected"));
        }
        self.waiters.synced.push(ticket);
        Ok(())
    }

    fn shown_messages(&self, rows: Vec<MessageRow>) -> Result<Reply, Error> {
        let mut conversations: BTreeMap<ConversationId, Conversation> = BTreeMap::new();
        let mut messages = Vec::with_capacity(rows.len());
        for row in rows {
            let conversation = match conversations.get(&row.conversation) {
                Some(conversation) => conversation,
                None => {
                    let found = self.store.conversation(&row.conversation)?;
                    let found = found.ok_or_else(|| Error::internal("a message without a conversation"))?;
                    conversations.entry(row.conversation).or_insert(found)
                }
            };
            messages.push(self.shown_message(row, conversation)?);
        }
        Ok(Reply::Messages(messages))
    }

    /// A message as callers see it.
    pub(super) fn shown_message(&self, row: MessageRow, conversation: &Conversation) -> Result<Message, Error> {
        let reactions = self.shown_reactions(&row.id)?;
        let kept = row.kind == MessageKind::File && self.store.kept_file(&row.id)?.is_some();
        let file = file_info(&row, kept);
        Ok(Message {
            peer: conversation.peer,
            group: conversation.group_name(),
            peer_name: self.title(conversation)?,
            sender_name: self.shown_name(&row.sender)?,
            id: row.id,
            conversation: row.conversation,
            sender: row.sender,
            device: row.device,
            outgoing: row.outgoing,
            kind: row.kind,
            text: row.body,
            reply_to: row.reply_to,
            sent_ms: row.sent_ms,
            stored_ms: row.stored_ms,
            seq: row.seq,
            state: row.state,
            shown: row.shown,
            edited_ms: row.edited_ms,
            deleted: row.deleted,
            expires_ms: row.expires_ms,
            mentions_me: row.mentions_me,
            shared_by_name: row.shared_by.map(|account| self.shown_name(&account)).transpose()?,
            shared_by: row.shared_by,
            reactions,
            file,
        })
    }

    /// The name of a conversation as it is to be shown.
    pub(super) fn title(&self, conversation: &Conversation) -> Result<String, Error> {
        match &conversation.peer {
            Some(peer) => self.shown_name(peer),
            None => Ok(conversation.group_name().unwrap_or_default()),
        }
    }

    fn shown_reactions(&self, message: &MessageId) -> Result<Vec<Reaction>, Error> {
        let mut seen = BTreeSet::new();
        let mut reactions = Vec::new();
        for ReactionRow { sender, emoji, .. } in self.store.reactions(message)? {
            if seen.insert((sender, emoji.clone())) {
                reactions.push(Reaction { emoji, account: sender, from: self.shown_name(&sender)? });
            }
        }
        Ok(reactions)
    }

    pub(super) fn shown_name(&self, account: &AccountId) -> Result<String, Error> {
        if let Some(own) = &self.account
            && own.account == *account
        {
            return Ok(own.name.clone());
        }
        match self.store.contact(account)? {
            Some(contact) => self.name_of(&contact),
            None => Ok(short(account)),
        }
    }
}

pub(super) fn no_message(message: &str) -> Error {
    Error::new(Code::MESSAGE_NOT_FOUND, message)
}
