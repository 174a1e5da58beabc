//! Full-text search over what is here.

use parlour_wire::Code;

use super::harness::World;
use crate::core::Command;

fn world() -> (World, usize) {
    let mut world = World::new(13);
    let people: Vec<_> = ["alice", "bob", "carol"].iter().map(|name| world.person(name)).collect();
    let nodes: Vec<_> = people.into_iter().map(|person| world.device(person)).collect();
    world.settle();
    world.send(nodes[0], "bob", "Meet me at the Café, bring the *plan*");
    world.send(nodes[0], "carol", "the plan is off");
    world.send(nodes[1], "alice", "which planet?");
    world.settle();
    (world, nodes[0])
}

#[test]
fn words_are_found_whatever_their_case_and_accents_newest_first() {
    let (mut world, a) = world();
    assert_eq!(world.search(a, "CAFE", None), ["Meet me at the Café, bring the *plan*"]);
    assert_eq!(world.search(a, "the plan", None).len(), 2);
    assert_eq!(world.search(a, "plan ", None).len(), 2, "a space ends the word");
    assert_eq!(world.search(a, "plan", None)[0], "which planet?", "the last word may be a beginning");
    assert_eq!(world.search(a, "plan bring", None).len(), 1, "every word counts, in any order");
    assert!(world.search(a, "nothing of this", None).is_empty());
}

#[test]
fn a_search_stays_in_its_conversation() {
    let (mut world, a) = world();
    assert_eq!(world.search(a, "plan", Some("carol")), ["the plan is off"]);
    assert_eq!(world.search(a, "plan", Some("bob")).len(), 2);
    let unknown = Command::Search { text: "plan".to_owned(), within: Some("nobody".to_owned()), limit: 5 };
    assert_eq!(world.ask(a, unknown).unwrap_err().code, Code::USER_NOT_FOUND);
}

#[test]
fn nothing_that_is_typed_is_syntax() {
    let (mut world, a) = world();
    let long = "x".repeat(100_000);
    for text in
        ["\"", "plan\" OR \"x", "NEAR(plan", "body:plan", "-plan", "^", "a*b*c", "(((", "\0", "' OR 1=1 --", "{body}", "", &long]
    {
        let found = world.search(a, text, None);
        assert!(found.len() <= 3, "{text:?}");
    }
    assert_eq!(world.search(a, "place : plan", None), Vec::<String>::new());
}

#[test]
fn what_was_never_searched_is_found_after_a_restart_and_what_was_taken_back_is_not() {
    let (mut world, a) = world();
    // More than come into the index at a time, so that some are in it before the first search and some are not.
    let sent: Vec<_> = (0..100).map(|n| world.send(a, "bob", &format!("number{n} counted"))).collect();
    world.change(a, Command::Edit { id: sent[0].id, text: "first".to_owned() });
    world.change(a, Command::Delete(sent[1].id));
    world.change(a, Command::Edit { id: sent[98].id, text: "last but one".to_owned() });
    world.change(a, Command::Delete(sent[99].id));
    world.crash(a);
    for gone in ["number0 ", "number1 ", "number98 ", "number99 "] {
        assert!(world.search(a, gone, None).is_empty(), "{gone}");
    }
    for there in ["number2 ", "number50 ", "number97 ", "first", "last but"] {
        assert_eq!(world.search(a, there, None).len(), 1, "{there}");
    }
}

#[test]
fn the_index_follows_edits_and_deletes() {
    let (mut world, a) = world();
    let message = world.send(a, "bob", "the first word");
    world.change(a, Command::Edit { id: message.id, text: "the second one".to_owned() });
    assert!(world.search(a, "first", None).is_empty());
    assert_eq!(world.search(a, "second", None), ["the second one"]);
    world.change(a, Command::Delete(message.id));
    assert!(world.search(a, "second", None).is_empty());
}
