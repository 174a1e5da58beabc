//! What people do: mostly write, sometimes change what they wrote, their groups and their devices.

use std::time::Duration;

use parlour_client::{
    Group, HistoryPolicy, Message, MessageKind, Page,
    core::{Command, GroupCommand, Reply},
};
use parlour_wire::api::Role;
use rand::{Rng as _, seq::SliceRandom as _};

use crate::{faults::Sabotage, world::World};

/// Devices that one person has at the same time, at most.
const DEVICES: usize = 3;
/// Groups in one history, at most.
const GROUPS: usize = 3;
const EMOJI: [&str; 3] = ["👍", "🎉", "👀"];

impl World {
    /// How long nobody does anything.
    pub(crate) fn pause(&mut self) -> Duration {
        match self.rng.gen_range(0..20) {
            0 => Duration::from_secs(self.rng.gen_range(10..90)),
            1..6 => Duration::from_millis(self.rng.gen_range(1000..8000)),
            _ => Duration::from_millis(self.rng.gen_range(0..500)),
        }
    }

    /// Somebody does something.
    pub(crate) fn act(&mut self) {
        let running: Vec<_> = self.running().collect();
        let Some(node) = running.choose(&mut self.rng).copied() else { return };
        if self.wide && self.rng.gen_bool(0.25) {
            return self.act_widely(node);
        }
        match self.rng.gen_range(0..100) {
            0..30 => self.write_to_somebody(node),
            30..58 => self.write_to_group(node),
            58..70 => self.change_message(node),
            70..75 => self.read_everything(node),
            75..95 => self.change_group(node),
            95..98 => self.bring_device(),
            _ => self.end_device(node),
        }
    }

    /// What is done in wide histories only.
    fn act_widely(&mut self, node: usize) {
        let groups = self.groups(node);
        let group = groups.choose(&mut self.rng).map(|group| format!("#{}", group.name));
        match (self.rng.gen_range(0..10), group) {
            (0..3, Some(group)) => {
                let history = self.policy();
                self.change(node, GroupCommand::SetHistory { group: group.clone(), history });
                let member = self.somebody();
                self.change(node, GroupCommand::Add { group, members: vec![member] });
            }
            (3..5, _) => self.fetch_some(node),
            (5..8, Some(group)) => self.send_file(node, group),
            _ => {
                let others: Vec<_> = (0..self.people.len()).filter(|person| *person != self.nodes[node].person).collect();
                if let Some(to) = others.choose(&mut self.rng) {
                    self.send_file(node, self.people[*to].name.to_owned());
                }
            }
        }
    }

    fn policy(&mut self) -> HistoryPolicy {
        match self.rng.gen_range(0..4) {
            0 => HistoryPolicy::None,
            1 => HistoryPolicy::Last(self.rng.gen_range(1..10)),
            _ => HistoryPolicy::All,
        }
    }

