//! Histories for new devices: from other devices and from the backup, under faults and from servers that lie.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
};

use parlour_server::store::{Store as _, suite::block_on};
use parlour_wire::{
    AccountId, BlobId, Code, MessageId,
    api::{BackupAnswer, BackupGet, BackupSet, BlobBegin, BlobData, BlobGet, BlobPut, Call as _},
};
use rand::Rng as _;

use super::harness::{World, bent::replies};
use crate::{
    api::{BackupState, BackupStatus, Message},
    core::{Command, Input, Reply},
    error::Error,
    event::Event,
};

fn account(world: &mut World, node: usize) -> AccountId {
    match world.ask(node, Command::WhoAmI) {
        Ok(Reply::WhoAmI(Some(who))) => who.account,
        other => panic!("{other:?}"),
    }
}

/// Alice with one device and a long history with bob.
pub(super) fn long_history(seed: u64, old: u32) -> (World, usize, usize, usize) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.settle();
    let peer = account(&mut world, b);
    world.nodes[a].core.as_mut().unwrap().fill_for_test(&peer, old);
    world.send(b, "alice", "the first of now");
    world.settle();
    world.send(a, "bob", "the second of now");
    world.settle();
    (world, alice, a, b)
}

pub(super) fn expected(old: u32) -> Vec<String> {
    let old = (0..old).map(|n| format!("old {n}"));
    old.chain(["the first of now".to_owned(), "the second of now".to_owned()]).collect()
}

fn ids(messages: &[Message]) -> Vec<MessageId> {
    messages.iter().map(|message| message.id).collect()
}

pub(super) fn status(world: &mut World, node: usize, command: Command) -> BackupStatus {
    match world.ask(node, command) {
        Ok(Reply::Backup(status)) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_device_is_given_the_history_in_its_order_with_what_is_new_in_its_place() {
    let old = 4_500;
    let (mut world, alice, a, b) = long_history(1, old);
    let new = world.sibling(alice);
    // It takes part at once, and the history comes beside it.
    world.send(b, "alice", "while it comes");
    world.settle();
    let mut texts = expected(old);
    texts.push("while it comes".to_owned());
    assert_eq!(world.texts(new, "bob"), texts);
    let (given, taken) = (world.history(a, "bob"), world.history(new, "bob"));
    assert_eq!(ids(&given), ids(&taken));
    for (one, other) in given.iter().zip(&taken) {
        assert_eq!(
            (one.sender, one.outgoing, one.sent_ms, one.stored_ms),
            (other.sender, other.outgoing, other.sent_ms, other.stored_ms)
        );
        assert_eq!(one.shown, other.shown, "what was shown there is nothing new here");
    }
    assert!(!world.nodes[new].core.as_ref().unwrap().wanted_for_test());
    let parts: Vec<u64> = world.nodes[new]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::HistoryTaken { messages, from_backup: false } => Some(*messages),
            _ => None,
        })
        .collect();
    assert!(parts.len() >= 3 && parts.iter().sum::<u64>() >= u64::from(old), "{parts:?}");
}

/// Whether a device has taken a part of the history.
fn has_taken(world: &World, node: usize) -> bool {
    world.nodes[node].events.iter().any(|event| matches!(event, Event::HistoryTaken { .. }))
}

fn step(world: &mut World) {
    if !world.step_any() {
        world.advance(std::time::Duration::from_millis(500));
    }
}

#[test]
fn the_newest_messages_are_handed_over_first() {
    let old = 6_500;
    let (mut world, alice, _, _) = long_history(26, old);
    let new = world.sibling(alice);
    let all = expected(old);
    let mut parts = 0;
    while world.nodes[new].core.as_ref().unwrap().wanted_for_test() {
        world.nodes[new].events.clear();
        while !has_taken(&world, new) {
            step(&mut world);
        }
        parts += 1;
        let here = world.texts(new, "bob");
        assert!(here.len() > 1_000 * parts && here[..] == all[all.len() - here.len()..], "part {parts}: {} texts", here.len());
    }
    assert!(parts >= 4 && world.texts(new, "bob") == all, "{parts} parts");
}

/// The packs that devices begin to send and to fetch, each as often as they do.
type Packs = Rc<RefCell<(Vec<BlobId>, Vec<BlobId>)>>;

