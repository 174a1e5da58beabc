//! A server that bends what it says to one device: the true server answers and pushes, and this stands between.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use ed25519_dalek::{Signer as _, SigningKey};
use parlour_wire::{
    Code, ConversationId,
    api::{Call, Commit, Entries, Notice as _, Read, ReadAnswer, Send, Stored, Sync, SyncAnswer},
    log::{Entry, EntryKind, RECEIPT_CONTEXT, receipt_bytes},
};

use super::World;
use crate::{core::Input, core::Output, error::Error, event::Event};

/// The request that an answer is to.
pub(in crate::tests) struct Asked {
    pub(in crate::tests) name: &'static str,
    pub(in crate::tests) content: Vec<u8>,
}

impl Asked {
    pub(in crate::tests) fn is<C: Call>(&self) -> bool {
        self.name == C::NAME
    }
}

/// What a device hears instead of an answer or a push.
pub(in crate::tests) type Bend = Box<dyn FnMut(Option<Asked>, Input) -> Vec<Input>>;

/// Bends the content of the answers to one kind of request.
pub(in crate::tests) fn answers(name: &'static str, mut f: impl FnMut(&[u8], Vec<u8>) -> Vec<u8> + 'static) -> Bend {
    Box::new(move |asked, input| match (asked, input) {
        (Some(asked), Input::Answer(id, Ok(answer))) if asked.name == name => {
            vec![Input::Answer(id, Ok(f(&asked.content, answer)))]
        }
        (_, input) => vec![input],
    })
}

/// Puts another outcome in the place of the answers to one kind of request.
pub(in crate::tests) fn replies(
    name: &'static str,
    mut f: impl FnMut(&[u8], Result<Vec<u8>, Error>) -> Result<Vec<u8>, Error> + 'static,
) -> Bend {
    Box::new(move |asked, input| match (asked, input) {
        (Some(asked), Input::Answer(id, answer)) if asked.name == name => vec![Input::Answer(id, f(&asked.content, answer))],
        (_, input) => vec![input],
    })
}

/// Bends whatever entries are pushed or read.
pub(in crate::tests) fn entries(mut f: impl FnMut(Vec<Entry>) -> Vec<Entry> + 'static) -> Bend {
    Box::new(move |asked, input| match (asked, input) {
        (Some(asked), Input::Answer(id, Ok(answer))) if asked.is::<Read>() => {
            let mut answer: ReadAnswer = parlour_wire::decode(&answer).unwrap();
            answer.entries = f(answer.entries);
            vec![Input::Answer(id, Ok(parlour_wire::encode(&answer)))]
        }
        (_, Input::Push { name, content }) if name == Entries::NAME => {
            let pushed: Entries = parlour_wire::decode(&content).unwrap();
            let entries = f(pushed.entries);
            if entries.is_empty() { Vec::new() } else { vec![push(entries)] }
        }
        (_, input) => vec![input],
    })
}

pub(in crate::tests) fn push(entries: Vec<Entry>) -> Input {
    Input::Push { name: Entries::NAME.to_owned(), content: parlour_wire::encode(&Entries { entries }) }
}

/// A log that one device is shown in place of the true one, with numbers and hashes that fit: `edit` says what stands for each entry.
pub(in crate::tests) fn other_log(
    conversation: ConversationId,
    (seq, hash): (u64, [u8; 32]),
    edit: impl FnMut(Entry) -> Vec<Entry> + 'static,
) -> Bend {
    let mut other = Other { conversation, after: seq, last: (seq, hash), shown: Vec::new(), edit: Box::new(edit) };
    Box::new(move |asked, input| vec![other.bend(asked, input)])
}

struct Other {
    conversation: ConversationId,
    /// The last true entry that has been taken up.
    after: u64,
    last: (u64, [u8; 32]),
    shown: Vec<Entry>,
    edit: Box<dyn FnMut(Entry) -> Vec<Entry>>,
}

