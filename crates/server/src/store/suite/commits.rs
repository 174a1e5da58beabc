//! Rules about commits, welcomes, joining and leaving, and what observers hear.

use std::sync::Arc;

use parlour_wire::{
    DeviceId,
    api::{ConversationKind, Welcome},
    log::EntryKind,
};

use super::{Bench, Place, account_id, added, append, commit, conversation_id, creation, device_id, message_id, open, works};
use crate::store::{CommitWrite, Committed, Refusal, Store, Write, Written};

fn write(commit: CommitWrite) -> Write {
    Write::Commit(Box::new(commit))
}

/// Accounts 1 to 3 with two devices each; conversation 1 of accounts 1 and 2 with their first devices in it, in epoch 1.
async fn two<P: Place>(place: &P) -> Bench<P::Store> {
    let bench = open(place);
    bench.accounts(3, 2).await;
    bench.commit(creation(1, 1, 1, &[1, 2])).await;
    bench.heard.take();
    bench
}

/// The second is refused and leaves nothing.
pub async fn one_commit_wins_each_epoch<P: Place>(place: &P) {
    let bench = two(place).await;
    let stored = bench.commit(commit(1, 1, 2, 1)).await;
    assert_eq!((stored.seq, stored.receipt), (2, Some([7; 64])));
    assert_eq!(bench.refused(write(commit(1, 2, 3, 1))).await, Refusal::StaleEpoch);
    assert_eq!(bench.refused(write(commit(1, 2, 3, 3))).await, Refusal::StaleEpoch);
    let loser_again = bench.commit(commit(1, 2, 3, 2)).await;
    assert_eq!(loser_again.seq, 3);
    let info = works(bench.store.group_info(conversation_id(1), account_id(1)).await).expect("a member");
    assert_eq!((info.epoch, info.group_info), (3, b"group info 3".to_vec()));
}

/// Of two creations of the same conversation one is refused, whoever makes it.
pub async fn one_creation_wins<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(2, 1).await;
    let first = bench.store.apply(write(creation(1, 1, 1, &[1, 2])));
    let second = bench.store.apply(write(creation(1, 2, 2, &[1, 2])));
    assert_eq!(works(second.await), Err(Refusal::ConversationExists));
    assert!(matches!(works(first.await), Ok(Written::Stored { duplicate: false, .. })));
    assert_eq!(bench.refused(write(commit(2, 1, 3, 0))).await, Refusal::NoConversation);
}

/// Also the one that makes the conversation, and after the epoch has moved on.
pub async fn a_commit_is_stored_once<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(2, 1).await;
    let created = bench.commit(creation(1, 1, 1, &[1, 2])).await;
    let stored = bench.commit(commit(1, 1, 2, 1)).await;
    bench.commit(commit(1, 2, 3, 2)).await;
    bench.move_cursor(1, device_id(2, 1), 3).await;
    bench.heard.take();
    let again = bench.apply(write(creation(1, 1, 1, &[1, 2]))).await;
    assert_eq!(again, Ok(Written::Stored { stored: created, duplicate: true }));
    let again = bench.apply(write(CommitWrite { receipt: [8; 64], ..commit(1, 1, 2, 1) })).await;
    assert_eq!(again, Ok(Written::Stored { stored, duplicate: true }));
    assert_eq!(bench.heard.take(), []);
    assert_eq!(bench.state(1, 2, device_id(2, 1)).await.expect("a member").welcome, None);
}

/// Members are accounts of this server, the creator among them, and it starts in epoch 0.
pub async fn a_creation_needs_known_members<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(2, 1).await;
    let unknown = CommitWrite { added: vec![], welcome: None, ..creation(1, 1, 1, &[1, 9]) };
    assert_eq!(bench.refused(write(unknown)).await, Refusal::NoAccount);
    let outside = CommitWrite { added: vec![], welcome: None, ..creation(1, 1, 1, &[2]) };
    assert_eq!(bench.refused(write(outside)).await, Refusal::NotMember);
    let late = CommitWrite { parent_epoch: 1, ..creation(1, 1, 1, &[1, 2]) };
    assert_eq!(bench.refused(write(late)).await, Refusal::StaleEpoch);
    let ghost = CommitWrite { device: device_id(1, 9), ..creation(1, 1, 1, &[1, 2]) };
    assert_eq!(bench.refused(write(ghost)).await, Refusal::NoDevice);
    assert_eq!(bench.state(1, 1, device_id(1, 1)).await, None);
    bench.commit(creation(1, 1, 1, &[1, 2])).await;
}

