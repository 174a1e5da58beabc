//! The bytes of every message are pinned in `tests/vectors`, one file each. `UPDATE_VECTORS=1` writes them anew: then walk
//! the version matrix (old reader and new data, new reader and old data) before committing.

use std::{collections::BTreeSet, path::PathBuf};

use crate::samples;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

#[test]
fn the_bytes_of_every_message_are_as_pinned() {
    let update = std::env::var_os("UPDATE_VECTORS").is_some();
    for (name, bytes, reads) in samples::all() {
        assert!(reads(&bytes), "{name} cannot be read back");
        let path = folder().join(format!("{name}.hex"));
        let hex = hex::encode(&bytes) + "\n";
        if update {
            std::fs::write(&path, hex).expect("the folder is there");
        } else {
            let pinned = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(hex, pinned, "{name} differs from {}", path.display());
        }
    }
}

#[test]
fn no_vector_is_left_over() {
    let known: BTreeSet<String> = samples::all().iter().map(|(name, ..)| format!("{name}.hex")).collect();
    for file in std::fs::read_dir(folder()).expect("the folder is there") {
        let name = file.expect("readable").file_name().into_string().expect("UTF-8");
        assert!(known.contains(&name), "{name} belongs to no message");
    }
}
