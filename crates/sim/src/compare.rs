//! Whether the devices agree: who is in a conversation, what a group is, and what its messages say.

use std::collections::BTreeMap;

use parlour_client::{
    Message,
    core::{Command, GroupCommand, Reply},
};
use parlour_wire::ConversationId;

use crate::{check::Shelf, home::Room, ledger::Verdict, world::World};

/// Compares all devices in all conversations.
pub(crate) fn agree(world: &mut World, shelf: &Shelf, verdict: &mut Verdict) {
    for (conversation, room) in &shelf.rooms {
        if room.ended {
            continue;
        }
        all_in(world, shelf, (*conversation, room), verdict);
        same_messages(shelf, (*conversation, room), verdict);
        if conversation.is_group() {
            same_group(world, shelf, (*conversation, room), verdict);
        }
    }
    nobody_else(world, shelf, verdict);
}

/// Every device of every member reads the conversation.
fn all_in(world: &World, shelf: &Shelf, (conversation, room): (ConversationId, &Room), verdict: &mut Verdict) {
    for (device, node) in &shelf.nodes {
        let person = &world.people[world.nodes[*node].person];
        if room.members.contains(&person.account) && !room.devices.contains_key(device) {
            verdict.differing.push(format!("node {node} of {} is not in {conversation}", person.name));
        }
    }
}

/// What a message is, for everybody alike.
fn essence(message: &Message) -> String {
    let mut reactions: Vec<_> = message.reactions.iter().map(|it| (it.emoji.as_str(), it.account)).collect();
    reactions.sort_unstable();
    format!("{:?} deleted {} reactions {reactions:?}", message.text, message.deleted)
}

/// A message says the same on every device that has had it since it was written.
fn same_messages(shelf: &Shelf, (conversation, room): (ConversationId, &Room), verdict: &mut Verdict) {
    for (id, seq) in &room.messages {
        let readers = shelf.readers(room).filter(|(_, since)| since < seq);
        let mut forms: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (node, _) in readers {
            if let Some(message) = shelf.message(node, conversation, id) {
                forms.entry(essence(message)).or_default().push(node);
            }
        }
        if forms.len() > 1 {
            verdict.differing.push(format!("entry {seq} of {conversation}: {forms:?}"));
        }
    }
}

/// The members of a group, their roles and its name are the same on all devices, and its members those that the server has.
fn same_group(world: &mut World, shelf: &Shelf, (conversation, room): (ConversationId, &Room), verdict: &mut Verdict) {
    let mut forms: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (node, _) in shelf.readers(room) {
        let Some(group) = world.groups(node).into_iter().find(|group| group.id == conversation) else {
            verdict.differing.push(format!("node {node} does not know {conversation}, which it reads"));
            continue;
        };
        let members = Command::Group(GroupCommand::Members(format!("#{}", group.name)));
        let Some(Reply::Members(members)) = world.look(node, members) else { continue };
        if members.iter().map(|member| member.account).collect::<std::collections::BTreeSet<_>>() != room.members {
            verdict.differing.push(format!("node {node} has other members in #{} than the server", group.name));
        }
        let mut members: Vec<_> = members.iter().map(|member| (member.user.as_str(), member.role)).collect();
        members.sort_unstable();
        forms.entry(format!("#{} {} {:?} {members:?}", group.name, group.suite.word(), group.history)).or_default().push(node);
    }
    if forms.len() > 1 {
        verdict.differing.push(format!("{conversation}: {forms:?}"));
    }
}

/// No device thinks that it is in a group in which it is not.
fn nobody_else(world: &mut World, shelf: &Shelf, verdict: &mut Verdict) {
    for node in shelf.nodes.values().copied() {
        let account = world.people[world.nodes[node].person].account;
        for group in world.groups(node) {
            if !shelf.rooms.get(&group.id).is_some_and(|room| room.members.contains(&account)) {
                verdict.differing.push(format!("node {node} thinks that it is in #{}", group.name));
            }
        }
    }
}
