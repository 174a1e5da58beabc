//! Documents that must not drift from the code: the protocol's page and the table of features.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{source::Source, walk};

const PROTOCOL: &str = "docs/protocol.md";
const COVERAGE: &str = "docs/coverage.md";
const HASH_LINE: &str = "wire-hash:";
/// The sources whose types and codecs are the protocol.
const WIRE_FILES: [&str; 8] =
    ["announce.rs", "compress.rs", "content.rs", "files.rs", "frame.rs", "header.rs", "identity.rs", "log.rs"];
const STATES: [&str; 3] = ["works", "partly", "not yet"];

/// What the documents claim and the tree does not hold.
pub(crate) fn problems(root: &Path, sources: &[Source]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    match fs::read_to_string(root.join(PROTOCOL)) {
        Ok(text) => problems.extend(protocol(&text, &wire_hash(root)?)),
        Err(_) => problems.push(format!("{PROTOCOL} is missing")),
    }
    match fs::read_to_string(root.join(COVERAGE)) {
        Ok(text) => problems.extend(coverage(&text, sources)),
        Err(_) => problems.push(format!("{COVERAGE} is missing")),
    }
    Ok(problems)
}

/// Brings the hash in the protocol's page up to date. To be done after the page has been read against the change.
pub(crate) fn write_hash(root: &Path) -> Result<()> {
    let path = root.join(PROTOCOL);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {PROTOCOL}"))?;
    let line = format!("{HASH_LINE} {}", wire_hash(root)?);
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter().position(|line| line.starts_with(HASH_LINE)) {
        Some(at) => lines[at] = &line,
        None => lines.extend(["", &line]),
    }
    fs::write(&path, lines.join("\n") + "\n").with_context(|| format!("cannot write {PROTOCOL}"))
}

/// BLAKE3 over the names and texts of the wire's message sources.
fn wire_hash(root: &Path) -> Result<String> {
    let wire = root.join("crates/wire/src");
    let mut paths: Vec<PathBuf> = WIRE_FILES.iter().map(|name| wire.join(name)).collect();
    paths.push(wire.join("api.rs"));
    for entry in fs::read_dir(wire.join("api")).context("crates/wire/src/api")? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        hasher.update(walk::relative(root, &path).as_bytes()).update(&[0]);
        hasher.update(text.replace("\r\n", "\n").as_bytes()).update(&[0]);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn protocol(text: &str, hash: &str) -> Option<String> {
    let found = text.lines().find_map(|line| line.strip_prefix(HASH_LINE)).map(str::trim);
    match found {
        Some(found) if found == hash => None,
        Some(_) => Some(format!(
            "{PROTOCOL} describes other sources than crates/wire holds: read it against the change, then `cargo xtask tidy --write-hash`"
        )),
        None => Some(format!("{PROTOCOL} has no line `{HASH_LINE} …`; `cargo xtask tidy --write-hash` adds it")),
    }
}

/// Checks every table with the columns "test" and "state".
fn coverage(text: &str, sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut columns: Option<(usize, usize)> = None;
    let mut rows = 0;
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
        if !line.starts_with('|') {
            columns = None;
            continue;
        }
        let cells = cells(line);
        let Some((test, state)) = columns else {
            let column = |name: &str| cells.iter().position(|cell| cell.eq_ignore_ascii_case(name));
            columns = column("test").zip(column("state"));
            continue;
        };
        if cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| "-: ".contains(c))) {
            continue;
        }
        rows += 1;
        let (Some(test), Some(state)) = (cells.get(test), cells.get(state)) else {
            problems.push(format!("{COVERAGE}:{number}: the row has {} cells", cells.len()));
            continue;
        };
        problems.extend(row(test, state, sources).into_iter().map(|problem| format!("{COVERAGE}:{number}: {problem}")));
    }
    if rows == 0 {
        problems.push(format!("{COVERAGE} has no table with the columns \"test\" and \"state\""));
    }
    problems
}

/// The cells of a table row; a pipe after a backslash is text.
fn cells(line: &str) -> Vec<String> {
    let inner = line.trim_start_matches('|').trim_end_matches('|').replace("\\|", "\u{0}");
    inner.split('|').map(|cell| cell.replace('\u{0}', "|").trim().to_owned()).collect()
}

fn row(test: &str, state: &str, sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    if !STATES.contains(&state) {
        problems.push(format!("the state is one of {}, not \"{state}\"", STATES.join(", ")));
    }
    let named: Vec<&str> = test.split('`').skip(1).step_by(2).collect();
    if state == "works" && named.is_empty() {
        problems.push("works, but names no test".to_owned());
    }
    problems.extend(named.into_iter().filter(|name| !exists(name, sources)).map(|name| format!("there is no test `{name}`")));
    problems
}

/// Whether a test named `crate::path::test_name` or `…/tests/file.rs::name` is in the tree.
fn exists(reference: &str, sources: &[Source]) -> bool {
    let Some((place, name)) = reference.rsplit_once("::") else { return false };
    let found = |source: &&Source| {
        if place.ends_with(".rs") {
            return source.path == place || source.path.ends_with(&format!("/{place}"));
        }
        let krate = place.split("::").next().unwrap_or(place).trim_start_matches("parlour_").trim_start_matches("parlour-");
        source.path.starts_with(&format!("crates/{krate}/")) || source.path.starts_with(&format!("{krate}/"))
    };
    sources.iter().filter(found).any(|source| source.has_test(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Vec<Source> {
        let text = "//! Names.\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn it_holds() {}\n    fn helper() {}\n}\n";
        ["crates/wire/src/name.rs", "crates/app/tests/cli.rs"].map(|path| Source::new(path.to_owned(), text.to_owned())).into()
    }

    fn table(test: &str, state: &str) -> Vec<String> {
        coverage(
            &format!("# T\n\n| # | feature | test | state |\n|---|---|---|---|\n| A1 | x \\| y | {test} | {state} |\n"),
            &tree(),
        )
    }

    #[test]
    fn rows_that_are_true_pass() {
        for test in [
            "`wire::name::tests::it_holds`",
            "`tests/cli.rs::it_holds`",
            "`app/tests/cli.rs::it_holds`, `parlour_wire::it_holds`",
        ] {
            assert_eq!(table(test, "works"), Vec::<String>::new(), "{test}");
        }
        assert_eq!(table("", "not yet"), Vec::<String>::new());
    }

    #[test]
    fn rows_that_claim_too_much_are_refused() {
        for (test, state) in [
            ("", "works"),
            ("`wire::gone`", "partly"),
            ("`wire::helper`", "works"),
            ("`e2ee::it_holds`", "works"),
            ("`it_holds`", "works"),
            ("`tests/other.rs::it_holds`", "works"),
            ("`wire::it_holds`", "mostly"),
        ] {
            assert_eq!(table(test, state).len(), 1, "{test} {state}");
        }
        assert_eq!(coverage("no table", &tree()).len(), 1);
    }

    #[test]
    fn the_protocol_page_is_tied_to_the_sources() {
        assert_eq!(protocol("# P\n\nwire-hash: abc\n", "abc"), None);
        assert!(protocol("# P\n\nwire-hash: abc\n", "abd").is_some());
        assert!(protocol("# P\n", "abc").is_some());
    }
}
