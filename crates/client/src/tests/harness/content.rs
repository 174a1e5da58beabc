//! What tests of contents need of the world.

use std::time::Duration;

use parlour_wire::{AccountId, Code, MessageId, content::Content};

use super::World;
use crate::{
    api::{Message, PersonalProfile},
    core::{Command, Core, Input, Reply, RequestId},
    error::Error,
};

impl World {
    fn core(&mut self, node: usize) -> &mut Core {
        self.nodes[node].core.as_mut().unwrap()
    }

    /// Runs a command that changes a message; gives the message.
    pub(in crate::tests) fn change(&mut self, node: usize, command: Command) -> Message {
        match self.ask(node, command) {
            Ok(Reply::Posted(posted)) => posted.message,
            other => panic!("{other:?}"),
        }
    }

    pub(in crate::tests) fn search(&mut self, node: usize, text: &str, within: Option<&str>) -> Vec<String> {
        let command = Command::Search { text: text.to_owned(), within: within.map(str::to_owned), limit: 50 };
        match self.ask(node, command) {
            Ok(Reply::Messages(messages)) => messages.into_iter().map(|message| message.text).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Sends a content that no command makes, and lets everything happen that follows.
    pub(in crate::tests) fn say(&mut self, node: usize, content: &Content) {
        self.say_quietly(node, content);
        self.settle();
    }

    /// The same, and nothing follows yet.
    pub(in crate::tests) fn say_quietly(&mut self, node: usize, content: &Content) {
        self.core(node).say_for_test(content);
        self.input(node, Input::Tick);
    }

    /// Lets everything happen that is under way, and no time pass.
    pub(in crate::tests) fn run(&mut self) {
        while self.step_any() {}
    }

    pub(in crate::tests) const fn unix_ms(&self) -> u64 {
        self.unix_ms
    }

    /// The network is away for one device, until [`Self::back`].
    pub(in crate::tests) fn offline(&mut self, node: usize) {
        self.nodes[node].wanted = false;
        self.drop_link(node);
        let error = Error::new(Code::LINK_LOST, "away");
        self.input(node, Input::Down { error, retry_in: Some(Duration::ZERO) });
    }

    pub(in crate::tests) fn back(&mut self, node: usize) {
        self.nodes[node].wanted = true;
    }

    /// Nothing gets through to a device for a while, in which a request of it is given up; then its session goes on.
    pub(in crate::tests) fn stand_still(&mut self, node: usize, span: Duration, request: RequestId) {
        let lost = |code| Error::new(code, "nothing gets through");
        self.input(node, Input::Down { error: lost(Code::LINK_LOST), retry_in: Some(Duration::ZERO) });
        self.input(node, Input::Answer(request, Err(lost(Code::TIMED_OUT))));
        self.advance(span);
        self.input(node, super::up(true, [0; 32]));
    }

    /// The last entry that a device has taken of its only conversation.
    pub(in crate::tests) fn head(&mut self, node: usize) -> u64 {
        self.core(node).head_for_test()
    }

    /// How many messages there are, hidden ones among them, and how many changes that wait for their targets.
    pub(in crate::tests) fn counts(&mut self, node: usize) -> (u64, u64) {
        self.core(node).counts_for_test()
    }

    pub(in crate::tests) fn content(&mut self, node: usize, id: MessageId) -> Option<Vec<u8>> {
        self.core(node).content_for_test(&id)
    }

    pub(in crate::tests) fn profile_of(&mut self, node: usize, account: AccountId) -> PersonalProfile {
        self.core(node).profile_for_test(&account)
    }
}
