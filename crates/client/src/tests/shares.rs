//! Earlier messages for people who come into a group: what the policy says, and what nobody can slip in.

use std::{collections::BTreeSet, time::Duration};

use parlour_e2ee::HistoryKey;
use parlour_wire::{
    AccountId, Code, ConversationId, MessageId,
    api::{BlobBegin, BlobPut, Role},
    content::{Body, Content, HistoryOffer},
};
use rand::Rng as _;

use super::{
    groups::{add, change, people, remove, role, strings},
    harness::World,
};
use crate::{
    api::{HistoryPolicy, Message, MessageKind, State},
    core::{
        Command, GroupCommand, Input, Reply,
        pack::{Pack, PackedConversation, PackedMessage, SealedPack},
    },
    event::Event,
};

fn create(name: &str, members: &[&str], history: HistoryPolicy) -> GroupCommand {
    GroupCommand::Create { name: name.to_owned(), members: strings(members), history }
}

/// Alice and bob in a group of this policy, in which they have written; carol and dave beside it.
fn club(seed: u64, history: HistoryPolicy, count: u32) -> (World, Vec<usize>) {
    let (mut world, nodes) = people(seed, &["alice", "bob", "carol", "dave"]);
    change(&mut world, nodes[0], create("club", &["bob"], history)).unwrap();
    world.settle();
    for n in 0..count {
        world.send(nodes[(n % 2) as usize], "#club", &format!("old {n}"));
        world.settle();
    }
    (world, nodes)
}

fn olds(from: u32, to: u32) -> Vec<String> {
    (from..to).map(|n| format!("old {n}")).collect()
}

/// What people wrote, as a device has it.
fn said(world: &mut World, node: usize) -> Vec<Message> {
    world.history(node, "#club").into_iter().filter(|message| message.kind != MessageKind::System).collect()
}

fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.text.clone()).collect()
}

fn account(world: &mut World, node: usize) -> AccountId {
    match world.ask(node, Command::WhoAmI) {
        Ok(Reply::WhoAmI(Some(who))) => who.account,
        other => panic!("{other:?}"),
    }
}

fn unshown(world: &mut World, node: usize) -> Vec<String> {
    match world.ask(node, Command::Unshown { from: None, limit: 1000 }) {
        Ok(Reply::Messages(messages)) => texts(&messages),
        other => panic!("{other:?}"),
    }
}

fn refusals(world: &World, node: usize) -> Vec<Code> {
    let refusal = |event: &Event| match event {
        Event::Trouble(error) if error.message.contains("they were not taken") => Some(error.code),
        _ => None,
    };
    world.nodes[node].events.iter().filter_map(refusal).collect()
}

#[test]
fn who_comes_in_is_given_what_the_policy_says_and_nothing_else() {
    for (seed, policy, from) in [(1, HistoryPolicy::None, 20), (2, HistoryPolicy::Last(7), 13), (3, HistoryPolicy::All, 0)] {
        let (mut world, nodes) = club(seed, policy, 20);
        let [a, b, c, _] = nodes[..] else { panic!() };
        change(&mut world, a, add(&["carol"])).unwrap();
        world.settle();
        world.send(b, "#club", "new");
        world.settle();
        let mut expected = olds(from, 20);
        expected.push("new".to_owned());
        let taken = said(&mut world, c);
        assert_eq!(texts(&taken), expected, "{policy:?}");
        assert_eq!(texts(&said(&mut world, b)).len(), 21, "nobody else is given anything");
        let (alice, bob) = (account(&mut world, a), account(&mut world, b));
        let given = said(&mut world, a);
        for message in &taken[..taken.len() - 1] {
            let original = given.iter().find(|other| other.id == message.id).unwrap();
            assert_eq!((message.sender, message.sent_ms, message.seq), (original.sender, original.sent_ms, original.seq));
            assert!([alice, bob].contains(&message.sender) && !message.outgoing && message.shown);
            assert_eq!((message.shared_by, message.shared_by_name.as_deref()), (Some(alice), Some("alice")));
        }
        assert_eq!(taken.last().unwrap().shared_by, None);
        assert_eq!(unshown(&mut world, c).iter().filter(|text| text.starts_with("old")).count(), 0, "it is nothing new");
        assert!(refusals(&world, c).is_empty());
    }
}

