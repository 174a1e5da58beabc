//! What is refused, and with which error.

use parlour_e2ee::{E2eeError, Member, Opened};
use parlour_wire::{
    api::{ConversationKind, Suite},
    id::{ConversationId, MessageId},
    log::{Entry, EntryKind},
};

use crate::world::{Account, Client, Pair, Pinned, Server, lists, message};

/// Alice's device, Bob's device, their server and lists; nothing made yet.
fn strangers() -> (Account, Account, Client, Client, Server, Pinned) {
    let (mut alice, mut bob) = (Account::new(), Account::new());
    let (a, b) = (alice.device(), bob.device());
    let server = Server::new(&alice.id(), &bob.id());
    let pinned = lists(&[&alice, &bob]);
    (alice, bob, a, b, server, pinned)
}

#[test]
fn nothing_is_sent_before_the_first_receipt() {
    let (_alice, bob, mut a, mut b, mut server, _) = strangers();
    let new = server.new_conversation(vec![Member { list: bob.list(), packages: vec![b.package()] }]);
    a.step(|engine, rows| engine.create(rows, &new)).unwrap();
    let (id, conversation) = (server.next_id(), server.conversation);
    let sent = a.step(|engine, rows| engine.encrypt(rows, &conversation, id, b"early"));
    assert_eq!(sent.unwrap_err(), E2eeError::AwaitingReceipt);
    a.step(|engine, rows| engine.abandon(rows, &conversation, 0)).unwrap();
    let sent = a.step(|engine, rows| engine.encrypt(rows, &conversation, id, b"early"));
    assert_eq!(sent.unwrap_err(), E2eeError::NoConversation);
}

#[test]
fn no_commit_is_applied_without_its_receipt_not_even_an_own_one() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    let pending = pair.a[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
    let entry = pair.server.accept(&pending);
    let mut missing = entry.clone();
    missing.receipt = None;
    let mut of_another_epoch = entry.clone();
    of_another_epoch.receipt = Some(pair.server.receipt(700, &pending.commit));
    let mut of_another_commit = entry.clone();
    of_another_commit.receipt = Some(pair.server.receipt(pending.parent_epoch, b"another"));
    for wrong in [missing, of_another_epoch, of_another_commit] {
        assert_eq!(pair.a[0].open(&wrong, &pinned), Err(E2eeError::BadReceipt));
        assert_eq!(pair.b[0].open(&wrong, &pinned), Err(E2eeError::BadReceipt));
    }
    assert_eq!(pair.a[0].open(&entry, &pinned), Ok(Opened::OwnCommit { epoch: 2, events: vec![] }));
    assert!(matches!(pair.b[0].open(&entry, &pinned), Ok(Opened::Commit { epoch: 2, .. })));
    assert_eq!(pair.b[0].open(&entry, &pinned), Err(E2eeError::Duplicate));
}

#[test]
fn entries_of_epochs_not_reached_wait() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    let mut entries = Vec::new();
    for _ in 0..2 {
        let pending = pair.a[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
        entries.push(pair.server.accept(&pending));
        pair.a[0].open(entries.last().unwrap(), &pinned).unwrap();
    }
    entries.push(pair.server.say(&mut pair.a[0], b"later"));
    assert_eq!(pair.b[0].open(&entries[1], &pinned), Err(E2eeError::WrongEpoch { current: 1, entry: 2 }));
    assert_eq!(pair.b[0].open(&entries[2], &pinned), Err(E2eeError::WrongEpoch { current: 1, entry: 3 }));
    for entry in &entries {
        pair.b[0].open(entry, &pinned).unwrap();
    }
}

