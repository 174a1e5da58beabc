//! An old copy of a profile comes back. Its ratchets may have been used: that is noticed before anything is encrypted with them, the
//! device joins anew, and nothing is unreadable afterwards.

use parlour_wire::{
    Code,
    api::{BlobGet, Commit, Role},
    limits,
    log::EntryKind,
};

use super::{
    groups::{add, change, create, groups, members, people, remove, role},
    harness::World,
};
use crate::core::{Command, Core, GroupCommand};

/// A copy of a device's files, made while its program is not running.
struct OldCopy(tempfile::TempDir);

impl OldCopy {
    fn of(world: &mut World, node: usize) -> Self {
        let copy = tempfile::tempdir().unwrap();
        let database = copy.path().join("parlour.db");
        world.with_files(node, |home| assert!(std::fs::copy(home.join("parlour.db"), database).unwrap() > 0));
        Self(copy)
    }

    fn restore(&self, world: &mut World, node: usize) {
        let database = self.0.path().join("parlour.db");
        world.with_files(node, |home| {
            for beside in ["parlour.db-wal", "parlour.db-shm"] {
                drop(std::fs::remove_file(home.join(beside)));
            }
            assert!(std::fs::copy(database, home.join("parlour.db")).unwrap() > 0);
        });
    }
}

fn told(world: &mut World, node: usize, with: &str, words: &str) -> usize {
    world.texts(node, with).iter().filter(|text| text.contains(words)).count()
}

/// Everybody writes to everybody, and everything is read once by all.
fn all_well(world: &mut World, nodes: &[(usize, &str)], after: &str) {
    let texts: Vec<String> = nodes.iter().map(|(node, _)| format!("{after} {node}")).collect();
    for ((node, to), text) in nodes.iter().zip(&texts) {
        world.send(*node, to, text);
        world.settle();
    }
    for (node, with) in nodes {
        let tally = world.tally(*node, with);
        for text in &texts {
            assert_eq!(tally.get(text), Some(&1), "node {node} {text}: {tally:?}");
        }
        assert!(!tally.keys().any(|text| text.contains("could not be read") || text.contains("another log")), "{tally:?}");
    }
}

/// What the device that was set back puts into the log first is the commit by which it joins anew: nothing is encrypted by old keys.
fn first_word_is_a_commit(world: &mut World, reader: usize, with: &str, after: u64) {
    let (conversation, ..) = world.nodes[reader].core.as_ref().map(|core| Core::place_for_test(core, with)).unwrap();
    let log = world.log(reader, conversation, after);
    assert_eq!(log.first().map(|entry| entry.kind), Some(EntryKind::COMMIT));
}

fn head(world: &World, node: usize, with: &str) -> u64 {
    world.nodes[node].core.as_ref().unwrap().place_for_test(with).1
}

#[test]
fn a_direct_conversation_is_joined_anew_before_anything_is_said() {
    for lost in [1, 5, 40] {
        let (mut world, nodes) = people(1, &["alice", "bob"]);
        let [a, b] = nodes[..] else { panic!() };
        world.send(a, "bob", "one");
        world.settle();
        let copy = OldCopy::of(&mut world, a);
        world.settle();
        for n in 0..lost {
            world.send(a, "bob", &format!("lost {n}"));
        }
        world.settle();
        let before = head(&world, b, "alice");
        copy.restore(&mut world, a);
        world.command(a, Command::Send { to: "bob".into(), text: "at once".into(), reply_to: None });
        world.settle();
        first_word_is_a_commit(&mut world, b, "alice", before);
        assert_eq!(told(&mut world, a, "bob", "older copy"), 1);
        all_well(&mut world, &[(a, "bob"), (b, "alice")], "after");
        let tally = world.tally(b, "alice");
        assert_eq!(tally["at once"], 1);
        assert!((0..lost).all(|n| tally[&format!("lost {n}")] == 1), "{tally:?}");
    }
}

