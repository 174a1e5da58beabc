//! Histories for a new device while there is still something to read for the one that gives them, or to join for the one that asks.

use std::{cell::RefCell, rc::Rc};

use parlour_wire::{
    ConversationId,
    api::{GroupInfoGet, Notice as _, Read, Welcome},
};

use super::harness::{World, bent::Asked};
use crate::core::Input;

/// What a device is not told for the time being.
type Kept = Rc<RefCell<Vec<Input>>>;

fn withhold(world: &mut World, node: usize, such: impl Fn(Option<&Asked>, &Input) -> bool + 'static) -> Kept {
    let kept = Kept::default();
    let keep = Rc::clone(&kept);
    world.bend(
        node,
        Box::new(move |asked, input| {
            if such(asked.as_ref(), &input) {
                keep.borrow_mut().push(input);
                return Vec::new();
            }
            vec![input]
        }),
    );
    kept
}

fn release(world: &mut World, node: usize, kept: &Kept) {
    world.bend(node, Box::new(|_, input| vec![input]));
    for input in kept.take() {
        world.input(node, input);
    }
    world.settle();
}

/// Alice and bob have written to each other; the ids of their devices and of the conversation.
fn talk(seed: u64) -> (World, usize, [usize; 2], ConversationId) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.person("alice"), world.person("bob"));
    let (a, b) = (world.device(alice), world.device(bob));
    world.settle();
    world.send(a, "bob", "early");
    world.settle();
    let talk = world.nodes[a].core.as_ref().unwrap().place_for_test("bob").0;
    (world, alice, [a, b], talk)
}

/// Of what people wrote.
fn written(world: &mut World, node: usize) -> Vec<String> {
    let mut texts = world.texts(node, "bob");
    texts.retain(|text| ["early", "missed", "between"].iter().any(|word| text.starts_with(word)));
    texts
}

/// Whether this is about how a device comes into a conversation.
fn lets_in(talk: ConversationId) -> impl Fn(Option<&Asked>, &Input) -> bool {
    move |asked, input| match (asked, input) {
        (Some(asked), _) if asked.is::<GroupInfoGet>() => {
            parlour_wire::decode::<GroupInfoGet>(&asked.content).unwrap().conversation == talk
        }
        (None, Input::Push { name, content }) if name == Welcome::NAME => {
            parlour_wire::decode::<Welcome>(content).unwrap().conversation == talk
        }
        _ => false,
    }
}

#[test]
fn a_device_that_comes_back_reads_what_it_has_missed_before_it_gives_a_history() {
    let (mut world, alice, [a, b], talk) = talk(1);
    world.offline(a);
    for n in 0..3 {
        world.send(b, "alice", &format!("missed {n}"));
        world.settle();
    }
    let new = world.sibling(alice);
    world.settle();
    let kept = withhold(&mut world, a, move |asked, _| {
        asked
            .is_some_and(|asked| asked.is::<Read>() && parlour_wire::decode::<Read>(&asked.content).unwrap().conversation == talk)
    });
    world.back(a);
    world.settle();
    assert_eq!(kept.borrow().len(), 1);
    release(&mut world, a, &kept);
    assert_eq!(written(&mut world, new), ["early", "missed 0", "missed 1", "missed 2"]);
}

#[test]
fn a_new_device_is_given_what_was_written_before_it_came_into_a_conversation() {
    let (mut world, alice, [_, b], talk) = talk(2);
    let new = world.sibling(alice);
    let kept = withhold(&mut world, new, lets_in(talk));
    // Long enough for a history, and too short for other devices to bring this one in.
    world.go_on(new, 2);
    assert!(!kept.borrow().is_empty());
    world.send(b, "alice", "between");
    world.go_on(new, 5);
    release(&mut world, new, &kept);
    assert_eq!(written(&mut world, new), ["early", "between"]);
}

#[test]
fn a_new_device_that_does_not_get_into_a_conversation_is_given_a_history_all_the_same() {
    let (mut world, alice, _, talk) = talk(3);
    let new = world.sibling(alice);
    let kept = withhold(&mut world, new, lets_in(talk));
    world.go_on(new, 15);
    assert!(world.nodes[new].core.as_ref().unwrap().wanted_for_test());
    world.go_on(new, 15);
    assert_eq!(written(&mut world, new), ["early"]);
    assert!(!world.nodes[new].core.as_ref().unwrap().wanted_for_test());
    release(&mut world, new, &kept);
    world.send(new, "bob", "here");
}