#[test]
fn what_was_shared_is_found_by_its_words_and_reported_to_nobody() {
    let (mut world, nodes) = club(4, HistoryPolicy::All, 6);
    let [a, b, c, _] = nodes[..] else { panic!() };
    // So much that is indexed already that what comes earlier stands before the end of the index.
    world.search(c, "anything", None);
    let before = world.send(b, "#club", "a remarkable word");
    world.settle();
    world.ask(a, Command::React { id: before.id, emoji: "👍".to_owned(), remove: false }).unwrap();
    world.settle();
    change(&mut world, a, add(&["carol"])).unwrap();
    world.settle();
    assert_eq!(world.search(c, "remarkable", Some("#club")), ["a remarkable word"]);
    let taken = said(&mut world, c).into_iter().find(|message| message.id == before.id).unwrap();
    assert_eq!(taken.reactions.len(), 1);
    world.ask(c, Command::MarkRead { to: "#club".to_owned(), up_to: None }).unwrap();
    world.settle();
    let Ok(Reply::Status(status)) = world.ask(b, Command::Status(before.id)) else { panic!() };
    assert_eq!(status.devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>(), ["alice"]);
    assert_eq!(status.state, State::Delivered, "as before carol came");
    // What its author does to it later is done to it here, too.
    world.change(b, Command::Edit { id: before.id, text: "another word".to_owned() });
    world.settle();
    assert!(world.search(c, "remarkable", None).is_empty());
    assert_eq!(world.search(c, "another word", None).len(), 1);
    world.change(b, Command::Delete(before.id));
    world.settle();
    assert!(said(&mut world, c).into_iter().any(|message| message.id == before.id && message.deleted));
}

#[test]
fn who_is_removed_reads_nothing_later_and_is_given_the_gap_when_it_comes_back() {
    let (mut world, nodes) = club(5, HistoryPolicy::All, 4);
    let [a, b, c, _] = nodes[..] else { panic!() };
    change(&mut world, a, add(&["carol"])).unwrap();
    world.settle();
    world.send(c, "#club", "hello");
    world.settle();
    change(&mut world, a, remove(&["carol"])).unwrap();
    world.settle();
    world.send(b, "#club", "without carol");
    world.settle();
    let mut expected = olds(0, 4);
    expected.push("hello".to_owned());
    assert_eq!(texts(&said(&mut world, c)), expected);
    change(&mut world, a, add(&["carol"])).unwrap();
    world.settle();
    let taken: Vec<_> = said(&mut world, c);
    let unique: BTreeSet<_> = taken.iter().map(|message| message.id).collect();
    assert_eq!((taken.len(), unique.len()), (6, 6), "each once: {:?}", texts(&taken));
    assert!(texts(&taken).contains(&"without carol".to_owned()));
    assert!(taken.iter().any(|message| message.text == "hello" && message.outgoing), "what was written here stays so");
}

#[test]
fn several_devices_and_several_newcomers_are_given_the_same() {
    let mut world = World::new(6);
    let (alice, bob, carol, dave) = (world.person("alice"), world.person("bob"), world.person("carol"), world.person("dave"));
    let (a, b) = (world.device(alice), world.device(bob));
    let (c1, c2, d) = (world.device(carol), world.device(carol), world.device(dave));
    world.settle();
    change(&mut world, a, create("club", &["bob"], HistoryPolicy::Last(3))).unwrap();
    world.settle();
    for n in 0..5 {
        world.send(b, "#club", &format!("old {n}"));
    }
    world.settle();
    change(&mut world, a, add(&["carol", "dave"])).unwrap();
    world.settle();
    for node in [c1, c2, d] {
        assert_eq!(texts(&said(&mut world, node)), olds(2, 5), "node {node}");
    }
    // A device that carol adds later has it from her other devices, and with the same mark.
    let c3 = world.sibling(carol);
    world.settle();
    let handed = said(&mut world, c3);
    assert_eq!(texts(&handed), olds(2, 5));
    assert!(handed.iter().all(|message| message.shared_by_name.as_deref() == Some("alice")));
}

#[test]
fn a_long_history_comes_in_parts_and_in_its_order() {
    let (mut world, nodes) = club(7, HistoryPolicy::All, 2);
    let [a, _, c, _] = nodes[..] else { panic!() };
    world.nodes[a].core.as_mut().unwrap().fill_group_for_test(4_500);
    change(&mut world, a, add(&["carol"])).unwrap();
    world.settle();
    let (given, taken) = (said(&mut world, a), said(&mut world, c));
    assert_eq!(taken.len(), 4_502);
    assert!(given.iter().map(|message| message.id).eq(taken.iter().map(|message| message.id)));
    let parts = world.nodes[c].events.iter().filter(|event| matches!(event, Event::HistoryShared { .. })).count();
    assert!(parts >= 3, "{parts}");
}

