//! What a program hears that shows a profile: each kind of event comes when what it tells has happened.

use super::{
    harness::World,
    recovery::{login, registered},
};
use crate::{
    api::State,
    core::Command,
    event::{Event, Events},
};

/// Whether a device has heard such an event since it was asked last.
fn hears(world: &mut World, node: usize, is: impl Fn(&Event) -> bool) -> bool {
    world.settle();
    std::mem::take(&mut world.nodes[node].events).iter().any(is)
}

#[test]
fn whoever_listens_hears_of_it() {
    let mut world = World::new(1);
    let (a, bob) = (registered(&mut world, "alice"), registered(&mut world, "bob"));
    assert!(hears(&mut world, a, |event| matches!(event, Event::SignedIn(who) if who.name == "alice")));
    world.send(a, "bob", "hello");
    assert!(hears(&mut world, bob, |event| matches!(event, Event::ContactsChanged)));

    let second = world.node();
    world.ask(second, login("alice", "correct horse")).unwrap();
    assert!(hears(&mut world, bob, |event| matches!(event, Event::DevicesChanged { .. })));

    world.cut(bob);
    let (left, came) = (hears(&mut world, a, |event| matches!(event, Event::Presence { .. })), &world.nodes[bob].events);
    assert!(left && came.iter().any(|event| matches!(event, Event::Offline { retry_in: Some(_), .. })));
    world.settle();
    let at = |is: fn(&Event) -> bool| world.nodes[bob].events.iter().position(is);
    let online = at(|event| matches!(event, Event::Online { resumed: false }));
    assert!(online.is_some() && online < at(|event| *event == Event::Synced), "what was missed is here after that");
    world.blink(bob);
    assert!(hears(&mut world, bob, |event| matches!(event, Event::Online { resumed: true })));

    world.ask(a, Command::SetDraft { to: "bob".to_owned(), text: "unsent".to_owned() }).unwrap();
    assert!(hears(&mut world, second, |event| matches!(event, Event::DraftChanged { .. })));
    world.ask(a, Command::RenameContact { to: "bob".to_owned(), petname: "Bobby".to_owned() }).unwrap();
    assert!(hears(&mut world, second, |event| matches!(event, Event::ContactsChanged)));

    let sent = world.send(bob, "alice", "news").id;
    for state in [State::Stored, State::Delivered] {
        let told = Event::MessageState { id: sent, state };
        world.settle();
        assert!(world.nodes[bob].events.contains(&told), "{state:?}");
    }
    assert!(hears(&mut world, second, |event| matches!(event, Event::Message(message) if message.id == sent)));
    world.ask(a, Command::MarkShown(vec![sent])).unwrap();
    assert!(hears(&mut world, second, |event| matches!(event, Event::ShownElsewhere { .. })));
}

/// Nothing waits for a listener, and the listener knows.
#[tokio::test]
async fn whoever_listens_too_slowly_is_told_how_much_is_gone() {
    let (sender, receiver) = tokio::sync::broadcast::channel(2);
    let mut events = Events::new(receiver);
    for _ in 0..5 {
        sender.send(Event::Synced).unwrap();
    }
    drop(sender);
    let heard = [events.next().await, events.next().await, events.next().await, events.next().await];
    assert_eq!(heard, [Some(Event::Missed(3)), Some(Event::Synced), Some(Event::Synced), None]);
}
