//! A network that breaks its word: frames change places, and come twice. No carrier does that; a machine that counts notices.

use parlour_proto::link::{LinkConfig, LinkError, Violation};
use proptest::prelude::*;

use super::{Op, World, batch, cases, op, side};
use crate::pair::Side;

#[derive(Clone, Debug)]
enum Step {
    Usual(Op),
    Swap(Side, usize),
    Double(Side, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => op().prop_map(Step::Usual),
        1 => (side(), any::<usize>()).prop_map(|(to, at)| Step::Swap(to, at)),
        1 => (side(), any::<usize>()).prop_map(|(to, at)| Step::Double(to, at)),
    ]
}

/// Something out of order has one of these names: a gap between numbers, or what has no place where a connection is opened.
fn is_of_order(error: &LinkError) -> bool {
    matches!(error, LinkError::Violation(Violation::Gap { .. } | Violation::OutOfState(_) | Violation::Numbering(_)))
}

/// What holds however the network behaves. The reference is the list of what was said, and the set of what was asked.
fn check(world: &World) {
    for side in Side::BOTH {
        let (app, peer) = (&world.apps[side as usize], &world.apps[side.other() as usize]);
        assert!(app.acted.starts_with(&peer.received), "{:?} of {:?}", peer.received, app.acted);
        assert!(peer.seen.values().all(|count| *count == 1), "a request takes effect once: {:?}", peer.seen);
        for (tag, got) in &app.asked {
            assert!(got.len() <= 1, "request {tag} of the {side:?}: {got:?}");
            if let Some(Ok(content)) = got.first() {
                let asked = u32::try_from(*tag).unwrap();
                assert_eq!(*content, crate::pair::number(asked.wrapping_mul(3)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(1000), ..ProptestConfig::default() })]

    #[test]
    fn frames_out_of_order_or_doubled_are_named_or_harmless_and_nothing_takes_effect_twice(
        steps in proptest::collection::vec(step(), 1..80),
        batch in batch(),
    ) {
        let mut world = World::new(LinkConfig::default(), batch);
        for step in &steps {
            match step {
                Step::Usual(op) => world.apply(op),
                Step::Swap(to, at) => world.pair.swap(*to, *at),
                Step::Double(to, at) => world.pair.double(*to, *at),
            }
            if !world.pair.errors.is_empty() {
                break;
            }
        }
        if world.pair.errors.is_empty() {
            world.settle();
        }
        check(&world);
        // Either nobody noticed anything, and everything has arrived; or the first thing that was noticed has its name.
        match world.pair.errors.first() {
            None => world.check(),
            Some((_, error)) => prop_assert!(is_of_order(error), "{error:?}"),
        }
    }
}