#[test]
fn whoever_is_killed_and_whenever_all_is_there_once_in_the_end() {
    for seed in 0..30 {
        let (mut world, nodes) = club(100 + seed, HistoryPolicy::All, 4);
        let [a, b, c, _] = nodes[..] else { panic!() };
        world.nodes[a].core.as_mut().unwrap().fill_group_for_test(2_300);
        world.command(a, Command::Group(add(&["carol"])));
        for _ in 0..world.rng.gen_range(1..6) {
            for _ in 0..world.rng.gen_range(1..60) {
                if !world.step_any() {
                    world.advance(Duration::from_millis(500));
                }
            }
            let victim = if world.rng.r#gen() { a } else { c };
            match world.arriving(victim) {
                Some(input) if world.rng.r#gen() => world.crash_in(victim, input),
                Some(input) => {
                    world.input(victim, input);
                    world.crash(victim);
                }
                None => world.crash(victim),
            }
        }
        world.settle();
        // A command that died before it was on disk is none.
        if said(&mut world, c).is_empty() && change(&mut world, a, add(&["carol"])).is_ok() {
            world.settle();
        }
        world.send(b, "#club", "after");
        world.settle();
        let (given, taken) = (said(&mut world, a), said(&mut world, c));
        assert_eq!(taken.len(), 2_305, "seed {seed}");
        assert!(given.iter().map(|message| message.id).eq(taken.iter().map(|message| message.id)), "seed {seed}");
        for node in [a, c] {
            let (shares, offers) = world.nodes[node].core.as_ref().unwrap().shares_for_test();
            assert!(!shares && !offers, "seed {seed}: nothing is left to do");
        }
    }
}

