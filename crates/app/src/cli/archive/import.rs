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
    let (new, known) = closed(&client, outcome).await?;
    let row = json!({"messages": new, "files": 0, "known": known});
    session.output.row(&row, |_| format!("{new} messages were taken in, {known} were here already"))
}

/// Takes in every message; how many were new, and how many not.
async fn read_all(client: &Client, folder: &Path) -> Result<(u64, u64), Failure> {
    let path = folder.join(MESSAGES);
    let file = File::open(&path).map_err(|error| {
        Error::new(Code::FILE_NOT_FOUND, format!("cannot read {}: {error}", path.display()))
            .hint("name a folder that `export` wrote")
    })?;
    let mut reader = BufReader::new(file);
    let (mut batch, mut new, mut read, mut number) = (Vec::with_capacity(BATCH), 0, 0u64, 0u64);
    loop {
        let mut line = Vec::new();
        let length = reader.by_ref().take(LINE).read_until(b'\n', &mut line)?;
        number += 1;
        if length > 0 && !line.trim_ascii().is_empty() {
            batch.push(message(&line).map_err(|wrong| usage(format!("{}, line {number}: {wrong}", path.display())))?);
            read += 1;
        }
        if batch.len() == BATCH || (length == 0 && !batch.is_empty()) {
            new += client.import(std::mem::take(&mut batch)).await?;
        }
        if length == 0 {
            return Ok((new, read - new));
        }
    }
}

fn message(line: &[u8]) -> Result<Imported, String> {
    let line: MessageLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    line.imported().map_err(str::to_owned)
}
