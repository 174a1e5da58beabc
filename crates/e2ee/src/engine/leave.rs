//! Leaving a group: a signed statement in the log, and what it means to those who stay.

use openmls::group::MlsGroup;
use parlour_wire::{
    api::ConversationKind,
    codec::encode,
    id::AccountId,
    identity::signed_bytes,
    log::{Entry, LEAVE_CONTEXT, LeaveStatement},
};

use super::{Opened, leaf::named, policy::Policy, work::Work};
use crate::error::E2eeError;

impl Work<'_> {
    pub(super) fn leave(&mut self) -> Result<Vec<u8>, E2eeError> {
        let record = self.take_record()?;
        let group = self.take_group()?;
        if !group.is_active() {
            return Err(E2eeError::Removed);
        }
        let policy = Policy::of(&group)?;
        if policy.kind != ConversationKind::GROUP {
            return Err(E2eeError::Forbidden("to leave what is no group"));
        }
        let account = self.certificate.get().account();
        let since = policy.member(&account).ok_or(E2eeError::NotMember { account })?.since;
        let statement = LeaveStatement { conversation: self.conversation()?, account, device: self.keys.id(), since };
        let bytes = encode(&statement);
        let signature = self.keys.sign_for(LEAVE_CONTEXT, &bytes);
        self.keep_record(record);
        self.put_group(group);
        Ok(signed_bytes(bytes, signature))
    }

    /// Takes a statement out of the log. One that does not hold is void, for everybody.
    pub(super) fn open_leave(&mut self, entry: &Entry) -> Result<Opened, E2eeError> {
        let mut record = self.take_record()?;
        let group = self.take_group()?;
        if !group.is_active() {
            return Err(E2eeError::Removed);
        }
        let opened = match leaver(&group, entry) {
            Ok(account) => {
                if !record.left.contains(&account) {
                    record.left.push(account);
                }
                Opened::Left { account }
            }
            Err(why) => Opened::Void { committer: None, why },
        };
        self.put_record(record)?;
        self.put_group(group);
        Ok(opened)
    }
}

/// The account whose statement this is, if it holds: signed by a device that is in the group, for the time since the account came in.
fn leaver(group: &MlsGroup, entry: &Entry) -> Result<AccountId, E2eeError> {
    let malformed = E2eeError::Malformed("leave statement");
    let claimed = LeaveStatement::peek(&entry.payload).map_err(|_| malformed.clone())?;
    let leaf = group.members().find(|member| named(&member.credential) == Ok((claimed.account, claimed.device)));
    let key = leaf.and_then(|leaf| <[u8; 32]>::try_from(leaf.signature_key.as_slice()).ok());
    let key = key.ok_or(E2eeError::Forbidden("to leave for somebody else"))?;
    let statement = LeaveStatement::verify(&entry.payload, &key).map_err(|_| malformed)?;
    let policy = Policy::of(group)?;
    let current = policy.member(&statement.account).is_some_and(|member| member.since == statement.since);
    if statement.conversation != entry.conversation || !current || policy.kind != ConversationKind::GROUP {
        return Err(E2eeError::Forbidden("an old leave statement, or one of another group"));
    }
    Ok(statement.account)
}
