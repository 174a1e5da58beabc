//! The end of a history: everything is at rest, and what is on the devices is held against what was promised.
//!
//! Who had to get a message is not asked of the clients: the store's ear knows which devices read a conversation, and since which
//! entry. A device must have every message that came after that entry, once. A device that has joined again counts from there,
//! so it may only do so if it was put back to an older copy.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use parlour_client::{
    Message, MessageKind, Page, State,
    core::{Command, Reply},
};
use parlour_wire::{ConversationId, DeviceId, MessageId};

use crate::{
    compare, files,
    home::Room,
    ledger::{Said, Verdict},
    world::World,
};

/// Nothing is under way any more, and nothing happens by itself for so long.
const QUIET: Duration = Duration::from_secs(60);
/// How long the last words may take.
const LAST: Duration = Duration::from_secs(5 * 60);
/// What a program says when it could not read or follow something.
const UNREAD: [&str; 6] =
    ["could not be read", "before this device could read", "set up again", "has been lost", "was refused", "older copy"];

/// All messages of all conversations, device by device.
pub(crate) struct Shelf {
    /// What a device shows in a conversation.
    pub(crate) shown: BTreeMap<(usize, ConversationId), Vec<Message>>,
    pub(crate) rooms: BTreeMap<ConversationId, Room>,
    pub(crate) nodes: BTreeMap<DeviceId, usize>,
}

impl Shelf {
    fn read(world: &mut World) -> Self {
        let rooms = world.home.log(|log| log.rooms.clone());
        let running: Vec<_> = world.running().collect();
        let nodes = running.iter().map(|node| (world.nodes[*node].device, *node)).collect();
        let mut shown = BTreeMap::new();
        for node in running {
            let own = ConversationId::own(&world.people[world.nodes[node].person].account);
            for conversation in conversations(world, node).into_iter().chain([own]) {
                let page = Page { limit: 10_000, ..Page::default() };
                if let Some(Reply::Messages(messages)) = world.look(node, Command::Page { conversation, page }) {
                    shown.insert((node, conversation), messages);
                }
            }
        }
        Self { shown, rooms, nodes }
    }

    /// Devices that read a conversation, each with the entry that brought it in.
    pub(crate) fn readers<'a>(&'a self, room: &'a Room) -> impl Iterator<Item = (usize, u64)> + 'a {
        room.devices.iter().filter_map(|(device, since)| Some((*self.nodes.get(device)?, *since)))
    }

    pub(crate) fn message(&self, node: usize, conversation: ConversationId, id: &MessageId) -> Option<&Message> {
        self.shown.get(&(node, conversation))?.iter().find(|message| message.id == *id)
    }
}

fn conversations(world: &mut World, node: usize) -> Vec<ConversationId> {
    match world.look(node, Command::Conversations) {
        Some(Reply::Conversations(all)) => all.into_iter().map(|one| one.conversation).collect(),
        _ => Vec::new(),
    }
}

/// Lets everybody say a last word, and checks.
pub(crate) fn check(world: &mut World) -> Verdict {
    world.tell("the end begins".to_owned());
    last_words(world);
    world.run_for(LAST);
    if !world.is_quiet_until(world.now + QUIET) {
        world.ledger.trouble("the world does not come to rest".to_owned());
    }
    let shelf = Shelf::read(world);
    let mut verdict = std::mem::take(&mut world.ledger.verdict);
    let said = std::mem::take(&mut world.ledger.said);
    for said in &said {
        promised(world, &shelf, said, &mut verdict);
    }
    accepted(world, &shelf, &said, &mut verdict);
    once(&shelf, &mut verdict);
    readable(world, &shelf, &mut verdict);
    compare::agree(world, &shelf, &mut verdict);
    rejoins(world, &mut verdict);
    files::fetched(world, &shelf, &said, &mut verdict);
    verdict
}

/// Every device writes in every conversation that it is in: who cannot, or is not heard, is stuck.
fn last_words(world: &mut World) {
    let running: Vec<_> = world.running().collect();
    for node in running {
        let Some(Reply::Conversations(all)) = world.look(node, Command::Conversations) else { continue };
        let inside: BTreeSet<_> = world.groups(node).into_iter().map(|group| group.id).collect();
        for one in all {
            if one.peer.is_some() || inside.contains(&one.conversation) {
                world.write(node, one.name);
            }
        }
    }
}