fn packs(world: &mut World) -> Packs {
    let packs = Packs::default();
    let notes = Rc::clone(&packs);
    world.refuses = Some(Box::new(move |name, content| {
        let (sent, fetched) = &mut *notes.borrow_mut();
        match name {
            BlobBegin::NAME => sent.push(parlour_wire::decode::<BlobBegin>(content).unwrap().blob),
            BlobGet::NAME => {
                let get: BlobGet = parlour_wire::decode(content).unwrap();
                if get.offset == 0 {
                    fetched.push(get.blob);
                }
            }
            _ => {}
        }
        None
    }));
    packs
}

#[test]
fn a_handing_over_does_not_start_over_after_a_kill_of_either_end() {
    let (old, parts) = (6_500, 4);
    let mut under_way = [0, 0];
    for at in (0..24).step_by(2) {
        for giver_dies in [true, false] {
            let (mut world, alice, a, _) = long_history(200, old);
            let packs = packs(&mut world);
            let new = world.sibling(alice);
            while if giver_dies { packs.borrow().0.is_empty() } else { !has_taken(&world, new) } {
                step(&mut world);
            }
            for _ in 0..at {
                step(&mut world);
            }
            let (sent, fetched) = (packs.borrow().0.len(), packs.borrow().1.len());
            under_way[usize::from(giver_dies)] += usize::from(if giver_dies { sent < parts } else { fetched < parts });
            world.crash(if giver_dies { a } else { new });
            world.settle();
            assert!(world.texts(new, "bob") == expected(old), "{at}, {giver_dies}");
            let (sent, fetched) = &*packs.borrow();
            let once: BTreeSet<_> = sent.iter().chain(fetched).collect();
            assert_eq!(once.len(), parts, "{at}, {giver_dies}: something is packed anew");
            // The one that was under way is asked about or for again.
            let most = [parts + usize::from(giver_dies), parts + usize::from(!giver_dies)];
            assert!(sent.len() <= most[0] && fetched.len() <= most[1], "{at}, {giver_dies}: {}, {}", sent.len(), fetched.len());
        }
    }
    assert!(under_way.iter().all(|times| *times >= 2), "{under_way:?}");
}

#[test]
fn what_is_handed_over_is_found_and_can_be_changed_and_deleted() {
    let (mut world, alice, a, b) = long_history(21, 0);
    let (first, second) = (world.history(b, "alice")[0].id, world.history(a, "bob")[1].id);
    let new = world.sibling(alice);
    world.settle();
    assert_eq!(world.search(new, "first", None), ["the first of now"]);
    world.change(b, Command::Edit { id: first, text: "another beginning".to_owned() });
    world.change(a, Command::Delete(second));
    world.send(b, "alice", "and on");
    world.settle();
    assert_eq!(world.search(new, "beginning", None), ["another beginning"]);
    assert!(world.search(new, "second", None).is_empty() && world.search(new, "first", None).is_empty());
    assert_eq!(world.texts(new, "bob"), ["another beginning", "", "and on"]);
}

#[test]
fn reactions_edits_and_replies_are_handed_over() {
    let mut world = World::new(2);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.settle();
    let first = world.send(a, "bob", "helo").id;
    world.settle();
    world.ask(a, Command::Edit { id: first, text: "hello".to_owned() }).unwrap();
    world.ask(b, Command::React { id: first, emoji: "👍".to_owned(), remove: false }).unwrap();
    let gone = world.send(b, "alice", "oops").id;
    world.settle();
    world.ask(b, Command::Delete(gone)).unwrap();
    world.settle();
    let new = world.sibling(alice);
    world.settle();
    let taken = world.history(new, "bob");
    assert_eq!(
        taken,
        world
            .history(a, "bob")
            .into_iter()
            .zip(&taken)
            .map(|(message, other)| Message { state: other.state, ..message })
            .collect::<Vec<_>>()
    );
    // What happens to them later finds them.
    world.ask(b, Command::React { id: first, emoji: "🎉".to_owned(), remove: false }).unwrap();
    world.settle();
    let reactions = |messages: Vec<Message>| messages[0].reactions.len();
    assert_eq!((reactions(world.history(new, "bob")), reactions(world.history(a, "bob"))), (2, 2));
}

