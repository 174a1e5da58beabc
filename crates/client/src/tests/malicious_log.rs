//! A server that shows a false log: entries left out, doubled, in another order, shown again, changed, or another history for one
//! device. Each is noticed, or does no harm.

use std::{cell::Cell, rc::Rc};

use parlour_wire::{
    ConversationId, MessageId,
    api::{Commit, Role},
    log::{Entry, EntryKind},
};

use super::{
    groups::{change, create, members, people, role},
    harness::{
        World,
        bent::{Bend, entries, other_log, push},
    },
};
use crate::core::{Command, Core, GroupCommand, Input};

/// What a device says when somebody else sees another log.
const ANOTHER: &str = "is shown another log";

/// Two people who have written one message.
fn two(seed: u64) -> (World, usize, usize) {
    let (mut world, nodes) = people(seed, &["alice", "bob"]);
    world.send(nodes[0], "bob", "one");
    world.settle();
    (world, nodes[0], nodes[1])
}

fn place(world: &mut World, node: usize, with: &str) -> (ConversationId, u64, [u8; 32]) {
    world.nodes[node].core.as_ref().map(|core| Core::place_for_test(core, with)).unwrap()
}

/// Shows a device another log from where it is.
fn show(world: &mut World, node: usize, with: &str, edit: impl FnMut(Entry) -> Vec<Entry> + 'static) {
    let (conversation, seq, hash) = place(world, node, with);
    let bend: Bend = other_log(conversation, (seq, hash), edit);
    world.bend(node, bend);
}

fn notes(world: &mut World, node: usize, with: &str, words: &str) -> usize {
    world.texts(node, with).iter().filter(|text| text.contains(words)).count()
}

#[test]
fn an_entry_that_is_withheld_is_told_of_and_taken_in_its_place_when_it_comes() {
    let (mut world, a, b) = two(1);
    let (_, seq, _) = place(&mut world, b, "alice");
    world.bend(b, entries(move |all| all.into_iter().filter(|entry| entry.seq != seq + 1).collect()));
    world.send(a, "bob", "two");
    world.send(a, "bob", "three");
    let requests = world.go_on(b, 30);
    assert!(requests < 200, "{requests} requests to a server that gives nothing");
    assert_eq!(world.texts(b, "alice"), ["one"]);
    assert!(world.complains(b, "does not give out an entry"), "{:?}", world.troubles(b));
    world.straighten();
    assert_eq!(world.texts(b, "alice"), ["one", "two", "three"]);
}

#[test]
fn an_entry_cut_out_of_the_log_is_noticed_by_both_sides_with_the_next_message() {
    let (mut world, a, b) = two(2);
    let cut = Cell::new(false);
    show(&mut world, b, "alice", move |entry| if cut.replace(true) { vec![entry] } else { Vec::new() });
    world.send(a, "bob", "two");
    world.settle();
    assert_eq!(world.texts(b, "alice"), ["one"], "nobody could know yet");
    world.send(a, "bob", "three");
    world.settle();
    assert_eq!(notes(&mut world, b, "alice", ANOTHER), 1, "{:?}", world.texts(b, "alice"));
    assert!(world.complains(b, ANOTHER));
    // What bob's device reports says where it is, too.
    assert_eq!(notes(&mut world, a, "bob", ANOTHER), 1, "{:?}", world.texts(a, "bob"));
    world.send(a, "bob", "four");
    world.crash(b);
    world.settle();
    world.send(a, "bob", "five");
    world.settle();
    assert_eq!(notes(&mut world, b, "alice", ANOTHER), 1, "said once");
    assert!(world.texts(b, "alice").contains(&"five".to_owned()), "and all goes on");
}