#[test]
fn an_own_commit_that_was_given_up_but_accepted_means_to_join_again() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    let pending = pair.a[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
    let entry = pair.server.accept(&pending);
    pair.a[0].step(|engine, rows| engine.abandon(rows, &conversation, 1)).unwrap();
    assert_eq!(pair.a[0].open(&entry, &pinned), Err(E2eeError::Forgotten));
    let (info, home, key) = pair.server.to_join();
    let rejoin = pair.a[0].step(|engine, rows| engine.join_external(rows, &conversation, &info, home, &key, &pinned)).unwrap();
    let again = pair.server.accept(&rejoin);
    assert_eq!(pair.a[0].open(&again, &pinned), Ok(Opened::OwnCommit { epoch: 3, events: vec![] }));
    pair.b[0].open(&entry, &pinned).unwrap();
    pair.b[0].open(&again, &pinned).unwrap();
    let hello = pair.server.say(&mut pair.a[0], b"again");
    assert_eq!(pair.b[0].open(&hello, &pinned), Ok(message(&pair.a[0], b"again")));
}

#[test]
fn giving_up_a_commit_of_before_leaves_the_one_that_is_pending() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    pair.b[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
    let winner = pair.a[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
    let entry = pair.server.accept(&winner);
    pair.b[0].open(&entry, &pinned).unwrap();
    let next = pair.b[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
    // The refusal of the first one comes late.
    pair.b[0].step(|engine, rows| engine.abandon(rows, &conversation, 1)).unwrap();
    let entry = pair.server.accept(&next);
    assert_eq!(pair.b[0].open(&entry, &pinned), Ok(Opened::OwnCommit { epoch: 3, events: vec![] }));
}

#[test]
fn a_replayed_message_has_been_read_already() {
    let mut pair = Pair::new(1, 1);
    let pinned = pair.lists();
    let entry = pair.server.say(&mut pair.a[0], b"once");
    assert!(pair.b[0].open(&entry, &pinned).is_ok());
    assert_eq!(pair.b[0].open(&entry, &pinned), Err(E2eeError::AlreadyRead));
    pair.b[0].restart();
    assert_eq!(pair.b[0].open(&entry, &pinned), Err(E2eeError::AlreadyRead));
}

#[test]
fn a_message_under_the_id_of_another_is_refused_and_still_readable_under_its_own() {
    let mut pair = Pair::new(1, 1);
    let pinned = pair.lists();
    let entry = pair.server.say(&mut pair.a[0], b"mine");
    let mut relabelled = entry.clone();
    relabelled.id = MessageId([7; 16]);
    assert_eq!(pair.b[0].open(&relabelled, &pinned), Err(E2eeError::Undecryptable));
    assert_eq!(pair.b[0].open(&entry, &pinned), Ok(message(&pair.a[0], b"mine")));
}

/// Whether an entry is refused, or is void; the state of before is put back.
fn takes_nothing(client: &mut Client, entry: &Entry, pinned: &Pinned) -> bool {
    let disk = client.disk.clone();
    let opened = client.open(entry, pinned);
    client.disk = disk;
    client.restart();
    match opened {
        Ok(Opened::Void { .. }) => entry.kind == EntryKind::COMMIT,
        Ok(_) => false,
        Err(_) => true,
    }
}

#[test]
fn a_garbled_or_truncated_entry_never_changes_anything() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    let text = pair.server.say(&mut pair.a[0], b"a message");
    let pending = pair.a[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
    let commit = pair.server.accept(&pending);
    for entry in [&text, &commit] {
        let disk = pair.b[0].disk.clone();
        let length = entry.payload.len();
        for at in (0..length).step_by(length / 97 + 1) {
            let mut garbled = entry.clone();
            garbled.payload[at] ^= 0x41;
            if entry.kind == EntryKind::COMMIT {
                garbled.receipt = Some(pair.server.receipt(1, &garbled.payload));
            }
            assert!(takes_nothing(&mut pair.b[0], &garbled, &pinned), "byte {at}");
            let mut truncated = entry.clone();
            truncated.payload.truncate(at);
            if entry.kind == EntryKind::COMMIT {
                truncated.receipt = Some(pair.server.receipt(1, &truncated.payload));
            }
            assert!(takes_nothing(&mut pair.b[0], &truncated, &pinned), "cut at {at}");
        }
        assert!(pair.b[0].disk == disk);
        assert!(pair.b[0].open(entry, &pinned).is_ok());
    }
}

#[test]
fn an_entry_of_another_kind_or_conversation_is_refused() {
    let mut pair = Pair::new(1, 1);
    let pinned = pair.lists();
    let entry = pair.server.say(&mut pair.a[0], b"a message");
    let mut as_commit = entry.clone();
    as_commit.kind = EntryKind::COMMIT;
    as_commit.receipt = Some(pair.server.receipt(1, &as_commit.payload));
    let void = Opened::Void { committer: None, why: E2eeError::Malformed("MLS message") };
    assert_eq!(pair.b[0].open(&as_commit, &pinned), Ok(void));
    let mut unknown = entry.clone();
    unknown.kind = EntryKind(77);
    assert_eq!(pair.b[0].open(&unknown, &pinned), Err(E2eeError::Malformed("entry kind")));
    let mut elsewhere = entry;
    elsewhere.conversation = ConversationId([3; 32]);
    assert_eq!(pair.b[0].open(&elsewhere, &pinned), Err(E2eeError::WrongConversation));
}

#[test]
fn a_direct_conversation_is_only_of_its_two_accounts() {
    let (_alice, bob, mut a, mut b, server, _) = strangers();
    let (mut carol, mut dave) = (Account::new(), Account::new());
    let (mut c, mut d) = (carol.device(), dave.device());
    let member = |account: &Account, client: &mut Client| Member { list: account.list(), packages: vec![client.package()] };
    let with_carol = server.new_conversation(vec![member(&carol, &mut c)]);
    assert_eq!(a.step(|engine, rows| engine.create(rows, &with_carol)).unwrap_err(), E2eeError::WrongConversation);
    let with_both = server.new_conversation(vec![member(&bob, &mut b), member(&dave, &mut d)]);
    assert_eq!(a.step(|engine, rows| engine.create(rows, &with_both)).unwrap_err(), E2eeError::WrongConversation);
}

#[test]
fn an_account_that_is_not_a_member_is_not_let_in() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    let mut carol = Account::new();
    let mut c = carol.device();
    let add = Member { list: carol.list(), packages: vec![c.package()] };
    let added = pair.a[0].step(|engine, rows| engine.add_devices(rows, &conversation, &[add], &pinned));
    assert_eq!(added.unwrap_err(), E2eeError::NotMember { account: carol.id() });
    let (info, home, key) = pair.server.to_join();
    let joined = c.step(|engine, rows| engine.join_external(rows, &conversation, &info, home, &key, &pinned));
    assert_eq!(joined.unwrap_err(), E2eeError::NotMember { account: carol.id() });
}

#[test]
fn a_device_that_is_not_in_the_list_or_revoked_is_not_let_in() {
    let (_alice, mut bob, mut a, mut b, server, _) = strangers();
    let mut unlisted = bob.unlisted_device();
    let new = server.new_conversation(vec![Member { list: bob.list(), packages: vec![unlisted.package()] }]);
    let made = a.step(|engine, rows| engine.create(rows, &new));
    assert_eq!(made.unwrap_err(), E2eeError::UnknownDevice { account: bob.id() });
    bob.revoke(&b.id());
    let new = server.new_conversation(vec![Member { list: bob.list(), packages: vec![b.package()] }]);
    let made = a.step(|engine, rows| engine.create(rows, &new));
    assert_eq!(made.unwrap_err(), E2eeError::RevokedDevice { account: bob.id(), device: b.id() });
    assert!(a.disk.rows.is_empty());
}

#[test]
fn a_device_is_let_in_once_the_list_that_names_it_is_pinned() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let before = pair.lists();
    let mut second = pair.bob.device();
    let after = pair.lists();
    let (info, home, key) = pair.server.to_join();
    let pending = second.step(|engine, rows| engine.join_external(rows, &conversation, &info, home, &key, &after)).unwrap();
    let entry = pair.server.accept(&pending);
    assert_eq!(pair.a[0].open(&entry, &before), Err(E2eeError::UnknownDevice { account: pair.bob.id() }));
    assert!(matches!(pair.a[0].open(&entry, &after), Ok(Opened::Commit { epoch: 2, .. })));
}

