//! How a failure is told: one line for people or one JSON object, on standard error, and the exit status.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::error::ErrorKind;
use parlour_client::{Code, Error};
use serde::Serialize;

use super::output::{Color, plain};

/// Why a command did not do all that it should.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error with a code.
    Error(Error),
    /// Whoever read our output has gone. That is no error.
    PipeClosed,
    /// Stopped by a signal.
    Interrupted,
}

/// Shells report a program that SIGINT ended as 128 + 2.
const INTERRUPTED: u8 = 130;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            io::ErrorKind::StorageFull => Error::new(Code::DISK_FULL, format!("cannot write the output: {error}")).into(),
            _ => Error::new(Code::READ_ONLY, format!("cannot write the output: {error}")).into(),
        }
    }
}

/// An error that the words of the command line cause.
pub(crate) fn usage(message: impl Into<String>) -> Error {
    Error::new(Code::USAGE, message)
}

#[derive(Serialize)]
struct Row<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
}

/// Tells a failure and gives the exit status.
pub(crate) fn report(failure: &Failure, json: bool) -> ExitCode {
    match failure {
        Failure::Error(error) => {
            tell(error, json);
            ExitCode::from(error.code.exit())
        }
        Failure::PipeClosed => ExitCode::SUCCESS,
        Failure::Interrupted => ExitCode::from(INTERRUPTED),
    }
}

/// Tells an error; whether it is one of the command is for the caller to say.
pub(crate) fn tell(error: &Error, json: bool) {
    let hint = error.hint.as_deref().or_else(|| default_hint(error.code));
    say(error.code.name(), &error.message, hint, json);
}

/// Tells what the parser found wrong, or prints the help that was asked for.
pub(crate) fn report_usage(error: &clap::Error, json: bool) -> ExitCode {
    let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !asked_for && json {
        let message = match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command or what it needs is missing".to_owned(),
            _ => one_line(&error.render().to_string()),
        };
        say(Code::USAGE.name(), &message, default_hint(Code::USAGE), true);
        return ExitCode::from(Code::USAGE.exit());
    }
    match error.print() {
        Err(cause) if asked_for => report(&cause.into(), json),
        _ if asked_for => ExitCode::SUCCESS,
        _ => ExitCode::from(Code::USAGE.exit()),
    }
}

/// What the parser found wrong, with the names, values and tips that it gives below, and without how the command is used.
fn one_line(rendered: &str) -> String {
    let lines = rendered.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let mut message = String::new();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with("For more information")) {
        message += match line {
            _ if message.is_empty() || message.ends_with(':') => "",
            _ if line.starts_with('[') => " ",
            _ if line.starts_with("tip:") => "; ",
            _ => ", ",
        };
        if message.ends_with(':') {
            message.push(' ');
        }
        message += line.strip_prefix("error: ").unwrap_or(line);
    }
    message
}

