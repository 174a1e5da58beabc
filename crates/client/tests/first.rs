//! The first databases of a process, opened by several threads at once: the cipher is ready for all of them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    env,
    process::Command,
    sync::{Arc, Barrier},
    thread,
};

use parlour_client::{KeySource, OpenOptions, Profile, core::Core};

/// Set where this program is one of those that open databases.
const CHILD: &str = "PARLOUR_TEST_OPENS_PROFILES";
const PROCESSES: usize = 60;
const THREADS: u8 = 24;

fn open_many() {
    let start = Arc::new(Barrier::new(THREADS.into()));
    let threads: Vec<_> = (0..THREADS)
        .map(|n| {
            let start = Arc::clone(&start);
            thread::spawn(move || {
                let home = tempfile::tempdir().unwrap();
                let options = OpenOptions { home: home.path().to_owned(), key: KeySource::File, create: true };
                let profile = Profile::open(&options).unwrap();
                start.wait();
                Core::open(profile, [n; 32]).map(drop).unwrap();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn the_first_profiles_of_a_process_can_be_opened_at_once() {
    if env::var_os(CHILD).is_some() {
        return open_many();
    }
    for _ in 0..PROCESSES {
        let name = "the_first_profiles_of_a_process_can_be_opened_at_once";
        let done = Command::new(env::current_exe().unwrap()).args(["--exact", name]).env(CHILD, "1").output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }
}
