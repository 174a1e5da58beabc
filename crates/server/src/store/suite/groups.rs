//! Rules about groups: members, roles, names, leaving.

use parlour_wire::{
    ConversationId,
    api::{Change, ConversationKind, Create, Member, Role},
    limits,
    log::EntryKind,
};

use super::{
    Bench, NOW, Place, account_id, added, append, commit, conversation_id, create_account, creation, device_id, message_id, name,
    open, works,
};
use crate::store::{AddedDevice, CommitWrite, Committed, LeaveWrite, Refusal, Store, Write, Written};

fn write(commit: CommitWrite) -> Write {
    Write::Commit(Box::new(commit))
}

/// A commit by device 1 of account `n` that changes something.
fn change(n: u8, id: u32, parent: u64, change: Change) -> CommitWrite {
    CommitWrite { change: Some(change), ..commit(1, n, id, parent) }
}

fn adding(n: u8) -> Change {
    Change { added: vec![account_id(n)], ..Change::default() }
}

fn removing(n: u8) -> Change {
    Change { removed: vec![account_id(n)], ..Change::default() }
}

fn naming(text: &str) -> Change {
    Change { name: Some(name(text)), ..Change::default() }
}

fn role(n: u8, role: Role) -> Change {
    Change { roles: vec![Member { account: account_id(n), role }], ..Change::default() }
}

fn leave(n: u8, id: u32, since: u64) -> LeaveWrite {
    let statement = format!("{n} leaves").into_bytes();
    let (account, device) = (account_id(n), device_id(n, 1));
    LeaveWrite { conversation: conversation_id(1), account, device, id: message_id(id), since, statement, now_ms: NOW }
}

/// Accounts 1 to 4 with two devices each; group 1 of 1 (admin), 2 and 3.
async fn group<P: Place>(place: &P) -> Bench<P::Store> {
    let bench = open(place);
    bench.accounts(4, 2).await;
    bench.commit(creation(1, 1, 1, &[1, 2, 3])).await;
    bench.heard.take();
    bench
}

/// The same group after all have left.
async fn ended<P: Place>(place: &P) -> Bench<P::Store> {
    let bench = group(place).await;
    bench.send(append(1, device_id(1, 1), 2, 1)).await;
    for n in [1, 2, 3] {
        bench.stored(Write::Leave(leave(n, 10 + u32::from(n), 1))).await;
    }
    bench
}

async fn members<S: Store>(bench: &Bench<S>, n: u8) -> Vec<u8> {
    let state = bench.state(1, n, device_id(n, 1)).await;
    state.map(|state| state.members.iter().map(|account| account.0[0]).collect()).unwrap_or_default()
}

/// Members, roles and name; and there is always an admin.
pub async fn a_group_changes_by_its_admins<P: Place>(place: &P) {
    let bench = group(place).await;
    for change_by_member in [adding(4), removing(3), naming("x"), role(2, Role::ADMIN), Change::default()] {
        assert_eq!(bench.refused(write(change(2, 2, 1, change_by_member))).await, Refusal::Forbidden);
    }
    assert_eq!(bench.refused(write(change(1, 2, 1, role(1, Role::MEMBER)))).await, Refusal::LastAdmin);
    assert_eq!(bench.refused(write(change(1, 2, 1, removing(1)))).await, Refusal::Forbidden);
    assert_eq!(bench.refused(write(change(1, 2, 1, adding(2)))).await, Refusal::AlreadyIn);
    assert_eq!(bench.refused(write(change(1, 2, 1, adding(9)))).await, Refusal::NoAccount);
    assert_eq!(bench.refused(write(change(1, 2, 1, role(4, Role::ADMIN)))).await, Refusal::NotMember);
    assert_eq!(bench.refused(write(change(1, 2, 0, adding(4)))).await, Refusal::StaleEpoch);
    assert_eq!(bench.heard.take(), []);

    let brought = CommitWrite { added: vec![added(4, 1)], welcome: Some(b"w".to_vec()), ..change(1, 2, 1, adding(4)) };
    bench.commit(brought).await;
    assert_eq!(members(&bench, 4).await, [1, 2, 3, 4]);
    let heard = bench.heard.take();
    let Committed::Entry { members: Some(now), parted, .. } = &heard[0] else { panic!("an entry: {heard:?}") };
    assert_eq!((now.len(), parted.len()), (4, 0));
    let Committed::Welcome { welcome, .. } = &heard[1] else { panic!("a welcome: {heard:?}") };
    assert_eq!((welcome.members.len(), welcome.epoch), (4, 2));
    bench.commit(change(1, 3, 2, role(2, Role::ADMIN))).await;
    bench.commit(change(2, 4, 3, role(1, Role::MEMBER))).await;
    assert_eq!(bench.refused(write(change(1, 5, 4, removing(3)))).await, Refusal::Forbidden);
    bench.commit(change(2, 5, 4, removing(3))).await;
    assert_eq!(members(&bench, 1).await, [1, 2, 4]);
    assert_eq!(members(&bench, 3).await, [0; 0]);
}

