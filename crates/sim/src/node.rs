//! A device: a profile on disk, the core that has it open unless it is dead, and its link.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use parlour_client::{
    Error, KeySource, OpenOptions, Profile,
    core::{Core, Order, Reply, Ticket},
};
use parlour_wire::DeviceId;
use tempfile::TempDir;

use crate::{link::Link, reuse::Spent};

/// Files live in memory where the system has a place for that: a sync costs nothing there, and the machine does not crash.
const MEMORY: &str = "/dev/shm";

/// The files of a profile as they were once.
pub(crate) struct Copy {
    pub(crate) at: Duration,
    database: Vec<u8>,
}

/// A device.
pub(crate) struct Node {
    pub(crate) person: usize,
    pub(crate) device: DeviceId,
    pub(crate) core: Option<Core>,
    home: TempDir,
    seed: u64,
    /// The core wants to be connected.
    pub(crate) wanted: bool,
    pub(crate) link: Option<Link>,
    /// No connection can be made before.
    pub(crate) away_until: Duration,
    /// When a dead program starts again.
    pub(crate) opens_at: Option<Duration>,
    /// The program dies after its next transaction and before its outputs.
    pub(crate) dying: bool,
    pub(crate) copy: Option<Copy>,
    /// How often an older copy has been put back.
    pub(crate) rollbacks: u32,
    pub(crate) revoked: bool,
    pub(crate) replies: BTreeMap<Ticket, Result<Reply, Error>>,
    pub(crate) next: u64,
    pub(crate) spent: Spent,
    /// What is to be done with files, and when.
    pub(crate) transfers: VecDeque<(Duration, Order)>,
    /// See [`crate::Plan::small`].
    small: bool,
}

/// Devices of a group that is not founded anew, in small histories.
const SMALL: usize = 4;

impl Node {
    pub(crate) fn new(person: usize, device: DeviceId, seed: u64, small: bool) -> Self {
        let home = if Path::new(MEMORY).is_dir() { tempfile::tempdir_in(MEMORY) } else { tempfile::tempdir() };
        let mut node = Self {
            person,
            device,
            core: None,
            home: home.expect("a place for temporary files"),
            seed,
            wanted: false,
            link: None,
            away_until: Duration::ZERO,
            opens_at: None,
            dying: false,
            copy: None,
            rollbacks: 0,
            revoked: false,
            replies: BTreeMap::new(),
            next: 1,
            spent: Spent::default(),
            transfers: VecDeque::new(),
            small,
        };
        node.open();
        node
    }

    /// Starts the program.
    pub(crate) fn open(&mut self) {
        self.seed = self.seed.wrapping_add(1);
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_be_bytes());
        let options = OpenOptions { home: self.home.path().to_owned(), key: KeySource::File, create: true };
        let profile = Profile::open(&options).expect("the profile is free");
        let mut core = Core::open(profile, seed).expect("the profile opens");
        core.sweep_files().expect("the profile can be read");
        if self.small {
            core.outgrow_above(SMALL);
        }
        self.core = Some(core);
        self.opens_at = None;
    }

    /// Kills the program. Its link is the world's to drop.
    pub(crate) fn kill(&mut self, opens_at: Duration) {
        self.core = None;
        self.wanted = false;
        self.dying = false;
        self.replies.clear();
        self.transfers.clear();
        self.opens_at = Some(opens_at);
    }

    /// A place for files of the device's owner.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn database(&self) -> PathBuf {
        self.home.path().join("parlour.db")
    }

    /// Takes a copy of the files of a program that does not run.
    pub(crate) fn take_copy(&mut self, at: Duration) {
        let database = fs::read(self.database()).expect("the database of this profile");
        self.copy = Some(Copy { at, database });
        self.spent.copied();
    }

    /// Puts the copy in the place of the files; when it was taken.
    pub(crate) fn put_back(&mut self) -> Option<Duration> {
        let copy = self.copy.as_ref()?;
        for left in ["parlour.db-wal", "parlour.db-shm"] {
            // A program that was closed has left none.
            drop(fs::remove_file(self.home.path().join(left)));
        }
        fs::write(self.database(), &copy.database).expect("room for the database");
        self.rollbacks += 1;
        self.spent.put_back();
        Some(copy.at)
    }
}
