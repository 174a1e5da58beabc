//! Profiles on disk: keys, locks, secrets.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use parlour_wire::Code;
use zeroize::Zeroizing;

use super::harness::World;
use crate::{
    api::OpenOptions,
    core::Core,
    error::Error,
    key::{KeySource, Protection},
    profile::Profile,
};

fn open(home: &Path, key: KeySource, create: bool) -> Result<Core, Error> {
    Core::open(Profile::open(&OpenOptions { home: home.to_owned(), key, create })?, [0; 32])
}

fn passphrase(text: &str) -> KeySource {
    KeySource::Passphrase(Zeroizing::new(text.to_owned()))
}

#[test]
fn a_profile_opens_with_its_passphrase_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("deep/profile");
    assert_eq!(open(&home, KeySource::File, false).unwrap_err().code, Code::PROFILE_NOT_FOUND);
    assert_eq!(Protection::of(&home), Ok(None));
    drop(open(&home, passphrase("open sesame"), true).unwrap());
    assert_eq!(Protection::of(&home), Ok(Some(Protection::Passphrase)));
    assert_eq!(open(&home, passphrase("wrong"), false).unwrap_err().code, Code::WRONG_PASSPHRASE);
    assert_eq!(open(&home, KeySource::File, false).unwrap_err().code, Code::WRONG_PASSPHRASE);
    drop(open(&home, passphrase("open sesame"), false).unwrap());
    assert_eq!(fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(home.join("key")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_database_with_another_key_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    drop(open(&one, KeySource::File, true).unwrap());
    drop(open(&two, KeySource::File, true).unwrap());
    fs::copy(two.join("key"), one.join("key")).unwrap();
    assert_eq!(open(&one, KeySource::File, false).unwrap_err().code, Code::PROFILE_DAMAGED);
}

#[test]
fn what_is_damaged_is_called_so_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for (file, bytes) in [("key", None), ("key", Some(&b"?"[..])), ("parlour.db", Some(&[7; 8192][..]))] {
        let home = dir.path().join(format!("{file}{}", bytes.map_or(0, <[u8]>::len)));
        drop(open(&home, KeySource::File, true).unwrap());
        match bytes {
            Some(bytes) => fs::write(home.join(file), bytes).unwrap(),
            None => fs::remove_file(home.join(file)).unwrap(),
        }
        for create in [false, true] {
            assert_eq!(open(&home, KeySource::File, create).unwrap_err().code, Code::PROFILE_DAMAGED, "{file} {create}");
        }
        assert_eq!(fs::read(home.join(file)).ok().as_deref(), bytes);
    }
}

#[test]
fn one_program_at_a_time_uses_a_profile() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), KeySource::File, true).unwrap();
    assert_eq!(open(dir.path(), KeySource::File, true).unwrap_err().code, Code::PROFILE_IN_USE);
    drop(first);
    drop(open(dir.path(), KeySource::File, true).unwrap());
}

#[test]
fn a_profile_in_a_folder_that_cannot_be_written_says_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let error = open(&dir.path().join("file/profile"), KeySource::File, true).unwrap_err();
    assert!(error.message.contains("cannot"), "{error}");
}

#[test]
fn the_files_of_a_profile_hold_no_plaintext() {
    let mut world = World::new(1);
    let (alice, bob) = (world.person("alice"), world.person("bobthebuilder"));
    let a = world.device(alice);
    world.device(bob);
    world.settle();
    world.send(a, "bobthebuilder", "an unmistakable secret");
    world.settle();
    let mut bytes = 0;
    for file in fs::read_dir(world.nodes[a].home.path()).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{} is for its owner", path.display());
        let content = fs::read(path).unwrap();
        bytes += content.len();
        for needle in ["an unmistakable secret", "bobthebuilder", "SQLite format 3", "CREATE TABLE"] {
            assert!(!content.windows(needle.len()).any(|window| window == needle.as_bytes()), "{needle}");
        }
    }
    assert!(bytes > 10_000, "the database was looked at");
}
