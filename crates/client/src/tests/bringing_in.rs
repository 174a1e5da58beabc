//! Who brings a new device into a conversation: it comes in by itself; if it cannot, another device of its account does it, and if none
//! of these is there, somebody else's.

use std::{cell::RefCell, ops::RangeInclusive, rc::Rc, time::Duration};

use parlour_wire::{
    ConversationId, DeviceId,
    api::{Call as _, Commit, GroupInfoGet},
};

use super::{
    groups::{change, create},
    harness::{World, bent::replies},
};

/// What a device has committed: where, and whom it has brought in.
type Commits = Rc<RefCell<Vec<(ConversationId, Vec<DeviceId>)>>>;

/// Notes what a device commits from here on.
fn commits(world: &mut World, node: usize) -> Commits {
    let commits = Commits::default();
    let notes = Rc::clone(&commits);
    let note = move |asked: &[u8], answer: Result<Vec<u8>, _>| {
        if answer.is_ok() {
            let commit: Commit = parlour_wire::decode(asked).unwrap();
            let added = commit.added.iter().map(|added| added.device).collect();
            notes.borrow_mut().push((commit.conversation, added));
        }
        answer
    };
    world.bend(node, replies(Commit::NAME, note));
    commits
}

/// Alice and bob, who have a group and have written to each other; a new device of bob's cannot come in by itself.
struct Scene {
    world: World,
    alice: usize,
    bob: usize,
    new: DeviceId,
    by_alice: Commits,
    by_bob: Commits,
    places: [ConversationId; 2],
}

fn scene(seed: u64, bob_is_there: bool) -> Scene {
    let mut world = World::new(seed);
    let people = [world.person("alice"), world.person("bob")];
    let [alice, bob] = people.map(|person| world.device(person));
    world.settle();
    world.send(alice, "bob", "hello");
    change(&mut world, alice, create("club", &["bob"])).unwrap();
    world.settle();
    let core = world.nodes[alice].core.as_ref().unwrap();
    let places = [core.place_for_test("bob").0, core.place_for_test("#club").0];
    if !bob_is_there {
        world.stop(bob);
    }
    let (by_alice, by_bob) = (commits(&mut world, alice), commits(&mut world, bob));
    let node = world.device(people[1]);
    let new = world.nodes[node].core.as_ref().unwrap().device_for_test();
    world.keep_back_answers::<GroupInfoGet>(node);
    Scene { world, alice, bob, new, by_alice, by_bob, places }
}

impl Scene {
    /// Lets time pass until a device has committed something in one of the conversations; how long that took.
    fn wait(&mut self, by: &Commits) -> Duration {
        let begun = self.world.unix_ms();
        while !by.borrow().iter().any(|(place, _)| self.places.contains(place)) {
            self.world.run();
            self.world.advance(Duration::from_millis(100));
            assert!(self.world.unix_ms() - begun < 60_000, "nobody does anything");
        }
        Duration::from_millis(self.world.unix_ms() - begun)
    }

    /// A device has brought the new one into both conversations, and did so between these times.
    fn is_brought_in(&mut self, by: &Commits, after: Duration, within: RangeInclusive<u64>) {
        let (from, to) = (Duration::from_secs(*within.start()), Duration::from_secs(*within.end()));
        // What passes between the news of a device and the news of its keys is not counted here.
        assert!(after >= from && after <= to + Duration::from_millis(200), "{after:?}");
        self.world.settle();
        for place in self.places {
            assert!(by.borrow().contains(&(place, vec![self.new])), "{:?}", by.borrow());
        }
    }
}

/// In one of the conversations of a scene a device has not committed anything.
fn did_nothing(scene: &Scene, by: &Commits) {
    assert!(by.borrow().iter().all(|(place, _)| !scene.places.contains(place)), "{:?}", by.borrow());
}

#[test]
fn a_device_that_cannot_come_in_by_itself_is_brought_in_by_another_of_its_account() {
    for seed in 0..8 {
        let mut scene = scene(seed, true);
        let by = Rc::clone(&scene.by_bob);
        let after = scene.wait(&by);
        scene.is_brought_in(&by, after, 2..=5);
        did_nothing(&scene, &scene.by_alice);
        let (alice, new) = (scene.alice, scene.new);
        assert!(scene.world.stands_in(alice, new) == 2 && scene.world.stands_in(scene.bob, new) >= 2);
    }
}

#[test]
fn if_no_other_device_of_its_account_is_there_somebody_else_brings_it_in() {
    for seed in 0..8 {
        let mut scene = scene(seed, false);
        let by = Rc::clone(&scene.by_alice);
        let after = scene.wait(&by);
        scene.is_brought_in(&by, after, 6..=12);
    }
}

#[test]
fn a_device_comes_in_by_itself_before_anybody_else_does_anything() {
    for seed in 0..8 {
        let mut scene = scene(seed, true);
        let node = scene.world.nodes.len() - 1;
        let by_new = commits(&mut scene.world, node);
        let after = scene.wait(&by_new);
        assert!(after < Duration::from_secs(2), "{after:?}");
        scene.world.settle();
        for by in [&scene.by_alice, &scene.by_bob] {
            did_nothing(&scene, by);
        }
        for place in scene.places {
            assert!(by_new.borrow().contains(&(place, Vec::new())), "{:?}", by_new.borrow());
        }
    }
}