#[test]
fn the_log_of_a_device_that_was_revoked_later_can_be_read_but_nothing_is_sent_to_it() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let mut second = pair.bob.device();
    let pinned = pair.lists();
    let (info, home, key) = pair.server.to_join();
    let pending = second.step(|engine, rows| engine.join_external(rows, &conversation, &info, home, &key, &pinned)).unwrap();
    let joined = pair.server.accept(&pending);
    second.open(&joined, &pinned).unwrap();
    let said = pair.server.say(&mut second, b"before it was lost");
    pair.b[0].open(&joined, &pinned).unwrap();
    let leaf = (second.account(), second.id());
    pair.bob.revoke(&leaf.1);
    let pinned = pair.lists();
    let removal = pair.b[0].step(|engine, rows| engine.remove_devices(rows, &conversation, &[leaf.1], &pinned)).unwrap();
    let removed = pair.server.accept(&removal);

    // Alice was away for all of it, and knows only the last list.
    assert!(matches!(pair.a[0].open(&joined, &pinned), Ok(Opened::Commit { epoch: 2, .. })));
    let opened = pair.a[0].open(&said, &pinned).unwrap();
    assert_eq!(
        opened,
        Opened::Message { sender: leaf.0, device: leaf.1, content: b"before it was lost".to_vec(), revoked: true, place: None }
    );
    let sent = pair.a[0].step(|engine, rows| engine.encrypt(rows, &conversation, MessageId([1; 16]), b"secret"));
    assert_eq!(sent.unwrap_err(), E2eeError::RevokedDevice { account: leaf.0, device: leaf.1 });
    assert!(matches!(pair.a[0].open(&removed, &pinned), Ok(Opened::Commit { removed, .. }) if removed == vec![leaf]));
    assert!(pair.a[0].step(|engine, rows| engine.encrypt(rows, &conversation, MessageId([1; 16]), b"secret")).is_ok());
}

