//! Sessions, devices, accounts and the conversations that connect them: what is online, in tables that only know ids.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use parlour_wire::{AccountId, ConversationId, DeviceId, api::ConversationState, limits};

use crate::service::Shared;

/// A session that is authorised for an account.
struct Seat {
    session: Arc<Shared>,
    account: AccountId,
    device: Option<DeviceId>,
    connected: bool,
    /// When the device was last heard of, Unix milliseconds.
    seen_ms: u64,
    watching: Vec<AccountId>,
}

/// A device that has a session.
struct Online {
    /// Oldest first; never empty.
    sessions: Vec<u64>,
    /// Conversations of its account.
    rooms: Vec<ConversationId>,
    /// How many loads of its conversations are under way.
    loads: u32,
    /// What commits did meanwhile.
    meanwhile: BTreeMap<ConversationId, Place>,
}

/// Where a device is with respect to a conversation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is in.
    In,
    /// Its account is a member.
    Near,
    /// Its account is no member any more.
    Away,
}

/// A conversation with a member who is online.
struct Room {
    /// In order of id.
    members: Vec<AccountId>,
    /// Devices of members that are online, and whether they are in the conversation.
    devices: Vec<(DeviceId, bool)>,
}

#[derive(Default)]
pub(super) struct Registry {
    seats: HashMap<u64, Seat>,
    accounts: HashMap<AccountId, Vec<u64>>,
    devices: HashMap<DeviceId, Online>,
    rooms: HashMap<ConversationId, Room>,
    /// Which of the rooms an account, online or not, is a member of, in order of id.
    memberships: HashMap<AccountId, Vec<ConversationId>>,
    watchers: HashMap<AccountId, Vec<u64>>,
}

/// Inserts into a vector that is kept in order.
fn insert_sorted<T: Ord>(sorted: &mut Vec<T>, value: T) {
    if let Err(at) = sorted.binary_search(&value) {
        sorted.insert(at, value);
    }
}

impl Registry {
    pub(super) fn devices_online(&self) -> u64 {
        self.devices.len() as u64
    }

    /// Puts a session on the list of its account.
    pub(super) fn enter(&mut self, session: &Arc<Shared>, account: AccountId) {
        self.seats.entry(session.key).or_insert_with(|| {
            self.accounts.entry(account).or_default().push(session.key);
            Seat { session: Arc::clone(session), account, device: None, connected: true, seen_ms: 0, watching: Vec::new() }
        });
    }

    /// Makes a session that has entered one of a device. Answers the session that must go for it.
    pub(super) fn enter_device(&mut self, key: u64, device: DeviceId, now_ms: u64) -> Option<Arc<Shared>> {
        let seat = self.seats.get_mut(&key)?;
        (seat.device, seat.seen_ms) = (Some(device), now_ms);
        let online = self.devices.entry(device).or_insert_with(|| Online {
            sessions: Vec::new(),
            rooms: Vec::new(),
            loads: 0,
            meanwhile: BTreeMap::new(),
        });
        online.loads += 1;
        if !online.sessions.contains(&key) {
            online.sessions.push(key);
        }
        if online.sessions.len() <= limits::SESSIONS_PER_DEVICE {
            return None;
        }
        let oldest = online.sessions[0];
        self.seats.get(&oldest).map(|seat| Arc::clone(&seat.session))
    }

    /// Whether a session has entered as this device and has not left since.
    pub(super) fn is_seated(&self, key: u64, account: AccountId, device: DeviceId) -> bool {
        self.seats.get(&key).is_some_and(|seat| (seat.account, seat.device) == (account, Some(device)))
    }

    pub(super) fn leave(&mut self, key: u64) {
        let Some(seat) = self.seats.remove(&key) else { return };
        for account in &seat.watching {
            self.unwatch(account, key);
        }
        if let Some(sessions) = self.accounts.get_mut(&seat.account) {
            sessions.retain(|session| *session != key);
            if sessions.is_empty() {
                self.accounts.remove(&seat.account);
            }
        }
        if let Some(device) = seat.device {
            self.leave_device(&device, key);
        }
    }

    fn leave_device(&mut self, device: &DeviceId, key: u64) {
        let Some(online) = self.devices.get_mut(device) else { return };
        online.sessions.retain(|session| *session != key);
        if !online.sessions.is_empty() {
            return;
        }
        let rooms = self.devices.remove(device).map(|online| online.rooms).unwrap_or_default();
        for conversation in rooms {
            self.leave_room(&conversation, device);
        }
    }

    fn forget_room(&mut self, conversation: &ConversationId) {
        let members = self.rooms.remove(conversation).map(|room| room.members).unwrap_or_default();
        for member in members {
            self.forget_membership(&member, conversation);
        }
    }

    fn forget_membership(&mut self, member: &AccountId, conversation: &ConversationId) {
        if let Some(rooms) = self.memberships.get_mut(member) {
            rooms.retain(|room| room != conversation);
            if rooms.is_empty() {
                self.memberships.remove(member);
            }
        }
    }

