//! Replays the corpus of a fuzz target in an ordinary test, which includes this file and the target's body.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The corpus of a target, in order of the names.
pub(crate) fn files(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

/// Runs a body on every file of its corpus; a panic names the file.
pub(crate) fn replay(target: &str, body: fn(&[u8])) {
    for file in files(target) {
        let bytes = fs::read(&file).expect("readable");
        if let Err(panic) = std::panic::catch_unwind(|| body(&bytes)) {
            eprintln!("the corpus file that did it: {}", file.display());
            std::panic::resume_unwind(panic);
        }
    }
}