impl Other {
    /// Takes true entries; gives those that come in their place and are new.
    fn take(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut fresh = Vec::new();
        for entry in entries {
            if entry.conversation != self.conversation {
                fresh.push(entry);
            } else if entry.seq > self.after {
                self.after = entry.seq;
                for entry in (self.edit)(entry) {
                    let entry = Entry { seq: self.last.0 + 1, previous: self.last.1, ..entry };
                    self.last = (entry.seq, entry.hash());
                    self.shown.push(entry.clone());
                    fresh.push(entry);
                }
            }
        }
        fresh
    }

    fn bend(&mut self, asked: Option<Asked>, input: Input) -> Input {
        match (asked, input) {
            (_, Input::Push { name, content }) if name == Entries::NAME => {
                let pushed: Entries = parlour_wire::decode(&content).unwrap();
                push(self.take(pushed.entries))
            }
            (Some(asked), Input::Answer(id, Ok(answer))) => Input::Answer(id, Ok(self.answer(&asked, answer))),
            (_, input) => input,
        }
    }

    fn answer(&mut self, asked: &Asked, answer: Vec<u8>) -> Vec<u8> {
        if asked.is::<Read>() {
            let read: Read = parlour_wire::decode(&asked.content).unwrap();
            if read.conversation == self.conversation {
                let truth: ReadAnswer = parlour_wire::decode(&answer).unwrap();
                self.take(truth.entries);
                let entries = self.shown.iter().filter(|entry| entry.seq > read.after).cloned().collect();
                return parlour_wire::encode(&ReadAnswer { entries, head: self.last.0 });
            }
        }
        if asked.is::<Sync>() {
            let mut sync: SyncAnswer = parlour_wire::decode(&answer).unwrap();
            for state in sync.conversations.iter_mut().filter(|state| state.conversation == self.conversation) {
                state.head = self.last.0 + state.head.saturating_sub(self.after);
            }
            return parlour_wire::encode(&sync);
        }
        let (conversation, id, kind, payload) = if asked.is::<Send>() {
            let send: Send = parlour_wire::decode(&asked.content).unwrap();
            (send.conversation, send.id, EntryKind::MESSAGE, send.payload)
        } else if asked.is::<Commit>() {
            let commit: Commit = parlour_wire::decode(&asked.content).unwrap();
            (commit.conversation, commit.id, EntryKind::COMMIT, commit.commit)
        } else {
            return answer;
        };
        let Stored { seq, previous, stored_ms, receipt } = parlour_wire::decode(&answer).unwrap();
        if conversation != self.conversation || seq <= self.after {
            return answer;
        }
        let shown = self.take(vec![Entry { conversation, seq, previous, id, kind, stored_ms, payload, receipt }]).pop();
        shown.map_or(answer, |shown| {
            let (seq, previous, stored_ms) = (shown.seq, shown.previous, shown.stored_ms);
            parlour_wire::encode(&Stored { seq, previous, stored_ms, receipt })
        })
    }
}

impl World {
    /// From now on the server says to a device what `bend` makes of it.
    pub(in crate::tests) fn bend(&mut self, node: usize, bend: Bend) {
        self.nodes[node].bend = Some(bend);
    }

    /// From now on what the server says to a device is kept back, in its order, and stays so until somebody hands it over.
    pub(in crate::tests) fn keep_back(&mut self, node: usize) -> Rc<RefCell<Vec<Input>>> {
        self.keep_back_such(node, |_| true)
    }

    /// The same for the answers to one kind of request.
    pub(in crate::tests) fn keep_back_answers<C: Call>(&mut self, node: usize) -> Rc<RefCell<Vec<Input>>> {
        self.keep_back_such(node, |asked| asked.is_some_and(Asked::is::<C>))
    }

    fn keep_back_such(&mut self, node: usize, such: fn(Option<&Asked>) -> bool) -> Rc<RefCell<Vec<Input>>> {
        let kept = Rc::new(RefCell::new(Vec::new()));
        let keeps = Rc::clone(&kept);
        self.bend(
            node,
            Box::new(move |asked, input| {
                if !such(asked.as_ref()) {
                    return vec![input];
                }
                keeps.borrow_mut().push(input);
                Vec::new()
            }),
        );
        kept
    }

