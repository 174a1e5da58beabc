//! The whole of Parlour in one process under one seed: real client cores with their encrypted databases, the server's decisions
//! over the store in memory, and between them a network of ours in a time of ours. A history is what people do and what goes
//! wrong meanwhile; at its end everything is mended, and what is on the devices is held against what was promised.
//!
//! - [`run`]: one history; [`Outcome`]: what came of it.
//! - `world` lets things happen, one at a time, in the order of virtual time. `home` is the server, `node` a device, `link` what
//!   is between them, `people` who owns them.
//! - `acts` is what people do, `files` what becomes of the files among it, `faults` what goes wrong, `ledger` what was promised, `check`
//!   the end.
//!
//! A seed decides everything but the randomness inside of ciphertexts, on which nothing else depends.

mod acts;
mod check;
mod compare;
mod faults;
mod files;
mod home;
mod ledger;
mod link;
mod node;
mod people;
mod reuse;
mod world;

use std::time::Duration;

use self::world::World;
pub use self::{faults::Sabotage, ledger::Verdict, world::Counts};

/// How a history is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// What people do, at most; fewer show the beginning of the same history.
    pub acts: usize,
    /// Tells everything on standard error while it happens.
    pub loud: bool,
    /// Something that must be found.
    pub sabotage: Option<Sabotage>,
    /// People also send files, and give newcomers what was written before.
    pub wide: bool,
    /// Groups of a few devices outgrow their suite, and are founded anew.
    pub small: bool,
}

impl Plan {
    /// The usual history of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, acts: ACTS, loud: false, sabotage: None, wide: false, small: false }
    }

    /// The wide history of a seed, which is another one than the usual.
    #[must_use]
    pub const fn wide(seed: u64) -> Self {
        Self { wide: true, ..Self::new(seed) }
    }

    /// The history of a seed in which groups outgrow their suite, which is another one again.
    #[must_use]
    pub const fn small(seed: u64) -> Self {
        Self { small: true, ..Self::new(seed) }
    }
}

/// What people do in a usual history.
pub const ACTS: usize = 60;
/// Virtual time between the last fault and the check: longer than any timer that mends something.
const REST: Duration = Duration::from_secs(15 * 60);

/// What came of a history.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened.
    pub counts: Counts,
    /// What is wrong at the end.
    pub verdict: Verdict,
    /// What people did and what went wrong, in order.
    pub trace: Vec<String>,
}

/// Lets a history happen, mends everything, and checks.
#[must_use]
pub fn run(plan: &Plan) -> Outcome {
    let mut world = World::new(plan);
    world.settle_in();
    for act in 0..plan.acts {
        if act == plan.acts / 2 {
            world.sabotage(plan.sabotage);
        }
        let pause = world.pause();
        world.run_for(pause);
        world.act();
        world.go_wrong();
    }
    world.mend();
    world.run_for(REST);
    let verdict = check::check(&mut world);
    world.counts.foundings = world.home.log(|log| log.foundings.len() as u64);
    Outcome { counts: world.counts, verdict, trace: world.trace }
}
