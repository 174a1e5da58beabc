//! What a lying server has at hand: true answers of before, lists that were signed, states; and what a member could send past its program.

use parlour_e2ee::DeviceKeys;
use parlour_server::store::Store as _;
use parlour_wire::{
    AccountId, ConversationId,
    api::{Call, ConversationState, KeyPackagesClaim, KeyPackagesClaimAnswer, Suite, Sync, SyncAnswer},
    identity::VerifiedList,
    log::Entry,
};

use super::{World, block_on};
use crate::core::{Command, Reply};

impl World {
    pub(in crate::tests) fn account(&self, person: usize) -> AccountId {
        self.people[person].key.account_id()
    }

    /// The device list in force.
    pub(in crate::tests) fn list(&self, person: usize) -> &VerifiedList {
        &self.people[person].list
    }

    /// A device list of the next version that is never published.
    pub(in crate::tests) fn other_list(&self, person: usize) -> Vec<u8> {
        let it = &self.people[person];
        let certificate = it.key.certify(&DeviceKeys::generate().public(), "other", self.unix_ms).unwrap();
        it.key.add_device(&it.list, &certificate, self.unix_ms).unwrap().as_bytes().to_vec()
    }

    /// A device list some versions later that is never published, with all devices of now.
    pub(in crate::tests) fn later_list(&self, person: usize) -> Vec<u8> {
        let it = &self.people[person];
        let mut list = it.list.clone();
        for _ in 0..3 {
            list = it.key.sign_list(Some(&list), list.certificates(), &[], self.unix_ms).unwrap();
        }
        list.as_bytes().to_vec()
    }

    /// Makes a request over the session of a device, past its program, and gives the answer's bytes.
    pub(in crate::tests) fn ask_server<C: Call>(&mut self, node: usize, call: &C) -> Vec<u8> {
        let now = parlour_server::Now { unix_ms: self.unix_ms };
        let session = &mut self.nodes[node].link.as_mut().expect("online").session;
        block_on(self.service.request(session, C::NAME, &parlour_wire::encode(call), now)).expect("an answer").to_vec()
    }

    /// Key packages of a person, as the server would give them to anybody; asked by the first device there is.
    pub(in crate::tests) fn claim(&mut self, person: usize) -> KeyPackagesClaimAnswer {
        let call = KeyPackagesClaim { account: self.account(person), suite: Suite::HYBRID };
        parlour_wire::decode(&self.ask_server(0, &call)).unwrap()
    }

    /// What the server would say to a device of its conversations.
    pub(in crate::tests) fn states(&mut self, node: usize) -> Vec<ConversationState> {
        parlour_wire::decode::<SyncAnswer>(&self.ask_server(node, &Sync { after: None })).unwrap().conversations
    }

    /// Lets things happen until a device makes a request of this kind, and takes it from its way.
    pub(in crate::tests) fn wait_for<C: Call>(&mut self, node: usize) -> C {
        for _ in 0..10_000 {
            if let Some(call) = self.intercept(node) {
                return call;
            }
            if !self.step_any() {
                self.advance(std::time::Duration::from_millis(100));
            }
        }
        panic!("no such request is made");
    }

    /// How many devices may speak for a contact.
    pub(in crate::tests) fn devices_of(&mut self, node: usize, name: &str) -> usize {
        match self.ask(node, Command::Contacts) {
            Ok(Reply::Contacts(contacts)) => contacts.into_iter().find(|it| it.name == name).unwrap().devices.len(),
            other => panic!("{other:?}"),
        }
    }

    /// The id of the only group of a device.
    pub(in crate::tests) fn group(&mut self, node: usize) -> ConversationId {
        self.core_mut(node).group_for_test().0
    }

    /// In how many conversations a device stands, as another knows it.
    pub(in crate::tests) fn stands_in(&mut self, node: usize, device: parlour_wire::DeviceId) -> usize {
        self.core_mut(node).conversations_with_for_test(device)
    }

    fn core_mut(&mut self, node: usize) -> &mut crate::core::Core {
        self.nodes[node].core.as_mut().unwrap()
    }

    /// The log at the server, as far as a device may read it.
    pub(in crate::tests) fn log(&mut self, node: usize, conversation: ConversationId, after: u64) -> Vec<Entry> {
        let device = self.core_mut(node).device_for_test();
        block_on(self.store.log(conversation, device, after, 1000)).unwrap().unwrap().entries
    }
}
