//! A group for tests: accounts with one device each, some of them members, and a server that looks into nothing.

use parlour_e2ee::{
    E2eeError, Engine, GroupChange, GroupView, HistoryPolicy, Member, NewConversation, Opened, PendingCommit, Step,
};
use parlour_wire::{
    api::{ConversationKind, Suite},
    id::{AccountId, ConversationId},
    log::Entry,
    name::Name,
};

use crate::world::{Account, Client, Disk, Pinned, Server, lists, message};

pub struct Room {
    pub accounts: Vec<Account>,
    pub clients: Vec<Client>,
    /// Who takes part in what is spread.
    pub inside: Vec<bool>,
    pub server: Server,
    pub suite: Suite,
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

impl Room {
    /// The first `members` of so many accounts in a group that the first one has made.
    pub fn new(members: usize, accounts: usize) -> Self {
        Self::of_suite(Suite::HYBRID, members, accounts)
    }

    pub fn of_suite(suite: Suite, members: usize, accounts: usize) -> Self {
        let mut accounts: Vec<Account> = (0..accounts).map(|_| Account::new()).collect();
        let clients: Vec<Client> = accounts.iter_mut().map(Account::device).collect();
        let ids: Vec<AccountId> = accounts.iter().take(members).map(Account::id).collect();
        let inside = vec![false; clients.len()];
        let mut room = Self { accounts, clients, inside, server: Server::group(&ids), suite };
        let others = (1..members).map(|at| room.member(at)).collect();
        let new = NewConversation {
            conversation: room.conversation(),
            kind: ConversationKind::GROUP,
            suite,
            name: Some(name("friends")),
            history: HistoryPolicy::None,
            receipt_key: room.server.receipt_key(),
            members: others,
        };
        room.inside[0] = true;
        let pending = room.clients[0].step(|engine, rows| engine.create(rows, &new)).unwrap();
        room.accept(&pending);
        room
    }

    pub fn conversation(&self) -> ConversationId {
        self.server.conversation
    }

    pub fn lists(&self) -> Pinned {
        lists(&self.accounts.iter().collect::<Vec<_>>())
    }

    pub fn id(&self, at: usize) -> AccountId {
        self.accounts[at].id()
    }

    /// An account to be brought in, with a fresh package.
    pub fn member(&mut self, at: usize) -> Member {
        let client = &mut self.clients[at];
        let package = if self.suite == Suite::HYBRID { client.package() } else { client.classical_package() };
        Member { list: self.accounts[at].list(), packages: vec![package] }
    }

    /// A step of one device.
    pub fn step<T>(
        &mut self,
        at: usize,
        step: impl FnOnce(&mut Engine, &Disk, &ConversationId, &Pinned) -> Result<Step<T>, E2eeError>,
    ) -> Result<T, E2eeError> {
        let (conversation, pinned) = (self.conversation(), self.lists());
        self.clients[at].step(|engine, rows| step(engine, rows, &conversation, &pinned))
    }

    /// The server takes a commit, everybody opens it, and whoever it brings in joins.
    pub fn accept(&mut self, pending: &PendingCommit) -> Vec<Result<Opened, E2eeError>> {
        let entry = self.server.accept(pending);
        let opened = self.spread(&entry);
        for added in &pending.added {
            let at = self.clients.iter().position(|client| client.id() == added.device);
            if let Some(at) = at {
                let (welcome, pinned) = (self.server.welcome.clone().unwrap(), self.lists());
                assert_eq!(self.clients[at].join(&welcome, &pinned), Ok(pending.parent_epoch + 1));
                self.inside[at] = true;
            }
        }
        opened
    }

    /// Everybody who is inside opens an entry.
    pub fn spread(&mut self, entry: &Entry) -> Vec<Result<Opened, E2eeError>> {
        let pinned = self.lists();
        let inside = self.inside.clone();
        let clients = self.clients.iter_mut().zip(inside).filter(|(_, inside)| *inside);
        clients.map(|(client, _)| client.open(entry, &pinned)).collect()
    }

    pub fn change(&mut self, at: usize, change: &GroupChange) -> Result<Vec<Result<Opened, E2eeError>>, E2eeError> {
        let pending =
            self.step(at, |engine, rows, conversation, pinned| engine.change_group(rows, conversation, change, pinned))?;
        Ok(self.accept(&pending))
    }

    pub fn update(&mut self, at: usize) -> Vec<Result<Opened, E2eeError>> {
        let pending = self.step(at, |engine, rows, conversation, pinned| engine.update(rows, conversation, pinned)).unwrap();
        self.accept(&pending)
    }

    pub fn leave(&mut self, at: usize) -> Entry {
        let statement = self.step(at, |engine, rows, conversation, _| engine.leave(rows, conversation)).unwrap();
        self.server.leave(&statement)
    }

    pub fn view(&mut self, at: usize) -> GroupView {
        let conversation = self.conversation();
        let client = &mut self.clients[at];
        client.engine.view(&client.disk, &conversation).unwrap()
    }

    pub fn admins(&mut self, at: usize) -> Vec<AccountId> {
        let members = self.view(at).members.into_iter();
        members.filter(|member| member.role == parlour_wire::api::Role::ADMIN).map(|member| member.account).collect()
    }

    /// Everybody inside sees the same group, at the home's epoch, and all read each other.
    pub fn check(&mut self) {
        let inside: Vec<usize> = (0..self.clients.len()).filter(|at| self.inside[*at]).collect();
        let first = self.view(inside[0]);
        assert_eq!(Some(first.epoch), self.server.epoch);
        for at in &inside {
            assert_eq!(self.view(*at), first, "device {at}");
        }
        for from in &inside {
            let text = format!("from {from}").into_bytes();
            let entry = self.server.say(&mut self.clients[*from], &text);
            let said = message(&self.clients[*from], &text);
            let pinned = self.lists();
            for to in inside.iter().filter(|to| *to != from) {
                assert_eq!(self.clients[*to].open(&entry, &pinned), Ok(said.clone()), "from {from} to {to}");
            }
        }
    }
}
