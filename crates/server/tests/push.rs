//! Stories of pushes: who hears what, who lags, and who sees whom.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use parlour_wire::{AccountId, Code, ConversationId, api, name::Name};
use support::{Link, Person, World, commit, direct, message};

fn group(members: &[&Person], id: u8) -> api::Commit {
    let others = members.iter().skip(1);
    api::Commit {
        create: Some(api::Create {
            kind: api::ConversationKind::GROUP,
            members: members.iter().map(|person| person.id()).collect(),
            name: Some(Name::parse(&format!("group{id}")).unwrap()),
        }),
        added: others.map(|person| api::Added { account: person.id(), device: person.device(0) }).collect(),
        welcome: (members.len() > 1).then(|| vec![id; 10]),
        ..commit(ConversationId::group([id; 32]), id, 0)
    }
}

#[test]
fn an_entry_reaches_every_device_in_the_conversation_but_its_sender() {
    let mut world = World::new();
    let (alice, mut alices) = world.person("alice", 2);
    let (bob, bobs) = world.person("bob", 1);
    let (carol, carols) = world.person("carol", 1);
    let (_, daves) = world.person("dave", 1);
    let call = group(&[&alice, &bob, &carol], 1);
    let conversation = call.conversation;
    world.ask(&mut alices[0], &call).unwrap();
    for link in [&bobs[0], &carols[0]] {
        let welcome = &link.inbox.all::<api::Welcome>()[0];
        assert_eq!((welcome.conversation, welcome.seq, welcome.members.len()), (conversation, 1, 3));
    }
    let bob_again = world.online(&bob, 0);
    world.ask(&mut alices[0], &message(conversation, 2, 1)).unwrap();
    for link in [&bobs[0], &carols[0], &bob_again] {
        assert_eq!(link.inbox.seqs(), [2]);
    }
    for link in [&alices[0], &alices[1], &daves[0]] {
        assert_eq!(link.inbox.seqs(), [], "neither the sender, nor a phone that is not in, nor a stranger");
    }
    let counters = world.service.counters();
    assert_eq!((counters.pushes, counters.dropped_pushes, counters.devices), (5, 0, 5));
}

