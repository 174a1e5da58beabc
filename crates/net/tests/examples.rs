//! The examples run, end by themselves, and say what they are for.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../examples/fleet/telemetry.rs"]
mod telemetry;

use std::{path::PathBuf, process::Command, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use telemetry::{Orders, Told};

/// Cargo builds the examples with the tests of their package, next to the folder of the tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    assert!(
        path.exists(),
        "{} is not built: cargo test -p parlour-net builds it, with --test examples alone it does not",
        path.display()
    );
    path
}

/// Runs an example to its end; what it said.
fn transcript(name: &str) -> String {
    let output = Command::new(example(name)).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{name}: {}\n{out}\n{err}", output.status);
    out
}

#[test]
fn the_fleet_loses_and_doubles_nothing() {
    let said = transcript("fleet");
    for line in [
        "12 drones have taken configuration 2",
        "drone 7 is back in its session",
        "drone 7 was away when it was time, and has started",
        "started late",
        "nothing lost, nothing doubled",
    ] {
        assert!(said.contains(line), "{line}:\n{said}");
    }
}

#[test]
fn the_calculator_answers_refuses_and_notices_who_waits() {
    let said = transcript("rpc");
    for line in ["19.5 + 22.5 = 42", "2262 primes below 20000", "nobody waits for number 7 any more", "you are Ada"] {
        assert!(said.contains(line), "{line}:\n{said}");
    }
}

#[test]
fn a_file_is_copied_over_a_connection_that_is_cut() {
    let said = transcript("filecopy");
    assert!(said.contains("cut"), "{said}");
}

/// Telemetry under Tokio's own time, which passes when everybody waits: number, beat and moment in milliseconds of each. The orders
/// change and sending takes as long as `at` says for a number.
async fn told(first: Orders, at: impl Fn(u64, &watch::Sender<Orders>) -> u64) -> (Vec<(u64, u64, u128)>, Told) {
    let (orders, receiver) = watch::channel(first);
    let (start, mut sent) = (Instant::now(), Vec::new());
    let told = telemetry::report(receiver, |telemetry| {
        sent.push((telemetry.number, telemetry.beat, start.elapsed().as_millis()));
        let takes = Duration::from_millis(at(telemetry.number, &orders));
        async move {
            sleep(takes).await;
            true
        }
    });
    let told = told.await;
    (sent, told)
}

#[tokio::test(start_paused = true)]
async fn telemetry_of_the_fleet_goes_every_100_ms_without_drift_and_leaves_out_what_is_over() {
    let (sent, told) = told(Orders { hz: 10, landed: false }, |number, orders| match number {
        4 => 350,
        8 => {
            orders.send_modify(|orders| orders.landed = true);
            0
        }
        _ => 30,
    })
    .await;
    // The fifth is made up for, the sixth and the seventh are over, and those after them are where they would have been.
    let beats = [(1, 1, 0), (2, 2, 100), (3, 3, 200), (4, 4, 300), (5, 5, 650), (6, 8, 700), (7, 9, 800), (8, 10, 900)];
    assert_eq!((&sent[..], told), (&beats[..], Told { telemetry: 8, skipped: 2 }));
}

#[tokio::test(start_paused = true)]
async fn telemetry_of_the_fleet_takes_the_rate_that_it_is_told() {
    let (sent, told) = told(Orders { hz: 4, landed: false }, |number, orders| {
        match number {
            2 => orders.send_modify(|orders| orders.hz = 20),
            4 => orders.send_modify(|orders| orders.landed = true),
            _ => {}
        }
        0
    })
    .await;
    let beats = [(1, 1, 0), (2, 2, 250), (3, 3, 250), (4, 4, 300)];
    assert_eq!((&sent[..], told), (&beats[..], Told { telemetry: 4, skipped: 0 }));
}