#[test]
fn nobody_removes_a_listed_device_of_another_or_itself() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    let (own, other) = (pair.a[0].id(), pair.b[0].id());
    let removed = pair.a[0].step(|engine, rows| engine.remove_devices(rows, &conversation, &[other], &pinned));
    assert_eq!(removed.unwrap_err(), E2eeError::Forbidden("to remove a listed device of another"));
    let removed = pair.a[0].step(|engine, rows| engine.remove_devices(rows, &conversation, &[own], &pinned));
    assert_eq!(removed.unwrap_err(), E2eeError::Forbidden("to remove oneself"));
}

#[test]
fn a_removal_brings_the_list_that_justifies_it() {
    let mut pair = Pair::new(1, 2);
    let conversation = pair.conversation();
    let before = pair.lists();
    let device = pair.b[1].id();
    pair.bob.revoke(&device);
    let after = pair.lists();
    let removal = pair.a[0].step(|engine, rows| engine.remove_devices(rows, &conversation, &[device], &after)).unwrap();
    let entry = pair.server.accept(&removal);
    // Bob's first device has not heard of the revocation yet.
    assert!(matches!(pair.b[0].open(&entry, &before), Ok(Opened::Commit { epoch: 2, .. })));
}

#[test]
fn a_device_comes_in_once_only() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    let package = pair.b[0].package();
    let add = Member { list: pair.bob.list(), packages: vec![package] };
    let added = pair.a[0].step(|engine, rows| engine.add_devices(rows, &conversation, &[add], &pinned));
    assert_eq!(added.unwrap_err(), E2eeError::Forbidden("a device twice"));
    let (_alice, bob, mut a, mut b, server, _) = strangers();
    let packages = vec![b.package(), b.package()];
    let new = server.new_conversation(vec![Member { list: bob.list(), packages }]);
    assert_eq!(a.step(|engine, rows| engine.create(rows, &new)).unwrap_err(), E2eeError::Forbidden("a device twice"));
}

