//! Commits: their rules, and what they change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parlour_server::store::{CommitWrite, Committed, Refusal, Roster, RosterMember};
use parlour_wire::{
    AccountId, ConversationId, DeviceId,
    api::{ConversationKind, Role, Welcome},
    limits,
    log::{Entry, EntryKind},
    name::Name,
};

use super::{
    Apply, Outcome,
    log::{joins, stored},
};
use crate::sqlite::rows::{self, signed, unsigned};

/// The conversation that a commit is for, with what the checks have found.
struct Checked {
    /// Its key; `None` if the commit creates it.
    existing: Option<i64>,
    kind: ConversationKind,
    /// The members before; none if the commit creates the conversation.
    before: Roster,
    /// The members after.
    roster: Roster,
    /// The committer's device.
    device: i64,
    /// The added devices.
    added: Vec<i64>,
    /// Devices that are in and go with their accounts.
    evicted: Vec<DeviceId>,
}

impl Checked {
    /// Accounts that were members and are not any more.
    fn parted(&self) -> Vec<AccountId> {
        let gone = self.before.members().iter().filter(|member| self.roster.get(&member.account).is_none());
        gone.map(|member| member.account).collect()
    }

    /// The accounts after the commit, if they are others than before.
    fn moved(&self) -> Option<Vec<AccountId>> {
        let after = self.roster.accounts();
        (after != self.before.accounts()).then_some(after)
    }
}

/// Stops a check with a refusal.
macro_rules! allowed {
    ($check:expr) => {
        match $check {
            Ok(value) => value,
            Err(refusal) => return Ok(Err(refusal)),
        }
    };
}