    pub(super) fn load(&mut self, device: &DeviceId, states: &[ConversationState]) {
        for state in states {
            let Some(online) = self.devices.get(device) else { return };
            let read = if state.cursor.is_some() { Place::In } else { Place::Near };
            match online.meanwhile.get(&state.conversation).copied().unwrap_or(read) {
                Place::Away => {}
                place => self.place(&state.conversation, &state.members, device, place == Place::In),
            }
        }
    }

    pub(super) fn loaded(&mut self, device: &DeviceId) {
        if let Some(online) = self.devices.get_mut(device) {
            online.loads = online.loads.saturating_sub(1);
            if online.loads == 0 {
                online.meanwhile.clear();
            }
        }
    }

    /// Puts a device that is online into a room, as one that is in the conversation or only near it. A room is made if
    /// there is none and its members are given.
    fn place(&mut self, conversation: &ConversationId, members: &[AccountId], device: &DeviceId, here: bool) {
        let Some(online) = self.devices.get_mut(device) else { return };
        if !self.rooms.contains_key(conversation) {
            if members.is_empty() {
                return;
            }
            let mut members = members.to_vec();
            members.sort_unstable();
            for member in &members {
                insert_sorted(self.memberships.entry(*member).or_default(), *conversation);
            }
            self.rooms.insert(*conversation, Room { members, devices: Vec::new() });
        }
        if let Some(room) = self.rooms.get_mut(conversation) {
            match room.devices.iter_mut().find(|(other, _)| other == device) {
                Some(place) => place.1 = here,
                None => {
                    room.devices.push((*device, here));
                    online.rooms.push(*conversation);
                }
            }
        }
    }

    fn note(&mut self, conversation: &ConversationId, device: &DeviceId, place: Place) {
        if let Some(online) = self.devices.get_mut(device)
            && online.loads > 0
        {
            online.meanwhile.insert(*conversation, place);
        }
    }

    /// The devices of some accounts that are online.
    fn devices_of(&self, accounts: &[AccountId]) -> BTreeSet<DeviceId> {
        let sessions = accounts.iter().filter_map(|account| self.accounts.get(account)).flatten();
        sessions.filter_map(|key| self.seats.get(key)?.device).collect()
    }

    /// A conversation has been made, or its members have changed: the devices of members that are online are near it, those of
    /// accounts that went are not any more.
    pub(super) fn set_members(&mut self, conversation: &ConversationId, members: &[AccountId], parted: &[AccountId]) {
        for device in self.devices_of(parted) {
            self.note(conversation, &device, Place::Away);
            self.leave_room(conversation, &device);
            if let Some(online) = self.devices.get_mut(&device) {
                online.rooms.retain(|room| room != conversation);
            }
        }
        if let Some(room) = self.rooms.get_mut(conversation) {
            let mut after = members.to_vec();
            after.sort_unstable();
            let before = std::mem::replace(&mut room.members, after);
            for account in before.iter().filter(|account| !members.contains(account)) {
                self.forget_membership(account, conversation);
            }
            for account in members.iter().filter(|account| before.binary_search(account).is_err()) {
                insert_sorted(self.memberships.entry(*account).or_default(), *conversation);
            }
        }
        for device in self.devices_of(members) {
            if !self.is_near(conversation, &device) {
                self.note(conversation, &device, Place::Near);
                self.place(conversation, members, &device, false);
            }
        }
    }

    fn is_near(&self, conversation: &ConversationId, device: &DeviceId) -> bool {
        self.rooms.get(conversation).is_some_and(|room| room.devices.iter().any(|(other, _)| other == device))
    }

    /// Whether a device that is online is in a conversation.
    pub(super) fn is_in(&self, conversation: &ConversationId, device: &DeviceId) -> bool {
        self.rooms.get(conversation).is_some_and(|room| room.devices.contains(&(*device, true)))
    }

    /// A device that goes, or is no member's any more, is not in the room; an empty room is forgotten.
    fn leave_room(&mut self, conversation: &ConversationId, device: &DeviceId) {
        let Some(room) = self.rooms.get_mut(conversation) else { return };
        room.devices.retain(|(other, _)| other != device);
        if room.devices.is_empty() {
            self.forget_room(conversation);
        }
    }

    /// A device has come into a conversation.
    pub(super) fn join(&mut self, conversation: &ConversationId, members: &[AccountId], device: DeviceId) {
        self.note(conversation, &device, Place::In);
        self.place(conversation, members, &device, true);
    }

    /// A device has left a conversation; its account stays a member.
    pub(super) fn part(&mut self, conversation: &ConversationId, device: &DeviceId) {
        if self.is_near(conversation, device) {
            self.note(conversation, device, Place::Near);
            self.place(conversation, &[], device, false);
        } else if self.devices.get(device).is_some_and(|online| online.meanwhile.get(conversation) != Some(&Place::Away)) {
            self.note(conversation, device, Place::Near);
        }
    }

    pub(super) fn account_of(&self, key: u64) -> Option<AccountId> {
        self.seats.get(&key).map(|seat| seat.account)
    }