#[test]
fn a_package_that_claims_another_device_is_refused() {
    let (_alice, mut bob, mut a, mut b, server, _) = strangers();
    let second = bob.device();
    let mut package = b.package();
    package.device = second.id();
    let new = server.new_conversation(vec![Member { list: bob.list(), packages: vec![package] }]);
    assert_eq!(a.step(|engine, rows| engine.create(rows, &new)).unwrap_err(), E2eeError::BadCertificate);
}

#[test]
fn a_welcome_is_for_its_conversation_its_device_and_once() {
    let (alice, bob, mut a, mut b, mut server, pinned) = strangers();
    let new = server.new_conversation(vec![Member { list: bob.list(), packages: vec![b.package()] }]);
    let pending = a.step(|engine, rows| engine.create(rows, &new)).unwrap();
    let entry = server.accept(&pending);
    a.open(&entry, &pinned).unwrap();
    let welcome = server.welcome.clone().unwrap();

    let mut elsewhere = welcome.clone();
    elsewhere.conversation = ConversationId([5; 32]);
    assert_eq!(b.join(&elsewhere, &pinned), Err(E2eeError::WrongConversation));
    let mut of_another_kind = welcome.clone();
    of_another_kind.kind = ConversationKind::GROUP;
    assert_eq!(b.join(&of_another_kind, &pinned), Err(E2eeError::WrongConversation));
    let mut stranger = Account::new().device();
    assert_eq!(stranger.join(&welcome, &pinned), Err(E2eeError::NoKeyPackage));
    let without_alice = lists(&[&bob]);
    assert_eq!(b.join(&welcome, &without_alice), Err(E2eeError::UnknownDevice { account: alice.id() }));
    for at in [3, 40, welcome.welcome.len() / 2, welcome.welcome.len() - 1] {
        let mut garbled = welcome.clone();
        garbled.welcome[at] ^= 1;
        assert!(b.join(&garbled, &pinned).is_err(), "byte {at}");
    }

    assert_eq!(b.join(&welcome, &pinned), Ok(1));
    assert_eq!(b.join(&welcome, &pinned), Err(E2eeError::Duplicate));
}

#[test]
fn a_last_resort_package_serves_more_than_once_but_never_takes_a_device_back() {
    let (_alice, mut bob, mut a, mut b, mut server, _) = strangers();
    let package = b.step(|engine, rows| engine.last_resort_key_package(rows, Suite::HYBRID, 1)).unwrap();
    let package = parlour_wire::api::DeviceKeyPackage { device: b.id(), package };
    let second = bob.device();
    let pinned = lists(&[&_alice, &bob]);
    assert_ne!(second.id(), b.id());
    let new = server.new_conversation(vec![Member { list: bob.list(), packages: vec![package] }]);
    let pending = a.step(|engine, rows| engine.create(rows, &new)).unwrap();
    let entry = server.accept(&pending);
    a.open(&entry, &pinned).unwrap();
    let welcome = server.welcome.clone().unwrap();
    assert_eq!(b.join(&welcome, &pinned), Ok(1));
    // The secrets are still there; the welcome is old all the same.
    assert_eq!(b.join(&welcome, &pinned), Err(E2eeError::Duplicate));
}

#[test]
fn one_commit_at_a_time() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    let pinned = pair.lists();
    pair.a[0].step(|engine, rows| engine.update(rows, &conversation, &pinned)).unwrap();
    let again = pair.a[0].step(|engine, rows| engine.update(rows, &conversation, &pinned));
    assert_eq!(again.unwrap_err(), E2eeError::CommitPending);
    let entry = pair.server.say(&mut pair.a[0], b"while it is pending");
    assert_eq!(pair.b[0].open(&entry, &pinned), Ok(message(&pair.a[0], b"while it is pending")));
}

#[test]
fn a_forgotten_conversation_leaves_no_rows() {
    let mut pair = Pair::new(1, 1);
    let conversation = pair.conversation();
    pair.a[0].step(|engine, rows| engine.forget(rows, &conversation)).unwrap();
    let left: Vec<_> = pair.a[0].disk.rows.keys().map(|key| key[0]).collect();
    assert!(left.is_empty(), "kinds of rows left: {left:?}");
}