#[test]
fn a_device_that_comes_online_hears_of_what_comes_after() {
    let mut world = World::new();
    let (alice, mut alices) = world.person("alice", 1);
    let (bob, mut bobs) = world.person("bob", 1);
    world.ask(&mut alices[0], &direct(&alice, &bob, 1)).unwrap();
    let conversation = ConversationId::direct(&alice.id(), &bob.id());
    world.close(&mut bobs[0]);
    world.ask(&mut alices[0], &message(conversation, 2, 1)).unwrap();
    let mut back = world.online(&bob, 0);
    assert_eq!(back.inbox.seqs(), [], "what is in the log is read, not pushed");
    world.ask(&mut alices[0], &message(conversation, 3, 1)).unwrap();
    assert_eq!(back.inbox.seqs(), [3]);
    let read = world.ask(&mut back, &api::Read { conversation, after: 1, limit: 100 }).unwrap();
    assert_eq!(read.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_slow_device_is_told_once_that_it_lags() {
    let mut world = World::new();
    let (alice, mut alices) = world.person("alice", 1);
    let (bob, mut bobs) = world.person("bob", 1);
    world.ask(&mut alices[0], &direct(&alice, &bob, 1)).unwrap();
    let conversation = ConversationId::direct(&alice.id(), &bob.id());
    bobs[0].inbox.take();
    bobs[0].inbox.set_room(Some(2));
    for id in 2..9 {
        world.ask(&mut alices[0], &message(conversation, id, 1)).unwrap();
    }
    assert_eq!(bobs[0].inbox.seqs(), [2, 3], "the rest found no room");
    assert_eq!(world.service.counters().dropped_pushes, 5);
    world.ask(&mut alices[0], &message(conversation, 9, 1)).unwrap();
    assert_eq!(bobs[0].inbox.names(), ["lagging", "entries"], "then it goes on");
    bobs[0].inbox.take();

    bobs[0].inbox.set_room(Some(0));
    world.ask(&mut alices[0], &message(conversation, 10, 1)).unwrap();
    bobs[0].inbox.set_room(None);
    for _ in 0..2 {
        world.act(&mut bobs[0], &api::Cursors { cursors: vec![] });
    }
    assert_eq!(bobs[0].inbox.names(), ["lagging"], "anything that it says shows that it is there");
    bobs[0].inbox.take();

    bobs[0].inbox.set_room(Some(0));
    world.ask(&mut alices[0], &message(conversation, 11, 1)).unwrap();
    world.service.drained(bobs[0].session.as_ref().unwrap());
    bobs[0].inbox.set_room(None);
    world.service.drained(bobs[0].session.as_ref().unwrap());
    world.connection(&mut bobs[0], true);
    assert_eq!(bobs[0].inbox.names(), ["lagging"]);
}

fn online(presence: &[api::Presence]) -> Vec<(AccountId, bool)> {
    presence.iter().map(|presence| (presence.account, presence.online)).collect()
}

fn watch(world: &World, link: &mut Link, people: &[&Person]) -> Vec<api::Presence> {
    let accounts = people.iter().map(|person| person.id()).collect();
    world.ask(link, &api::PresenceWatch { accounts }).unwrap().presence
}

#[test]
fn presence_is_seen_by_those_who_share_a_conversation() {
    let mut world = World::new();
    let (alice, mut alices) = world.person("alice", 1);
    let (bob, mut bobs) = world.person("bob", 1);
    let (carol, mut carols) = world.person("carol", 1);
    assert_eq!(watch(&world, &mut alices[0], &[&bob, &carol]), []);
    world.ask(&mut alices[0], &direct(&alice, &bob, 1)).unwrap();
    assert_eq!(online(&watch(&world, &mut alices[0], &[&bob, &carol, &bob])), [(bob.id(), true)]);
    assert_eq!(watch(&world, &mut carols[0], &[&alice, &bob]), []);

    world.now_ms += 1000;
    let left_ms = world.now_ms;
    world.close(&mut bobs[0]);
    world.close(&mut carols[0]);
    let told: Vec<api::Presence> = alices[0].inbox.all();
    assert_eq!(told, [api::Presence { account: bob.id(), online: false, seen_ms: left_ms }]);
    world.now_ms += 1000;
    let again = watch(&world, &mut alices[0], &[&bob, &alice]);
    let offline = api::Presence { account: bob.id(), online: false, seen_ms: left_ms };
    let me = api::Presence { account: alice.id(), online: true, seen_ms: world.now_ms };
    assert!(again.len() == 2 && again.contains(&offline) && again.contains(&me), "{again:?}");
    let _back = world.online(&bob, 0);
    assert_eq!(online(&alices[0].inbox.all()), [(bob.id(), true)]);
    watch(&world, &mut alices[0], &[]);
    let _second = world.online(&bob, 0);
    assert_eq!(alices[0].inbox.names().len(), 0, "a second session changes nothing, and nobody watches");
}

#[test]
fn presence_follows_the_carrier() {
    let mut world = World::new();
    let (alice, mut alices) = world.person("alice", 1);
    let (bob, mut bobs) = world.person("bob", 1);
    world.ask(&mut alices[0], &direct(&alice, &bob, 1)).unwrap();
    watch(&world, &mut alices[0], &[&bob]);
    let mut second = world.online(&bob, 0);
    world.connection(&mut bobs[0], false);
    assert_eq!(alices[0].inbox.names().len(), 0, "another session is there");
    world.connection(&mut second, false);
    world.connection(&mut bobs[0], true);
    assert_eq!(online(&alices[0].inbox.all()), [(bob.id(), false), (bob.id(), true)]);
    let conversation = ConversationId::direct(&alice.id(), &bob.id());
    bobs[0].inbox.take();
    world.connection(&mut bobs[0], false);
    world.ask(&mut alices[0], &message(conversation, 2, 1)).unwrap();
    assert_eq!(bobs[0].inbox.seqs(), [2], "a session without carrier still takes pushes");
}

#[test]
fn a_presence_request_is_bounded() {
    let mut world = World::new();
    let (alice, mut alices) = world.person("alice", 1);
    let accounts = vec![alice.id(); parlour_wire::limits::PRESENCE_ACCOUNTS + 1];
    assert_eq!(world.refused(&mut alices[0], &api::PresenceWatch { accounts }), Code::TOO_LARGE);
}

#[test]
fn a_changed_device_list_is_told_to_those_who_share_a_conversation() {
    let mut world = World::new();
    let (mut alice, mut alices) = world.person("alice", 2);
    let (bob, bobs) = world.person("bob", 2);
    let (_, carols) = world.person("carol", 1);
    world.ask(&mut alices[0], &direct(&alice, &bob, 1)).unwrap();
    bobs[0].inbox.take();
    let mut link = world.link();
    world.login(&mut link, &alice.name, &alice.password).unwrap();
    let phones = (0..3).map(|k| support::phone_key("alice", k)).collect();
    world.ask(&mut link, &api::DevicesUpdate { device_list: alice.next_list(phones) }).unwrap();
    for heard in [&alices[0], &alices[1], &bobs[0], &bobs[1]] {
        let told: Vec<api::DevicesChanged> = heard.inbox.all();
        assert_eq!(told, [api::DevicesChanged { account: alice.id(), version: 2 }]);
    }
    assert_eq!(carols[0].inbox.names().len(), 0);
}