/// The committer is in, or joins by it; what it adds belongs to members.
pub async fn a_commit_needs_members_and_known_devices<P: Place>(place: &P) {
    let bench = two(place).await;
    assert_eq!(bench.refused(write(commit(1, 3, 2, 1))).await, Refusal::NotMember);
    let outside = CommitWrite { device: device_id(2, 2), ..commit(1, 2, 2, 1) };
    assert_eq!(bench.refused(write(outside)).await, Refusal::NotMember);
    let adding = |who| CommitWrite { added: vec![who], welcome: Some(vec![1]), ..commit(1, 1, 2, 1) };
    assert_eq!(bench.refused(write(adding(added(3, 1)))).await, Refusal::NotMember);
    assert_eq!(bench.refused(write(adding(added(2, 9)))).await, Refusal::NoDevice);
    let mixed = parlour_wire::api::Added { account: account_id(2), device: device_id(3, 1) };
    assert_eq!(bench.refused(write(adding(mixed))).await, Refusal::NoDevice);
    bench.commit(adding(added(2, 2))).await;
}

fn welcome(conversation: u8, (seq, epoch): (u64, u64), hash: [u8; 32], id: u32, members: &[u8]) -> Welcome {
    Welcome {
        conversation: conversation_id(conversation),
        kind: ConversationKind::GROUP,
        seq,
        hash,
        welcome: format!("welcome {id}").into_bytes(),
        members: members.iter().map(|&n| account_id(n)).collect(),
        epoch,
    }
}

async fn entry_hash<S: Store>(bench: &Bench<S>, device: DeviceId, seq: u64) -> [u8; 32] {
    let page = works(bench.store.log(conversation_id(1), device, seq - 1, 1).await).expect("a member");
    assert_eq!(page.entries[0].seq, seq);
    page.entries[0].hash()
}

/// Until the device has acknowledged it.
pub async fn a_welcome_comes_with_its_commit<P: Place>(place: &P) {
    let bench = two(place).await;
    bench.send(append(1, device_id(1, 1), 2, 1)).await;
    let welcome_bytes = Some(b"welcome 3".to_vec());
    bench.commit(CommitWrite { added: vec![added(2, 2)], welcome: welcome_bytes, ..commit(1, 1, 3, 1) }).await;
    let hash = entry_hash(&bench, device_id(1, 1), 3).await;
    let waiting = bench.state(1, 2, device_id(2, 2)).await.expect("a member");
    assert_eq!((waiting.cursor, waiting.head, waiting.kind), (Some(3), 3, ConversationKind::GROUP));
    assert_eq!(waiting.members, [account_id(1), account_id(2)]);
    assert_eq!(waiting.welcome, Some(welcome(1, (3, 2), hash, 3, &[1, 2])));
    bench.move_cursor(1, device_id(2, 2), 2).await;
    assert!(bench.state(1, 2, device_id(2, 2)).await.expect("a member").welcome.is_some(), "2 is before the commit");
    bench.move_cursor(1, device_id(2, 2), 3).await;
    assert_eq!(bench.state(1, 2, device_id(2, 2)).await.expect("a member").welcome, None);
    assert!(bench.state(1, 2, device_id(2, 1)).await.expect("a member").welcome.is_some(), "another device's welcome");
    assert_eq!(bench.state(1, 1, device_id(1, 2)).await.expect("a member").cursor, None);
}

/// No entry, no welcome, no cursor, no word to observers.
pub async fn a_refused_commit_changes_nothing<P: Place>(place: &P) {
    let bench = two(place).await;
    let late =
        CommitWrite { added: vec![added(2, 2)], welcome: Some(vec![1]), removed: vec![device_id(2, 1)], ..commit(1, 1, 2, 0) };
    assert_eq!(bench.refused(write(late)).await, Refusal::StaleEpoch);
    let state = bench.state(1, 2, device_id(2, 2)).await.expect("a member");
    assert_eq!((state.cursor, state.welcome, state.head), (None, None, 1));
    assert_eq!(bench.seqs(1, device_id(2, 1), 0).await, Ok((vec![], 1)));
    assert_eq!(bench.heard.take(), []);
    let info = works(bench.store.group_info(conversation_id(1), account_id(1)).await).expect("a member");
    assert_eq!((info.epoch, info.group_info), (1, b"group info 1".to_vec()));
}

/// Whatever `after` it asks for.
pub async fn a_device_reads_from_where_it_joined<P: Place>(place: &P) {
    let bench = two(place).await;
    bench.send(append(1, device_id(1, 1), 2, 1)).await;
    bench.commit(CommitWrite { added: vec![added(2, 2)], welcome: Some(vec![1]), ..commit(1, 1, 3, 1) }).await;
    bench.send(append(1, device_id(1, 1), 4, 2)).await;
    assert_eq!(bench.seqs(1, device_id(2, 2), 0).await, Ok((vec![4], 4)));
    assert_eq!(bench.seqs(1, device_id(2, 1), 0).await, Ok((vec![2, 3, 4], 4)));
}