#[test]
fn a_message_that_its_sender_is_told_is_stored_and_nobody_else_sees_is_noticed() {
    let (mut world, nodes) = people(3, &["alice", "bob", "carol"]);
    let [a, b, c] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    let lost = Rc::new(Cell::new(None::<MessageId>));
    for node in [b, c] {
        let lost = Rc::clone(&lost);
        show(&mut world, node, "#club", move |entry| if lost.get() == Some(entry.id) { Vec::new() } else { vec![entry] });
    }
    lost.set(Some(world.send(a, "#club", "vanishes").id));
    world.settle();
    world.send(b, "#club", "anybody there?");
    world.settle();
    // Bob wrote at a place that all know. Carol reports at the one after it.
    assert_eq!(notes(&mut world, a, "#club", "carol is shown another log"), 1, "{:?}", world.texts(a, "#club"));
    world.send(a, "#club", "yes");
    world.settle();
    assert_eq!(notes(&mut world, a, "#club", "bob is shown another log"), 1, "{:?}", world.texts(a, "#club"));
    assert_eq!(notes(&mut world, b, "#club", "alice is shown another log"), 1);
    assert_eq!(notes(&mut world, c, "#club", "alice is shown another log"), 1);
    assert_eq!(notes(&mut world, c, "#club", "bob is shown"), 0, "they see the same");
}

#[test]
fn everything_doubled_is_there_once() {
    let (mut world, a, b) = two(4);
    world.bend(b, Box::new(|_, input| vec![input.clone(), input]));
    for text in ["two", "three"] {
        world.send(a, "bob", text);
        world.settle();
    }
    world.send(b, "alice", "four");
    world.settle();
    for (node, with) in [(a, "bob"), (b, "alice")] {
        assert_eq!(world.texts(node, with), ["one", "two", "three", "four"]);
    }
    assert!(world.troubles(b).is_empty(), "{:?}", world.troubles(b));
}

#[test]
fn entries_in_any_order_are_taken_in_theirs() {
    let (mut world, a, b) = two(5);
    let mut held: Vec<Entry> = Vec::new();
    world.bend(
        b,
        entries(move |all| {
            held.extend(all);
            if held.len() < 4 {
                return Vec::new();
            }
            held.reverse();
            std::mem::take(&mut held)
        }),
    );
    let sent: Vec<String> = (0..8).map(|n| format!("text {n}")).collect();
    for text in &sent {
        world.send(a, "bob", text);
    }
    world.go_on(b, 20);
    world.straighten();
    assert_eq!(world.texts(b, "alice")[1..], sent[..]);
}

#[test]
fn an_old_entry_shown_again_is_nothing_new_and_the_false_log_is_noticed() {
    for new_id in [false, true] {
        let (mut world, a, b) = two(6);
        let mut old: Option<Entry> = None;
        show(&mut world, b, "alice", move |entry| match &old {
            None => {
                old = Some(entry.clone());
                vec![entry]
            }
            Some(old) => {
                let id = if new_id { MessageId([9; 16]) } else { old.id };
                let again = Entry { id, ..old.clone() };
                vec![again, entry]
            }
        });
        for text in ["two", "three"] {
            world.send(a, "bob", text);
            world.settle();
        }
        let tally = world.tally(b, "alice");
        assert_eq!((tally["two"], tally["three"]), (1, 1), "{tally:?}");
        world.send(a, "bob", "four");
        world.settle();
        assert_eq!(notes(&mut world, b, "alice", ANOTHER), 1, "{:?}", world.texts(b, "alice"));
    }
}

#[test]
fn an_entry_under_an_old_number_or_twice_in_one_answer_changes_nothing() {
    let (mut world, a, b) = two(7);
    let first: Rc<Cell<Option<Entry>>> = Rc::default();
    let kept = Rc::clone(&first);
    world.bend(
        b,
        entries(move |all| {
            if let Some(entry) = all.first() {
                kept.set(Some(entry.clone()));
            }
            all.iter().flat_map(|entry| [entry.clone(), entry.clone()]).collect()
        }),
    );
    world.send(a, "bob", "two");
    world.settle();
    let old = first.take().unwrap();
    world.input(b, push(vec![old.clone(), old.clone()]));
    world.input(b, push(vec![Entry { seq: 1, ..old.clone() }, Entry { seq: 0, ..old }]));
    world.straighten();
    world.send(a, "bob", "three");
    world.settle();
    assert_eq!(world.texts(b, "alice"), ["one", "two", "three"]);
    assert!(world.troubles(b).is_empty(), "{:?}", world.troubles(b));
}