/// The server deletes a part that nothing names after a day; the giver sends it again.
#[test]
fn a_part_that_nothing_named_for_too_long_is_sent_again() {
    for step in 0..40 {
        let (mut world, alice, a, _) = long_history(21, 60);
        let new = world.sibling(alice);
        for _ in 0..20 + 2 * step {
            if !world.step_any() {
                world.advance(std::time::Duration::from_millis(500));
            }
        }
        world.cut(a);
        world.forget_blobs();
        world.settle();
        assert!(world.texts(new, "bob") == expected(60), "step {step}");
    }
}

/// Neither a full disk nor a part that the server forgets ends a handing over.
#[test]
fn a_part_waits_for_a_server_that_does_not_take_it_now() {
    for (code, times) in [(Code::DISK_FULL, 2), (Code::FILE_BUSY, 5), (Code::FILE_NOT_FOUND, 2)] {
        let (mut world, alice, a, _) = long_history(22, 60);
        world.refuse_some::<BlobPut>(times, code);
        let new = world.sibling(alice);
        world.go_on(a, 200);
        world.settle();
        assert!(world.texts(new, "bob") == expected(60), "{code:?}");
        let told = world.troubles(a).len();
        assert_eq!(told, usize::from(code == Code::DISK_FULL), "{code:?}");
    }
}

#[test]
fn a_backup_waits_for_a_server_without_room() {
    let (mut world, _, a, _) = long_history(23, 60);
    world.refuse_some::<BlobPut>(2, Code::DISK_FULL);
    assert_eq!(world.ask(a, Command::BackupOn).map_err(|error| error.code), Err(Code::DISK_FULL));
    world.go_on(a, 200);
    let saved = status(&mut world, a, Command::BackupStatus);
    assert_eq!((saved.version, saved.pending, saved.packs), (1, 0, 1), "it goes on by itself");
}

/// Crumbs are swept together without room for everything twice.
#[test]
fn a_backup_that_nearly_fills_its_quota_takes_in_what_is_new() {
    let (mut world, alice, a, b) = long_history(24, 6_000);
    let first = status(&mut world, a, Command::BackupOn);
    let (mut left, mut known) = (first.bytes / 3, BTreeSet::new());
    world.refuses = Some(Box::new(move |name, content| {
        let begin: BlobBegin = (name == BlobBegin::NAME).then(|| parlour_wire::decode(content).unwrap())?;
        if known.contains(&begin.blob) {
            return None;
        }
        left = match left.checked_sub(begin.size) {
            Some(left) => left,
            None => return Some(Code::QUOTA),
        };
        known.insert(begin.blob);
        None
    }));
    let mut most = 0;
    for n in 0..40 {
        world.send(b, "alice", &format!("later {n}"));
        world.settle();
        let saved = status(&mut world, a, Command::BackupNow);
        assert_eq!(saved.pending, 0);
        most = most.max(saved.packs);
    }
    assert!((9..=16).contains(&most), "{most}");
    lose(&mut world, alice, a);
    let new = world.sibling(alice);
    world.settle();
    let later = (0..40).map(|n| format!("later {n}"));
    assert!(world.texts(new, "bob") == expected(6_000).into_iter().chain(later).collect::<Vec<_>>());
}

/// The answer to a new index is lost, and then the question which one there is.
#[test]
fn a_backup_is_not_written_anew_for_a_failure_that_passes() {
    let (mut world, _, a, b) = long_history(25, 60);
    status(&mut world, a, Command::BackupOn);
    world.send(b, "alice", "later");
    world.settle();
    let mut lost = false;
    world.bend(
        a,
        replies(BackupSet::NAME, move |_, answer| {
            if std::mem::replace(&mut lost, true) { answer } else { Err(Error::new(Code::TIMED_OUT, "lost")) }
        }),
    );
    let begun = Rc::new(Cell::new(0));
    let (counted, mut told) = (Rc::clone(&begun), false);
    world.refuses = Some(Box::new(move |name, _| {
        counted.set(counted.get() + usize::from(name == BlobBegin::NAME));
        (name == BackupGet::NAME && !std::mem::replace(&mut told, true)).then_some(Code::OVERLOADED)
    }));
    let saved = status(&mut world, a, Command::BackupNow);
    assert_eq!((saved.version, saved.pending, saved.packs, begun.get()), (3, 0, 2, 1));
}

