//! From names to open files and folders, without leaving the folder that the application has named.

use std::{
    fs::File,
    io,
    path::{Component, Path},
};

use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions},
};
use parlour_wire::files::RemotePath;

use super::{
    error::FileError,
    part::{Place, sync_folder},
    quota::Reservation,
};

/// Opens without waiting for the other end of what turns out to be a pipe.
pub(super) fn patiently(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(target_os = "linux")]
    cap_std::fs::OpenOptionsExt::custom_flags(options, rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    options
}

/// Opens a file below a folder for reading. No symbolic link leads out of the folder, even one that is made at this moment.
pub(super) fn open_below(root: &Dir, path: &RemotePath) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    let opened = root.open_with(path.below(), patiently(options.read(true)));
    checked(opened.map_err(|error| FileError::io("read", &error))?.into_std())
}

/// Opens a file of this machine for reading, on behalf of this program.
pub(super) fn open_local(path: &Path) -> Result<File, FileError> {
    let (folder, name) = local_folder(path)?;
    let mut options = OpenOptions::new();
    match folder.open_with(name, patiently(options.read(true))) {
        Ok(file) => checked(file.into_std()),
        // The program may follow its links wherever they lead.
        Err(error) if error.raw_os_error().is_none() => checked(File::open(path).map_err(|error| FileError::io("read", &error))?),
        Err(error) => Err(FileError::io("read", &error)),
    }
}

fn checked(file: File) -> Result<File, FileError> {
    let found = file.metadata().map_err(|error| FileError::io("read", &error))?;
    if found.is_file() { Ok(file) } else { Err(FileError::NotAFile) }
}

/// The place for a file below a folder. Folders on the way are made, if `room` has room for so many.
pub(super) fn place_below(
    root: &Dir,
    path: &RemotePath,
    tag: u64,
    room: impl FnOnce(u64) -> Result<Option<Reservation>, FileError>,
) -> Result<Place, FileError> {
    let below = path.below();
    let folder = below.rsplit_once('/').map(|(folder, _)| folder);
    let opened = match folder {
        None => root.try_clone(),
        Some(folder) => match root.open_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let reserved = room(missing(root, folder))?;
                make_folders(root, folder, reserved)?;
                root.open_dir(folder)
            }
            result => result,
        },
    };
    let folder = opened.map_err(|error| FileError::io("write", &error))?;
    Ok(Place::new(folder, path.name().into(), tag))
}

/// A path, and all that lie above it, from the top.
fn prefixes(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).collect();
    ends.into_iter().map(|end| &path[..end])
}

/// How many folders of a path are not there.
fn missing(root: &Dir, path: &str) -> u64 {
    prefixes(path).rev().take_while(|folder| root.symlink_metadata(folder).is_err()).count() as u64
}

/// Makes the folders of a path in the space that is set aside for them. Those that were made before one that fails are there, so they
/// count.
fn make_folders(root: &Dir, path: &str, reserved: Option<Reservation>) -> Result<(), FileError> {
    let mut made = 0;
    let result = make_each(root, path, &mut made);
    if let Some(reserved) = reserved {
        reserved.made(made);
    }
    result
}

/// Makes the folders of a path, each durable in the one above it, and counts them.
fn make_each(root: &Dir, path: &str, made: &mut u64) -> Result<(), FileError> {
    let failed = |error: io::Error| FileError::io("write", &error);
    let mut above: Option<&str> = None;
    for folder in prefixes(path) {
        match root.create_dir(folder) {
            Ok(()) => {
                *made += 1;
                match above {
                    None => sync_folder(root)?,
                    Some(above) => sync_folder(&root.open_dir(above).map_err(failed)?)?,
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        above = Some(folder);
    }
    Ok(())
}

/// The place for a file of this machine, in a folder that is there.
pub(super) fn local_place(path: &Path, tag: u64) -> Result<Place, FileError> {
    let (folder, name) = local_folder(path)?;
    Ok(Place::new(folder, name.into(), tag))
}

fn local_folder(path: &Path) -> Result<(Dir, &std::ffi::OsStr), FileError> {
    let name = path.file_name().filter(|_| matches!(path.components().next_back(), Some(Component::Normal(_))));
    let name = name.ok_or(FileError::NotAFile)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder =
        Dir::open_ambient_dir(folder, ambient_authority()).map_err(|error| FileError::io("open the folder of", &error))?;
    Ok((folder, name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::files::quota::{Amount, Quota};

    #[test]
    fn folders_that_were_made_before_one_could_not_be_made_count() {
        let folder = tempfile::tempdir().unwrap();
        let root = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        let quota = Arc::new(Quota::new(Amount { bytes: 1000, entries: 10 }, Amount::default()));
        let reserved = quota.reserve_folders(3, 0).unwrap();
        // No file system takes such a name.
        let path = format!("a/b/{}", "c".repeat(300));
        assert!(make_folders(&root, &path, Some(reserved)).is_err());
        assert_eq!(quota.used(), (Amount { bytes: 0, entries: 2 }, Amount::default()));
    }
}
