//! Who people say they are, told in conversations and never to the server; and the settings of this profile.

use parlour_e2ee::GroupEvent;
use parlour_wire::{
    AccountId, Code, ConversationId,
    content::{Body, Profile},
    limits,
};

use super::{
    Core, Reply, Ticket,
    compose::Post,
    own::{Meaning, OwnProfile},
};
use crate::{
    api::{Avatar, PersonalProfile, ProfileChange, Settings},
    error::Error,
    event::Event,
    store::{Conversation, ConversationPhase},
};

/// Setting: `[0]` if others are not told that their messages have been shown.
pub(super) const READ_RECEIPTS: &str = "read_receipts";
/// Setting: `[0]` if others are not told that their messages have arrived.
pub(super) const DELIVERY_RECEIPTS: &str = "delivery_receipts";

impl Core {
    /// What somebody says about themselves; `None` asks about the owner of this profile.
    pub(super) fn profile_of(&self, to: Option<&str>) -> Result<PersonalProfile, Error> {
        let account = match to {
            Some(to) if self.known(to)?.is_some() || !self.is_me(to) => self.known_or_not_found(to)?.account,
            _ => self.me()?,
        };
        let Some((profile, updated_ms)) = self.store.profile(&account)? else { return Ok(PersonalProfile::default()) };
        let Profile { display_name, status, avatar } = profile;
        Ok(PersonalProfile { display_name, status, avatar, updated_ms })
    }

    /// Changes one's own profile and tells it in every conversation.
    pub(super) fn set_own_profile(&mut self, ticket: Ticket, change: ProfileChange) -> Result<(), Error> {
        let me = self.me()?;
        let (mut profile, before_ms) = self.store.profile(&me)?.unwrap_or_default();
        if let Some(name) = change.display_name {
            profile.display_name = fitting("display name", name, limits::LABEL)?;
        }
        if let Some(status) = change.status {
            profile.status = fitting("status", status, limits::PROFILE_STATUS)?;
        }
        match change.avatar {
            None => {}
            Some(Avatar::Remove) => profile.avatar = None,
            Some(Avatar::Set(picture)) if picture.len() > limits::AVATAR => {
                let message = format!("the picture has {} bytes; it may have {}", picture.len(), limits::AVATAR);
                return Err(Error::new(Code::TOO_LARGE, message).hint("make it smaller, 256 pixels are enough"));
            }
            Some(Avatar::Set(picture)) => profile.avatar = Some(picture),
        }
        let updated_ms = self.now.unix_ms.max(before_ms + 1);
        self.store.set_profile(&me, &profile, updated_ms)?;
        self.agree_profile()?;
        self.event(Event::ProfileChanged { account: me });
        let active = self.store.conversations()?.into_iter().filter(|it| it.phase == ConversationPhase::Active);
        self.session.dirty.extend(active.map(|it| it.id));
        let profile = self.profile_of(None)?;
        self.reply(ticket, Ok(Reply::Profile(profile)));
        Ok(())
    }

    /// Somebody says in a conversation who they are. Another device of ours says it for this one too.
    pub(super) fn hear_profile(
        &mut self,
        conversation: &ConversationId,
        account: AccountId,
        profile: &Profile,
        updated_ms: u64,
    ) -> Result<(), Error> {
        self.take_profile(account, profile, updated_ms)?;
        let newest = self.store.profile(&account)?.is_some_and(|(_, known_ms)| known_ms == updated_ms);
        if newest && account == self.me()? {
            self.store.set_profile_sent(conversation, updated_ms)?;
        }
        Ok(())
    }

    fn take_profile(&mut self, account: AccountId, profile: &Profile, updated_ms: u64) -> Result<(), Error> {
        let without = |text: &str| text.chars().filter(|c| !turns_text(*c)).collect();
        let profile = Profile {
            display_name: without(&profile.display_name),
            status: without(&profile.status),
            avatar: profile.avatar.clone(),
        };
        if self.store.set_profile(&account, &profile, updated_ms)? {
            self.event(Event::ProfileChanged { account });
        }
        Ok(())
    }

    /// The other devices of this account, and the backup, are to know our profile as it is here.
    pub(super) fn agree_profile(&mut self) -> Result<(), Error> {
        let Some((profile, updated_ms)) = self.store.profile(&self.me()?)? else { return Ok(()) };
        let Profile { display_name, status, avatar } = profile;
        self.agree(&Meaning::Profile(OwnProfile { display_name, status, avatar, updated_ms }))
    }

    /// Another device of this account says what our profile is.
    pub(super) fn take_own_profile(&mut self, own: OwnProfile) -> Result<(), Error> {
        let OwnProfile { display_name, status, avatar, updated_ms } = own;
        let me = self.me()?;
        self.take_profile(me, &Profile { display_name, status, avatar }, updated_ms)
    }

    /// Tells our profile in a conversation that has not heard this version of it.
    pub(super) fn tell_profile(&mut self, conversation: &Conversation) -> Result<(), Error> {
        let Some((profile, updated_ms)) = self.store.profile(&self.me()?)? else { return Ok(()) };
        if conversation.profile_sent >= updated_ms || !self.may_write(conversation)? {
            return Ok(());
        }
        // In a large group everybody would say it to everybody whenever one comes in, so there it goes along with the next message.
        if conversation.is_group() && self.store.unsealed(&conversation.id, 1)?.is_empty() {
            return Ok(());
        }
        // It says since when it is so, which every device of this account says alike: whoever hears it twice has heard nothing new.
        self.compose(conversation, Post { as_of_ms: Some(updated_ms), ..Post::new(Body::Profile(profile)) })?;
        self.store.set_profile_sent(&conversation.id, updated_ms)
    }

    /// Somebody new has not heard our profile.
    pub(super) fn welcome_newcomers(&mut self, conversation: &Conversation, events: &[GroupEvent]) -> Result<(), Error> {
        if events.iter().any(|event| matches!(event, GroupEvent::Added(_))) {
            self.store.set_profile_sent(&conversation.id, 0)?;
        }
        Ok(())
    }

    pub(super) fn settings(&self) -> Result<Settings, Error> {
        let is_on = |name| self.store.setting(name).map(|value| value.is_none_or(|value| value != [0]));
        Ok(Settings { read_receipts: is_on(READ_RECEIPTS)?, delivery_receipts: is_on(DELIVERY_RECEIPTS)? })
    }

    /// Switches one of the two.
    pub(super) fn set_receipts(&mut self, name: &str, on: bool) -> Result<(), Error> {
        self.store.set_setting(name, &[u8::from(on)])?;
        self.agree(&Meaning::Setting(name.to_owned(), vec![u8::from(on)]))
    }
}

/// Characters that turn the direction of text after them: with one in a name, what stands beside the name could be read as another.
const fn turns_text(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn fitting(what: &str, text: String, limit: usize) -> Result<String, Error> {
    if text.len() > limit {
        return Err(Error::new(Code::TOO_LARGE, format!("the {what} has {} bytes; it may have {limit}", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::new(Code::USAGE, format!("the {what} is one line of text")));
    }
    Ok(text)
}