/// Its cursor is gone; the account stays a member.
pub async fn a_removed_device_reads_nothing<P: Place>(place: &P) {
    let bench = two(place).await;
    let unknown = device_id(9, 9);
    bench.commit(CommitWrite { removed: vec![device_id(2, 1), unknown], ..commit(1, 2, 2, 1) }).await;
    assert_eq!(bench.seqs(1, device_id(2, 1), 0).await, Err(Refusal::NotMember));
    assert_eq!(bench.refused(Write::Append(append(1, device_id(2, 1), 3, 2))).await, Refusal::NotMember);
    let state = bench.state(1, 2, device_id(2, 1)).await.expect("a member");
    assert_eq!((state.cursor, state.welcome), (None, None));
    bench.move_cursor(1, device_id(1, 1), 2).await;
    let retain = Write::Retain { before_ms: u64::MAX >> 1, limit: 9 };
    assert_eq!(bench.apply(retain).await, Ok(Written::Deleted(1)), "a removed device holds nothing back");
}

/// A device that is in loses nothing that it has not read because somebody says to add it.
pub async fn a_device_that_is_in_is_not_added_again<P: Place>(place: &P) {
    let bench = two(place).await;
    bench.send(append(1, device_id(1, 1), 2, 1)).await;
    let again = CommitWrite { added: vec![added(2, 1)], welcome: Some(vec![1]), ..commit(1, 1, 3, 1) };
    assert_eq!(bench.refused(write(again)).await, Refusal::AlreadyIn);
    assert_eq!(bench.seqs(1, device_id(2, 1), 0).await, Ok((vec![2], 2)));
    assert_eq!(bench.state(1, 2, device_id(2, 1)).await.expect("a member").cursor, Some(1));
}

/// Both by one commit: who was in until then may read all that was written until then, and the commit itself.
pub async fn a_device_removed_and_added_at_once_reads_on<P: Place>(place: &P) {
    let bench = two(place).await;
    bench.move_cursor(1, device_id(2, 1), 1).await;
    bench.send(append(1, device_id(1, 1), 2, 1)).await;
    bench.heard.take();
    let both = CommitWrite {
        removed: vec![device_id(2, 1)],
        added: vec![added(2, 1)],
        welcome: Some(b"welcome 3".to_vec()),
        ..commit(1, 1, 3, 1)
    };
    bench.commit(both).await;
    let hash = entry_hash(&bench, device_id(1, 1), 3).await;
    let invited = welcome(1, (3, 2), hash, 3, &[1, 2]);
    let state = bench.state(1, 2, device_id(2, 1)).await.expect("a member");
    assert_eq!((state.cursor, state.welcome), (Some(1), Some(invited.clone())));
    assert_eq!(bench.seqs(1, device_id(2, 1), 0).await, Ok((vec![2, 3], 3)));
    let heard = bench.heard.take();
    assert!(matches!(&heard[0], Committed::Entry { added, removed, .. }
        if *added == [device_id(2, 1)] && removed.is_empty()));
    bench.move_cursor(1, device_id(1, 1), 3).await;
    let retain = || Write::Retain { before_ms: u64::MAX >> 1, limit: 9 };
    assert_eq!(bench.apply(retain()).await, Ok(Written::Deleted(1)), "what it has not read stays");
    bench.move_cursor(1, device_id(2, 1), 2).await;
    let state = bench.state(1, 2, device_id(2, 1)).await.expect("a member");
    assert_eq!((state.cursor, state.welcome), (Some(2), Some(invited)));
    bench.move_cursor(1, device_id(2, 1), 3).await;
    let state = bench.state(1, 2, device_id(2, 1)).await.expect("a member");
    assert_eq!((state.cursor, state.welcome), (Some(3), None));
    assert_eq!(bench.apply(retain()).await, Ok(Written::Deleted(1)));
}

/// By two commits: nothing of what was written while it was out, nor of what it had not read before.
pub async fn a_device_removed_and_added_later_starts_afresh<P: Place>(place: &P) {
    let bench = two(place).await;
    bench.send(append(1, device_id(1, 1), 2, 1)).await;
    bench.commit(CommitWrite { removed: vec![device_id(2, 1)], ..commit(1, 2, 3, 1) }).await;
    bench.send(append(1, device_id(1, 1), 4, 2)).await;
    bench.commit(CommitWrite { added: vec![added(2, 1)], welcome: Some(vec![1]), ..commit(1, 1, 5, 2) }).await;
    bench.send(append(1, device_id(1, 1), 6, 3)).await;
    assert_eq!(bench.state(1, 2, device_id(2, 1)).await.expect("a member").cursor, Some(5));
    assert_eq!(bench.seqs(1, device_id(2, 1), 0).await, Ok((vec![6], 6)));
}

