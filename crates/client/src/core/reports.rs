//! Delivery and read reports: encrypted like any message, batched per conversation, never reported on themselves.

use parlour_wire::{
    DeviceId, MessageId,
    content::{Body, Content, Report, Status},
    limits,
};

use super::Core;
use crate::{
    api::{MessageKind, State},
    error::Error,
    store::{Conversation, OutboxKind},
};

impl Core {
    /// What a device of the peer says about messages of ours.
    pub(super) fn take_reports(
        &mut self,
        conversation: &Conversation,
        device: &DeviceId,
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
            self.store.add_receipt(&message.id, device, state, self.now.unix_ms)?;
            if self.store.advance(&message.id, state)? {
                self.message_moved(message.id, state);
            }
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

    /// Messages have been shown to the owner of this profile.
    pub(super) fn mark_shown(&mut self, ids: &[MessageId]) -> Result<(), Error> {
        for id in ids {
            if !self.store.set_shown(id)? {
                continue;
            }
            let Some(message) = self.store.message(id)? else { continue };
            if message.kind == MessageKind::Text && !message.outgoing {
                self.store.add_report(&message.conversation, Report { message: *id, status: Status::READ })?;
                self.session.dirty.insert(message.conversation);
            }
        }
        Ok(())
    }
}