fn say(code: &str, message: &str, hint: Option<&str>, json: bool) {
    let text = if json {
        let row = Row { error: Body { code, message, hint } };
        serde_json::to_string(&row).unwrap_or_else(|_| format!("{{\"error\":{{\"code\":\"{code}\"}}}}"))
    } else {
        let hint = hint.map(|hint| format!("\n  hint: {}", plain(hint))).unwrap_or_default();
        format!("error: {}{hint}", plain(message))
    };
    // Nobody is left to be told about a standard error that is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// What to do about a kind of error, when the error itself does not say.
fn default_hint(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::USAGE => "see `parlour help`",
        Code::USER_NOT_FOUND => "check the spelling; `parlour contacts` lists whom you know",
        Code::CONVERSATION_NOT_FOUND => "`parlour group list` shows the groups of this account",
        Code::NOT_MEMBER => "an admin of the group can add you",
        Code::FORBIDDEN => "`parlour group members` shows who is an admin",
        Code::ALREADY_EXISTS => "nothing has to be done",
        Code::QUOTA => "something has to go before more can come",
        Code::MESSAGE_NOT_FOUND => "`parlour history` and `parlour send` print ids",
        Code::DEVICE_NOT_FOUND => "`parlour devices` lists the devices of this account",
        Code::PROFILE_NOT_FOUND => "`parlour register` makes an account, `parlour login` adds this device to one",
        Code::NO_DEVICES => "they have to log in on a device first",
        Code::WRONG_PASSWORD => "check name and password; the server does not say which of them is wrong",
        Code::REGISTRATION_CLOSED => "ask the server's administrator for an account",
        Code::INVITE_REQUIRED => "ask somebody who runs the server for an invitation and give it with --invite",
        Code::INVITE_UNKNOWN | Code::INVITE_USED_UP | Code::INVITE_EXPIRED => "ask for another invitation",
        Code::DEVICE_REVOKED => "`parlour login` adds this device again",
        Code::CERTIFICATE_CHANGED => "somebody may be in between; ask the server's administrator for its fingerprint",
        Code::PROFILE_IN_USE => "another parlour uses this profile: stop it, or choose another profile with --home",
        Code::KEY_CHANGED => "compare safety numbers with `parlour verify` before you write to them",
        Code::BLOCKED => "`parlour contacts block TO --undo` takes messages again",
        Code::READ_ONLY => "check the permissions of the folder, or choose another profile with --home",
        Code::WRONG_PASSPHRASE => "the passphrase protects this profile and is not the account's password",
        Code::UNREACHABLE => "check the address and that the server runs",
        Code::TIMED_OUT | Code::LINK_LOST | Code::STOPPING | Code::OVERLOADED => "try again, or give it longer with --timeout",
        Code::NAME_TAKEN => "choose another name; users and groups share one namespace",
        Code::TOO_LARGE => "send it as a file, with --file, or in parts",
        Code::RATE_LIMITED => "wait a little and try again",
        Code::DISK_FULL => "make room and try again",
        Code::INTERNAL | Code::BAD_REQUEST | Code::BAD_FRAME | Code::UNKNOWN_REQUEST => "this is a bug; please report it",
        _ => return None,
    })
}

/// Whether the caller wants JSON, for errors that come before the arguments are understood.
pub(crate) fn wants_json(words: &[OsString]) -> bool {
    words.iter().skip(1).take_while(|word| *word != "--").any(|word| word == "--json")
}

/// The colour setting, for errors that come before the arguments are understood.
pub(crate) fn color_of(words: &[OsString]) -> Color {
    let mut values = words.windows(2).filter_map(|pair| match pair[0].to_str()? {
        "--color" => pair[1].to_str(),
        _ => pair[1].to_str()?.strip_prefix("--color="),
    });
    match values.next_back() {
        Some("always") => Color::Always,
        Some("never") => Color::Never,
        _ => Color::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn json_is_noticed_before_the_line_is_understood() {
        assert!(wants_json(&words("parlour nonsense --json")));
        assert!(!wants_json(&words("parlour send bob -- --json")));
    }

    #[test]
    fn colour_is_noticed_before_the_line_is_understood() {
        assert_eq!(color_of(&words("parlour --color never x")), Color::Never);
        assert_eq!(color_of(&words("parlour x --color=always")), Color::Always);
        assert_eq!(color_of(&words("parlour x")), Color::Auto);
    }

    #[test]
    fn what_the_parser_says_becomes_one_line() {
        let missing = "error: the following required arguments were not provided:\n  --server <URL>\n  <NAME>\n\n\
            Usage: parlour register --server <URL> <NAME>\n\nFor more information, try '--help'.\n";
        assert_eq!(one_line(missing), "the following required arguments were not provided: --server <URL>, <NAME>");
        let wrong = "error: invalid value 'x' for '<SHELL>'\n  [possible values: bash, zsh]\n\n  tip: a similar value exists: 'zsh'\n\n\
            For more information, try '--help'.\n";
        assert_eq!(
            one_line(wrong),
            "invalid value 'x' for '<SHELL>' [possible values: bash, zsh]; tip: a similar value exists: 'zsh'"
        );
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        assert!(matches!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)), Failure::PipeClosed));
    }
}
