//! Taking an archive into a profile, as history that tells nobody.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
};

use parlour_client::{Client, Code, Error, Imported};
use serde_json::json;

use super::{MESSAGES, row::MessageLine};
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
            return Ok(count);
        }
    }
}

fn message(line: &[u8], folder: &Path) -> Result<Imported, String> {
    let line: MessageLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    line.imported(folder).map_err(str::to_owned)
}
