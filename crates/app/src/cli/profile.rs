//! What a client command works on: the profile, opened when it is needed.

use std::{path::PathBuf, time::Duration};

use parlour_client::{Client, Code, Error, KeySource, OpenOptions, Protection};

use super::{args::Globals, errors::Failure, output::Output, secret};

/// How long commands that get along without the server try to reach it.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// The surroundings of one run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    /// The profile's folder, if one is named.
    home: Option<PathBuf>,
    /// Where results go.
    pub(crate) output: Output,
}

impl Session {
    /// The surroundings that the global options describe.
    pub(crate) fn new(globals: Globals, output: Output) -> Self {
        Self { home: globals.home, output }
    }

    fn home(&self) -> Result<PathBuf, Error> {
        if let Some(home) = &self.home {
            return Ok(home.clone());
        }
        let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
        let data = data.ok_or_else(|| {
            Error::new(Code::PROFILE_NOT_FOUND, "no profile is named and there is no home folder")
                .hint("name one with --home DIR")
        })?;
        Ok(data.join("parlour"))
    }

    /// Opens a profile that exists.
    pub(crate) fn open(&self) -> Result<Client, Error> {
        let home = self.home()?;
        let key = secret::profile_key(&home, false)?;
        Client::open(OpenOptions { home, key, create: false })
    }

    /// Opens the profile, or makes it; `protect` asks for a passphrase for one that is made.
    pub(crate) fn open_or_make(&self, protect: bool) -> Result<Client, Error> {
        let home = self.home()?;
        let made = Protection::of(&home)?.is_none();
        let key = secret::profile_key(&home, protect)?;
        let plain = matches!(key, KeySource::File);
        let client = Client::open(OpenOptions { home: home.clone(), key, create: true })?;
        if made && plain {
            self.output.note(&format!(
                "note: this profile is encrypted under a key that lies beside it in {}, readable by you alone.\n      \
                 Make it with --passphrase to protect it from whoever can copy your files.",
                home.display()
            ));
        }
        Ok(client)
    }
}

/// Goes online. `Ok(None)` when that worked, `Ok(Some(_))` with the reason when the network is the reason, so that what the
/// profile knows by itself can still be used.
///
/// # Errors
/// What trying again does not change: no account, a changed certificate, a revoked device.
pub(crate) async fn try_online(client: &Client, timeout: Duration) -> Result<Option<Error>, Error> {
    match tokio::time::timeout(timeout, client.go_online()).await {
        Ok(Ok(())) => Ok(None),
        Ok(Err(error)) if error.code.retry() => Ok(Some(error)),
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(Some(Error::new(Code::UNREACHABLE, "the server does not answer"))),
    }
}

/// Runs `work` on a client that is online if it can be, and closes it in any case.
pub(crate) async fn with_client<T>(
    session: &Session,
    work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let client = session.open()?;
    let outcome = match try_online(&client, CONNECT).await {
        Ok(_) => work(&client).await,
        Err(error) => Err(error.into()),
    };
    closed(&client, outcome).await
}

/// Closes the client; an error of the work goes before one of the close.
pub(crate) async fn closed<T>(client: &Client, outcome: Result<T, Failure>) -> Result<T, Failure> {
    let close = client.close().await;
    let value = outcome?;
    close?;
    Ok(value)
}
