//! Automation in Rust, so that it runs the same on every machine: `cargo xtask tidy`, `cargo xtask ci`.
//!
//! - [`tidy`]: the invariants of the design that the compiler does not check.
//! - [`ci`]: everything that a change must pass.

mod ci;
mod corpus;
mod docs;
mod graph;
mod licence;
mod source;
mod style;
mod tidy;
mod walk;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <command>

  tidy [--write-hash]   checks the invariants; --write-hash first brings docs/protocol.md up to date
  ci [--tests]          fmt, clippy, doc, tidy and cargo-deny; with --tests also every test";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let root = walk::workspace_root()?;
    match words.as_slice() {
        ["tidy"] => tidy::run(&root),
        ["tidy", "--write-hash"] => {
            docs::write_hash(&root)?;
            tidy::run(&root)
        }
        ["ci"] => ci::run(&root, false),
        ["ci", "--tests"] => ci::run(&root, true),
        _ => bail!("{USAGE}"),
    }
}