#[test]
fn what_is_handed_over_is_found_by_its_words() {
    let (mut world, alice, _, b) = long_history(9, 2_500);
    let new = world.sibling(alice);
    // So that the index has an end before the history comes.
    world.search(new, "anything", None);
    world.settle();
    assert_eq!(world.search(new, "old 17 ", Some("bob")), ["old 17"]);
    assert_eq!(world.search(new, "old 2499 ", None), ["old 2499"]);
    // Messages that find their place later, and what is taken back, are followed.
    let last = world.send(b, "alice", "a remarkable word");
    world.settle();
    world.change(b, Command::Delete(last.id));
    world.settle();
    assert!(world.search(new, "remarkable", None).is_empty());
    world.crash(new);
    assert_eq!(world.search(new, "old 17 ", None), ["old 17"]);
}

#[test]
fn of_several_devices_one_answers() {
    let (mut world, alice, _, _) = long_history(3, 50);
    let second = world.sibling(alice);
    world.settle();
    let third = world.sibling(alice);
    world.settle();
    for node in [second, third] {
        assert_eq!(world.texts(node, "bob"), expected(50));
        let taken: u64 = world.nodes[node]
            .events
            .iter()
            .map(|event| if let Event::HistoryTaken { messages, .. } = event { *messages } else { 0 })
            .sum();
        assert!(taken <= 52, "{taken}: it came once");
    }
}

#[test]
fn a_request_waits_for_a_device_that_is_away() {
    let (mut world, alice, a, b) = long_history(4, 50);
    world.with_files(a, |_| {});
    world.settle();
    world.nodes[a].core = None;
    world.cut(a);
    let new = world.sibling(alice);
    world.settle();
    assert!(world.texts(new, "bob").iter().all(|text| !text.starts_with("old")));
    world.open(a);
    world.go_online(a);
    world.settle();
    world.send(b, "alice", "after");
    world.settle();
    let mut texts = expected(50);
    texts.push("after".to_owned());
    assert_eq!(world.texts(new, "bob"), texts);
}

#[test]
fn whoever_is_killed_and_whenever_the_history_is_there_once_in_the_end() {
    for seed in 0..24 {
        let old = 2_500;
        let (mut world, alice, a, b) = long_history(50 + seed, old);
        let new = world.sibling(alice);
        for _ in 0..world.rng.gen_range(1..4) {
            for _ in 0..world.rng.gen_range(5..120) {
                if !world.step_any() {
                    world.advance(std::time::Duration::from_millis(500));
                }
            }
            let victim = if world.rng.r#gen() { a } else { new };
            match world.arriving(victim) {
                Some(input) if world.rng.r#gen() => world.crash_in(victim, input),
                Some(input) => {
                    world.input(victim, input);
                    world.crash(victim);
                }
                None => world.crash(victim),
            }
        }
        world.send(b, "alice", "after");
        world.settle();
        let taken = world.history(new, "bob");
        let unique: BTreeSet<_> = ids(&taken).into_iter().collect();
        assert_eq!(unique.len(), taken.len(), "seed {seed}");
        let mut texts = expected(old);
        texts.push("after".to_owned());
        let have: Vec<_> = taken.into_iter().map(|message| message.text).collect();
        assert!(have == texts, "seed {seed}: {} of {}", have.len(), texts.len());
        assert!(!world.nodes[new].core.as_ref().unwrap().wanted_for_test(), "seed {seed}");
    }
}

/// Alice has a backup, loses her device, and comes back with another.
pub(super) fn lost_device(seed: u64, old: u32) -> (World, usize, usize, usize) {
    let (mut world, alice, a, b) = long_history(seed, old);
    let status = status(&mut world, a, Command::BackupOn);
    assert_eq!((status.state, status.version, status.pending), (BackupState::Here, 1, 0));
    (world, alice, a, b)
}

pub(super) fn lose(world: &mut World, alice: usize, node: usize) {
    world.revoke(alice, node);
    world.settle();
}

