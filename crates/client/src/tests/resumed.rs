//! Sessions whose carrier is lost with an answer or a push that is taken behind the loss: what could not be asked for then is asked for when
//! the carrier is back.

use std::{cell::RefCell, rc::Rc, time::Duration};

use parlour_wire::api::{self, Call as _, Notice as _};

use super::{
    groups::people,
    handover::{lost_device, status},
};
use crate::{
    api::MessageKind,
    core::{Command, Input},
};

#[test]
fn a_device_list_that_is_wanted_without_a_carrier_is_asked_for_when_it_is_back() {
    let (mut world, nodes) = people(1, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    world.send(a, "bob", "one");
    world.settle();
    let kept = world.keep_back(b);
    let second = world.device(0);
    world.settle();
    world.send(second, "bob", "from the second");
    world.settle();
    world.straight(b);
    let kept = kept.take();
    assert!(!kept.is_empty());
    let syncs = world.count::<api::Sync>(b);
    world.take_behind_the_loss(b, kept);
    world.settle();
    assert!(world.texts(b, "alice").contains(&"from the second".to_owned()), "{:?}", world.texts(b, "alice"));
    world.send(b, "alice", "heard");
    world.settle();
    assert!(world.texts(second, "bob").contains(&"heard".to_owned()));
    assert_eq!(syncs.get(), 0, "in the same session");
}

#[test]
fn a_keeper_whose_session_began_without_a_carrier_writes_the_backup() {
    let (mut world, _, a, b) = lost_device(17, 20);
    world.send(b, "alice", "later");
    world.settle();
    let kept = world.keep_back_answers::<api::Sync>(a);
    world.cut(a);
    world.run();
    world.straight(a);
    let kept = kept.take();
    assert_eq!(kept.len(), 1);
    world.take_behind_the_loss(a, kept);
    world.settle();
    world.advance(Duration::from_secs(16 * 60));
    world.settle();
    let saved = status(&mut world, a, Command::BackupStatus);
    assert_eq!((saved.version, saved.pending), (2, 0));
}

/// The push of a welcome waits for the list of who is in it; meanwhile the list comes in another way, and the same welcome again.
#[test]
fn a_welcome_that_comes_twice_while_it_waits_is_followed_once() {
    let (mut world, nodes) = people(31, &["alice", "bob"]);
    let [a, b] = nodes[..] else { panic!() };
    let (pushed, late) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(Vec::new())));
    let (sees, keeps) = (Rc::clone(&pushed), Rc::clone(&late));
    world.bend(
        b,
        Box::new(move |asked, input| match (asked, input) {
            (None, Input::Push { name, content }) if name == api::Welcome::NAME => {
                sees.borrow_mut().push(content.clone());
                vec![Input::Push { name, content }]
            }
            (Some(asked), input) if asked.name == api::AccountById::NAME => {
                keeps.borrow_mut().push(input);
                Vec::new()
            }
            (_, input) => vec![input],
        }),
    );
    world.send(a, "bob", "one");
    world.settle();
    assert_eq!((pushed.borrow().len(), late.borrow().len()), (1, 1));
    world.command(b, Command::Send { to: "alice".to_owned(), text: "two".to_owned(), reply_to: None });
    world.settle();
    let content = pushed.borrow()[0].clone();
    world.input(b, Input::Push { name: api::Welcome::NAME.to_owned(), content });
    world.settle();
    world.straight(b);
    for input in late.take() {
        world.input(b, input);
    }
    world.settle();
    let said: Vec<_> = world.history(b, "alice").into_iter().map(|it| (it.kind, it.text)).collect();
    // Here the second was written before the first had come.
    assert_eq!(said, ["two", "one"].map(|text| (MessageKind::Text, text.to_owned())));
}