/// Only the newer invitation waits for it.
pub async fn a_device_invited_and_removed_and_added_at_once_gets_one_welcome<P: Place>(place: &P) {
    let bench = two(place).await;
    let both = |id: u32, parent| CommitWrite {
        removed: vec![device_id(2, 1)],
        added: vec![added(2, 1)],
        welcome: Some(format!("welcome {id}").into_bytes()),
        ..commit(1, 1, id, parent)
    };
    bench.commit(both(2, 1)).await;
    bench.commit(both(3, 2)).await;
    let state = bench.state(1, 2, device_id(2, 1)).await.expect("a member");
    assert_eq!((state.cursor, state.welcome.map(|welcome| welcome.seq)), (Some(1), Some(3)));
}

/// Of a member account only, and it may come back by another one.
pub async fn an_external_commit_lets_a_member_join<P: Place>(place: &P) {
    let bench = two(place).await;
    let external = |n, k, id, parent| CommitWrite { device: device_id(n, k), external: true, ..commit(1, n, id, parent) };
    assert_eq!(bench.refused(write(external(3, 1, 2, 1))).await, Refusal::NotMember);
    assert_eq!(bench.refused(write(external(2, 9, 2, 1))).await, Refusal::NoDevice);
    assert_eq!(bench.refused(write(external(2, 2, 2, 0))).await, Refusal::StaleEpoch);
    bench.commit(external(2, 2, 2, 1)).await;
    assert_eq!(bench.seqs(1, device_id(2, 2), 0).await, Ok((vec![], 2)));
    assert!(matches!(&bench.heard.take()[..], [Committed::Entry { joined: true, members: None, .. }]));
    bench.send(append(1, device_id(2, 2), 3, 2)).await;
    bench.commit(external(2, 2, 4, 2)).await;
    assert_eq!(bench.state(1, 2, device_id(2, 2)).await.expect("a member").cursor, Some(4), "the cursor moves along");
    assert_eq!(bench.seqs(1, device_id(2, 1), 1).await, Ok((vec![2, 3, 4], 4)));
}

/// Of the account, whether its device is in or not.
pub async fn group_info_is_for_members<P: Place>(place: &P) {
    let bench = two(place).await;
    let info = works(bench.store.group_info(conversation_id(1), account_id(2)).await).expect("a member");
    assert_eq!((info.epoch, info.group_info), (1, b"group info 1".to_vec()));
    let refused = works(bench.store.group_info(conversation_id(1), account_id(3)).await);
    assert_eq!(refused, Err(Refusal::NotMember));
    let refused = works(bench.store.group_info(conversation_id(2), account_id(3)).await);
    assert_eq!(refused, Err(Refusal::NoConversation));
}

/// Each entry, then its welcomes, and all before the write's future resolves.
pub async fn observers_hear_in_order_and_before_the_answer<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(3, 1).await;
    assert_eq!(bench.heard.take(), []);
    bench.commit(creation(1, 1, 1, &[1, 2, 3])).await;
    let heard = bench.heard.take();
    let [Committed::Entry { entry, from, added, removed, members, parted, joined }, welcomes @ ..] = &heard[..] else {
        panic!("an entry comes first: {heard:?}")
    };
    assert_eq!((entry.seq, entry.kind, entry.previous, entry.id), (1, EntryKind::COMMIT, [0; 32], message_id(1)));
    assert_eq!((*from, removed.len(), *joined), (device_id(1, 1), 0, true));
    assert_eq!(*added, [device_id(2, 1), device_id(3, 1)]);
    assert_eq!(*parted, []);
    assert_eq!(*members, Some(vec![account_id(1), account_id(2), account_id(3)]));
    let welcome = Arc::new(welcome(1, (1, 1), entry.hash(), 1, &[1, 2, 3]));
    let expected = [2, 3].map(|n| Committed::Welcome { device: device_id(n, 1), welcome: Arc::clone(&welcome) });
    assert_eq!(welcomes, expected);

    bench.send(append(1, device_id(2, 1), 2, 1)).await;
    bench.commit(CommitWrite { removed: vec![device_id(3, 1)], ..commit(1, 3, 3, 1) }).await;
    let heard = bench.heard.take();
    let [Committed::Entry { entry: message, from, joined: false, members: None, .. }, Committed::Entry { entry, removed, .. }] =
        &heard[..]
    else {
        panic!("two entries: {heard:?}")
    };
    assert_eq!((message.seq, *from, message.payload.clone()), (2, device_id(2, 1), b"message 2".to_vec()));
    assert_eq!((entry.seq, entry.previous, removed.clone()), (3, message.hash(), vec![device_id(3, 1)]));
}