#[test]
fn a_backup_brings_the_history_back_when_no_other_device_is_left() {
    let (mut world, alice, a, b) = lost_device(5, 2_500);
    world.ask(a, Command::RenameContact { to: "bob".to_owned(), petname: "Bobby".to_owned() }).unwrap();
    // What comes later is added to it.
    let later = world.send(b, "alice", "later").id;
    world.settle();
    world.ask(a, Command::React { id: later, emoji: "👍".to_owned(), remove: false }).unwrap();
    world.settle();
    let status = status(&mut world, a, Command::BackupNow);
    assert_eq!((status.version, status.pending), (2, 0));
    assert!(status.packs >= 3 && status.bytes > 0, "{status:?}");
    let given = world.history(a, "bob");
    lose(&mut world, alice, a);
    let new = world.sibling(alice);
    world.settle();
    assert_eq!(ids(&world.history(new, "Bobby")), ids(&given));
    assert_eq!(world.history(new, "bob").last().unwrap().reactions.len(), 1);
    assert!(world.nodes[new].events.iter().any(|event| matches!(event, Event::RestoringBackup { version: 2, .. })));
    assert!(!world.nodes[new].core.as_ref().unwrap().wanted_for_test());
    // The new device can take the backup over.
    let status = self::status(&mut world, new, Command::BackupOn);
    assert_eq!((status.state, status.version, status.pending), (BackupState::Here, 3, 0));
}

/// More than one pack can hold.
#[test]
fn a_backup_holds_whatever_own_devices_agree_about() {
    let (mut world, alice, a, _) = long_history(9, 20);
    world.nodes[a].core.as_mut().unwrap().agree_for_test(120);
    let status = status(&mut world, a, Command::BackupOn);
    assert_eq!((status.state, status.version, status.pending), (BackupState::Here, 1, 0));
    assert!(status.packs >= 3, "{status:?}");
    lose(&mut world, alice, a);
    let new = world.sibling(alice);
    world.settle();
    let core = world.nodes[new].core.as_ref().unwrap();
    assert_eq!((core.agreed_for_test(), core.wanted_for_test()), (120, false));
    assert_eq!(world.texts(new, "bob"), expected(20));
}

/// Nobody has to ask for it: what has changed is in the backup some time later, be it a message or only a name for somebody.
#[test]
fn a_backup_is_written_by_itself() {
    let (mut world, alice, a, b) = lost_device(13, 20);
    let quarter = std::time::Duration::from_secs(16 * 60);
    let pass = |world: &mut World| {
        world.advance(quarter);
        world.settle();
        status(world, a, Command::BackupStatus)
    };
    assert_eq!(pass(&mut world).version, 1, "nothing has changed");
    world.send(b, "alice", "later");
    world.settle();
    assert_eq!(status(&mut world, a, Command::BackupStatus).version, 1, "what is new waits for company");
    let saved = pass(&mut world);
    assert_eq!((saved.version, saved.pending), (2, 0));
    world.ask(a, Command::RenameContact { to: "bob".to_owned(), petname: "Bobby".to_owned() }).unwrap();
    world.settle();
    let saved = pass(&mut world);
    assert_eq!((saved.version, saved.pending), (3, 0));
    assert_eq!(pass(&mut world).version, 3, "and then it rests");
    lose(&mut world, alice, a);
    let new = world.sibling(alice);
    world.settle();
    let mut texts = expected(20);
    texts.push("later".to_owned());
    assert_eq!(world.texts(new, "Bobby"), texts);
}

/// Full packs are written once; crumbs are swept together.
#[test]
fn a_backup_writes_full_packs_once_and_sweeps_crumbs_together() {
    let (mut world, _, a, b) = long_history(14, 24_000);
    let first = status(&mut world, a, Command::BackupOn);
    assert!(first.packs > 8, "{first:?}");
    world.send(b, "alice", "later");
    world.settle();
    let second = status(&mut world, a, Command::BackupNow);
    assert_eq!(second.packs, first.packs + 1, "what was there has stayed");
    let (mut world, _, a, b) = long_history(15, 5);
    status(&mut world, a, Command::BackupOn);
    let mut most = 0;
    for n in 0..24 {
        world.send(b, "alice", &format!("later {n}"));
        world.settle();
        most = most.max(status(&mut world, a, Command::BackupNow).packs);
    }
    assert!((9..=12).contains(&most), "{most}");
}