    /// Devices whose programs run and that belong to their accounts.
    pub(crate) fn running(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.core.is_some() && !node.revoked).map(|(at, _)| at)
    }

    fn write_to_somebody(&mut self, node: usize) {
        let others: Vec<_> = (0..self.people.len()).filter(|person| *person != self.nodes[node].person).collect();
        if let Some(to) = others.choose(&mut self.rng) {
            self.write(node, self.people[*to].name.to_owned());
        }
    }

    fn write_to_group(&mut self, node: usize) {
        match self.groups(node).choose(&mut self.rng).map(|group| format!("#{}", group.name)) {
            Some(to) => self.write(node, to),
            None => self.write_to_somebody(node),
        }
    }

    /// Sends a text like no other.
    pub(crate) fn write(&mut self, node: usize, to: String) {
        self.counts.messages += 1;
        let text = format!("message {} of node {node}", self.counts.messages);
        self.tell(format!("node {node} writes to {to}: {text}"));
        let twice = self.sabotage == Some(Sabotage::Repeat);
        if twice {
            self.sabotage = None;
        }
        for _ in 0..=usize::from(twice) {
            let command = Command::Send { to: to.clone(), text: text.clone(), reply_to: None };
            self.promise(node, command, text.clone());
        }
    }

    /// The groups that a device is in, as it knows.
    pub(crate) fn groups(&mut self, node: usize) -> Vec<Group> {
        match self.look(node, Command::Group(GroupCommand::List)) {
            Some(Reply::Groups(groups)) => groups.into_iter().filter(|group| !group.left).collect(),
            _ => Vec::new(),
        }
    }

    /// The last messages of some conversation, as a device shows them.
    pub(crate) fn some_messages(&mut self, node: usize) -> Vec<Message> {
        let Some(Reply::Conversations(all)) = self.look(node, Command::Conversations) else { return Vec::new() };
        let Some(one) = all.choose(&mut self.rng) else { return Vec::new() };
        let page = Page { limit: 8, ..Page::default() };
        match self.look(node, Command::Page { conversation: one.conversation, page }) {
            Some(Reply::Messages(messages)) => messages,
            _ => Vec::new(),
        }
    }

    fn change_message(&mut self, node: usize) {
        let messages = self.some_messages(node);
        let plain = messages.iter().filter(|message| message.kind == MessageKind::Text && !message.deleted);
        let Some(message) = plain.collect::<Vec<_>>().choose(&mut self.rng).copied().cloned() else { return };
        let id = message.id;
        let command = match self.rng.gen_range(0..10) {
            0..4 if message.outgoing => Command::Edit { id, text: format!("{} (edit {})", message.text, self.counts.changes) },
            4..6 if message.outgoing => Command::Delete(id),
            dice => {
                let emoji = EMOJI[self.rng.gen_range(0..EMOJI.len())].to_owned();
                Command::React { id, emoji, remove: dice == 9 }
            }
        };
        self.counts.changes += 1;
        self.tell(format!("node {node}: {command:?} ({})", message.text));
        self.command(node, command);
    }

    fn read_everything(&mut self, node: usize) {
        let Some(Reply::Conversations(all)) = self.look(node, Command::Conversations) else { return };
        for one in all {
            self.command(node, Command::MarkRead { to: one.name, up_to: None });
        }
    }

    fn change_group(&mut self, node: usize) {
        let groups = self.groups(node);
        let Some(group) = groups.choose(&mut self.rng).map(|group| format!("#{}", group.name)) else {
            return self.make_group(node);
        };
        let member = self.somebody();
        let command = match self.rng.gen_range(0..20) {
            0..2 => return self.make_group(node),
            2..8 => GroupCommand::Add { group, members: vec![member] },
            8..11 => GroupCommand::Remove { group, members: vec![member] },
            11..15 => GroupCommand::SetRole { group, member, role: Role::ADMIN },
            15 => GroupCommand::SetRole { group, member, role: Role::MEMBER },
            16..18 => GroupCommand::Rename { group, name: format!("renamed-{}", self.trace.len()) },
            _ => GroupCommand::Leave(group),
        };
        self.change(node, command);
    }

    fn make_group(&mut self, node: usize) {
        if self.ledger.groups >= GROUPS {
            return;
        }
        self.ledger.groups += 1;
        let name = format!("group-{}", self.ledger.groups);
        let me = self.people[self.nodes[node].person].name;
        let others: Vec<_> = self.people.iter().map(|person| person.name).filter(|name| *name != me).collect();
        let members = others.into_iter().filter(|_| self.rng.gen_bool(0.7)).map(str::to_owned).collect();
        let history = if self.wide { self.policy() } else { HistoryPolicy::None };
        self.change(node, GroupCommand::Create { name, members, history });
    }

    fn change(&mut self, node: usize, command: GroupCommand) {
        self.counts.group_changes += 1;
        self.tell(format!("node {node}: {command:?}"));
        self.command(node, Command::Group(command));
    }

    fn somebody(&mut self) -> String {
        self.people[self.rng.gen_range(0..self.people.len())].name.to_owned()
    }

    fn devices_of(&self, person: usize) -> usize {
        self.nodes.iter().filter(|node| node.person == person && !node.revoked).count()
    }

    fn bring_device(&mut self) {
        let person = self.rng.gen_range(0..self.people.len());
        if self.devices_of(person) < DEVICES {
            self.counts.devices += 1;
            self.tell(format!("{} gets node {}", self.people[person].name, self.nodes.len()));
            self.add_device(person, true);
        }
    }

    fn end_device(&mut self, node: usize) {
        let person = self.nodes[node].person;
        if self.devices_of(person) < 2 {
            return;
        }
        self.counts.devices += 1;
        self.tell(format!("{} ends node {node}", self.people[person].name));
        self.nodes[node].revoked = true;
        let (device, unix_ms) = (self.nodes[node].device, self.unix_ms());
        self.people[person].revoke(&self.home, &device, unix_ms);
    }
}
