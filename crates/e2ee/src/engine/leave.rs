//! Leaving a group: a signed statement in the log, and what it means to those who stay.

use openmls::group::MlsGroup;
use parlour_wire::{
    AccountId, ConversationId,
    api::ConversationKind,
    codec::encode,
    identity::signed_bytes,
    log::{Entry, LEAVE_CONTEXT, LeaveStatement},
};

use super::{Opened, grounds::Farewell, leaf::named, policy::Policy, record::Leaver, work::Work};
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
        let opened = match leaver(&group, &entry.conversation, &entry.payload) {
            Ok(leaver) => {
                let account = leaver.account;
                if !record.has_left(&account) {
                    record.left.push(leaver);
                }
                Opened::Left { account }
            }
            Err(why) => Opened::Void { committer: None, why },
        };
        self.put_record(record)?;
        self.put_group(group);
        Ok(opened)
    }

    /// Takes statements from before this device came in: the accounts that have left by them and that it has not known to.
    pub(super) fn recall_leaves(&mut self, statements: &[&[u8]]) -> Result<Vec<AccountId>, E2eeError> {
        let mut record = self.take_record()?;
        let group = self.take_group()?;
        if !group.is_active() {
            return Err(E2eeError::Removed);
        }
        let conversation = self.conversation()?;
        let mut told = Vec::new();
        for statement in statements {
            // One that does not hold is of an earlier membership, or a lie.
            let Ok(leaver) = leaver(&group, &conversation, statement) else { continue };
            if !record.has_left(&leaver.account) {
                told.push(leaver.account);
                record.left.push(leaver);
            }
        }
        self.put_record(record)?;
        self.put_group(group);
        Ok(told)
    }
}

/// The account whose statement this is, if it holds: signed by a device that is in the group, for the time since the account came in.
fn leaver(group: &MlsGroup, conversation: &ConversationId, statement: &[u8]) -> Result<Leaver, E2eeError> {
    let claimed = LeaveStatement::peek(statement).map_err(|_| E2eeError::Malformed("leave statement"))?;
    let leaf = group.members().find(|member| named(&member.credential) == Ok((claimed.account, claimed.device)));
    let leaf = leaf.ok_or(E2eeError::Forbidden("to leave for somebody else"))?;
    let certificate = leaf.credential.serialized_content().to_vec();
    let farewell = Farewell { statement: statement.to_vec(), certificate };
    let policy = Policy::of(group)?;
    if policy.kind != ConversationKind::GROUP {
        return Err(E2eeError::Forbidden("to leave what is no group"));
    }
    let account = farewell.check(conversation, &policy)?;
    Ok(Leaver { account, since: claimed.since, farewell })
}
