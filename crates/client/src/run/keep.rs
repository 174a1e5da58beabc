//! Files that only this profile has: sealed like those of the server, in the profile's folder, under the names of their blobs.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use parlour_e2ee::attachment::{CHUNK, FileKey, Resealer, Sealer};
use parlour_wire::{BlobId, content::Attachment};

use super::{
    transfer::{blocking, file_error},
    upload::{self, Source},
};
use crate::{core::LocalFile, error::Error};

/// A file that has a name and is not sealed yet: its blob, key, sizes and hash are to come.
pub(crate) fn named(content_type: &str, name: String) -> Attachment {
    Attachment {
        blob: BlobId([0; 32]),
        key: [0; 32],
        size: 0,
        blob_size: 0,
        hash: [0; 32],
        content_type: content_type.to_owned(),
        name,
        text: String::new(),
        thumbnail: None,
    }
}

/// Copies a file, sealed under a key of its own, into a folder. It has its name there only when all of it is on disk.
pub(crate) async fn keep(file: LocalFile, folder: PathBuf, named: Attachment) -> Result<Attachment, Error> {
    let key = FileKey::generate();
    let sealed = upload::first_pass(&file, *key.as_bytes()).await?;
    let (layout, blob, hash) = (sealed.layout, sealed.blob, sealed.hash);
    let key_bytes = *key.as_bytes();
    blocking(move || {
        let source = Source::open(file, &key, &sealed)?;
        write(|chunk| source.group(chunk), layout.chunks(), &folder, &blob.to_string())
    })
    .await?;
    Ok(Attachment { blob, key: key_bytes, size: layout.size(), blob_size: layout.blob_size(), hash, ..named })
}

/// The same for a text, which lies in no file. Blocks.
pub(crate) fn keep_text(text: &str, folder: &Path, named: Attachment) -> Result<Attachment, Error> {
    let key = FileKey::generate();
    let mut sealer = Sealer::new(&key, text.len() as u64).map_err(|error| Error::new(error.code(), error.to_string()))?;
    let mut left = text.as_bytes();
    while let Some((chunk, rest)) = sealer.wanted().and_then(|wanted| left.split_at_checked(wanted)) {
        sealer.take(&mut chunk.to_vec()).map_err(Error::internal)?;
        left = rest;
    }
    let sealed = sealer.finish().map_err(Error::internal)?;
    let (layout, blob, hash) = (sealed.layout, sealed.blob, sealed.hash);
    let resealer = Resealer::new(&key, &sealed);
    let mut chunks = text.as_bytes().chunks(CHUNK);
    let group = |chunk| {
        let mut buffer = chunks.next().unwrap_or_default().to_vec();
        resealer.seal(chunk, &mut buffer).map_err(Error::internal)?;
        Ok((buffer, chunk + 1))
    };
    write(group, layout.chunks(), folder, &blob.to_string())?;
    Ok(Attachment { blob, key: *key.as_bytes(), size: layout.size(), blob_size: layout.blob_size(), hash, ..named })
}

/// Writes a blob of so many chunks. `group` gives the ciphertext from a chunk on, and the chunk after it. What failed leaves nothing.
fn write(group: impl FnMut(u32) -> Result<(Vec<u8>, u32), Error>, chunks: u32, folder: &Path, name: &str) -> Result<(), Error> {
    let part = folder.join(format!("{name}.part"));
    let written = write_part(group, chunks, folder, (&part, name));
    if written.is_err() {
        erase(&part);
    }
    written
}

fn write_part(
    mut group: impl FnMut(u32) -> Result<(Vec<u8>, u32), Error>,
    chunks: u32,
    folder: &Path,
    (part, name): (&Path, &str),
) -> Result<(), Error> {
    let failed = |error: std::io::Error| file_error("write to", folder, &error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(part).map_err(failed)?;
    let mut next = 0;
    while next < chunks {
        let (sealed, after) = group(next)?;
        file.write_all(&sealed).map_err(failed)?;
        next = after;
    }
    file.sync_all().map_err(failed)?;
    fs::rename(part, folder.join(name)).map_err(failed)?;
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

/// Deletes what is in a folder, which need not be there, except for these.
pub(crate) fn sweep(folder: &Path, keep: &BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_none_or(|name| !keep.contains(name)) {
            erase(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use parlour_e2ee::attachment::Opener;

    use super::*;

    #[test]
    fn what_could_not_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let group = |chunk| match chunk {
            0 => Ok((vec![1; 100], 1)),
            _ => Err(Error::internal("the second is not to be had")),
        };
        assert!(write(group, 2, folder.path(), "blob").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_text_of_any_length_is_sealed_as_a_file_would_be() {
        let folder = tempfile::tempdir().unwrap();
        // Around the bounds of a chunk, and one whose last chunk is nothing but padding.
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, (4 << 20) + 1] {
            let named = named("text/markdown", "message.md".to_owned());
            let text = "quince ".repeat(length / 7 + 1)[..length].to_owned();
            let kept = keep_text(&text, folder.path(), named).unwrap();
            let blob = fs::read(folder.path().join(kept.blob.to_string())).unwrap();
            assert_eq!(kept.blob.0, *blake3::hash(&blob).as_bytes());
            assert!(!blob.windows(7).any(|window| window == b"quince "), "{length}");
            let (mut opener, mut left, mut content) = (Opener::new(&kept).unwrap(), &blob[..], Vec::new());
            while let Some(wanted) = opener.wanted() {
                let mut chunk = left.split_off(..wanted).unwrap().to_vec();
                opener.take(&mut chunk).unwrap();
                content.append(&mut chunk);
            }
            opener.finish().unwrap();
            assert!(content == text.as_bytes(), "{length}");
        }
    }
}
