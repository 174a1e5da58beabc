//! Delivery and read reports: encrypted like any message, batched per conversation, never reported on themselves.

use parlour_wire::{
    AccountId, DeviceId, MessageId,
    content::{Body, Content, Report, Status},
    limits,
};

use super::{Core, query::no_message};
use crate::{
    api::{MessageKind, State},
    error::Error,
    store::{Conversation, OutboxKind},
};

impl Core {
    /// What a device of another account says about messages of ours.
    pub(super) fn take_reports(
        &mut self,
        conversation: &Conversation,
        (account, device): (&AccountId, &DeviceId),
        reports: &[Report],
    ) -> Result<(), Error> {
        for report in reports {
            let state = match report.status {
                Status::DELIVERED => State::Delivered,
                Status::READ => State::Read,
                other => {
                    tracing::debug!(message = %report.message, status = other.0, "a report that changes nothing");
                    continue;
                }
            };
            let Some(message) = self.store.message(&report.message)? else { continue };
            if !message.outgoing || message.conversation != conversation.id {
                continue;
            }
            self.store.add_receipt(&message.id, (account, device), state, self.now.unix_ms)?;
            if conversation.is_group() {
                self.advance_in_group(&message.id)?;
            } else if self.store.advance(&message.id, state)? {
                self.message_moved(message.id, state);
            }
        }
        Ok(())
    }

    /// In a group a message is as far as it is with the member that it is least far with. A member counts with its best device.
    pub(super) fn advance_in_group(&mut self, id: &MessageId) -> Result<(), Error> {
        let me = self.me()?;
        if let Some(state) = self.store.state_with_all(id, &me)?
            && self.store.advance(id, state)?
        {
            self.message_moved(*id, state);
        }
        Ok(())
    }

    /// Encrypts one batch of what there is to report.
    pub(super) fn seal_reports(&mut self, conversation: &Conversation) -> Result<(), Error> {
        let reports = self.store.reports(&conversation.id, limits::REPORT_IDS)?;
        if reports.is_empty() {
            return Ok(());
        }
        let id = self.new_id();
        let content = Content::new(self.now.unix_ms, Body::Report(reports.clone()));
        if self.seal_content(&conversation.id, id, &content, OutboxKind::Report)? {
            for report in reports {
                self.store.drop_report(&report.message)?;
            }
        }
        Ok(())
    }

    /// Messages have been shown to the owner of this profile. Their senders hear of it, unless the owner does not want that.
    pub(super) fn mark_shown(&mut self, ids: &[MessageId]) -> Result<(), Error> {
        let tells = self.settings()?.read_receipts;
        let mut news = Vec::new();
        for id in ids {
            if !self.store.set_shown(id)? {
                continue;
            }
            news.push(*id);
            let Some(message) = self.store.message(id)? else { continue };
            if tells && message.kind != MessageKind::System && !message.outgoing {
                self.store.add_report(&message.conversation, Report { message: *id, status: Status::READ })?;
                self.session.dirty.insert(message.conversation);
            }
        }
        self.shown_here(&news)
    }

    /// The same for everything in a conversation up to a message, or all of it.
    pub(super) fn mark_read(&mut self, to: &str, up_to: Option<&MessageId>) -> Result<(), Error> {
        let conversation = self.conversation_with(to)?;
        let last = match up_to {
            None => i64::MAX,
            Some(id) => {
                let position = self.store.position(&conversation, id)?;
                position.ok_or_else(|| no_message("the message is not in this history"))?
            }
        };
        let ids = self.store.unshown_until(&conversation, last)?;
        self.mark_shown(&ids)
    }
}
