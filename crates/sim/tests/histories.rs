//! Histories that are run with every test of the workspace, and proofs that the check finds what it is there to find.

use parlour_sim::{Counts, Plan, Sabotage, Verdict, run};

/// As many as take well under a minute on one core; thousands are run by the program of this crate.
const HISTORIES: u64 = 40;

/// The same with files, and with histories for newcomers.
const WIDE: u64 = 20;

/// Histories in which something was wrong once: an older copy that used a key again, a group that came back after its end, a copy
/// that did not know its own commit, a device that was invited and joined by itself as well, an invitation that was followed twice.
const FOUND: [u64; 17] = [355, 397, 1005, 3032, 3108, 4094, 4141, 4521, 5089, 5122, 5362, 6046, 7082, 7125, 8256, 8396, 50381];

/// The same of small histories: a message that was taken back under way when its group was founded anew, an admin by succession who could not
/// found one, and a reaction to a message that was taken back before it left.
const FOUND_SMALL: [u64; 7] = [38, 56, 95, 98, 111, 202, 80952];

/// Groups outgrow their suite in these.
const SMALL: u64 = 15;

fn sabotaged(sabotage: Sabotage, found: impl Fn(&Verdict) -> bool) {
    // A history may not give the occasion; one of a few does.
    let wide = sabotage == Sabotage::Misplace;
    let found = (1..=8).any(|seed| found(&run(&Plan { sabotage: Some(sabotage), wide, ..Plan::new(seed) }).verdict));
    assert!(found, "{sabotage:?} goes unnoticed");
}

/// Runs histories in which nothing may be wrong; how much happened.
fn run_clean(plans: impl Iterator<Item = Plan>) -> Counts {
    let mut counts = Counts::default();
    for plan in plans {
        let outcome = run(&plan);
        let wrong: Vec<_> = outcome.verdict.lines().collect();
        assert!(wrong.is_empty(), "{plan:?}: {wrong:#?}\n{}", outcome.trace.join("\n"));
        counts += outcome.counts;
    }
    counts
}

#[test]
fn in_random_histories_nothing_is_lost_doubled_or_unreadable() {
    let counts = run_clean((1..=HISTORIES).map(Plan::new));
    let all = [counts.messages, counts.crashes, counts.server_crashes, counts.cuts, counts.partitions, counts.rollbacks];
    assert!(all.iter().all(|count| *count > 10), "little happens: {counts:?}");
}

#[test]
fn in_wide_histories_files_arrive_too_and_newcomers_read_what_was_before() {
    let counts = run_clean((1..=WIDE).map(Plan::wide));
    assert!(counts.files > 10, "little happens: {counts:?}");
}

#[test]
fn in_small_histories_groups_are_founded_anew_and_nothing_is_lost() {
    let counts = run_clean((1..=SMALL).map(Plan::small));
    assert!(counts.foundings > 2, "little happens: {counts:?}");
}

#[test]
fn what_was_wrong_once_stays_mended() {
    run_clean(FOUND.map(Plan::new).into_iter().chain(FOUND_SMALL.map(Plan::small)));
}

#[test]
fn a_history_is_the_same_whenever_it_is_told() {
    let (first, second) = (run(&Plan::new(7)), run(&Plan::new(7)));
    assert_eq!(first.trace, second.trace);
    assert_eq!(first.counts, second.counts);
}

#[test]
fn a_message_that_the_server_does_not_keep_is_found_to_be_lost() {
    sabotaged(Sabotage::Swallow, |verdict| !verdict.lost.is_empty());
}

#[test]
fn a_message_that_is_sent_twice_is_found_to_be_doubled() {
    sabotaged(Sabotage::Repeat, |verdict| !verdict.doubled.is_empty());
}

#[test]
fn a_message_that_is_damaged_on_its_way_is_found_to_be_unreadable() {
    sabotaged(Sabotage::Garble, |verdict| !verdict.undecryptable.is_empty());
}

#[test]
fn a_file_that_the_server_has_no_more_is_found_to_be_lost() {
    sabotaged(Sabotage::Misplace, |verdict| verdict.lost.iter().any(|line| line.starts_with("the file of")));
}
