//! Files over a link, both ways.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use parlour_net::CopyOptions;

use super::ends::{Ends, FOLDER};
use crate::bench::baseline::now;

/// Bytes that are written in one go when a file is made.
const PIECE: usize = 1024 * 1024;
/// The name of a pushed file.
const PUSHED: &str = "pushed";
/// How long the idle link is watched.
const IDLE: Duration = Duration::from_secs(2);

/// How long a file took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    bytes: u64,
    time: Duration,
}

impl Took {
    /// Bytes a second.
    pub(super) fn rate(self) -> f64 {
        self.bytes as f64 / self.seconds()
    }

    pub(super) fn seconds(self) -> f64 {
        self.time.as_secs_f64()
    }
}

/// Makes a file of this size that no disk can leave out, and puts it on disk.
pub(super) fn make(folder: &Path, name: &str, bytes: u64) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    let mut file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut piece = vec![0; PIECE];
    getrandom::fill(&mut piece).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let mut left = bytes;
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        piece[..8].copy_from_slice(&left.to_be_bytes());
        file.write_all(&piece[..size])?;
        left -= size as u64;
    }
    file.sync_all()?;
    Ok(path)
}

/// Gives back the memory in which the system keeps a file that is on disk. A virtual machine touches memory that its host does not
/// back yet at a tenth of its speed, and a copy in place of another file needs more of it than any other: who has just given memory
/// back gets that again.
pub(super) fn let_go_of_cache(path: &Path) -> anyhow::Result<()> {
    let file = File::open(path)?;
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    drop(file);
    Ok(())
}

/// The agent gets a file of the station.
pub(super) async fn pull(ends: &Ends, name: &str) -> anyhow::Result<Took> {
    let target = ends.own().join(name);
    let start = now();
    let copied = ends.agent.link().pull(format!("{FOLDER}/{name}"), &target).await?;
    let took = Took { bytes: copied.bytes, time: start.elapsed() };
    std::fs::remove_file(target)?;
    Ok(took)
}

/// The agent gives the station a file, under a name that is free, and then in place of the one that is there.
pub(super) async fn push(ends: &Ends, path: &Path) -> anyhow::Result<[Took; 2]> {
    let fresh = push_over(ends, path).await?;
    let_go_of_cache(&ends.shared().join(PUSHED))?;
    let again = push_over(ends, path).await?;
    std::fs::remove_file(ends.shared().join(PUSHED))?;
    Ok([fresh, again])
}

/// The agent gives the station a file, under a name that is free.
pub(super) async fn push_once(ends: &Ends, path: &Path) -> anyhow::Result<()> {
    push_over(ends, path).await?;
    Ok(std::fs::remove_file(ends.shared().join(PUSHED))?)
}

async fn push_over(ends: &Ends, path: &Path) -> anyhow::Result<Took> {
    let options = CopyOptions { replace: true, ..CopyOptions::default() };
    let start = now();
    let copied = ends.agent.link().push_with(path, format!("{FOLDER}/{PUSHED}"), options).await?;
    Ok(Took { bytes: copied.bytes, time: start.elapsed() })
}

/// Nothing, for a while.
pub(super) async fn idle() -> anyhow::Result<()> {
    tokio::time::sleep(IDLE).await;
    Ok(())
}
