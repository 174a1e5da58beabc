//! Key packages of people who are to come in: claimed from the server a few at a time, kept until they are used.

use parlour_e2ee::Member;
use parlour_wire::{
    AccountId, Code, ConversationId,
    api::{KeyPackagesClaim, KeyPackagesClaimAnswer, Suite},
    identity::VerifiedList,
};

use super::{Core, session::Pending};
use crate::{error::Error, store::ConversationPhase};

/// Claims for one conversation under way at the same time: enough to hide the way to the server, not enough to crowd it.
const CLAIMS: usize = 8;

impl Core {
    /// Key packages of all devices of these accounts, this device left out. Asks for what is missing: `None` until all are here.
    pub(super) fn gather(
        &mut self,
        id: &ConversationId,
        accounts: &[AccountId],
        suite: Suite,
    ) -> Result<Option<Vec<Member>>, Error> {
        let creation = self.session.creating.entry(*id).or_default();
        if creation.suite != Some(suite) {
            creation.suite = Some(suite);
            creation.claimed.clear();
        }
        creation.wanted = accounts.iter().copied().collect();
        let missing: Vec<_> = accounts.iter().filter(|account| !creation.claimed.contains_key(account)).copied().collect();
        if missing.is_empty() {
            let members = accounts.iter().filter_map(|account| creation.claimed.get(account));
            return Ok(Some(members.map(|(list, packages)| Member { list: list.clone(), packages: packages.clone() }).collect()));
        }
        let asked: Vec<_> = self.claims(id).collect();
        let room = CLAIMS.saturating_sub(asked.len());
        for account in missing.into_iter().filter(|account| !asked.contains(account)).take(room) {
            self.claim(id, account, suite)?;
        }
        Ok(None)
    }

    /// Asks for one key package for each device of an account.
    pub(super) fn claim(&mut self, id: &ConversationId, account: AccountId, suite: Suite) -> Result<(), Error> {
        self.request(&KeyPackagesClaim { account, suite }, Pending::Claim(*id, account, suite))
    }

    /// The accounts whose key packages are being claimed for a conversation.
    fn claims(&self, id: &ConversationId) -> impl Iterator<Item = AccountId> {
        self.session.inflight.values().filter_map(move |pending| match pending {
            Pending::Claim(other, account, _) if other == id => Some(*account),
            _ => None,
        })
    }

    pub(super) fn is_claiming(&self, id: &ConversationId) -> bool {
        self.claims(id).next().is_some()
    }

    pub(super) fn claim_answered(
        &mut self,
        id: ConversationId,
        (account, suite): (AccountId, Suite),
        result: Result<Vec<u8>, Error>,
    ) -> Result<(), Error> {
        self.session.dirty.insert(id);
        let answer: KeyPackagesClaimAnswer = match result {
            Ok(bytes) => parlour_wire::decode(&bytes)?,
            Err(error) => return self.claim_failed(id, account, error),
        };
        let list = VerifiedList::parse(&answer.device_list)?;
        if list.account() != account {
            return Err(Error::new(Code::SERVER_MISBEHAVED, "the server sent the device list of another account"));
        }
        self.pin_list(&list)?;
        self.session.current.insert(account);
        // The server may have shown an older one: whom to let in is decided by what is pinned.
        let list = self.store.list(&account)?.unwrap_or(list);
        let signed_in = self.signed_in()?;
        let (me, own_device) = (signed_in.account, signed_in.device);
        let packages: Vec<_> = answer.packages.into_iter().filter(|package| package.device != own_device).collect();
        let Some(conversation) = self.store.conversation(&id)? else { return Ok(()) };
        let wanted = |creation: &super::session::Creation| creation.suite == Some(suite) && creation.wanted.contains(&account);
        if !self.session.creating.get(&id).is_some_and(wanted) {
            return match conversation.phase {
                ConversationPhase::Active => self.add_missing(&conversation, &list, packages),
                _ => Ok(()),
            };
        }
        if packages.is_empty() && account != me && !self.store.is_member(&id, &account)? {
            return self.no_devices(id, account);
        }
        self.session.creating.entry(id).or_default().claimed.insert(account, (list, packages));
        Ok(())
    }

    /// Somebody who is to come in has no device that could.
    fn no_devices(&mut self, id: ConversationId, account: AccountId) -> Result<(), Error> {
        if let Some(intent) = self.store.first_intent(&id)? {
            let who = self.shown_name(&account)?;
            let error = Error::new(Code::NO_DEVICES, format!("{who} has no device that could come in"));
            return self.finish_intent(&intent, Err(error));
        }
        let message = "the recipient has no device that could receive at the moment; the message stays queued";
        self.trouble(Error::new(Code::NO_DEVICES, message));
        self.rest(id);
        Ok(())
    }

    fn claim_failed(&mut self, id: ConversationId, account: AccountId, error: Error) -> Result<(), Error> {
        let wanted = self.session.creating.get(&id).is_some_and(|creation| creation.wanted.contains(&account));
        if error.is_transient() {
            self.rest(id);
            return Ok(());
        }
        if wanted
            && self.store.is_member(&id, &account)?
            && let Some(list) = self.store.list(&account)?
        {
            // A member stays one when its group is founded anew; its devices come in by themselves.
            self.session.creating.entry(id).or_default().claimed.insert(account, (list, Vec::new()));
            return Ok(());
        }
        if wanted && let Some(intent) = self.store.first_intent(&id)? {
            return self.finish_intent(&intent, Err(error));
        }
        self.trouble(Error { message: format!("a message waits: {}", error.message), ..error });
        self.rest(id);
        Ok(())
    }
}
