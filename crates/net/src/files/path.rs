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
                let made = make_folders(root, folder)?;
                if let Some(reserved) = reserved {
                    reserved.made(made);
                }
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

/// Makes the folders of a path, each durable in the one above it. Gives how many were made.
fn make_folders(root: &Dir, path: &str) -> Result<u64, FileError> {
    let failed = |error: io::Error| FileError::io("write", &error);
    let (mut above, mut made): (Option<&str>, u64) = (None, 0);
    for folder in prefixes(path) {
        match root.create_dir(folder) {
            Ok(()) => {
                made += 1;
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
    Ok(made)
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