#[test]
fn changed_bytes_are_not_shown_as_a_message_and_are_told() {
    let (mut world, a, b) = two(8);
    show(&mut world, b, "alice", |mut entry| {
        *entry.payload.last_mut().unwrap() ^= 1;
        vec![entry]
    });
    world.send(a, "bob", "two");
    world.settle();
    let texts = world.texts(b, "alice");
    assert!(!texts.contains(&"two".to_owned()));
    assert_eq!(notes(&mut world, b, "alice", "could not be read"), 1, "{texts:?}");
}

#[test]
fn a_message_shown_under_another_id_or_in_another_conversation_is_refused() {
    let (mut world, nodes) = people(9, &["alice", "bob", "carol"]);
    let [a, b, c] = nodes[..] else { panic!() };
    world.send(a, "bob", "from alice");
    world.send(c, "bob", "from carol");
    world.settle();
    show(&mut world, b, "alice", |entry| vec![Entry { id: MessageId([5; 16]), ..entry }]);
    world.send(a, "bob", "under a false id");
    world.settle();
    assert!(!world.texts(b, "alice").contains(&"under a false id".to_owned()));
    assert_eq!(notes(&mut world, b, "alice", "could not be read"), 1);

    // Carol's message in alice's conversation.
    let stolen: Rc<Cell<Option<Entry>>> = Rc::default();
    let seen = Rc::clone(&stolen);
    world.bend(
        b,
        entries(move |all| {
            if let Some(entry) = all.first() {
                seen.set(Some(entry.clone()));
            }
            all
        }),
    );
    world.send(c, "bob", "for bob from carol");
    world.settle();
    let stolen = stolen.take().unwrap();
    let (conversation, seq, previous) = place(&mut world, b, "alice");
    world.input(b, push(vec![Entry { conversation, seq: seq + 1, previous, ..stolen }]));
    assert!(!world.texts(b, "alice").iter().any(|text| text.contains("carol")));
}

#[test]
fn two_commits_signed_for_one_epoch_stop_the_group_and_are_told() {
    let (mut world, nodes) = people(10, &["alice", "bob", "carol"]);
    let [a, b, c] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    change(&mut world, a, role("bob", Role::ADMIN)).unwrap();
    world.settle();
    // Bob's commit never reaches the others; the server signs it all the same.
    world.command(b, Command::Group(GroupCommand::Rename { group: "#club".into(), name: "bobs".into() }));
    let theirs: Commit = world.wait_for(b);
    let receipt = world.receipt(&theirs.conversation, theirs.parent_epoch, &theirs.commit);
    world.offline(b);
    world.send(a, "#club", "before");
    let renamed = GroupCommand::Rename { group: "#club".into(), name: "alices".into() };
    change(&mut world, a, renamed).unwrap();
    world.settle();
    let (conversation, seq, previous) = place(&mut world, c, "#alices");
    let fork = Entry {
        conversation,
        seq: seq + 1,
        previous,
        id: theirs.id,
        kind: EntryKind::COMMIT,
        stored_ms: world.unix_ms(),
        payload: theirs.commit.clone(),
        receipt: Some(receipt),
    };
    world.input(c, push(vec![fork]));
    assert!(world.complains(c, "signed two commits"), "{:?}", world.troubles(c));
    assert_eq!(notes(&mut world, c, "#alices", "The server broke the log"), 1, "{:?}", world.texts(c, "#alices"));
    let send = Command::Send { to: "#alices".into(), text: "x".into(), reply_to: None };
    assert!(world.ask(c, send).is_err(), "nothing is sent where the server has forked the log");
}

