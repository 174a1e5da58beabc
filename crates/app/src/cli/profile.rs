//! What a client command works on: the profile, opened when it is needed.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use parlour_client::{Client, Code, Error, Event, KeySource, OpenOptions, Protection};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    args::Globals,
    errors::{self, Failure},
    output::Output,
    secret,
};

/// How long commands that get along without the server try to reach it.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// The surroundings of one run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    /// The profile's folder, if one is named.
    home: Option<PathBuf>,
    /// Where results go.
    pub(crate) output: Output,
    /// Messages that failed while the profile was open, and what listens for them.
    failed: Arc<Mutex<Vec<Error>>>,
    /// Those that have been told.
    told: Mutex<Vec<Error>>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

/// How long what a profile has still said may take to be heard after it was closed.
const LISTEN: Duration = Duration::from_secs(1);

impl Session {
    /// The surroundings that the global options describe.
    pub(crate) fn new(globals: Globals, output: Output) -> Self {
        Self { home: globals.home, output, failed: Arc::default(), told: Mutex::default(), listener: Mutex::default() }
    }

    /// Listens for messages that fail: what was queued by an earlier command may do so during any other.
    fn listen(&self, client: &Client) {
        let (mut events, failed) = (client.events(), Arc::clone(&self.failed));
        let listener = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let Event::MessageFailed { error, .. } = event {
                    lock(&failed).push(error);
                }
            }
        });
        *lock(&self.listener) = Some(listener);
    }

    /// Says which messages have failed, but for what the command itself tells.
    pub(crate) async fn tell_failed(&self, outcome: &Result<(), Failure>) {
        let listener = lock(&self.listener).take();
        let closed = !matches!(outcome, Err(Failure::Interrupted | Failure::PipeClosed));
        if let Some(listener) = listener.filter(|_| closed) {
            // It ends with the profile.
            let _ = tokio::time::timeout(LISTEN, listener).await;
        }
        let failed = std::mem::take(&mut *lock(&self.failed));
        for error in &failed {
            let of_command = matches!(outcome, Err(Failure::Error(told)) if told == error);
            if !of_command && !lock(&self.told).contains(error) {
                errors::tell(error, self.output.json);
            }
        }
    }

    /// Says at once that a message has failed.
    pub(crate) fn tell_failure(&self, error: Error) {
        errors::tell(&error, self.output.json);
        lock(&self.told).push(error);
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
    pub(crate) fn open(&self) -> Result<Client, Failure> {
        let home = self.home()?;
        let key = secret::profile_key(&home, false)?;
        let client = Client::open(OpenOptions { home, key, create: false })?;
        self.listen(&client);
        Ok(client)
    }

    /// Opens the profile, or makes it; `protect` asks for a passphrase for one that is made.
    pub(crate) fn open_or_make(&self, protect: bool) -> Result<Client, Failure> {
        let home = self.home()?;
        let made = Protection::of(&home)?.is_none();
        let key = secret::profile_key(&home, protect)?;
        let plain = matches!(key, KeySource::File);
        let client = Client::open(OpenOptions { home: home.clone(), key, create: true })?;
        self.listen(&client);
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

/// The time that a command has for all that it does, connecting included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    start: Instant,
    timeout: Duration,
}

/// What is left at the least, so that what is asked for is on disk when the time is over.
const LEAST: Duration = Duration::from_millis(100);

impl Deadline {
    /// The time begins to run.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self { start: Instant::now(), timeout }
    }

    /// What is left of it.
    pub(crate) fn left(self) -> Duration {
        self.timeout.saturating_sub(self.start.elapsed()).max(LEAST)
    }
}

/// Runs `work` on a client that is online if it can be, and closes it in any case.
pub(crate) async fn with_client<T>(
    session: &Session,
    work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    with_client_until(session, Deadline::after(CONNECT), work).await
}

/// Runs `work` like [`with_client`], with a secret that is asked for only if there is an account that it could be for.
pub(crate) async fn with_secret<S, T>(
    session: &Session,
    ask: impl AsyncFnOnce() -> Result<S, Failure>,
    work: impl AsyncFnOnce(&Client, S) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let client = session.open()?;
    let outcome = async {
        if client.whoami().await.is_none() {
            return Err(no_account(&client).await.into());
        }
        let secret = ask().await?;
        try_online(&client, CONNECT).await?;
        work(&client, secret).await
    };
    let outcome = outcome.await;
    closed(&client, outcome).await
}

/// Why a profile is nobody's.
pub(crate) async fn no_account(client: &Client) -> Error {
    let none = || Error::new(Code::PROFILE_NOT_FOUND, "this profile has no account");
    client.devices().await.err().unwrap_or_else(none)
}

/// [`with_client`] with a time of the caller's for going online.
pub(crate) async fn with_client_until<T>(
    session: &Session,
    deadline: Deadline,
    work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let client = session.open()?;
    let outcome = match try_online(&client, deadline.left()).await {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