/// They get the commit as their last entry, and neither read, write nor join afterwards.
pub async fn a_removed_account_is_out_with_all_its_devices<P: Place>(place: &P) {
    let bench = group(place).await;
    bench.commit(CommitWrite { device: device_id(3, 2), external: true, ..commit(1, 3, 2, 1) }).await;
    bench.heard.take();
    bench.commit(CommitWrite { removed: vec![device_id(3, 1)], ..change(1, 3, 2, removing(3)) }).await;
    let heard = bench.heard.take();
    let Committed::Entry { removed, members, parted, .. } = &heard[0] else { panic!("an entry: {heard:?}") };
    let mut gone = removed.clone();
    gone.sort_unstable();
    assert_eq!(gone, [device_id(3, 1), device_id(3, 2)]);
    assert_eq!((members.as_ref().map(Vec::len), parted.clone()), (Some(2), vec![account_id(3)]));
    for k in [1, 2] {
        assert_eq!(bench.seqs(1, device_id(3, k), 0).await, Err(Refusal::NotMember));
        assert_eq!(bench.refused(Write::Append(append(1, device_id(3, k), 9, 3))).await, Refusal::NotMember);
    }
    assert_eq!(bench.state(1, 3, device_id(3, 1)).await, None);
    assert_eq!(works(bench.store.group_info(conversation_id(1), account_id(3)).await), Err(Refusal::NotMember));
    let back = CommitWrite { external: true, ..commit(1, 3, 4, 3) };
    assert_eq!(bench.refused(write(back)).await, Refusal::NotMember);
    assert!(!works(bench.store.peers(account_id(1)).await).contains(&account_id(3)));
    let again = CommitWrite { added: vec![added(3, 1)], welcome: Some(vec![1]), ..change(1, 5, 3, adding(3)) };
    bench.commit(again).await;
    assert_eq!(bench.seqs(1, device_id(3, 1), 0).await, Ok((vec![], 4)));
}

/// One's own, those of accounts that go or went, those that may not speak, and those that an admin brings in again.
pub async fn only_the_right_devices_are_removed<P: Place>(place: &P) {
    let bench = group(place).await;
    let take = |n, id, parent, devices| CommitWrite { removed: devices, ..commit(1, n, id, parent) };
    for n in [1, 3] {
        assert_eq!(bench.refused(write(take(n, 2, 1, vec![device_id(2, 1)]))).await, Refusal::Forbidden, "not even an admin");
    }
    let again = |n| CommitWrite { added: vec![added(2, 1)], welcome: Some(vec![1]), ..take(n, 2, 1, vec![device_id(2, 1)]) };
    assert_eq!(bench.refused(write(again(3))).await, Refusal::Forbidden);
    bench.commit(again(1)).await;
    bench.commit(CommitWrite { device: device_id(3, 2), external: true, ..commit(1, 3, 3, 2) }).await;
    bench.commit(take(3, 4, 3, vec![device_id(3, 2)])).await;
    bench.done(Write::RemoveDevice { device: device_id(2, 1) }).await;
    bench.commit(take(3, 5, 4, vec![device_id(2, 1), device_id(9, 9)])).await;
    bench.stored(Write::Leave(leave(1, 6, 1))).await;
    bench.commit(take(3, 7, 5, vec![device_id(1, 1)])).await;
}

/// Both ways; a group's name is free when it takes another or ends.
pub async fn users_and_groups_share_their_names<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(2, 1).await;
    let named = |conversation, id, text: &str| {
        let create = Some(Create { kind: ConversationKind::GROUP, members: vec![account_id(1)], name: Some(name(text)) });
        CommitWrite { create, ..creation(conversation, 1, id, &[1]) }
    };
    assert_eq!(bench.refused(write(named(1, 1, "user2"))).await, Refusal::NameTaken);
    assert_eq!(bench.state(1, 1, device_id(1, 1)).await, None);
    bench.commit(named(1, 1, "team")).await;
    assert_eq!(works(bench.store.group_by_name(&name("team")).await), Some(conversation_id(1)));
    assert_eq!(works(bench.store.group_by_name(&name("user2")).await), None);
    assert_eq!(works(bench.store.account_by_name(&name("team")).await), None);
    assert_eq!(bench.refused(create_account(3, "team", 1, None)).await, Refusal::NameTaken);
    assert_eq!(bench.refused(write(named(2, 1, "team"))).await, Refusal::NameTaken);
    assert_eq!(bench.refused(write(change(1, 2, 1, naming("user1")))).await, Refusal::NameTaken);
    bench.commit(change(1, 2, 1, naming("team"))).await;
    bench.commit(change(1, 3, 2, naming("crew"))).await;
    assert_eq!(works(bench.store.group_by_name(&name("team")).await), None);
    bench.done(create_account(3, "team", 1, None)).await;
    bench.stored(Write::Leave(leave(1, 4, 1))).await;
    assert_eq!(works(bench.store.group_by_name(&name("crew")).await), None);
    bench.commit(named(2, 1, "crew")).await;
}

