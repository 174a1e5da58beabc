//! Everything that a change must pass. One profile for all of it, so that the steps share what they build.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::tidy;

const CLIPPY: [&str; 7] = ["clippy", "--workspace", "--all-targets", "--release", "--locked", "--", "-Dwarnings"];
/// The link without its second carrier, for programs that want a small tree.
const SMALL: [&str; 9] =
    ["clippy", "-p", "parlour-net", "--no-default-features", "--all-targets", "--release", "--locked", "--", "-Dwarnings"];
const DOC: [&str; 6] = ["doc", "--workspace", "--no-deps", "--document-private-items", "--release", "--locked"];
/// The fuzz targets are no part of the workspace, and built on nightly only; their manifest is read at least.
const FUZZ: [&str; 5] = ["read-manifest", "--quiet", "--offline", "--manifest-path", "fuzz/Cargo.toml"];
const TEST: [&str; 4] = ["test", "--workspace", "--release", "--locked"];
const DENY: [&str; 6] = ["deny", "--offline", "check", "licenses", "bans", "sources"];

/// Runs the steps in the order of how fast they fail.
pub(crate) fn run(root: &Path, tests: bool) -> Result<()> {
    cargo(root, &["fmt", "--all", "--check"], &[])?;
    tidy::run(root)?;
    cargo(root, &FUZZ, &[])?;
    cargo(root, &CLIPPY, &[])?;
    cargo(root, &SMALL, &[])?;
    cargo(root, &DOC, &[("RUSTDOCFLAGS", "-Dwarnings")])?;
    if root.join("deny.toml").exists() && installed("deny") {
        cargo(root, &DENY, &[])?;
    } else {
        eprintln!("ci: cargo-deny is not installed or has no deny.toml; tidy has checked licences, sources and bans");
    }
    if tests {
        cargo(root, &TEST, &[])?;
    }
    eprintln!("ci: passed");
    Ok(())
}

fn cargo(root: &Path, args: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let line = format!("cargo {}", args.join(" "));
    eprintln!("ci: {line}");
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root).args(args).envs(environment.iter().copied());
    if args.contains(&"read-manifest") {
        command.stdout(Stdio::null());
    }
    let status = command.status().with_context(|| line.clone())?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

fn installed(subcommand: &str) -> bool {
    let mut command = Command::new(format!("cargo-{subcommand}"));
    command.args([subcommand, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