#[test]
fn a_copy_whose_last_steps_the_server_was_never_told_of_is_noticed_by_its_own_entries() {
    let (mut world, nodes) = people(2, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    world.send(a, "bob", "one");
    world.settle();
    let copy = OldCopy::of(&mut world, a);
    world.settle();
    // It dies before it tells its cursor, so the server knows nothing of how far it was.
    world.send(a, "bob", "lost");
    world.run();
    world.offline(a);
    world.send(b, "alice", "behind it");
    world.settle();
    let before = head(&world, b, "alice");
    copy.restore(&mut world, a);
    world.command(a, Command::Send { to: "bob".into(), text: "at once".into(), reply_to: None });
    world.settle();
    first_word_is_a_commit(&mut world, b, "alice", before);
    assert_eq!(told(&mut world, a, "bob", "older copy"), 1, "{:?}", world.texts(a, "bob"));
    all_well(&mut world, &[(a, "bob"), (b, "alice")], "after");
    assert_eq!((world.tally(b, "alice")["lost"], world.tally(b, "alice")["at once"]), (1, 1));
    assert_eq!(world.tally(a, "bob")["behind it"], 1);
}

#[test]
fn a_copy_with_a_message_on_its_way_sends_it_once() {
    let (mut world, nodes) = people(3, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    world.send(a, "bob", "one");
    world.settle();
    // Encrypted, and not sent.
    world.command(a, Command::Send { to: "bob".into(), text: "on its way".into(), reply_to: None });
    let copy = OldCopy::of(&mut world, a);
    world.settle();
    world.send(a, "bob", "later");
    world.run();
    copy.restore(&mut world, a);
    world.command(a, Command::Send { to: "bob".into(), text: "at once".into(), reply_to: None });
    world.settle();
    all_well(&mut world, &[(a, "bob"), (b, "alice")], "after");
    let tally = world.tally(b, "alice");
    assert_eq!((tally["on its way"], tally["later"], tally["at once"]), (1, 1, 1));
}

#[test]
fn a_group_that_changed_meanwhile_is_joined_as_it_is_now() {
    let (mut world, nodes) = people(4, &["alice", "bob", "carol", "dave"]);
    let [a, b, c, d] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    let copy = OldCopy::of(&mut world, b);
    world.settle();
    change(&mut world, a, add(&["dave"])).unwrap();
    change(&mut world, a, role("bob", Role::ADMIN)).unwrap();
    world.settle();
    change(&mut world, b, remove(&["carol"])).unwrap();
    world.send(b, "#club", "lost to b");
    world.settle();
    let before = head(&world, a, "#club");
    copy.restore(&mut world, b);
    world.command(b, Command::Send { to: "#club".into(), text: "at once".into(), reply_to: None });
    world.settle();
    first_word_is_a_commit(&mut world, a, "#club", before);
    assert_eq!(told(&mut world, b, "#club", "older copy"), 1);
    // Whoever is in a group that this device is given back is named: it has seen no commit which brought them in.
    assert_eq!(
        told(&mut world, b, "#club", "came in: dave; went out: carol; admin now: you."),
        1,
        "{:?}",
        world.texts(b, "#club")
    );
    all_well(&mut world, &[(a, "#club"), (b, "#club"), (d, "#club")], "after");
    let inside = members(&mut world, a, "#club");
    assert_eq!(inside.len(), 3);
    assert_eq!(members(&mut world, b, "#club"), inside);
    assert!(!world.texts(c, "#club").iter().any(|text| text.starts_with("after") || text == "at once"));
}

/// The statement stands in the log before the entry by which the copy joins anew, and nobody who has read it is left.
#[test]
fn who_left_before_the_copy_joined_anew_is_out_for_it_too() {
    let (mut world, nodes) = people(10, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    change(&mut world, a, role("bob", Role::ADMIN)).unwrap();
    world.settle();
    let copy = OldCopy::of(&mut world, b);
    world.settle();
    world.send(a, "#club", "lost to b");
    world.settle();
    world.offline(b);
    change(&mut world, a, GroupCommand::Leave("#club".into())).unwrap();
    world.settle();
    copy.restore(&mut world, b);
    world.settle();
    assert_eq!(told(&mut world, b, "#club", "older copy"), 1);
    assert_eq!(told(&mut world, b, "#club", "alice left."), 1);
    assert_eq!(members(&mut world, b, "#club"), [("bob".to_owned(), Role::ADMIN)]);
    change(&mut world, b, add(&["alice"])).unwrap();
    world.settle();
    all_well(&mut world, &[(a, "#club"), (b, "#club")], "after");
}

/// The statement comes into the log after the server has told of the members and before the entry by which the copy joins anew.
#[test]
fn who_leaves_while_the_copy_joins_anew_is_out_for_it_too() {
    let (mut world, nodes) = people(12, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    change(&mut world, a, role("bob", Role::ADMIN)).unwrap();
    world.settle();
    let copy = OldCopy::of(&mut world, b);
    world.settle();
    world.send(a, "#club", "lost to b");
    world.settle();
    copy.restore(&mut world, b);
    let request = world.hold::<Commit>(b);
    change(&mut world, a, GroupCommand::Leave("#club".into())).unwrap();
    world.settle();
    world.release(b, request);
    world.settle();
    assert_eq!(told(&mut world, b, "#club", "alice left."), 1);
    assert_eq!(members(&mut world, b, "#club"), [("bob".to_owned(), Role::ADMIN)]);
    change(&mut world, b, add(&["alice"])).unwrap();
    world.settle();
    all_well(&mut world, &[(a, "#club"), (b, "#club")], "after");
}

#[test]
fn a_copy_from_before_a_removal_and_a_return_is_noticed() {
    let (mut world, nodes) = people(5, &["alice", "bob", "carol"]);
    let [a, b, _] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    let copy = OldCopy::of(&mut world, b);
    world.settle();
    change(&mut world, a, remove(&["bob"])).unwrap();
    world.settle();
    change(&mut world, a, add(&["bob", "carol"])).unwrap();
    world.settle();
    world.send(b, "#club", "back again");
    world.settle();
    copy.restore(&mut world, b);
    world.settle();
    assert_eq!(told(&mut world, b, "#club", "came in: carol."), 1, "{:?}", world.texts(b, "#club"));
    all_well(&mut world, &[(a, "#club"), (b, "#club")], "after");
}

#[test]
fn a_copy_from_before_a_removal_says_that_it_is_out() {
    let (mut world, nodes) = people(6, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    let copy = OldCopy::of(&mut world, b);
    world.settle();
    change(&mut world, a, remove(&["bob"])).unwrap();
    world.settle();
    copy.restore(&mut world, b);
    world.settle();
    world.send(a, "#club", "without bob");
    world.settle();
    assert!(!world.texts(b, "#club").contains(&"without bob".to_owned()));
    assert_eq!(told(&mut world, b, "#club", "not in #club any more"), 1, "{:?}", world.texts(b, "#club"));
    let send = Command::Send { to: "#club".into(), text: "x".into(), reply_to: None };
    assert!(world.ask(b, send).is_err());
}

#[test]
fn a_copy_from_before_a_conversation_began_comes_in() {
    let (mut world, nodes) = people(7, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    let copy = OldCopy::of(&mut world, b);
    world.settle();
    world.send(a, "bob", "one");
    world.settle();
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    world.send(b, "#club", "mine");
    world.settle();
    copy.restore(&mut world, b);
    world.settle();
    all_well(&mut world, &[(a, "bob"), (b, "alice")], "direct");
    all_well(&mut world, &[(a, "#club"), (b, "#club")], "group");
}

/// The copy offers the commit again by which it made the group, and is told where that stands: behind it, it has been already. If it
/// makes another commit, it is told that the group exists. What is written there on the copy meanwhile is sent.
#[test]
fn a_copy_from_within_the_making_of_a_group_comes_in() {
    let (mut tried, mut written) = (0, 0);
    for steps in 0..30 {
        let (mut world, nodes) = people(11, &["alice", "bob"]);
        let [a, b] = nodes[..] else { panic!() };
        world.command(a, Command::Group(create("club", &["bob"])));
        for _ in 0..steps {
            world.step_any();
        }
        let copy = OldCopy::of(&mut world, a);
        world.settle();
        if groups(&mut world, a).is_empty() {
            continue;
        }
        tried += 1;
        for (node, text) in [(a, "one"), (b, "two"), (a, "three")] {
            world.send(node, "#club", text);
            world.settle();
        }
        copy.restore(&mut world, a);
        let known = !groups(&mut world, a).is_empty();
        let held = usize::from(known);
        written += held;
        if known {
            world.send(a, "#club", "held");
        }
        world.settle();
        assert_eq!(groups(&mut world, a).len(), 1, "after {steps} steps");
        assert_eq!(
            (told(&mut world, a, "#club", "held"), told(&mut world, b, "#club", "held")),
            (held, held),
            "after {steps} steps"
        );
        all_well(&mut world, &[(a, "#club"), (b, "#club")], "after");
    }
    assert!(tried > 5 && written > 5, "{tried} {written}");
}

/// The copy keeps the backup, and knows less than the backup does: it adds to it, takes nothing out, and takes in what it lacks.
#[test]
fn a_copy_of_the_keeper_loses_nothing_of_the_backup() {
    let mut world = World::new(12);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.settle();
    world.send(b, "alice", "before");
    world.settle();
    world.ask(a, Command::BackupOn).unwrap();
    let copy = OldCopy::of(&mut world, a);
    world.settle();
    let mut texts = vec!["before".to_owned()];
    for n in 0..10 {
        texts.push(format!("since {n}"));
        world.send(b, "alice", &texts[n + 1]);
        world.settle();
    }
    world.ask(a, Command::BackupNow).unwrap();
    copy.restore(&mut world, a);
    world.settle();
    world.send(b, "alice", "after");
    texts.push("after".to_owned());
    world.settle();
    world.ask(a, Command::BackupNow).unwrap();
    world.settle();
    let said = |world: &mut World, node| -> Vec<_> {
        let all = world.texts(node, "bob");
        all.into_iter().filter(|text| texts.contains(text)).collect()
    };
    assert_eq!(said(&mut world, a), texts, "the copy has taken in what it lacked");
    world.revoke(alice, a);
    world.settle();
    let new = world.sibling(alice);
    world.settle();
    assert_eq!(said(&mut world, new), texts);
}

/// What could not be had of the backup when the copy took it over is there still, and is kept when small packs are swept together.
#[test]
fn a_copy_of_the_keeper_sweeps_away_nothing_that_it_has_not() {
    let mut world = World::new(13);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.settle();
    world.send(b, "alice", "before");
    world.settle();
    world.ask(a, Command::BackupOn).unwrap();
    let copy = OldCopy::of(&mut world, a);
    world.settle();
    let mut texts = vec!["before".to_owned()];
    let say = |world: &mut World, texts: &mut Vec<String>, text: String| {
        world.send(b, "alice", &text);
        texts.push(text);
        world.settle();
        world.ask(a, Command::BackupNow).unwrap();
        world.settle();
    };
    for n in 0..3 {
        say(&mut world, &mut texts, format!("since {n}"));
    }
    copy.restore(&mut world, a);
    world.settle();
    world.refuse_some::<BlobGet>(1, Code::FORBIDDEN);
    for n in 0..30 {
        say(&mut world, &mut texts, format!("after {n}"));
    }
    world.refuses = None;
    world.revoke(alice, a);
    world.settle();
    let new = world.sibling(alice);
    world.settle();
    let have = world.texts(new, "bob");
    let lost: Vec<_> = texts.iter().filter(|text| !have.contains(text)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn a_device_of_several_comes_back_from_an_old_copy_in_all_conversations() {
    let mut world = World::new(8);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (first, second, b) = (world.device(alice), world.device(alice), world.device(bob));
    world.settle();
    change(&mut world, first, create("club", &["bob"])).unwrap();
    world.send(first, "bob", "one");
    world.settle();
    let copy = OldCopy::of(&mut world, second);
    world.settle();
    world.ask(second, Command::RenameContact { to: "bob".into(), petname: "Bobby".into() }).unwrap();
    world.send(second, "bob", "two");
    world.send(second, "#club", "three");
    world.settle();
    copy.restore(&mut world, second);
    world.settle();
    all_well(&mut world, &[(first, "bob"), (second, "bob"), (b, "alice")], "direct");
    all_well(&mut world, &[(first, "#club"), (second, "#club"), (b, "#club")], "group");
    world.ask(first, Command::RenameContact { to: "bob".into(), petname: "Robert".into() }).unwrap();
    world.settle();
    world.ask(second, Command::RenameContact { to: "bob".into(), petname: "Rob".into() }).unwrap();
    world.settle();
    for node in [first, second] {
        assert!(world.ask(node, Command::SafetyNumber("Rob".into())).is_ok(), "node {node}");
    }
}

#[test]
fn a_copy_without_the_keys_by_which_it_is_invited_joins_by_itself_and_says_so() {
    let (mut world, nodes) = people(9, &["alice", "bob", "carol"]);
    let [a, b, c] = nodes[..] else { panic!() };
    let copy = OldCopy::of(&mut world, b);
    world.settle();
    // All keys that the copy has are taken, and bob leaves new ones.
    for _ in 0..limits::KEY_PACKAGES_PER_DEVICE {
        drop(world.claim(1));
    }
    world.cut(b);
    world.settle();
    copy.restore(&mut world, b);
    world.offline(b);
    world.send(c, "bob", "first of all");
    world.settle();
    world.back(b);
    world.settle();
    all_well(&mut world, &[(c, "bob"), (b, "carol")], "after");
    assert!(!world.texts(b, "carol").contains(&"first of all".to_owned()));
    assert_eq!(told(&mut world, b, "carol", "invited in a way"), 1, "{:?}", world.texts(b, "carol"));
    all_well(&mut world, &[(a, "bob"), (b, "alice")], "others");
}

/// The copy is inside, the invitation is to where it is inside, and by which keys it is has been forgotten with all that came after the copy.
#[test]
fn a_copy_that_is_asked_back_by_keys_it_has_not_joins_by_itself() {
    let (mut world, nodes) = people(11, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob"])).unwrap();
    world.settle();
    let copy = OldCopy::of(&mut world, b);
    world.settle();
    change(&mut world, a, remove(&["bob"])).unwrap();
    world.settle();
    for _ in 0..limits::KEY_PACKAGES_PER_DEVICE {
        drop(world.claim(1));
    }
    world.cut(b);
    world.settle();
    world.offline(b);
    change(&mut world, a, add(&["bob"])).unwrap();
    world.settle();
    copy.restore(&mut world, b);
    world.back(b);
    world.settle();
    assert_eq!(told(&mut world, b, "#club", "older copy"), 1, "{:?}", world.texts(b, "#club"));
    all_well(&mut world, &[(a, "#club"), (b, "#club")], "after");
}

#[test]
fn the_same_copy_may_come_back_again_and_again() {
    let (mut world, nodes) = people(10, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    world.send(a, "bob", "one");
    world.settle();
    let copy = OldCopy::of(&mut world, a);
    for round in 0..4 {
        world.settle();
        world.send(a, "bob", &format!("round {round}"));
        world.send(b, "alice", &format!("answer {round}"));
        world.settle();
        copy.restore(&mut world, a);
    }
    world.settle();
    all_well(&mut world, &[(a, "bob"), (b, "alice")], "after");
    let tally = world.tally(b, "alice");
    assert!((0..4).all(|round| tally[&format!("round {round}")] == 1), "{tally:?}");
}
