//! The step with a file.

use std::{fs, path::Path};

use parlour_client::{Code, Draft, FetchOptions, MessageId, MessageKind, Preview, State};

use super::stage::{Checked, PATIENCE, Stage, read, same, told};

/// Bytes of the file: several chunks and a rest.
const SIZE: usize = 3_000_000;

pub(super) async fn a_file_is_sent(stage: &mut Stage) -> Checked {
    let (alice, bob) = (stage.person("alice")?, stage.person("bob")?);
    let content: Vec<u8> = b"the minutes of the meeting. ".iter().copied().cycle().take(SIZE).collect();
    let source = stage.path("minutes.txt");
    fs::write(&source, &content).map_err(told)?;
    let draft = Draft { text: "for you".to_owned(), ..Draft::default() };
    let sent = alice.send_file("bob", &source, Preview::Thumbnail, draft).await.map_err(told)?;
    alice.wait_state(sent.id, State::Stored, PATIENCE).await.map_err(told)?;

    let received = read(&bob, 1).await?;
    let message = &received[0];
    let offered = message.file.as_ref().map(|file| (file.name.as_str(), file.size));
    same("what bob is offered", &offered, &Some(("minutes.txt", SIZE as u64)))?;
    same("its kind and the text beside it", &(message.kind, message.text.as_str()), &(MessageKind::File, "for you"))?;

    let folder = stage.path("bob-downloads");
    fs::create_dir(&folder).map_err(told)?;
    let options = FetchOptions { output: Some(folder.clone()), limit: Some(1_000_000), ..FetchOptions::default() };
    let refused = bob.fetch_file(message.id, options).await.map_err(|error| error.code);
    same("a download with a lower limit", &refused.map(|fetched| fetched.size), &Err(Code::TOO_LARGE))?;
    fetched_whole(&bob, message.id, &folder, &content).await?;
    let holds = below(&stage.path("server"), b"minutes of the meeting")?;
    same("files of the server that hold the text", &holds, &Vec::<String>::new())?;
    Ok(format!("{} bytes, sealed on the way and at the server, checked on arrival", content.len()))
}

async fn fetched_whole(bob: &parlour_client::Client, message: MessageId, folder: &Path, content: &[u8]) -> Checked<()> {
    let options = FetchOptions { output: Some(folder.to_owned()), ..FetchOptions::default() };
    let fetched = bob.fetch_file(message, options).await.map_err(told)?;
    let bytes = fs::read(&fetched.path).map_err(told)?;
    if bytes == content { Ok(()) } else { Err("what bob has is not what alice sent".to_owned()) }
}

/// The files below a folder in which these bytes occur.
fn below(folder: &Path, needle: &[u8]) -> Checked<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(told)? {
        let path = entry.map_err(told)?.path();
        if path.is_dir() {
            found.extend(below(&path, needle)?);
        } else if path.is_file() && fs::read(&path).map_err(told)?.windows(needle.len()).any(|window| window == needle) {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}
