//! Stories of groups: who may change them, leaving, names, signals; and members who try what they may not.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use parlour_server::{
    ServiceConfig,
    throttle::{Rate, ThrottleConfig},
};
use parlour_wire::{Code, ConversationId, api, limits, log::EntryKind, name::Name};
use support::{Link, Person, World, commit, config, message, message_id};

struct Group {
    world: World,
    people: Vec<Person>,
    links: Vec<Link>,
    conversation: ConversationId,
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// Alice (admin), Bob and Carol in a group, one phone each, and Dave outside.
fn group() -> Group {
    let mut world = World::new();
    let (mut people, mut links) = (Vec::new(), Vec::new());
    for person in ["alice", "bob", "carol", "dave"] {
        let (person, phones) = world.person(person, 1);
        people.push(person);
        links.extend(phones);
    }
    let conversation = ConversationId::group([5; 32]);
    let members = people[..3].iter().map(Person::id).collect();
    let added = people[1..3].iter().map(|person| api::Added { account: person.id(), device: person.device(0) }).collect();
    let kind = api::ConversationKind::GROUP;
    let create = Some(api::Create { kind, members, name: Some(name("team")) });
    let call = api::Commit { create, added, welcome: Some(vec![1]), ..commit(conversation, 1, 0) };
    world.ask(&mut links[0], &call).unwrap();
    for link in &links {
        link.inbox.take();
    }
    Group { world, people, links, conversation }
}

fn changing(conversation: ConversationId, id: u8, parent: u64, change: api::Change) -> api::Commit {
    api::Commit { change: Some(change), ..commit(conversation, id, parent) }
}

#[test]
fn names_are_not_tried_out_without_end() {
    let throttle = ThrottleConfig { lookups_per_account: Rate::new(2, 1000), ..ThrottleConfig::default() };
    let mut world = World::with(ServiceConfig { throttle, ..config() });
    let (alice, mut alices) = world.person("alice", 1);
    let create = |id: u8, text: &str| api::Commit {
        create: Some(api::Create { kind: api::ConversationKind::GROUP, members: vec![alice.id()], name: Some(name(text)) }),
        ..commit(ConversationId::group([id; 32]), id, 0)
    };
    let team = create(1, "team");
    world.ask(&mut alices[0], &team).unwrap();
    let rename =
        |id, text: &str| changing(team.conversation, id, 1, api::Change { name: Some(name(text)), ..api::Change::default() });
    assert_eq!(world.refused(&mut alices[0], &rename(2, "alice")), Code::NAME_TAKEN);
    assert_eq!(world.refused(&mut alices[0], &rename(3, "bob")), Code::RATE_LIMITED);
    assert_eq!(world.refused(&mut alices[0], &create(4, "alice")), Code::RATE_LIMITED);
    world.ask(&mut alices[0], &commit(team.conversation, 5, 1)).unwrap();
    world.now_ms += 1000;
    assert_eq!(world.refused(&mut alices[0], &create(4, "alice")), Code::NAME_TAKEN);
}

#[test]
fn an_admin_brings_somebody_in_and_puts_somebody_out() {
    let Group { world, people, mut links, conversation } = group();
    let (carol, dave) = (&people[2], &people[3]);
    let coming = api::Commit {
        added: vec![api::Added { account: dave.id(), device: dave.device(0) }],
        welcome: Some(vec![2]),
        ..changing(conversation, 2, 1, api::Change { added: vec![dave.id()], ..api::Change::default() })
    };
    world.ask(&mut links[0], &coming).unwrap();
    let welcome: Vec<api::Welcome> = links[3].inbox.all();
    assert_eq!((welcome[0].epoch, welcome[0].members.len()), (2, 4));
    let going = api::Commit {
        removed: vec![carol.device(0)],
        ..changing(conversation, 3, 2, api::Change { removed: vec![carol.id()], ..api::Change::default() })
    };
    world.ask(&mut links[0], &going).unwrap();
    world.ask(&mut links[3], &message(conversation, 4, 3)).unwrap();
    assert_eq!(links[1].inbox.seqs(), [2, 3, 4]);
    assert_eq!(links[2].inbox.seqs(), [2, 3], "the commit that removes her is her last entry");
    assert_eq!(world.refused(&mut links[2], &message(conversation, 5, 3)), Code::NOT_MEMBER);
    assert_eq!(world.refused(&mut links[2], &api::Commit { external: true, ..commit(conversation, 5, 3) }), Code::NOT_MEMBER);
    assert_eq!(world.refused(&mut links[2], &api::GroupInfoGet { conversation }), Code::NOT_MEMBER);
    let watch = api::PresenceWatch { accounts: vec![people[0].id()] };
    assert_eq!(world.ask(&mut links[2], &watch).unwrap().presence, [], "she sees nobody any more");
    assert_eq!(world.ask(&mut links[3], &watch).unwrap().presence.len(), 1);
}

#[test]
fn a_member_who_is_no_admin_changes_nothing() {
    let Group { world, people, mut links, conversation } = group();
    let (bob, carol, dave) = (people[1].id(), people[2].id(), people[3].id());
    let admin = api::Role::ADMIN;
    for change in [
        api::Change { added: vec![dave], ..api::Change::default() },
        api::Change { removed: vec![carol], ..api::Change::default() },
        api::Change { roles: vec![api::Member { account: bob, role: admin }], ..api::Change::default() },
        api::Change { name: Some(name("mine")), ..api::Change::default() },
    ] {
        assert_eq!(world.refused(&mut links[1], &changing(conversation, 2, 1, change)), Code::FORBIDDEN);
    }
    let taking = api::Commit { removed: vec![people[2].device(0)], ..commit(conversation, 2, 1) };
    assert_eq!(world.refused(&mut links[1], &taking), Code::FORBIDDEN, "nor somebody else's device");
    let adding = api::Commit {
        added: vec![api::Added { account: dave, device: people[3].device(0) }],
        welcome: Some(vec![1]),
        ..commit(conversation, 2, 1)
    };
    assert_eq!(world.refused(&mut links[1], &adding), Code::NOT_MEMBER);
    assert_eq!(world.refused(&mut links[3], &api::Commit { external: true, ..commit(conversation, 2, 1) }), Code::NOT_MEMBER);
    assert!(links.iter().all(|link| link.inbox.take().is_empty()), "nobody hears of what was refused");
    world.ask(&mut links[1], &commit(conversation, 2, 1)).unwrap();
}

#[test]
fn what_a_change_says_must_fit() {
    let Group { world, people, mut links, conversation } = group();
    let (alice, bob) = (people[0].id(), people[1].id());
    let many = vec![bob; limits::GROUP_DEVICES + 1];
    let role = |account, role| api::Member { account, role };
    let change = api::Change::default;
    let bad = Code::BAD_REQUEST;
    for (what, change, code) in [
        ("too many added", api::Change { added: many.clone(), ..change() }, Code::TOO_LARGE),
        ("too many removed", api::Change { removed: many.clone(), ..change() }, Code::TOO_LARGE),
        ("too many roles", api::Change { roles: vec![role(bob, api::Role::ADMIN); 1001], ..change() }, Code::TOO_LARGE),
        ("oneself removed", api::Change { removed: vec![alice], ..change() }, bad),
        ("somebody twice", api::Change { added: vec![people[3].id(); 2], ..change() }, bad),
        ("added and removed", api::Change { added: vec![bob], removed: vec![bob], ..change() }, bad),
        ("two roles", api::Change { roles: vec![role(bob, api::Role::ADMIN), role(bob, api::Role::MEMBER)], ..change() }, bad),
        ("an unknown role", api::Change { roles: vec![role(bob, api::Role(9))], ..change() }, bad),
        ("a member added", api::Change { added: vec![bob], ..change() }, Code::ALREADY_EXISTS),
        ("no admin left", api::Change { roles: vec![role(alice, api::Role::MEMBER)], ..change() }, Code::FORBIDDEN),
        ("a user's name", api::Change { name: Some(name("dave")), ..change() }, Code::NAME_TAKEN),
    ] {
        assert_eq!(world.refused(&mut links[0], &changing(conversation, 2, 1, change)), code, "{what}");
    }
    let external = api::Commit { external: true, ..changing(conversation, 2, 1, change()) };
    assert_eq!(world.refused(&mut links[0], &external), bad);
}

#[test]
fn users_and_groups_share_one_namespace() {
    let Group { mut world, mut links, conversation, .. } = group();
    let taken = Person::new("team", 1);
    let mut link = world.link();
    assert_eq!(world.register(&mut link, &taken, None).unwrap_err().code(), Code::NAME_TAKEN);
    world.ask(&mut links[3], &api::GroupByName { name: name("team") }).unwrap();
    for nobody in ["crew", "alice"] {
        assert_eq!(world.refused(&mut links[3], &api::GroupByName { name: name(nobody) }), Code::CONVERSATION_NOT_FOUND);
    }
    assert_eq!(world.refused(&mut links[3], &api::AccountByName { name: name("team") }), Code::USER_NOT_FOUND);
    let renamed = api::Change { name: Some(name("crew")), ..api::Change::default() };
    world.ask(&mut links[0], &changing(conversation, 2, 1, renamed)).unwrap();
    world.register(&mut link, &taken, None).unwrap();
}

#[test]
fn who_leaves_says_so_to_everybody_and_the_admin_has_a_successor() {
    let Group { world, people, mut links, conversation } = group();
    let leave =
        |who: &Person, id, since| api::Leave { conversation, id: message_id(id), statement: who.leave(0, conversation, since) };
    let stored = world.ask(&mut links[0], &leave(&people[0], 2, 1)).unwrap();
    assert_eq!(world.ask(&mut links[0], &leave(&people[0], 2, 1)).unwrap(), stored, "asking again gives the same answer");
    let told: Vec<api::Entries> = links[1].inbox.all();
    let entry = &told[0].entries[0];
    assert_eq!((entry.kind, entry.payload.clone()), (EntryKind::LEAVE, leave(&people[0], 2, 1).statement));
    assert_eq!(world.refused(&mut links[0], &message(conversation, 3, 1)), Code::NOT_MEMBER);
    let mut admins = Vec::new();
    for n in [1, 2] {
        let add = api::Change { added: vec![people[3].id()], ..api::Change::default() };
        if world.ask(&mut links[n], &changing(conversation, 9, 1, add)).is_ok() {
            admins.push(n);
        }
    }
    let smallest = if people[1].id() < people[2].id() { 1 } else { 2 };
    assert!(admins.contains(&smallest), "of those who came together the one with the smallest id: {admins:?}");
    for n in [1, 2] {
        world.ask(&mut links[n], &leave(&people[n], 10 + u8::try_from(n).unwrap(), 1)).unwrap();
    }
    world.ask(&mut links[3], &leave(&people[3], 13, 2)).unwrap();
    assert_eq!(world.refused(&mut links[3], &api::GroupByName { name: name("team") }), Code::CONVERSATION_NOT_FOUND);
}

#[test]
fn who_asks_whether_somebody_has_left_gets_the_statement_and_no_others() {
    let Group { world, people, mut links, conversation } = group();
    for (n, id) in [(0, 2), (1, 3)] {
        let statement = people[n].leave(0, conversation, 1);
        world.ask(&mut links[n], &api::Leave { conversation, id: message_id(id), statement }).unwrap();
    }
    let ask = |accounts: &[&Person]| api::LeavesGet { conversation, accounts: accounts.iter().map(|who| who.id()).collect() };
    let said = world.ask(&mut links[2], &ask(&[&people[1], &people[3], &people[2]])).unwrap();
    assert_eq!(said.statements, [people[1].leave(0, conversation, 1).into()]);
    assert_eq!(world.ask(&mut links[2], &ask(&[&people[3]])).unwrap().statements, []);
    assert_eq!(world.ask(&mut links[2], &ask(&[&people[1], &people[0]])).unwrap().statements.len(), 2);
    assert_eq!(world.refused(&mut links[0], &ask(&[&people[1]])), Code::NOT_MEMBER);
    let many = api::LeavesGet { conversation, accounts: vec![people[0].id(); limits::LEAVE_STATEMENTS + 1] };
    assert_eq!(world.refused(&mut links[2], &many), Code::TOO_LARGE);
}

#[test]
fn a_leave_statement_is_worth_nothing_elsewhere() {
    let Group { world, people, mut links, conversation } = group();
    let call = |statement| api::Leave { conversation, id: message_id(2), statement };
    let other = ConversationId::group([6; 32]);
    assert_eq!(world.refused(&mut links[1], &call(people[1].leave(0, other, 1))), Code::FORBIDDEN, "another conversation");
    assert_eq!(world.refused(&mut links[1], &call(people[0].leave(0, conversation, 1))), Code::BAD_REQUEST, "another device");
    assert_eq!(world.refused(&mut links[1], &call(people[1].leave(0, conversation, 2))), Code::STALE_EPOCH, "another time");
    assert_eq!(world.refused(&mut links[3], &call(people[3].leave(0, conversation, 1))), Code::NOT_MEMBER, "a stranger");
    assert_eq!(world.refused(&mut links[1], &call(vec![1; limits::LEAVE_STATEMENT + 1])), Code::TOO_LARGE);
    assert_eq!(world.refused(&mut links[1], &call(vec![1; 9])), Code::BAD_REQUEST);
    world.ask(&mut links[1], &call(people[1].leave(0, conversation, 1))).unwrap();
}

#[test]
fn the_own_conversation_is_of_one_account() {
    let Group { world, people, mut links, .. } = group();
    let (alice, bob) = (people[0].id(), people[1].id());
    let make = |conversation, members| api::Commit {
        create: Some(api::Create { kind: api::ConversationKind::OWN, members, name: None }),
        ..commit(conversation, 7, 0)
    };
    let own = ConversationId::own(&alice);
    for call in [make(own, vec![alice, bob]), make(ConversationId::own(&bob), vec![alice]), make(own, vec![bob])] {
        assert_eq!(world.refused(&mut links[0], &call), Code::BAD_REQUEST);
    }
    world.ask(&mut links[0], &make(own, vec![alice])).unwrap();
    let add = api::Change { added: vec![bob], ..api::Change::default() };
    assert_eq!(world.refused(&mut links[0], &changing(own, 8, 1, add)), Code::FORBIDDEN);
}

#[test]
fn a_signal_reaches_who_is_here_and_nobody_else() {
    let Group { mut world, mut links, conversation, .. } = group();
    let signal = api::Signal { conversation, payload: vec![7; 30] };
    world.act(&mut links[1], &signal);
    for (n, expected) in [(0, 1), (1, 0), (2, 1), (3, 0)] {
        let heard: Vec<api::Signal> = links[n].inbox.all();
        assert_eq!(heard, vec![signal.clone(); expected], "{n}");
    }
    world.act(&mut links[3], &signal);
    world.act(&mut links[1], &api::Signal { conversation, payload: vec![7; limits::SIGNAL + 1] });
    assert!(links.iter().all(|link| link.inbox.take().is_empty()), "strangers and large ones are not heard");
    links[0].inbox.set_room(Some(0));
    world.act(&mut links[1], &signal);
    links[0].inbox.set_room(None);
    assert_eq!((links[0].inbox.take().len(), links[2].inbox.take().len()), (0, 1), "what has no room is dropped");
    world.ask(&mut links[1], &message(conversation, 2, 1)).unwrap();
    assert_eq!(links[0].inbox.seqs(), [2], "and does not make it lag");
    for _ in 0..100 {
        world.act(&mut links[2], &signal);
    }
    assert_eq!(links[0].inbox.take().len(), 20, "throttled by device");
    world.now_ms += 250;
    world.act(&mut links[2], &signal);
    assert_eq!(links[0].inbox.take().len(), 1);
}
