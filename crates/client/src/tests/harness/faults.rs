//! What goes wrong in the world: links are cut, programs die, the server restarts, somebody damages what is on its way or says what no
//! program of ours would.

use std::time::Duration;

use parlour_server::store::suite::block_on;
use parlour_wire::Code;

use super::{World, brief, service, up};
use crate::{
    core::{Input, Output},
    error::Error,
};

/// Whether a request of a name and a content is refused, and how.
pub(in crate::tests) type Refuses = Box<dyn FnMut(&str, &[u8]) -> Option<Code>>;

impl World {
    /// The server refuses so many requests of a kind, and then no more.
    pub(in crate::tests) fn refuse_some<C: parlour_wire::api::Call>(&mut self, mut count: usize, code: Code) {
        self.refuses = Some(Box::new(move |name, _| {
            let refused = name == C::NAME && count > 0;
            count -= usize::from(refused);
            refused.then_some(code)
        }));
    }

    /// The connection and its session are lost.
    pub(in crate::tests) fn cut(&mut self, node: usize) {
        if self.nodes[node].link.is_some() {
            self.drop_link(node);
            let error = Error::new(Code::LINK_LOST, "cut");
            self.input(node, Input::Down { error, retry_in: Some(Duration::ZERO) });
        }
    }

    /// The connection is lost and the session resumed.
    pub(in crate::tests) fn blink(&mut self, node: usize) {
        if self.nodes[node].link.is_some() {
            let error = Error::new(Code::LINK_LOST, "blink");
            self.input(node, Input::Down { error, retry_in: Some(Duration::ZERO) });
            self.input(node, up(true, [0; 32]));
        }
    }

    /// The connection is lost, what came with the last of it is taken behind that, and the session is resumed.
    pub(in crate::tests) fn take_behind_the_loss(&mut self, node: usize, came: Vec<Input>) {
        let error = Error::new(Code::LINK_LOST, "blink");
        self.input(node, Input::Down { error, retry_in: Some(Duration::ZERO) });
        for input in came {
            self.input(node, input);
        }
        self.input(node, up(true, [0; 32]));
    }

    /// The connection is lost right after it was made. What the client has asked runs out of time before the session is resumed.
    pub(in crate::tests) fn stall(&mut self, node: usize) {
        assert!(self.connect(node));
        let asked: Vec<_> = std::mem::take(&mut self.nodes[node].outbox).into_iter().collect();
        self.input(node, Input::Down { error: Error::new(Code::LINK_LOST, "stalled"), retry_in: Some(Duration::ZERO) });
        for output in asked {
            if let Output::Request { id, .. } = output {
                self.input(node, Input::Answer(id, Err(Error::new(Code::TIMED_OUT, "stalled"))));
            }
        }
        self.advance(Duration::from_secs(60));
        self.input(node, up(true, [0; 32]));
    }

    /// The process dies: what its last step wanted done is not done, and it starts again from its files.
    pub(in crate::tests) fn crash(&mut self, node: usize) {
        self.restart_offline(node);
        self.go_online(node);
    }

    /// The same, and nobody says that it should connect.
    pub(in crate::tests) fn restart_offline(&mut self, node: usize) {
        self.kill(node);
        self.open(node);
    }

    /// The program ends and stays away.
    pub(in crate::tests) fn stop(&mut self, node: usize) {
        self.kill(node);
    }

    fn kill(&mut self, node: usize) {
        self.drop_link(node);
        let it = &mut self.nodes[node];
        it.wanted = false;
        it.transfers.clear();
        it.core = None;
    }

    /// Hands an input to a core that dies after its transaction and before its outputs.
    pub(in crate::tests) fn crash_in(&mut self, node: usize, input: Input) {
        let now = self.now();
        if let Some(core) = self.nodes[node].core.as_mut() {
            if self.trace {
                println!("{:?} node {node} dies in {}", self.steady, brief(&format!("{input:?}")));
            }
            drop(core.handle(input, now));
        }
        self.crash(node);
    }

    /// Ends a program properly and gives its files to a test while it is away.
    pub(in crate::tests) fn with_files(&mut self, node: usize, f: impl FnOnce(&std::path::Path)) {
        self.kill(node);
        f(self.nodes[node].home.path());
        self.open(node);
        self.go_online(node);
    }

    pub(in crate::tests) fn restart_server(&mut self) {
        for node in 0..self.nodes.len() {
            self.cut(node);
        }
        self.service = service(&self.store, &self.fanout, &self.secrets);
    }

    /// Makes a request over the session of a device, past its program: what a member could send that follows no rule.
    pub(in crate::tests) fn forge<C: parlour_wire::api::Call>(&mut self, node: usize, call: &C) -> Result<(), Code> {
        let now = parlour_server::Now { unix_ms: self.unix_ms };
        let session = &mut self.nodes[node].link.as_mut().expect("online").session;
        let answer = block_on(self.service.request(session, C::NAME, &parlour_wire::encode(call), now));
        answer.map(drop).map_err(|failure| failure.to_wire().code)
    }

    /// Waits for the next push of entries and damages the ciphertext of its only entry, keeping the log's chain intact for
    /// this device: what follows it is not delivered.
    pub(in crate::tests) fn damage_next_push(&mut self, node: usize) {
        loop {
            match self.arriving(node) {
                Some(Input::Push { name, content }) if name == "entries" => {
                    let mut entries: parlour_wire::api::Entries = parlour_wire::decode(&content).unwrap();
                    let payload = &mut entries.entries[0].payload;
                    *payload.last_mut().unwrap() ^= 1;
                    return self.input(node, Input::Push { name, content: parlour_wire::encode(&entries) });
                }
                Some(input) => self.input(node, input),
                None => assert!(self.step_any_but_receive(node), "no push comes"),
            }
        }
    }

    /// Lets things happen until a device makes such a request, and refuses it before the server hears of it.
    pub(in crate::tests) fn refuse<C: parlour_wire::api::Call>(&mut self, node: usize, such: impl Fn(&C) -> bool, error: &Error) {
        for _ in 0..10_000 {
            let next = match self.nodes[node].outbox.front() {
                Some(Output::Request { id, name, content }) if *name == C::NAME => {
                    such(&parlour_wire::decode(content).unwrap()).then_some(*id)
                }
                _ => None,
            };
            if let Some(id) = next {
                self.nodes[node].outbox.pop_front();
                return self.input(node, Input::Answer(id, Err(error.clone())));
            }
            if !self.step_any() {
                self.advance(Duration::from_millis(100));
            }
        }
        panic!("no such request is made");
    }

    /// Whether a device is about to make a request of this kind.
    pub(in crate::tests) fn is_to_ask<C: parlour_wire::api::Call>(&self, node: usize) -> bool {
        let is = |output: &Output| matches!(output, Output::Request { name, .. } if *name == C::NAME);
        self.nodes[node].outbox.iter().any(is)
    }

    fn step_any_but_receive(&mut self, but: usize) -> bool {
        (0..self.nodes.len()).any(|node| self.connect(node) || self.transmit(node) || (node != but && self.receive(node)))
    }
}
