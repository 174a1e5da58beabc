//! Every fuzz target has a body, a corpus and a test that replays it: what a fuzzer has found once is tried in every test run.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{source::Source, walk};

const TARGETS: &str = "fuzz/fuzz_targets";
const BODIES: &str = "fuzz/bodies";
const CORPUS: &str = "fuzz/corpus";
const MANIFEST: &str = "fuzz/Cargo.toml";
/// Largest file of a corpus, in bytes: it is a seed, not an archive.
const FILE_SIZE: u64 = 16 * 1024;

/// What is missing between targets, bodies, corpora and tests.
pub(crate) fn problems(root: &Path, sources: &[Source]) -> Result<Vec<String>> {
    let manifest = fs::read_to_string(root.join(MANIFEST)).with_context(|| MANIFEST.to_owned())?;
    let mut problems = Vec::new();
    let mut corpora = BTreeSet::new();
    for folder in entries(&root.join(CORPUS))? {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        problems.extend(files(root, &folder)?);
        corpora.insert(name);
    }
    problems.extend(missing(sources, &manifest, &corpora));
    Ok(problems)
}

/// What is wrong with the files of one corpus.
fn files(root: &Path, folder: &Path) -> Result<Vec<String>> {
    let files = entries(folder)?;
    let mut problems = Vec::new();
    if files.is_empty() {
        problems.push(format!("{}: no file in it; the golden vectors make good seeds", walk::relative(root, folder)));
    }
    for file in files {
        let size = file.metadata().with_context(|| file.display().to_string())?.len();
        if size > FILE_SIZE {
            problems.push(format!("{}: {size} bytes, {FILE_SIZE} allowed", walk::relative(root, &file)));
        }
    }
    Ok(problems)
}

fn missing(sources: &[Source], manifest: &str, corpora: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    let targets = names(sources, TARGETS);
    for target in &targets {
        let body = format!("{BODIES}/{target}.rs");
        let mut expect = |holds: bool, what: String| {
            if !holds {
                problems.push(format!("{TARGETS}/{target}.rs: {what}"));
            }
        };
        expect(manifest.contains(&format!("\"fuzz_targets/{target}.rs\"")), format!("is no [[bin]] of {MANIFEST}"));
        expect(sources.iter().any(|source| source.path == body), format!("has no body {body}"));
        expect(corpora.contains(target), format!("has no corpus {CORPUS}/{target}"));
        let replays = |source: &Source| {
            source.path.starts_with("crates/") && source.path.contains("/tests/") && source.text.contains(&format!("{body}\""))
        };
        expect(sources.iter().any(replays), format!("has no test that replays its corpus: none includes {body}"));
    }
    for orphan in names(sources, BODIES).difference(&targets) {
        problems.push(format!("{BODIES}/{orphan}.rs: is the body of no target"));
    }
    for orphan in corpora.difference(&targets) {
        problems.push(format!("{CORPUS}/{orphan}: is the corpus of no target"));
    }
    problems
}

/// The names of the sources that lie in a folder.
fn names(sources: &[Source], folder: &str) -> BTreeSet<String> {
    let below = sources.iter().filter_map(|source| source.path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(".rs"));
    below.map(str::to_owned).collect()
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = read.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST_TEXT: &str = "path = \"fuzz_targets/frames.rs\"";

    fn sources(paths: &[(&str, &str)]) -> Vec<Source> {
        paths.iter().map(|(path, text)| Source::new((*path).to_owned(), (*text).to_owned())).collect()
    }

    fn complete() -> Vec<(&'static str, &'static str)> {
        vec![
            ("fuzz/fuzz_targets/frames.rs", ""),
            ("fuzz/bodies/frames.rs", ""),
            ("crates/wire/tests/wire/fuzzed/mod.rs", "#[path = \"../../../../../fuzz/bodies/frames.rs\"]"),
        ]
    }

    #[test]
    fn a_target_with_all_that_belongs_to_it_passes() {
        assert_eq!(missing(&sources(&complete()), MANIFEST_TEXT, &["frames".to_owned()].into()), Vec::<String>::new());
    }

    #[test]
    fn whatever_is_missing_is_named() {
        let corpora = BTreeSet::from(["frames".to_owned()]);
        for left_out in 0..3 {
            let mut paths = complete();
            paths.remove(left_out);
            let problems = missing(&sources(&paths), MANIFEST_TEXT, &corpora);
            assert!(!problems.is_empty(), "{left_out}");
        }
        assert_eq!(missing(&sources(&complete()), "", &corpora).len(), 1);
        assert_eq!(missing(&sources(&complete()), MANIFEST_TEXT, &BTreeSet::new()).len(), 1);
        let two = BTreeSet::from(["frames".to_owned(), "old".to_owned()]);
        assert_eq!(missing(&sources(&complete()), MANIFEST_TEXT, &two), ["fuzz/corpus/old: is the corpus of no target"]);
    }
}