/// A message that a device said it keeps is at the server, unless it never happened or its writer is out.
fn promised(world: &World, shelf: &Shelf, said: &Said, verdict: &mut Verdict) {
    let writer = &world.nodes[said.node];
    if said.undone || writer.revoked {
        return;
    }
    let account = world.people[writer.person].account;
    let room = shelf.rooms.get(&said.conversation);
    let out = room.is_some_and(|room| !room.members.contains(&account)) || (room.is_none() && said.conversation.is_group());
    let stored = room.is_some_and(|room| room.messages.contains_key(&said.id));
    let shown = shelf.message(said.node, said.conversation, &said.id);
    // A message that was taken back before the server had it need not go out.
    let failed = |message: &&Message| message.kind == MessageKind::File && message.state == State::Failed;
    let taken_back = shown.is_some_and(|message| message.deleted || failed(&message));
    if !stored && !out && !taken_back {
        verdict.lost.push(format!("{:?} of node {} was never sent", said.text, said.node));
    }
}

/// What the server has is on every device that read the conversation when it came, and still does.
fn accepted(world: &World, shelf: &Shelf, said: &[Said], verdict: &mut Verdict) {
    let mut texts: BTreeMap<MessageId, String> = said.iter().map(|said| (said.id, said.text.clone())).collect();
    // What was written by a program that died before it could say so.
    for message in shelf.shown.values().flatten().filter(|message| message.kind == MessageKind::Text) {
        texts.entry(message.id).or_insert_with(|| message.text.clone());
    }
    let foundings = world.home.log(|log| log.foundings.clone());
    for (conversation, room) in &shelf.rooms {
        let foundings: Vec<_> = foundings.iter().filter(|it| it.group == *conversation).map(|it| it.seq).collect();
        let since = |reader: (usize, u64)| match world.nodes[reader.0].rollbacks {
            0 => came(shelf, (*conversation, room), reader, &foundings),
            // What came between the copy and the founding by which it came in again is not on it.
            _ => foundings.iter().copied().max().unwrap_or(0).max(reader.1),
        };
        let readers: Vec<_> = shelf.readers(room).map(|reader| (reader.0, since(reader))).collect();
        for (id, text) in &texts {
            let Some(seq) = room.messages.get(id) else { continue };
            for (node, since) in readers.iter().copied() {
                if since < *seq && shelf.message(node, *conversation, id).is_none() {
                    let name = world.people[world.nodes[node].person].name;
                    verdict.lost.push(format!("{text:?}, entry {seq} of {conversation}, is not on node {node} of {name}"));
                }
            }
        }
    }
}

/// Since which entry a device reads. One that was invited and had not come yet when the group was founded anew comes in behind the founding;
/// it has nothing of what stands before.
fn came(shelf: &Shelf, (conversation, room): (ConversationId, &Room), (node, since): (usize, u64), foundings: &[u64]) -> u64 {
    let has = |from: u64, to: u64| {
        let between = room.messages.iter().filter(|(_, seq)| (from..to).contains(seq));
        let mut own = between.filter(|(id, _)| shelf.message(node, conversation, id).is_some());
        own.next().is_some()
    };
    let later = foundings.iter().rev().find(|founding| **founding > since && !has(since, **founding));
    later.copied().unwrap_or(since)
}

/// Nothing is on a device twice, neither by its id nor by what it says.
fn once(shelf: &Shelf, verdict: &mut Verdict) {
    for ((node, conversation), messages) in &shelf.shown {
        let (mut ids, mut texts) = (BTreeSet::new(), BTreeSet::new());
        for message in messages.iter().filter(|message| message.kind == MessageKind::Text && !message.deleted) {
            if !ids.insert(message.id) || !texts.insert(message.text.as_str()) {
                verdict.doubled.push(format!("{:?} is on node {node} twice in {conversation}", message.text));
            }
        }
    }
}

/// No device says that it could not read something, but for one that was put back to an older copy, which has to say so.
fn readable(world: &World, shelf: &Shelf, verdict: &mut Verdict) {
    for ((node, conversation), messages) in &shelf.shown {
        let put_back = world.nodes[*node].rollbacks > 0;
        for message in messages.iter().filter(|message| message.kind == MessageKind::System) {
            let bad = UNREAD.iter().any(|bad| message.text.contains(bad));
            let owned_up = put_back && ["older copy", "has been lost"].iter().any(|said| message.text.contains(said));
            if bad && !owned_up {
                verdict.undecryptable.push(format!("node {node} says in {conversation}: {}", message.text));
            }
        }
    }
}

/// Who joins again leaves out what came meanwhile; only a device that was put back has a reason to.
fn rejoins(world: &World, verdict: &mut Verdict) {
    let rejoins = world.home.log(|log| log.rejoins.clone());
    for (device, conversation) in rejoins {
        let Some(node) = world.nodes.iter().position(|node| node.device == device) else { continue };
        if world.nodes[node].rollbacks == 0 {
            verdict.differing.push(format!("node {node} joined {conversation} again without a reason"));
        }
    }
}
