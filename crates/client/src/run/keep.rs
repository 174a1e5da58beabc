//! Files that only this profile has: sealed like those of the server, in the profile's folder, under the names of their blobs.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use parlour_e2ee::attachment::FileKey;
use parlour_wire::content::Attachment;

use super::{
    transfer::{blocking, file_error},
    upload::{self, Source},
};
use crate::{core::LocalFile, error::Error};

/// Copies a file, sealed under a key of its own, into a folder. It has its name there only when all of it is on disk.
pub(crate) async fn keep(file: LocalFile, folder: PathBuf, named: Attachment) -> Result<Attachment, Error> {
    let key = FileKey::generate();
    let sealed = upload::first_pass(&file, *key.as_bytes()).await?;
    let (layout, blob, hash) = (sealed.layout, sealed.blob, sealed.hash);
    let key_bytes = *key.as_bytes();
    blocking(move || {
        let source = Source::open(file, &key, &sealed)?;
        write(&source, &folder, &blob.to_string())
    })
    .await?;
    Ok(Attachment { blob, key: key_bytes, size: layout.size(), blob_size: layout.blob_size(), hash, ..named })
}

fn write(source: &Source, folder: &Path, name: &str) -> Result<(), Error> {
    let failed = |error: std::io::Error| file_error("write to", folder, &error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let part = folder.join(format!("{name}.part"));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&part).map_err(failed)?;
    let mut next = 0;
    while next < source.chunks() {
        let (group, after) = source.group(next)?;
        file.write_all(&group).map_err(failed)?;
        next = after;
    }
    file.sync_all().map_err(failed)?;
    fs::rename(&part, folder.join(name)).map_err(failed)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Deletes a file, if it is there.
pub(crate) fn erase(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file that no message needs could not be deleted");
    }
}

/// Deletes what is in a folder except for these.
pub(crate) fn sweep(folder: &Path, keep: &BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_none_or(|name| !keep.contains(name)) {
            erase(&entry.path());
        }
    }
}
