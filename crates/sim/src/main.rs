//! Runs many histories and says what was lost, doubled or unreadable: `parlour-sim --histories 1000 --seed 1`.

#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use parlour_sim::{Counts, Outcome, Plan, run};

const USAGE: &str = "\
usage: parlour-sim [--histories N] [--seed N] [--acts N] [--seconds N] [--wide] [--small] [--loud]

  --histories N  how many, each with the next seed (100)
  --seed N       the first seed (1)
  --acts N       what people do in each (60); fewer are the beginning of the same history
  --seconds N    end after so long, whatever is left
  --wide         with files, and with histories for newcomers of groups; other histories than without
  --small        groups of more than four devices outgrow their suite; other histories again
  --loud         tell everything that happens, on standard error";

struct Options {
    histories: u64,
    seed: u64,
    acts: usize,
    seconds: Option<u64>,
    wide: bool,
    small: bool,
    loud: bool,
}

fn options(args: impl Iterator<Item = String>) -> Result<Options> {
    let mut options =
        Options { histories: 100, seed: 1, acts: parlour_sim::ACTS, seconds: None, wide: false, small: false, loud: false };
    let mut args = args;
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64> {
            let value = args.next().with_context(|| format!("{arg} wants a number"))?;
            value.parse().with_context(|| format!("{arg}: {value} is no number"))
        };
        match arg.as_str() {
            "--histories" => options.histories = number()?,
            "--seed" => options.seed = number()?,
            "--acts" => options.acts = usize::try_from(number()?)?,
            "--seconds" => options.seconds = Some(number()?),
            "--wide" => options.wide = true,
            "--small" => options.small = true,
            "--loud" => options.loud = true,
            _ => bail!("{USAGE}"),
        }
    }
    Ok(options)
}

/// What all histories came to.
#[derive(Default)]
struct Sum {
    histories: u64,
    counts: Counts,
    lost: usize,
    doubled: usize,
    undecryptable: usize,
    other: usize,
    failed: Vec<u64>,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.histories += 1;
        self.counts += outcome.counts;
        let verdict = &outcome.verdict;
        self.lost += verdict.lost.len();
        self.doubled += verdict.doubled.len();
        self.undecryptable += verdict.undecryptable.len();
        self.other += verdict.differing.len() + verdict.reused.len() + verdict.trouble.len();
        if !verdict.is_clean() {
            self.failed.push(seed);
        }
    }

    fn print(&self, took: Duration) {
        let counts = &self.counts;
        let rows = [
            ("histories", self.histories),
            ("steps", counts.steps),
            ("messages", counts.messages),
            ("files among them", counts.files),
            ("edits, reactions, deletes", counts.changes),
            ("changes of groups", counts.group_changes),
            ("devices that came or went", counts.devices),
            ("groups founded anew", counts.foundings),
            ("crashes of clients", counts.crashes),
            ("crashes of the server", counts.server_crashes),
            ("sessions lost", counts.cuts),
            ("partitions", counts.partitions),
            ("rollbacks", counts.rollbacks),
            ("lost", self.lost as u64),
            ("doubled", self.doubled as u64),
            ("undecryptable", self.undecryptable as u64),
            ("anything else that is wrong", self.other as u64),
        ];
        for (name, value) in rows {
            println!("{name:<28} {value:>12}");
        }
        println!("{:<28} {:>12.1}", "histories a second", self.histories as f64 / took.as_secs_f64().max(0.001));
    }
}

/// Fewer acts that go wrong too: the beginning of a history is a history.
fn shorten(plan: Plan, outcome: Outcome) -> (Plan, Outcome) {
    let mut best = (plan, outcome);
    let mut step = plan.acts / 2;
    while step > 0 {
        let shorter = Plan { acts: best.0.acts.saturating_sub(step), ..plan };
        let outcome = run(&shorter);
        if outcome.verdict.is_clean() {
            step /= 2
        } else {
            best = (shorter, outcome)
        }
        step = step.min(best.0.acts / 2);
    }
    best
}

fn explain(plan: Plan, outcome: Outcome) {
    let (plan, outcome) = shorten(plan, outcome);
    println!("seed {} fails, and still does with --acts {}:", plan.seed, plan.acts);
    let shown: BTreeSet<_> = outcome.verdict.lines().collect();
    outcome.trace.iter().for_each(|line| println!("  {line}"));
    shown.iter().take(20).for_each(|line| println!("  ! {line}"));
    let kind = [(plan.wide, " --wide"), (plan.small, " --small")];
    let kind: String = kind.iter().filter(|(is, _)| *is).map(|(_, option)| *option).collect();
    println!("  again: cargo run --release -p parlour-sim -- --seed {} --histories 1 --acts {}{kind}", plan.seed, plan.acts);
}

fn main() -> ExitCode {
    match options(std::env::args().skip(1)).map(|options| simulate(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "how long it took, for whoever waits; histories have a time of their own")]
fn simulate(options: &Options) -> bool {
    let began = std::time::Instant::now();
    let mut sum = Sum::default();
    for seed in options.seed..options.seed.saturating_add(options.histories) {
        if options.seconds.is_some_and(|seconds| began.elapsed() >= Duration::from_secs(seconds)) {
            break;
        }
        let plan = Plan { acts: options.acts, loud: options.loud, wide: options.wide, small: options.small, ..Plan::new(seed) };
        let outcome = run(&plan);
        sum.add(seed, &outcome);
        // The first one is told in full; the others by their seeds.
        if !outcome.verdict.is_clean() && sum.failed.len() == 1 && !options.loud {
            explain(plan, outcome);
        } else if options.loud {
            outcome.verdict.lines().for_each(|line| eprintln!("! {line}"));
        }
    }
    sum.print(began.elapsed());
    if !sum.failed.is_empty() {
        println!("seeds that fail: {:?}", sum.failed);
    }
    sum.failed.is_empty()
}