/// Once, with an entry that everybody gets; the one who has been in longest is admin then.
pub async fn a_group_is_left_by_a_statement_of_its_time<P: Place>(place: &P) {
    let bench = group(place).await;
    assert_eq!(bench.refused(Write::Leave(leave(4, 2, 1))).await, Refusal::NotMember);
    assert_eq!(bench.refused(Write::Leave(leave(1, 2, 2))).await, Refusal::StaleEpoch);
    let foreign = LeaveWrite { device: device_id(2, 1), ..leave(1, 2, 1) };
    assert_eq!(bench.refused(Write::Leave(foreign)).await, Refusal::NoDevice);
    assert_eq!(
        bench.refused(Write::Leave(LeaveWrite { conversation: conversation_id(9), ..leave(1, 2, 1) })).await,
        Refusal::NoConversation
    );
    let stored = bench.stored(Write::Leave(leave(1, 2, 1))).await;
    assert_eq!((stored.seq, stored.receipt), (2, None));
    let again = bench.apply(Write::Leave(leave(1, 2, 1))).await;
    assert_eq!(again, Ok(Written::Stored { stored, duplicate: true }));
    let heard = bench.heard.take();
    let [Committed::Entry { entry, removed, members: Some(left), parted, .. }] = &heard[..] else {
        panic!("one entry: {heard:?}")
    };
    assert_eq!((entry.kind, entry.payload.clone()), (EntryKind::LEAVE, b"1 leaves".to_vec()));
    assert_eq!((removed.clone(), left.len(), parted.clone()), (vec![device_id(1, 1)], 2, vec![account_id(1)]));
    assert_eq!(bench.seqs(1, device_id(1, 1), 0).await, Err(Refusal::NotMember));
    assert_eq!(bench.seqs(1, device_id(2, 1), 1).await, Ok((vec![2], 2)));
    bench.send(append(1, device_id(2, 1), 3, 1)).await;
    assert_eq!(bench.refused(write(change(3, 4, 1, adding(4)))).await, Refusal::Forbidden);
    bench.commit(change(2, 4, 1, adding(1))).await;
    let said = works(bench.store.leaves(conversation_id(1), account_id(3)).await);
    assert_eq!(said, Ok(vec![b"1 leaves".to_vec()]), "also for who is new");
    assert_eq!(works(bench.store.leaves(conversation_id(1), account_id(4)).await), Err(Refusal::NotMember));
    assert_eq!(works(bench.store.leaves(conversation_id(9), account_id(3)).await), Err(Refusal::NoConversation));
    assert_eq!(bench.refused(Write::Leave(leave(1, 5, 1))).await, Refusal::StaleEpoch, "the old statement is worth nothing");
    let direct = CommitWrite {
        create: Some(Create { kind: ConversationKind::DIRECT, members: vec![account_id(1), account_id(2)], name: None }),
        ..creation(2, 1, 1, &[1, 2])
    };
    bench.commit(direct).await;
    let from_direct = LeaveWrite { conversation: conversation_id(2), ..leave(1, 6, 1) };
    assert_eq!(bench.refused(Write::Leave(from_direct)).await, Refusal::Forbidden);
}

/// Nothing of it is left but its id, which is not used again.
pub async fn the_last_to_leave_ends_the_group<P: Place>(place: &P) {
    let bench = ended(place).await;
    let heard = bench.heard.take();
    assert!(matches!(heard.last(), Some(Committed::Entry { members: Some(left), .. }) if left.is_empty()), "{heard:?}");
    assert_eq!(bench.seqs(1, device_id(3, 1), 0).await, Err(Refusal::NoConversation));
    assert_eq!(bench.state(1, 3, device_id(3, 1)).await, None);
    assert_eq!(works(bench.store.group_info(conversation_id(1), account_id(3)).await), Err(Refusal::NoConversation));
    bench.apply(Write::Retain { before_ms: u64::MAX >> 1, limit: 100 }).await.expect("never refused");
    bench.commit(creation(2, 2, 1, &[2, 3])).await;
    bench.send(append(2, device_id(2, 1), 2, 1)).await;
    assert_eq!(bench.seqs(2, device_id(2, 1), 0).await, Ok((vec![2], 2)), "another group has nothing of it");
}