    /// The server says to a device what it says.
    pub(in crate::tests) fn straight(&mut self, node: usize) {
        self.nodes[node].bend = None;
    }

    /// Counts the answers to one kind of request from here on.
    pub(in crate::tests) fn count<C: Call>(&mut self, node: usize) -> Rc<Cell<usize>> {
        let count = Rc::new(Cell::new(0));
        let counted = Rc::clone(&count);
        self.bend(
            node,
            answers(C::NAME, move |_, answer| {
                counted.set(counted.get() + 1);
                answer
            }),
        );
        count
    }

    /// The server behaves again, and everybody connects anew.
    pub(in crate::tests) fn straighten(&mut self) {
        for node in 0..self.nodes.len() {
            self.nodes[node].bend = None;
            self.cut(node);
        }
        self.settle();
    }

    /// Lets things happen for a while; a server that gives no rest does not let [`Self::settle`] return. How many requests a device made.
    pub(in crate::tests) fn go_on(&mut self, node: usize, seconds: u64) -> usize {
        let before = self.nodes[node].asked;
        for _ in 0..seconds * 2 {
            let mut steps = 0;
            while steps < 300 && self.step_any() {
                steps += 1;
            }
            self.advance(std::time::Duration::from_millis(500));
        }
        self.nodes[node].asked - before
    }

    /// Lets things happen until a device makes a request of this kind, which then waits until it is released.
    pub(in crate::tests) fn hold<C: Call>(&mut self, node: usize) -> Output {
        let is = |output: &Output| matches!(output, Output::Request { name, .. } if *name == C::NAME);
        loop {
            let outbox = &mut self.nodes[node].outbox;
            if let Some(held) = outbox.iter().position(is).and_then(|at| outbox.remove(at)) {
                return held;
            }
            assert!(self.step_any(), "no such request is made");
        }
    }

    pub(in crate::tests) fn release(&mut self, node: usize, held: Output) {
        self.nodes[node].outbox.push_back(held);
    }

    /// The next request of a device if it is of this kind, taken from its way.
    pub(in crate::tests) fn intercept<C: Call>(&mut self, node: usize) -> Option<C> {
        let is = |output: &Output| matches!(output, Output::Request { name, .. } if *name == C::NAME);
        let at = self.nodes[node].outbox.iter().position(is)?;
        match self.nodes[node].outbox.remove(at) {
            Some(Output::Request { content, .. }) => Some(parlour_wire::decode(&content).unwrap()),
            _ => None,
        }
    }

    /// What the listeners of a device were told went wrong.
    pub(in crate::tests) fn troubles(&self, node: usize) -> Vec<Error> {
        let trouble = |event: &Event| if let Event::Trouble(error) = event { Some(error.clone()) } else { None };
        self.nodes[node].events.iter().filter_map(trouble).collect()
    }

    /// Whether a device has told that the server misbehaves, in these words.
    pub(in crate::tests) fn complains(&self, node: usize, words: &str) -> bool {
        self.troubles(node).iter().any(|error| error.code == Code::SERVER_MISBEHAVED && error.message.contains(words))
    }

    /// The receipt that the server would sign.
    pub(in crate::tests) fn receipt(&self, conversation: &ConversationId, parent_epoch: u64, commit: &[u8]) -> [u8; 64] {
        let (secret, _) = self.secrets[1..].split_first_chunk::<32>().unwrap();
        let bytes = receipt_bytes(conversation, parent_epoch, commit);
        SigningKey::from_bytes(secret).sign(&[RECEIPT_CONTEXT, &bytes].concat()).to_bytes()
    }

    /// How often each text stands in a history.
    pub(in crate::tests) fn tally(&mut self, node: usize, with: &str) -> BTreeMap<String, usize> {
        let mut tally = BTreeMap::new();
        for text in self.texts(node, with) {
            *tally.entry(text).or_default() += 1;
        }
        tally
    }
}