/// A message that a sharer makes up.
fn made_up(world: &mut World, sender: AccountId, seq: u64) -> PackedMessage {
    PackedMessage {
        id: MessageId::new(world.unix_ms(), &world.rng.r#gen()),
        conversation: 0,
        sender,
        device: parlour_wire::DeviceId([1; 16]),
        kind: 0,
        body: "I never wrote this".to_owned(),
        reply_to: None,
        sent_ms: 1,
        stored_ms: Some(1),
        seq: Some(seq),
        state: 0,
        shown: false,
        content: None,
        edited_ms: None,
        deleted: false,
        expires_ms: None,
        mentions_me: false,
        reactions: Vec::new(),
        shared_by: None,
    }
}

fn pack(group: ConversationId, messages: Vec<PackedMessage>) -> Pack {
    let mut pack = Pack::default();
    for message in messages {
        pack.push(PackedConversation { id: group, peer: None, name: None }, message);
    }
    pack
}

/// Puts a pack at the server and offers it in the group, as a program that does not keep to the rules would.
fn offer(world: &mut World, node: usize, account: AccountId, pack: &Pack, messages: u32) {
    offer_sealed(world, node, (account, account), pack, messages);
}

/// The same with a key that is sealed for the devices of the second account.
fn offer_sealed(world: &mut World, node: usize, (account, opener): (AccountId, AccountId), pack: &Pack, messages: u32) {
    let SealedPack { blob, key, bytes } = pack.seal();
    let size = bytes.len() as u64;
    world.forge(node, &BlobBegin { blob, size }).unwrap();
    world.forge(node, &BlobPut { blob, offset: 0, data: bytes }).unwrap();
    let core = world.nodes[node].core.as_mut().unwrap();
    let (group, _) = core.group_for_test();
    let keys = core.keys_for_test(&HistoryKey { conversation: group, account: opener, blob }, &key);
    let none = MessageId([0; 16]);
    let size = u32::try_from(size).unwrap();
    let offer = Body::History(HistoryOffer { account, messages, oldest: none, newest: none, blob, size, keys });
    core.say_with_blob_for_test(&group, offer);
    world.input(node, Input::Tick);
    world.settle();
}

/// Alice, bob and carol, whom alice has brought in under this policy, and what carol has.
fn with_carol(seed: u64, policy: HistoryPolicy) -> (World, [usize; 3], ConversationId, Vec<String>) {
    let (mut world, nodes) = club(seed, policy, 4);
    let [a, b, c, _] = nodes[..] else { panic!() };
    change(&mut world, a, role("bob", Role::ADMIN)).unwrap();
    world.settle();
    change(&mut world, a, add(&["carol"])).unwrap();
    world.settle();
    let (group, _) = world.nodes[a].core.as_mut().unwrap().group_for_test();
    let have = texts(&said(&mut world, c));
    (world, [a, b, c], group, have)
}

#[test]
fn what_is_sent_against_the_policy_is_refused_and_told() {
    let (mut world, [a, b, c], group, have) = with_carol(8, HistoryPolicy::None);
    assert!(have.is_empty());
    let (bob, carol) = (account(&mut world, b), account(&mut world, c));
    let message = made_up(&mut world, bob, 1);
    offer(&mut world, a, carol, &pack(group, vec![message]), 1);
    assert!(said(&mut world, c).is_empty());
    assert_eq!(refusals(&world, c), [Code::FORBIDDEN]);
}

#[test]
fn a_shared_pack_opens_for_the_newcomers_devices_and_for_nobody_else_in_the_group() {
    let (mut world, nodes) = club(18, HistoryPolicy::All, 4);
    let [a, b, c, _] = nodes[..] else { panic!() };
    let second = world.device(c);
    world.settle();
    change(&mut world, a, add(&["carol"])).unwrap();
    // Once it is with the server, the content of an offer is not kept.
    let mut offers = Vec::new();
    while offers.is_empty() && world.step_any() {
        offers = world.nodes[a].core.as_ref().unwrap().offers_for_test();
    }
    world.settle();
    assert_eq!(texts(&said(&mut world, c)), olds(0, 4));
    assert_eq!(texts(&said(&mut world, second)), olds(0, 4));
    let (group, _) = world.nodes[a].core.as_mut().unwrap().group_for_test();
    let [(offer, content)] = &offers[..] else { panic!("{offers:?}") };
    let place = HistoryKey { conversation: group, account: offer.account, blob: offer.blob };
    let mut open = |node: usize, place| world.nodes[node].core.as_mut().unwrap().open_for_test(place, &offer.keys);
    let key = open(c, &place).unwrap();
    assert_eq!(open(second, &place), Some(key));
    assert_eq!((open(a, &place), open(b, &place)), (None, None), "bob and alice read the offer, and not the pack");
    assert!(content.windows(32).all(|window| window != key), "nothing that a member reads is the key");
    assert_eq!(open(c, &HistoryKey { conversation: ConversationId::group([7; 32]), ..place }), None);
}

#[test]
fn an_offer_whose_key_is_for_another_device_is_refused_and_told() {
    let (mut world, [a, b, c], group, have) = with_carol(19, HistoryPolicy::All);
    let (bob, carol) = (account(&mut world, b), account(&mut world, c));
    let pack = pack(group, vec![made_up(&mut world, bob, 1)]);
    offer_sealed(&mut world, a, (carol, bob), &pack, 1);
    assert_eq!(texts(&said(&mut world, c)), have);
    assert_eq!(refusals(&world, c), [Code::FORBIDDEN]);
    // It is refused for its key and nothing else.
    offer_sealed(&mut world, a, (carol, carol), &pack, 1);
    assert_eq!(said(&mut world, c).len(), have.len() + 1);
    assert_eq!(refusals(&world, c), [Code::FORBIDDEN]);
}

#[test]
fn what_its_sharer_could_not_read_is_taken_though_this_version_can() {
    let (mut world, [a, b, c], group, have) = with_carol(20, HistoryPolicy::All);
    let (bob, carol) = (account(&mut world, b), account(&mut world, c));
    let content = |body| Some(Content::new(1, body).to_bytes().unwrap());
    let text = content(Body::Text("a text of another program".to_owned()));
    let unknown = PackedMessage { kind: 3, content: text, ..made_up(&mut world, bob, 1) };
    let deleted = PackedMessage { kind: 3, content: content(Body::Sync(vec![1])), ..made_up(&mut world, bob, 1) };
    offer(&mut world, a, carol, &pack(group, vec![unknown, deleted]), 2);
    assert_eq!(said(&mut world, c).len(), have.len() + 1);
}

#[test]
fn only_who_brought_one_in_may_share() {
    let (mut world, [_, b, c], group, have) = with_carol(9, HistoryPolicy::All);
    assert_eq!(have, olds(0, 4));
    let (bob, carol) = (account(&mut world, b), account(&mut world, c));
    // Bob is an admin, but did not bring her in.
    let message = made_up(&mut world, bob, 1);
    offer(&mut world, b, carol, &pack(group, vec![message]), 1);
    assert_eq!(texts(&said(&mut world, c)), have);
    assert_eq!(refusals(&world, c), [Code::FORBIDDEN]);
}

#[test]
fn nobody_who_was_there_before_is_told_what_was_there_before() {
    let (mut world, [a, b, _], group, _) = with_carol(10, HistoryPolicy::All);
    let bob = account(&mut world, b);
    let before = texts(&said(&mut world, b));
    let message = made_up(&mut world, bob, 1);
    offer(&mut world, a, bob, &pack(group, vec![message]), 1);
    assert_eq!(texts(&said(&mut world, b)), before, "bob was there when the group was made");
}

#[test]
fn messages_of_another_group_or_from_after_the_join_are_refused_whole() {
    let (mut world, [a, b, c], group, have) = with_carol(11, HistoryPolicy::All);
    let (bob, carol) = (account(&mut world, b), account(&mut world, c));
    let after = world.nodes[c].core.as_ref().unwrap().owed_for_test(&group).unwrap();
    let other = ConversationId::group(world.rng.r#gen());
    let direct = ConversationId::direct(&bob, &carol);
    for (place, seqs) in
        [(other, vec![1]), (direct, vec![1]), (group, vec![after]), (group, vec![1, after + 5]), (group, vec![0])]
    {
        let messages = seqs.into_iter().map(|seq| made_up(&mut world, bob, seq)).collect::<Vec<_>>();
        let count = u32::try_from(messages.len()).unwrap();
        offer(&mut world, a, carol, &pack(place, messages), count);
        assert_eq!(texts(&said(&mut world, c)), have);
    }
    let unplaced = PackedMessage { seq: None, ..made_up(&mut world, bob, 1) };
    offer(&mut world, a, carol, &pack(group, vec![unplaced]), 1);
    let mut registers = pack(group, vec![made_up(&mut world, bob, 1)]);
    registers.agreed = vec![vec![1].into()];
    offer(&mut world, a, carol, &registers, 1);
    assert_eq!(texts(&said(&mut world, c)), have);
    assert_eq!(refusals(&world, c), [Code::FORBIDDEN; 7]);
}

#[test]
fn more_than_the_policy_says_is_refused() {
    let (mut world, [a, b, c], group, have) = with_carol(12, HistoryPolicy::Last(6));
    assert_eq!(have, olds(0, 4), "two more would be allowed");
    let (bob, carol) = (account(&mut world, b), account(&mut world, c));
    let three: Vec<_> = (0..3).map(|_| made_up(&mut world, bob, 1)).collect();
    offer(&mut world, a, carol, &pack(group, three.clone()), 3);
    assert_eq!(refusals(&world, c), [Code::QUOTA]);
    // Said to be two.
    offer(&mut world, a, carol, &pack(group, three.clone()), 2);
    assert_eq!(refusals(&world, c), [Code::QUOTA; 2]);
    assert_eq!(texts(&said(&mut world, c)), have);
}

#[test]
fn a_shared_message_replaces_nothing_and_speaks_for_nobody() {
    let (mut world, [a, b, c], group, have) = with_carol(13, HistoryPolicy::Last(20));
    let carol = account(&mut world, c);
    let mine = world.send(c, "#club", "what I wrote");
    world.settle();
    let (told, _) = (world.history(c, "#club"), world.send(b, "#club", "later"));
    let system = told.iter().find(|message| message.kind == MessageKind::System).unwrap().id;
    let (forged, first) = (made_up(&mut world, carol, 1), made_up(&mut world, carol, 2));
    let forged_id = forged.id;
    let over = PackedMessage { id: mine.id, ..first.clone() };
    let instead = PackedMessage { id: system, ..first.clone() };
    let file = PackedMessage { kind: 2, content: Some(vec![1, 2, 3]), ..made_up(&mut world, carol, 3) };
    let said_by_program = PackedMessage { kind: 1, ..made_up(&mut world, carol, 3) };
    offer(&mut world, a, carol, &pack(group, vec![over, instead, forged, file, said_by_program]), 5);
    let now = world.history(c, "#club");
    assert!(now.iter().any(|message| message.id == mine.id && message.text == "what I wrote" && message.outgoing));
    assert!(now.iter().any(|message| message.id == system && message.kind == MessageKind::System));
    let forged = now.iter().find(|message| message.id == forged_id).unwrap();
    assert!(!forged.outgoing && forged.shared_by_name.as_deref() == Some("alice"), "it says who says so");
    assert_eq!(now.len(), told.len() + 2, "nothing else came: {have:?}");
    world.send(c, "#club", "it goes on");
    world.settle();
    assert_eq!(texts(&said(&mut world, b)).last().unwrap(), "it goes on");
}
