//! Passwords and passphrases: from standard input, the environment, or a prompt without echo. Never from the command line, where
//! every process on the machine can read them.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    path::Path,
    thread,
};

use parlour_client::{KeySource, Protection};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::errors::{Failure, usage};

const PASSWORD: &str = "PARLOUR_PASSWORD";
const NEW_PASSWORD: &str = "PARLOUR_NEW_PASSWORD";
const PASSPHRASE: &str = "PARLOUR_PASSPHRASE";

type Secret = Zeroizing<String>;

/// The password of an account that exists.
pub(crate) async fn password(from_stdin: bool) -> Result<Secret, Failure> {
    let found = if from_stdin { Some(stdin_line("the password").await?) } else { environment(PASSWORD) };
    found.map_or_else(|| prompt("Password: "), Ok).and_then(not_empty)
}

/// The password of an account to be made: a prompt asks twice.
pub(crate) async fn chosen_password(from_stdin: bool) -> Result<Secret, Failure> {
    let found = if from_stdin { Some(stdin_line("the password").await?) } else { environment(PASSWORD) };
    found.map_or_else(|| prompt_twice("Password: "), Ok).and_then(not_empty)
}

/// The recovery code, and the password to be set with it.
pub(crate) async fn recovery(code_from_stdin: bool, password_from_stdin: bool) -> Result<(Secret, Secret), Failure> {
    let code = match code_from_stdin {
        true => stdin_line("the recovery code").await?,
        false => prompt_for("Recovery code: ", "--code-stdin")?,
    };
    let found = if password_from_stdin { Some(stdin_line("the new password").await?) } else { environment(PASSWORD) };
    let password = found.map_or_else(|| prompt_twice("New password: "), Ok)?;
    Ok((code, not_empty(password)?))
}

/// The old and the new password.
pub(crate) async fn password_change(from_stdin: bool) -> Result<(Secret, Secret), Failure> {
    if from_stdin {
        let old = not_empty(stdin_line("the old password").await?)?;
        return Ok((old, not_empty(stdin_line("the new password").await?)?));
    }
    let old = environment(PASSWORD).map_or_else(|| prompt("Old password: "), Ok)?;
    let new = environment(NEW_PASSWORD).map_or_else(|| prompt_twice("New password: "), Ok)?;
    Ok((not_empty(old)?, not_empty(new)?))
}

/// What opens the profile in `home`, or protects it if it is to be made.
pub(crate) fn profile_key(home: &Path, protect: bool) -> Result<KeySource, Failure> {
    match Protection::of(home)? {
        Some(Protection::FileMode) => Ok(KeySource::File),
        Some(Protection::Passphrase) => {
            let phrase = environment(PASSPHRASE).map_or_else(|| prompt("Passphrase of the profile: "), Ok)?;
            Ok(KeySource::Passphrase(phrase))
        }
        None => match environment(PASSPHRASE) {
            Some(phrase) => Ok(KeySource::Passphrase(not_empty(phrase)?)),
            None if protect => Ok(KeySource::Passphrase(not_empty(prompt_twice("Passphrase of the profile: ")?)?)),
            None => Ok(KeySource::File),
        },
    }
}

fn environment(name: &str) -> Option<Secret> {
    std::env::var(name).ok().map(Zeroizing::new)
}

async fn stdin_line(what: &str) -> Result<Secret, Failure> {
    let read = stdin(|stdin| {
        let mut line = Zeroizing::new(String::new());
        stdin.read_line(&mut line).map(|read| (read > 0).then_some(line))
    });
    let line = read.await.map_err(|error| usage(format!("cannot read {what}: {error}")))?;
    let mut line = line.ok_or_else(|| usage(format!("standard input ends before {what}")))?;
    let end = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(end);
    Ok(line)
}

/// Reads from standard input on a thread of its own, which nobody waits for when the command is stopped: at a terminal the next line
/// may never come.
pub(crate) async fn stdin<T: Send + 'static>(
    read: impl FnOnce(&mut io::StdinLock<'_>) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new().name("parlour-stdin".to_owned()).spawn(move || {
        // Refused when the command has been stopped.
        let _ = sender.send(read(&mut io::stdin().lock()));
    })?;
    receiver.await.map_err(|_| io::Error::other("its reader has ended"))?
}

fn prompt(text: &str) -> Result<Secret, Failure> {
    prompt_for(text, "--password-stdin")
}

/// Asks without echo; `option` is what to use where there is no terminal.
fn prompt_for(text: &str, option: &str) -> Result<Secret, Failure> {
    let hint = format!("use {option}");
    if !io::stderr().is_terminal() && !io::stdin().is_terminal() {
        let what = text.trim_end_matches([':', ' ']).to_lowercase();
        return Err(usage(format!("no {what} is given and there is no terminal to ask on")).hint(hint).into());
    }
    match rpassword::prompt_password(text) {
        Ok(answer) => Ok(Zeroizing::new(answer)),
        // Ctrl-C, which is an answer of its own.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(Failure::Interrupted),
        Err(error) => Err(usage(format!("cannot ask on the terminal: {error}")).hint(hint).into()),
    }
}

fn prompt_twice(text: &str) -> Result<Secret, Failure> {
    let first = prompt(text)?;
    if *prompt("Once more: ")? == *first { Ok(first) } else { Err(usage("the two are not the same").into()) }
}

fn not_empty(secret: Secret) -> Result<Secret, Failure> {
    if secret.is_empty() { Err(usage("an empty password protects nothing").into()) } else { Ok(secret) }
}
