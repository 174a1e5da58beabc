//! The examples run, end by themselves, and say what they are for.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{path::PathBuf, process::Command};

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
    for line in ["12 drones have taken configuration 2", "drone 7 is back in its session", "nothing lost, nothing doubled"] {
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