    pub(super) fn set_connected(&mut self, key: u64, connected: bool, now_ms: u64) {
        if let Some(seat) = self.seats.get_mut(&key) {
            (seat.connected, seat.seen_ms) = (connected, now_ms);
        }
    }

    /// When an account was last heard of through a session that is still there.
    pub(super) fn last_seen(&self, account: &AccountId) -> u64 {
        self.seats_of(account).map(|seat| seat.seen_ms).max().unwrap_or(0)
    }

    fn seats_of(&self, account: &AccountId) -> impl Iterator<Item = &Seat> {
        self.accounts.get(account).into_iter().flatten().filter_map(|key| self.seats.get(key))
    }

    /// Whether a device of the account is here.
    pub(super) fn is_online(&self, account: &AccountId) -> bool {
        self.seats_of(account).any(|seat| seat.device.is_some() && seat.connected)
    }

    pub(super) fn is_device_online(&self, device: &DeviceId) -> bool {
        let keys = self.devices.get(device).into_iter().flat_map(|online| &online.sessions);
        keys.filter_map(|key| self.seats.get(key)).any(|seat| seat.connected)
    }

    /// Whether a device has a session, connected or not.
    pub(super) fn is_device_here(&self, device: &DeviceId) -> bool {
        self.devices.contains_key(device)
    }

    pub(super) fn sessions_of(&self, account: &AccountId) -> Vec<Arc<Shared>> {
        self.seats_of(account).map(|seat| Arc::clone(&seat.session)).collect()
    }

    pub(super) fn sessions_of_device(&self, device: &DeviceId) -> Vec<Arc<Shared>> {
        let mut sessions = Vec::new();
        let keys = self.devices.get(device).into_iter().flat_map(|online| &online.sessions);
        sessions.extend(keys.filter_map(|key| self.seats.get(key)).map(|seat| Arc::clone(&seat.session)));
        sessions
    }

    pub(super) fn each_session(&self, device: &DeviceId, mut f: impl FnMut(&Shared)) {
        let keys = self.devices.get(device).into_iter().flat_map(|online| &online.sessions);
        keys.filter_map(|key| self.seats.get(key)).for_each(|seat| f(&seat.session));
    }

    /// Every session of every device that is in a conversation.
    pub(super) fn each_in(&self, conversation: &ConversationId, mut f: impl FnMut(DeviceId, &Shared)) {
        for (device, here) in self.rooms.get(conversation).into_iter().flat_map(|room| &room.devices) {
            if *here {
                self.each_session(device, |session| f(*device, session));
            }
        }
    }

    /// Every session of the devices of an account, and of those that share a conversation with it.
    pub(super) fn each_neighbour(&self, account: &AccountId, mut f: impl FnMut(&Shared)) {
        let rooms = self.memberships.get(account).into_iter().flatten().filter_map(|room| self.rooms.get(room));
        let mut devices: BTreeSet<DeviceId> = rooms.flat_map(|room| &room.devices).map(|(device, _)| *device).collect();
        devices.extend(self.seats_of(account).filter_map(|seat| seat.device));
        for device in devices {
            self.each_session(&device, &mut f);
        }
    }

    fn unwatch(&mut self, account: &AccountId, key: u64) {
        if let Some(watchers) = self.watchers.get_mut(account) {
            watchers.retain(|watcher| *watcher != key);
            if watchers.is_empty() {
                self.watchers.remove(account);
            }
        }
    }

    /// Whether the two are one, or members of one conversation that is loaded.
    fn share(&self, a: &AccountId, b: &AccountId) -> bool {
        let rooms = |account| self.memberships.get(account).map(Vec::as_slice).unwrap_or_default();
        let (few, many) = if rooms(a).len() < rooms(b).len() { (rooms(a), rooms(b)) } else { (rooms(b), rooms(a)) };
        a == b || few.iter().any(|room| many.binary_search(room).is_ok())
    }

    /// Answers the accounts that the session may see, each once.
    pub(super) fn watch(&mut self, key: u64, accounts: Vec<AccountId>) -> Vec<AccountId> {
        let Some(seat) = self.seats.get_mut(&key) else { return Vec::new() };
        let (before, asker) = (std::mem::take(&mut seat.watching), seat.account);
        for account in &before {
            self.unwatch(account, key);
        }
        let accounts: BTreeSet<AccountId> = accounts.into_iter().collect();
        let visible: Vec<AccountId> = accounts.into_iter().filter(|account| self.share(&asker, account)).collect();
        for account in &visible {
            self.watchers.entry(*account).or_default().push(key);
        }
        if let Some(seat) = self.seats.get_mut(&key) {
            seat.watching.clone_from(&visible);
        }
        visible
    }

    pub(super) fn each_watcher(&self, account: &AccountId, mut f: impl FnMut(&Shared)) {
        let keys = self.watchers.get(account).into_iter().flatten();
        keys.filter_map(|key| self.seats.get(key)).for_each(|seat| f(&seat.session));
    }

    /// Whether nothing is left in any table: nobody is online.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
            && self.accounts.is_empty()
            && self.devices.is_empty()
            && self.rooms.is_empty()
            && self.memberships.is_empty()
            && self.watchers.is_empty()
    }
}
