//! Taking an archive into a profile, as history that tells nobody.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
};

use parlour_client::{Client, Code, Error, Imported, ImportedContact};
use serde_json::json;

use super::{
    CONTACTS, MESSAGES,
    row::{ContactLine, MessageLine},
};
use crate::cli::{
    args::ImportArgs,
    errors::{Failure, usage},
    profile::{Session, closed},
};

/// Messages taken in one transaction.
const BATCH: usize = 1000;
/// Longest line: the longest text, escaped in the worst way, and what stands beside it.
const LINE: u64 = 1024 * 1024;

pub(crate) async fn import(args: ImportArgs, session: &Session) -> Result<(), Failure> {
    let client = session.open()?;
    let outcome = read_all(&client, &args.folder).await;
    let Count { new, read, files } = closed(&client, outcome).await?;
    let known = read - new;
    let row = json!({"messages": new, "files": files, "known": known});
    session.output.row(&row, |_| format!("{new} messages were taken in, with {files} files; {known} were here already"))
}

/// What an export held.
#[derive(Default)]
struct Count {
    new: u64,
    read: u64,
    files: u64,
}

/// Takes in every message.
async fn read_all(client: &Client, folder: &Path) -> Result<Count, Failure> {
    let path = folder.join(MESSAGES);
    let file = File::open(&path).map_err(|error| {
        Error::new(Code::FILE_NOT_FOUND, format!("cannot read {}: {error}", path.display()))
            .hint("name a folder that `export` wrote")
    })?;
    // Messages name people as they were shown; their names at the server are here.
    read_contacts(client, &folder.join(CONTACTS)).await?;
    let mut reader = BufReader::new(file);
    let (mut batch, mut count, mut number) = (Vec::with_capacity(BATCH), Count::default(), 0u64);
    loop {
        let mut line = Vec::new();
        let length = reader.by_ref().take(LINE).read_until(b'\n', &mut line)?;
        number += 1;
        if length > 0 && !line.trim_ascii().is_empty() {
            batch.push(message(&line, folder).map_err(|wrong| usage(format!("{}, line {number}: {wrong}", path.display())))?);
            count.read += 1;
        }
        if batch.len() == BATCH || (length == 0 && !batch.is_empty()) {
            let taken = client.import(std::mem::take(&mut batch)).await?;
            count.new += taken.messages;
            count.files += taken.files;
        }
        if length == 0 {
            break;
        }
    }
    Ok(count)
}

/// Takes in what the owner said about people, if the export says it.
async fn read_contacts(client: &Client, path: &Path) -> Result<(), Failure> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut reader = BufReader::new(file);
    let (mut batch, mut number) = (Vec::with_capacity(BATCH), 0u64);
    loop {
        let mut line = Vec::new();
        let length = reader.by_ref().take(LINE).read_until(b'\n', &mut line)?;
        number += 1;
        if length > 0 && !line.trim_ascii().is_empty() {
            batch.push(contact(&line).map_err(|wrong| usage(format!("{}, line {number}: {wrong}", path.display())))?);
        }
        if batch.len() == BATCH || (length == 0 && !batch.is_empty()) {
            client.import_contacts(std::mem::take(&mut batch)).await?;
        }
        if length == 0 {
            return Ok(());
        }
    }
}

fn contact(line: &[u8]) -> Result<ImportedContact, String> {
    let line: ContactLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    line.imported().map_err(str::to_owned)
}

fn message(line: &[u8], folder: &Path) -> Result<Imported, String> {
    let line: MessageLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    line.imported(folder).map_err(str::to_owned)
}