impl Apply<'_> {
    pub(super) fn commit(&mut self, commit: &CommitWrite) -> rusqlite::Result<Outcome> {
        let exists = self.load_head(&commit.conversation)?;
        if exists && let Some(stored) = self.find_stored(self.head(&commit.conversation).key, &commit.id)? {
            return Ok(Ok(stored));
        }
        let checked = if exists { self.check_next(commit)? } else { self.check_first(commit)? };
        let mut checked = allowed!(checked);
        allowed!(self.check_names(commit, &checked)?);
        checked.added = allowed!(self.check_added(commit, &checked)?);
        checked.evicted = allowed!(self.check_removed(commit, &checked)?);
        let key = match checked.existing {
            Some(key) => key,
            None => self.create_conversation(commit, checked.kind)?,
        };
        let head = self.cache.heads.get(&commit.conversation);
        let entry = Entry {
            conversation: commit.conversation,
            seq: head.map_or(0, |head| head.seq) + 1,
            previous: head.map_or([0; 32], |head| head.hash),
            id: commit.id,
            kind: EntryKind::COMMIT,
            stored_ms: commit.now_ms,
            payload: commit.commit.clone(),
            receipt: Some(commit.receipt),
        };
        self.insert_entry(key, &entry)?;
        self.move_epoch(key, commit)?;
        self.keep_name(key, commit)?;
        self.keep_roster(key, &checked.before, &checked.roster)?;
        self.move_devices(key, commit, &checked, entry.seq)?;
        let hash = if checked.existing.is_some() {
            self.advance(&entry, Some(commit))?
        } else {
            self.begin_head(key, checked.kind.0, &entry, commit.parent_epoch + 1)
        };
        self.forget_senders(&commit.conversation, &checked.evicted);
        self.keep_welcome(key, commit, entry.seq, &hash)?;
        let stored = stored(&entry);
        self.tell_commit(commit, entry, hash, &checked);
        Ok(Ok(stored))
    }

    /// The rules for a commit that creates its conversation.
    fn check_first(&self, commit: &CommitWrite) -> rusqlite::Result<Result<Checked, Refusal>> {
        let Some(create) = &commit.create else { return Ok(Err(Refusal::NoConversation)) };
        if self.has_ended(&commit.conversation)? {
            return Ok(Err(Refusal::ConversationEnded));
        }
        let roster = allowed!(Roster::begin(&commit.account, &create.members));
        for member in roster.members() {
            if self.account_key(&member.account)?.is_none() {
                return Ok(Err(Refusal::NoAccount));
            }
        }
        if commit.parent_epoch != 0 {
            return Ok(Err(Refusal::StaleEpoch));
        }
        let Some(device) = self.device_of(&commit.device, &commit.account)? else { return Ok(Err(Refusal::NoDevice)) };
        let (added, evicted) = (Vec::new(), Vec::new());
        Ok(Ok(Checked { existing: None, kind: create.kind, before: Roster::default(), roster, device, added, evicted }))
    }

    /// The rules for a commit to a conversation that exists; its head is loaded.
    fn check_next(&self, commit: &CommitWrite) -> rusqlite::Result<Result<Checked, Refusal>> {
        if commit.create.is_some() {
            return Ok(Err(Refusal::ConversationExists));
        }
        let head = self.head(&commit.conversation);
        let before = self.roster(head.key)?;
        if before.get(&commit.account).is_none() {
            return Ok(Err(Refusal::NotMember));
        }
        let Some(device) = self.device_of(&commit.device, &commit.account)? else { return Ok(Err(Refusal::NoDevice)) };
        if !commit.external && self.cursor_of(head.key, &commit.device)?.is_none() {
            return Ok(Err(Refusal::NotMember));
        }
        if commit.parent_epoch != head.epoch {
            return Ok(Err(Refusal::StaleEpoch));
        }
        let kind = ConversationKind(head.kind);
        let roster = match &commit.change {
            Some(change) => allowed!(before.change(kind, &commit.account, change, head.epoch + 1)),
            None => before.clone(),
        };
        let (added, evicted) = (Vec::new(), Vec::new());
        Ok(Ok(Checked { existing: Some(head.key), kind, before, roster, device, added, evicted }))
    }

    /// The members of a conversation.
    pub(super) fn roster(&self, conversation: i64) -> rusqlite::Result<Roster> {
        let members = self.all(
            "SELECT account.id, member.role, member.since FROM member JOIN account USING (account) WHERE member.conversation = ?1",
            [conversation],
            |row| Ok(RosterMember { account: rows::account_id(row, 0)?, role: Role(row.get(1)?), since: unsigned(row, 2)? }),
        )?;
        Ok(members.into_iter().collect())
    }

    /// New members exist, and the new name is free.
    fn check_names(&self, commit: &CommitWrite, checked: &Checked) -> rusqlite::Result<Result<(), Refusal>> {
        for account in commit.change.iter().flat_map(|change| &change.added) {
            if self.account_key(account)?.is_none() {
                return Ok(Err(Refusal::NoAccount));
            }
        }
        let Some(name) = new_name(commit) else { return Ok(Ok(())) };
        let own: Option<Option<i64>> = self.one("SELECT conversation FROM name WHERE name = ?1", [name], |row| row.get(0))?;
        let free = own.is_none_or(|own| own.is_some() && own == checked.existing);
        Ok(if free { Ok(()) } else { Err(Refusal::NameTaken) })
    }

    /// The keys of the added devices.
    fn check_added(&self, commit: &CommitWrite, checked: &Checked) -> rusqlite::Result<Result<Vec<i64>, Refusal>> {
        let removed: BTreeSet<&DeviceId> = commit.removed.iter().collect();
        let mut keys = Vec::with_capacity(commit.added.len());
        for added in &commit.added {
            if checked.roster.get(&added.account).is_none() {
                return Ok(Err(Refusal::NotMember));
            }
            if let Some(conversation) = checked.existing
                && !removed.contains(&added.device)
                && self.cursor_of(conversation, &added.device)?.is_some()
            {
                return Ok(Err(Refusal::AlreadyIn));
            }
            let Some(key) = self.device_of(&added.device, &added.account)? else { return Ok(Err(Refusal::NoDevice)) };
            keys.push(key);
        }
        Ok(Ok(keys))
    }

    /// Only devices go that may, and not too many are in afterwards. Answers those that go with their accounts.
    fn check_removed(&self, commit: &CommitWrite, checked: &Checked) -> rusqlite::Result<Result<Vec<DeviceId>, Refusal>> {
        let admin = checked.roster.is_admin(&commit.account);
        let again: BTreeSet<&DeviceId> = commit.added.iter().filter(|_| admin).map(|added| &added.device).collect();
        for device in &commit.removed {
            let owner = self.one(
                "SELECT account.id FROM device JOIN account USING (account) WHERE device.id = ?1 AND device.state = 0",
                [device.as_bytes()],
                |row| rows::account_id(row, 0),
            )?;
            let others = owner.filter(|owner| *owner != commit.account && checked.roster.get(owner).is_some());
            if others.is_some() && !again.contains(device) {
                return Ok(Err(Refusal::Forbidden));
            }
        }
        let inside: BTreeMap<DeviceId, AccountId> = match checked.existing {
            Some(key) => self.inside(key)?.into_iter().collect(),
            None => BTreeMap::new(),
        };
        let removed: BTreeSet<&DeviceId> = commit.removed.iter().collect();
        let gone = inside.iter().filter(|(_, account)| checked.roster.get(account).is_none());
        let evicted: Vec<DeviceId> = gone.map(|(device, _)| *device).collect();
        let stays =
            |(device, account): &(&DeviceId, &AccountId)| !removed.contains(device) && checked.roster.get(account).is_some();
        let stay = inside.iter().filter(stays).count();
        let joins = checked.existing.is_none() || (commit.external && !inside.contains_key(&commit.device));
        let full = stay + commit.added.len() + usize::from(joins) > limits::GROUP_DEVICES;
        Ok(if full { Err(Refusal::TooMany) } else { Ok(evicted) })
    }

    /// The devices in a conversation, and whose they are.
    pub(super) fn inside(&self, conversation: i64) -> rusqlite::Result<Vec<(DeviceId, AccountId)>> {
        self.all(
            "SELECT device.id, account.id FROM cursor JOIN device USING (device) JOIN account USING (account) \
             WHERE cursor.conversation = ?1",
            [conversation],
            |row| Ok((rows::device_id(row, 0)?, rows::account_id(row, 1)?)),
        )
    }

    fn create_conversation(&self, commit: &CommitWrite, kind: ConversationKind) -> rusqlite::Result<i64> {
        self.run(
            "INSERT INTO conversation (id, kind, epoch, floor) VALUES (?1, ?2, 0, 0)",
            (commit.conversation.as_bytes(), kind.0),
        )?;
        Ok(self.db.last_insert_rowid())
    }

    fn keep_name(&self, key: i64, commit: &CommitWrite) -> rusqlite::Result<()> {
        if let Some(name) = new_name(commit) {
            self.run("DELETE FROM name WHERE conversation = ?1", [key])?;
            self.run("INSERT INTO name (name, conversation) VALUES (?1, ?2)", (name, key))?;
        }
        Ok(())
    }

    /// Writes the rows of members that are others than before.
    pub(super) fn keep_roster(&self, key: i64, before: &Roster, after: &Roster) -> rusqlite::Result<()> {
        if before == after {
            return Ok(());
        }
        for gone in before.members().iter().filter(|member| after.get(&member.account).is_none()) {
            self.run(
                "DELETE FROM member WHERE conversation = ?1 AND account = (SELECT account FROM account WHERE id = ?2)",
                (key, gone.account.as_bytes()),
            )?;
        }
        for member in after.members().iter().filter(|member| before.get(&member.account) != Some(member)) {
            self.run(
                "INSERT INTO member (conversation, account, role, since) \
                 SELECT ?1, account, ?3, ?4 FROM account WHERE id = ?2 \
                 ON CONFLICT (conversation, account) DO UPDATE SET role = excluded.role, since = excluded.since",
                (key, member.account.as_bytes(), member.role.0, signed(member.since)),
            )?;
        }
        Ok(())
    }

    fn move_epoch(&self, key: i64, commit: &CommitWrite) -> rusqlite::Result<()> {
        let epoch = signed(commit.parent_epoch + 1);
        self.run(
            "UPDATE conversation SET epoch = ?2, floor = iif(?3, ?2, floor) WHERE conversation = ?1",
            (key, epoch, joins(commit)),
        )?;
        self.run(
            "INSERT INTO group_info (conversation, bytes) VALUES (?1, ?2) \
             ON CONFLICT (conversation) DO UPDATE SET bytes = excluded.bytes",
            (key, &commit.group_info),
        )?;
        Ok(())
    }

    /// Cursors: removed devices lose theirs, added ones and a committer who joins get one at this entry. A device that the commit takes
    /// out and brings in keeps its own: what it has not read yet was written to it.
    fn move_devices(&self, key: i64, commit: &CommitWrite, checked: &Checked, seq: u64) -> rusqlite::Result<()> {
        let again: BTreeSet<&DeviceId> = commit.added.iter().map(|added| &added.device).collect();
        for device in commit.removed.iter().chain(&checked.evicted).filter(|device| !again.contains(device)) {
            self.drop_cursor(key, device)?;
        }
        let welcome = commit.welcome.as_ref().map(|_| signed(seq));
        for device in &checked.added {
            self.invite(key, *device, seq, welcome)?;
        }
        if commit.external || checked.existing.is_none() {
            self.set_cursor(key, checked.device, seq)?;
        }
        Ok(())
    }

    /// Takes a device out of a conversation.
    pub(super) fn drop_cursor(&self, key: i64, device: &DeviceId) -> rusqlite::Result<()> {
        let welcome: Option<Option<i64>> = self.one(
            "DELETE FROM cursor WHERE conversation = ?1 AND device = (SELECT device FROM device WHERE id = ?2) RETURNING welcome",
            (key, device.as_bytes()),
            |row| row.get(0),
        )?;
        match welcome {
            Some(Some(welcome)) => self.drop_unneeded_welcome(key, welcome),
            _ => Ok(()),
        }
    }

    fn keep_welcome(&self, key: i64, commit: &CommitWrite, seq: u64, hash: &[u8; 32]) -> rusqlite::Result<()> {
        if let Some(welcome) = &commit.welcome
            && !commit.added.is_empty()
        {
            self.run(
                "INSERT INTO welcome (conversation, seq, epoch, hash, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
                (key, signed(seq), signed(commit.parent_epoch + 1), hash, welcome),
            )?;
        }
        Ok(())
    }

    fn tell_commit(&mut self, commit: &CommitWrite, entry: Entry, hash: [u8; 32], checked: &Checked) {
        let seq = entry.seq;
        let added: Vec<DeviceId> = commit.added.iter().map(|added| added.device).collect();
        let gone: BTreeSet<DeviceId> = commit.removed.iter().chain(&checked.evicted).copied().collect();
        self.changes.push(Committed::Entry {
            entry: Arc::new(entry),
            from: commit.device,
            added: added.clone(),
            removed: gone.into_iter().filter(|device| !added.contains(device)).collect(),
            members: checked.moved(),
            parted: checked.parted(),
            joined: commit.external || checked.existing.is_none(),
        });
        let Some(bytes) = &commit.welcome else { return };
        let welcome = Arc::new(Welcome {
            conversation: commit.conversation,
            kind: checked.kind,
            seq,
            hash,
            welcome: bytes.clone(),
            members: checked.roster.accounts(),
            epoch: commit.parent_epoch + 1,
        });
        for device in added {
            self.changes.push(Committed::Welcome { device, welcome: Arc::clone(&welcome) });
        }
    }

    /// Everything about a conversation goes but its entries, which retention takes.
    pub(super) fn end_conversation(&mut self, id: &ConversationId, key: i64) -> rusqlite::Result<()> {
        for table in ["name", "cursor", "welcome", "group_info", "member", "blob_named", "conversation"] {
            self.run(&format!("DELETE FROM {table} WHERE conversation = ?1"), [key])?;
        }
        self.run("INSERT INTO ended (conversation) VALUES (?1)", [key])?;
        self.run("INSERT INTO tombstone (id) VALUES (?1)", [id.as_bytes()])?;
        self.cache.heads.remove(id);
        Ok(())
    }

    fn has_ended(&self, id: &ConversationId) -> rusqlite::Result<bool> {
        Ok(self.one("SELECT 1 FROM tombstone WHERE id = ?1", [id.as_bytes()], |_| Ok(()))?.is_some())
    }
}

fn new_name(commit: &CommitWrite) -> Option<&str> {
    let created = commit.create.as_ref().and_then(|create| create.name.as_ref());
    let name = created.or_else(|| commit.change.as_ref().and_then(|change| change.name.as_ref()));
    name.map(Name::as_str)
}