/// Not by a creation that comes again because its answer was lost, nor by another one; not after a restart either.
pub async fn a_group_that_has_ended_is_not_made_again<P: Place>(place: &P) {
    let mut bench = ended(place).await;
    for _ in 0..2 {
        for again in [creation(1, 1, 1, &[1, 2, 3]), creation(1, 2, 30, &[2, 3])] {
            assert_eq!(bench.refused(write(again)).await, Refusal::ConversationEnded);
        }
        assert_eq!(bench.refused(write(commit(1, 1, 31, 0))).await, Refusal::NoConversation, "this makes nothing");
        assert_eq!(bench.refused(Write::Leave(leave(3, 13, 1))).await, Refusal::NoConversation);
        assert_eq!(bench.state(1, 1, device_id(1, 1)).await, None);
        bench.apply(Write::Retain { before_ms: u64::MAX >> 1, limit: 100 }).await.expect("never refused");
        if !P::PERSISTS {
            return;
        }
        drop(bench);
        bench = open(place);
    }
}

/// With what one commit adds.
pub async fn a_conversation_has_a_bounded_number_of_devices<P: Place>(place: &P) {
    let bench = open(place);
    let id = |n: usize| {
        let mut id = [7; 32];
        id[..2].copy_from_slice(&u16::try_from(n).expect("small").to_be_bytes());
        parlour_wire::AccountId(id)
    };
    let device = |n: usize| {
        let mut device = [7; 16];
        device[..2].copy_from_slice(&u16::try_from(n).expect("small").to_be_bytes());
        parlour_wire::DeviceId(device)
    };
    let count = limits::GROUP_DEVICES;
    for n in 0..=count {
        let Write::CreateAccount { mut account, invite, now_ms, .. } = create_account(1, "x", 0, None) else { unreachable!() };
        (account.id, account.name) = (id(n), name(&format!("u{n}")));
        let devices = [n, n + 5000].map(|n| crate::store::ListedDevice { id: device(n), signature_key: [1; 32] }).to_vec();
        bench.done(Write::CreateAccount { account, devices, invite, now_ms }).await;
    }
    let members: Vec<_> = (0..count).map(id).collect();
    let commit = CommitWrite { account: id(0), device: device(0), ..commit(1, 1, 1, 0) };
    let all = |last: usize| (1..last).map(|n| AddedDevice { account: id(n), device: device(n) }).collect::<Vec<_>>();
    let create = |members| Some(Create { kind: ConversationKind::GROUP, members, name: None });
    let too_many = CommitWrite { create: create((0..=count).map(id).collect()), ..commit.clone() };
    assert_eq!(bench.refused(write(too_many)).await, Refusal::TooMany);
    let full = CommitWrite { create: create(members), added: all(count), welcome: Some(vec![1]), ..commit.clone() };
    bench.commit(full).await;
    let next = CommitWrite { id: message_id(2), parent_epoch: 1, ..commit };
    let one_more = AddedDevice { account: id(3), device: device(5003) };
    let adding = CommitWrite { added: vec![one_more], welcome: Some(vec![1]), ..next.clone() };
    assert_eq!(bench.refused(write(adding)).await, Refusal::TooMany);
    let external = CommitWrite { device: device(5000), external: true, ..next.clone() };
    assert_eq!(bench.refused(write(external)).await, Refusal::TooMany);
    let more_members = Change { added: vec![id(count)], ..Change::default() };
    assert_eq!(bench.refused(write(CommitWrite { change: Some(more_members), ..next.clone() })).await, Refusal::TooMany);
    let own = AddedDevice { account: id(0), device: device(5000) };
    let swapped = CommitWrite { added: vec![own], welcome: Some(vec![1]), removed: vec![device(0)], ..next };
    bench.commit(swapped).await;
}

/// Roles, times and names.
pub async fn a_group_survives_a_restart<P: Place>(place: &P) {
    if !P::PERSISTS {
        return;
    }
    let bench = group(place).await;
    bench.commit(change(1, 2, 1, naming("team"))).await;
    bench.commit(change(1, 3, 2, Change { name: None, ..adding(4) })).await;
    bench.commit(change(1, 4, 3, role(4, Role::ADMIN))).await;
    bench.stored(Write::Leave(leave(1, 5, 1))).await;
    drop(bench);
    let bench = open(place);
    assert_eq!(works(bench.store.group_by_name(&name("team")).await), Some::<ConversationId>(conversation_id(1)));
    assert_eq!(members(&bench, 2).await, [2, 3, 4]);
    assert_eq!(bench.refused(write(change(2, 6, 4, adding(1)))).await, Refusal::Forbidden);
    assert_eq!(bench.refused(Write::Leave(leave(4, 7, 1))).await, Refusal::StaleEpoch);
    bench.stored(Write::Leave(leave(4, 7, 3))).await;
    bench.commit(change(2, 8, 4, adding(1))).await;
}