#[test]
fn a_withheld_removal_keeps_nobody_in_who_could_read_on() {
    let (mut world, nodes) = people(11, &["alice", "bob", "carol"]);
    let [a, b, c] = nodes[..] else { panic!() };
    change(&mut world, a, create("club", &["bob", "carol"])).unwrap();
    world.settle();
    // Neither bob nor carol is shown that carol is out.
    for node in [b, c] {
        show(&mut world, node, "#club", |entry| if entry.kind == EntryKind::COMMIT { Vec::new() } else { vec![entry] });
    }
    change(&mut world, a, super::groups::remove(&["carol"])).unwrap();
    world.settle();
    world.send(a, "#club", "without carol");
    world.settle();
    assert!(!world.texts(c, "#club").contains(&"without carol".to_owned()));
    let told = world.texts(b, "#club").iter().any(|text| text.contains("had to be set up again") || text.contains(ANOTHER));
    assert!(told, "{:?}", world.texts(b, "#club"));
    world.straighten();
    world.send(b, "#club", "bob again");
    world.settle();
    world.send(a, "#club", "and alice");
    world.settle();
    assert!(!world.texts(c, "#club").iter().any(|text| text == "bob again" || text == "and alice"));
    assert!(world.texts(a, "#club").contains(&"bob again".to_owned()));
    assert!(world.texts(b, "#club").contains(&"and alice".to_owned()), "{:?}", world.texts(b, "#club"));
    assert_eq!(members(&mut world, b, "#club").len(), 2);
}

#[test]
fn false_times_hide_nothing_and_hurt_nothing() {
    for stored_ms in [0, 1, u64::MAX] {
        let (mut world, a, b) = two(12);
        show(&mut world, b, "alice", move |entry| vec![Entry { stored_ms, ..entry }]);
        world.send(a, "bob", "two");
        world.settle();
        world.send(a, "bob", "three");
        world.settle();
        let texts = world.texts(b, "alice");
        assert_eq!(texts[..2], ["one", "two"], "{stored_ms}");
        assert!(texts.contains(&"three".to_owned()));
        // The time is in the hash of the entry.
        assert_eq!(notes(&mut world, b, "alice", ANOTHER), 1, "{stored_ms}: {texts:?}");
    }
}

#[test]
fn an_entry_that_does_not_follow_stops_the_conversation_and_the_history_says_so() {
    let (mut world, a, b) = two(13);
    world.bend(b, entries(|all| all.into_iter().map(|entry| Entry { previous: [1; 32], ..entry }).collect()));
    world.send(a, "bob", "two");
    world.settle();
    assert!(world.complains(b, "does not name its predecessor"));
    world.crash(b);
    world.straighten();
    assert_eq!(notes(&mut world, b, "alice", "The server broke the log"), 1, "also after a restart");
    assert!(!world.texts(b, "alice").contains(&"two".to_owned()));
}

#[test]
fn numbers_that_no_log_reaches_are_refused() {
    for seq in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let (mut world, a, b) = two(14);
        world.bend(b, entries(move |all| all.into_iter().map(|entry| Entry { seq, ..entry }).collect()));
        world.send(a, "bob", "two");
        world.go_on(b, 5);
        assert!(world.complains(b, "number that no log reaches"), "{seq}");
        world.straighten();
        assert_eq!(world.texts(b, "alice"), ["one", "two"], "{seq}");
    }
    let (mut world, a, b) = two(15);
    world.bend(b, entries(move |all| all.into_iter().map(|entry| Entry { seq: i64::MAX as u64, ..entry }).collect()));
    world.send(a, "bob", "two");
    let requests = world.go_on(b, 20);
    assert!(requests < 200, "{requests}");
    world.straighten();
    assert_eq!(world.texts(b, "alice"), ["one", "two"]);
}

#[test]
fn a_push_for_a_conversation_that_is_not_there_makes_none() {
    let (mut world, _, b) = two(16);
    let stray = Entry {
        conversation: ConversationId([3; 32]),
        seq: 1,
        previous: [0; 32],
        id: MessageId([3; 16]),
        kind: EntryKind::MESSAGE,
        stored_ms: 1,
        payload: vec![1; 100],
        receipt: None,
    };
    for kind in [EntryKind::MESSAGE, EntryKind::COMMIT, EntryKind::LEAVE, EntryKind(77)] {
        world.input(b, push(vec![Entry { kind, ..stray.clone() }]));
        let (conversation, seq, previous) = place(&mut world, b, "alice");
        let payload = vec![7; 100];
        world.input(b, Input::Tick);
        if kind != EntryKind::COMMIT {
            world.input(b, push(vec![Entry { kind, conversation, seq: seq + 1, previous, payload, ..stray.clone() }]));
        }
    }
    assert_eq!(world.texts(b, "alice").first().map(String::as_str), Some("one"));
}
