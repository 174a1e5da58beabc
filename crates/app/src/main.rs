//! The `parlour` program: one binary for the server, the command line and the demonstration.
//!
//! `main` parses, runs, prints what went wrong in one place and maps it to an exit status; everything else is in [`cli`].

mod bench;
mod cli;
mod demo;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
