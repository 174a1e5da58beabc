//! A disk without room: an error by name at the right end, and nothing half-done left.

use std::{path::Path, process::Command};

use parlour_net::{Code, FileError, Files};

use crate::{
    kill::Child,
    over_every_carrier,
    world::{MIB, Placed, Way, World, anywhere, bounded, config_to, content, names, station_config},
};

over_every_carrier! {
    a_receiver_that_cannot_write_says_that_its_disk_is_full_and_lives_on,
    a_disk_that_is_full_is_told_at_the_end_that_has_it,
}

/// Where a file may not grow beyond a mebibyte, writing fails in the same way as on a full disk.
async fn a_receiver_that_cannot_write_says_that_its_disk_is_full_and_lives_on(way: Way) {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let child = Child::serving(there.path(), anywhere(way), Some(MIB));
    let agent = child.agent(1).await;
    bounded(agent.ready()).await.unwrap();
    let local = here.path().join("x");
    std::fs::write(&local, content(8 * MIB, 1)).unwrap();
    let error = bounded(agent.link().push(&local, "box/x")).await.unwrap_err();
    assert_eq!((error.code(), error.is_from_peer()), (Code::DISK_FULL, true));
    assert!(names(there.path()).is_empty());
    std::fs::write(&local, content(MIB / 2, 1)).unwrap();
    bounded(agent.link().push(&local, "box/x")).await.unwrap();
    assert_eq!(names(there.path()), ["x"]);
}

/// A file system of one mebibyte, if this user may make one.
struct Small {
    folder: tempfile::TempDir,
}

impl Small {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.folder.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

async fn a_disk_that_is_full_is_told_at_the_end_that_has_it(way: Way) {
    let Some(small) = Small::mount() else {
        eprintln!("no small disk can be mounted by this user: the test of the size limit above stands for this one");
        return;
    };
    let world = World::over(way).await;
    std::fs::write(world.there("x"), content(8 * MIB, 1)).unwrap();
    let error = world.pull("box/x", &small.path().join("x")).await.unwrap_err();
    assert_eq!(error, FileError::DiskFull);
    assert!(names(small.path()).is_empty());

    let root = parlour_net::Root::new("box", small.path(), parlour_net::Rights::ReadWrite);
    let files = Files::builder().root(root.allow(parlour_net::Access::Anyone)).open().unwrap();
    let placed = Placed::at(anywhere(way), station_config(&files)).await;
    let agent = parlour_net::Agent::connect(config_to(&placed.address, 1).await);
    bounded(agent.ready()).await.unwrap();
    let local = world.here("large", &content(8 * MIB, 1));
    let error = bounded(agent.link().push(&local, "box/x")).await.unwrap_err();
    assert_eq!((error.code(), error.is_from_peer()), (Code::DISK_FULL, true));
    assert!(names(small.path()).is_empty());
    // The link and what fits are untouched.
    let local = world.here("little", &content(MIB / 2, 1));
    bounded(agent.link().push(&local, "box/x")).await.unwrap();
    assert_eq!(names(small.path()), ["x"]);
}
