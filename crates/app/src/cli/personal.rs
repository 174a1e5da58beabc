//! `profile`, `settings`.

use std::{fs, path::Path};

use parlour_client::{Avatar, Client, Code, Error, PersonalProfile, ProfileChange, Settings, limits};
use serde_json::json;

use super::{
    args::{ProfileAction, ProfileArgs, SettingsAction, SettingsArgs, Switch},
    errors::{Failure, usage},
    messages::refresh,
    output::{Time, plain},
    profile::{CONNECT, Session, closed, with_client},
};

pub(crate) async fn profile(args: ProfileArgs, session: &Session) -> Result<(), Failure> {
    match args.action {
        ProfileAction::Show { to, avatar } => {
            let client = session.open()?;
            refresh(&client).await;
            let outcome = client.profile(to.as_deref()).await.map_err(Failure::from);
            let profile = closed(&client, outcome).await?;
            if let Some(path) = &avatar {
                save(&profile, path)?;
            }
            show(to.as_deref(), &profile, session)
        }
        ProfileAction::Set { name, status, avatar, no_avatar } => {
            let avatar = match avatar {
                Some(path) => Some(Avatar::Set(picture(&path)?)),
                None => no_avatar.then_some(Avatar::Remove),
            };
            let change = ProfileChange { display_name: name, status, avatar };
            let profile = with_client(session, async |client: &Client| {
                let profile = client.set_profile(change).await?;
                // Those who are told offline hear of it later.
                let _ = client.wait_synced(CONNECT).await;
                Ok(profile)
            })
            .await?;
            show(None, &profile, session)
        }
    }
}

fn show(of: Option<&str>, profile: &PersonalProfile, session: &Session) -> Result<(), Failure> {
    let row = json!({
        "of": of,
        "display_name": profile.display_name,
        "status": profile.status,
        "avatar_bytes": profile.avatar.as_ref().map(Vec::len),
        "updated_at": Time::known(profile.updated_ms),
    });
    session.output.row(&row, |output| {
        let name = if profile.display_name.is_empty() { "no display name" } else { &profile.display_name };
        let picture = profile.avatar.as_ref().map_or_else(String::new, |avatar| format!("  a picture of {} bytes", avatar.len()));
        format!("{}  {}{}", output.bold(&plain(name)), plain(&profile.status), output.dim(&picture))
    })
}

/// A picture that others can show: of a kind that starts like one, and not larger than a message carries.
fn picture(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |error| Error::new(Code::FILE_NOT_FOUND, format!("cannot read {}: {error}", path.display()));
    let metadata = fs::metadata(path).map_err(unreadable)?;
    // A pipe would be waited for, for as long as nobody writes to it.
    if !metadata.is_file() {
        let error = Error::new(Code::PATH_REFUSED, format!("{} is not a file", path.display()));
        return Err(error.hint("name a PNG, JPEG or WebP picture"));
    }
    let size = metadata.len();
    if size > limits::AVATAR as u64 {
        return Err(Error::new(Code::TOO_LARGE, format!("the picture has {size} bytes; it may have {}", limits::AVATAR))
            .hint("make it smaller, 256 pixels are enough"));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] | [0xff, 0xd8, 0xff, ..] => Ok(bytes),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(bytes),
        _ => Err(usage(format!("{} is no PNG, JPEG or WebP picture", path.display()))),
    }
}

fn save(profile: &PersonalProfile, path: &Path) -> Result<(), Error> {
    let Some(avatar) = &profile.avatar else { return Err(Error::new(Code::FILE_NOT_FOUND, "there is no picture")) };
    let mut options = fs::OpenOptions::new();
    let written =
        options.write(true).create_new(true).open(path).and_then(|mut file| std::io::Write::write_all(&mut file, avatar));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(Code::FILE_EXISTS, format!("{} exists already", path.display())),
        _ => Error::new(Code::READ_ONLY, format!("cannot write {}: {error}", path.display())),
    })
}

pub(crate) async fn settings(args: SettingsArgs, session: &Session) -> Result<(), Failure> {
    let client = session.open()?;
    let outcome = async {
        match args.action {
            Some(SettingsAction::Receipts { switch }) => client.set_read_receipts(switch == Switch::On).await?,
            Some(SettingsAction::Arrivals { switch }) => client.set_delivery_receipts(switch == Switch::On).await?,
            None => {}
        }
        Ok::<_, Failure>(client.settings().await?)
    }
    .await;
    let Settings { read_receipts, delivery_receipts } = closed(&client, outcome).await?;
    let word = |on| if on { "on" } else { "off" };
    let (receipts, arrivals) = (word(read_receipts), word(delivery_receipts));
    session
        .output
        .row(&json!({"receipts": receipts, "arrivals": arrivals}), |_| format!("receipts {receipts}, arrivals {arrivals}"))
}