#[test]
fn a_backup_that_is_off_is_gone_and_another_device_can_keep_it() {
    let (mut world, alice, a, _) = lost_device(6, 20);
    let second = world.sibling(alice);
    world.settle();
    let seen = status(&mut world, second, Command::BackupStatus);
    assert!(matches!(seen.state, BackupState::Elsewhere(_)) && seen.version == 1, "{seen:?}");
    assert_eq!(world.ask(second, Command::BackupNow).unwrap_err().code, Code::FORBIDDEN);
    assert_eq!(status(&mut world, second, Command::BackupOn).version, 2);
    world.settle();
    assert!(matches!(status(&mut world, a, Command::BackupStatus).state, BackupState::Elsewhere(_)));
    assert_eq!(world.ask(second, Command::BackupOff), Ok(Reply::Done));
    world.settle();
    for node in [a, second] {
        assert_eq!(status(&mut world, node, Command::BackupStatus).state, BackupState::Off);
        assert_eq!(world.ask(node, Command::RestoreBackup).unwrap_err().code, Code::FILE_NOT_FOUND);
    }
    assert_eq!(status(&mut world, a, Command::BackupOn).version, 1);
}

#[test]
fn a_backup_that_is_killed_anywhere_holds_everything_in_the_end() {
    for seed in 0..12 {
        let (mut world, alice, a, b) = long_history(80 + seed, 2_500);
        world.command(a, Command::BackupOn);
        for _ in 0..world.rng.gen_range(0..60) {
            world.step_any();
        }
        match world.arriving(a) {
            Some(input @ Input::Answer(..)) => world.crash_in(a, input),
            _ => world.crash(a),
        }
        world.settle();
        world.send(b, "alice", "after");
        world.settle();
        let saved = status(&mut world, a, Command::BackupNow);
        assert_eq!(saved.pending, 0, "seed {seed}");
        lose(&mut world, alice, a);
        let new = world.sibling(alice);
        // The one that restores is killed, too.
        for _ in 0..world.rng.gen_range(20..90) {
            if !world.step_any() {
                world.advance(std::time::Duration::from_millis(500));
            }
        }
        world.crash(new);
        world.settle();
        let mut texts = expected(2_500);
        texts.push("after".to_owned());
        assert!(world.texts(new, "bob") == texts, "seed {seed}");
    }
}

#[test]
fn an_older_backup_than_one_known_of_and_another_accounts_are_refused() {
    let (mut world, alice, a, b) = lost_device(7, 20);
    let alice_id = account(&mut world, a);
    let old = backup_of(&world, alice_id);
    world.send(b, "alice", "new");
    world.settle();
    assert_eq!(status(&mut world, a, Command::BackupNow).version, 2);
    // A second device has heard of version 2.
    let second = world.sibling(alice);
    world.settle();
    let refused = |world: &mut World, backup: BackupAnswer| {
        world.lies.insert("backup.get", parlour_wire::encode(&backup));
        let refused = world.ask(second, Command::RestoreBackup).unwrap_err();
        assert_eq!(refused.code, Code::SERVER_MISBEHAVED, "{refused}");
        world.lies.clear();
    };
    refused(&mut world, old.clone());
    // An old index under the new number.
    refused(&mut world, BackupAnswer { version: 2, ..old });
    // Somebody else's.
    status(&mut world, b, Command::BackupOn);
    let bob_id = account(&mut world, b);
    let other = backup_of(&world, bob_id);
    refused(&mut world, other.clone());
    refused(&mut world, BackupAnswer { version: 9, ..other });
    assert_eq!(world.texts(second, "bob").len(), 23, "nothing was taken in, nothing was lost");
}

#[test]
fn blobs_that_are_not_what_they_should_be_are_left_out_and_told() {
    for lie in [vec![7; 1000], Vec::new()] {
        let (mut world, alice, a, _) = long_history(8, 50);
        world.lies.insert("blob.get", parlour_wire::encode(&BlobData { size: 1000, data: lie }));
        let new = world.sibling(alice);
        world.settle();
        let told = world.nodes[new].events.iter().any(|event| {
            matches!(event, Event::Trouble(error) if error.code == Code::SERVER_MISBEHAVED && error.message.contains("history"))
        });
        assert!(told);
        assert!(world.texts(new, "bob").iter().all(|text| !text.starts_with("old")));
        world.lies.clear();
        world.send(a, "bob", "it goes on");
        world.settle();
        assert!(world.texts(new, "bob").contains(&"it goes on".to_owned()));
    }
}

fn backup_of(world: &World, account: AccountId) -> BackupAnswer {
    let backup = block_on(world.store.backup(account)).unwrap().unwrap();
    BackupAnswer { version: backup.version, index: backup.index }
}
