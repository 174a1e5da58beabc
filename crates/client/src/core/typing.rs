//! Typing: a signal to those who are online, encrypted, never stored anywhere, and worth nothing a few seconds later.

use std::time::Duration;

use parlour_wire::{
    ConversationId,
    api::{self, Notice as _},
};

use super::{Core, Output};
use crate::{error::Error, event::Event, store::ConversationPhase};

/// The content of a signal that says that its sender types. Others are for later versions and passed over.
const TYPING: &[u8] = &[1];
/// What one conversation says or hears at most once in so long: a person types for longer than this.
const PAUSE: Duration = Duration::from_secs(3);
/// Signals remembered for the pause; while there are more, further ones are dropped.
const REMEMBERED: usize = 4096;

impl Core {
    /// Lets a conversation know that the owner of this profile types. Nothing is said offline, to somebody blocked, or too soon again.
    pub(super) fn typing(&mut self, to: &str) -> Result<(), Error> {
        let id = self.conversation_with(to)?;
        let Some(conversation) = self.store.conversation(&id)? else { return Ok(()) };
        let me = self.me()?;
        let quiet = !self.session.is_usable() || conversation.phase != ConversationPhase::Active;
        if quiet || !self.may_write(&conversation)? || !self.is_time(id, me) {
            return Ok(());
        }
        let (engine, store) = self.engine()?;
        let payload = match engine.seal_signal(store, &id, TYPING) {
            Ok(payload) => payload,
            Err(error) => {
                tracing::debug!(conversation = %id, %error, "a signal could not be made");
                return Ok(());
            }
        };
        let content = parlour_wire::encode(&api::Signal { conversation: id, payload });
        self.outputs.push(Output::Action { name: api::Signal::NAME, content });
        Ok(())
    }

    /// Somebody signals. What cannot be opened is nobody's word.
    pub(super) fn take_signal(&mut self, signal: &api::Signal) -> Result<(), Error> {
        let id = signal.conversation;
        let active = self.store.conversation(&id)?.is_some_and(|it| it.phase == ConversationPhase::Active);
        if !active {
            return Ok(());
        }
        let (engine, store) = self.engine()?;
        let ((account, _), content) = match engine.open_signal(store, &id, &signal.payload) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::debug!(conversation = %id, %error, "a signal could not be opened");
                return Ok(());
            }
        };
        let blocked = self.store.contact(&account)?.is_some_and(|contact| contact.blocked);
        if content == TYPING && account != self.me()? && !blocked && self.is_time(id, account) {
            self.event(Event::Typing { conversation: id, account });
        }
        Ok(())
    }

    /// Whether it is long enough ago that an account signalled in a conversation. Notes that it did.
    fn is_time(&mut self, conversation: ConversationId, account: parlour_wire::AccountId) -> bool {
        let now = self.now.steady;
        let signals = &mut self.session.signals;
        if signals.get(&(conversation, account)).is_some_and(|at| now.saturating_sub(*at) < PAUSE) {
            return false;
        }
        if signals.len() >= REMEMBERED {
            signals.retain(|_, at| now.saturating_sub(*at) < PAUSE);
        }
        if signals.len() >= REMEMBERED {
            return false;
        }
        signals.insert((conversation, account), now);
        true
    }
}
