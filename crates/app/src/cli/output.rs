//! What goes to standard output: a line for people, or one JSON object per line and nothing else.
//!
//! Every row is flushed at once, so that a reader behind a pipe sees it when it happens. Text that others wrote never reaches a
//! terminal with its control characters: an escape sequence could rewrite the screen.

use std::{
    io::{self, IsTerminal, Write as _},
    time::Duration,
};

use clap::ValueEnum;
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::errors::Failure;

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    /// Whether to colour what goes to `stream`.
    pub(crate) fn applies_to(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && stream.is_terminal(),
        }
    }
}

impl From<Color> for clap::ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}

/// Standard output and standard error, as the caller wants them.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// JSON on both.
    pub(crate) json: bool,
    /// Colours on standard output.
    color: bool,
}

impl Output {
    /// The output of a command.
    pub(crate) fn new(json: bool, color: Color) -> Self {
        Self { json, color: !json && color.applies_to(&io::stdout()) }
    }

    /// Prints one row: `row` as JSON, or `text` for people. Returns once it is flushed.
    pub(crate) fn row(&self, row: &impl Serialize, text: impl FnOnce(&Self) -> String) -> Result<(), Failure> {
        let line = if self.json { serde_json::to_string(row).map_err(io::Error::from)? } else { text(self) };
        self.line(&line)
    }

    /// Prints something for people only.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.line(text) }
    }

    /// Prints bytes as they are.
    #[expect(clippy::unused_self, reason = "standard output is written here only")]
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    fn line(&self, line: &str) -> Result<(), Failure> {
        self.raw(format!("{line}\n").as_bytes())
    }

    /// Says something on standard error, to people only. Nobody is waiting for it, so it cannot fail.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Makes a word stand out.
    pub(crate) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Makes a word recede.
    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A time: RFC 3339, UTC, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(Timestamp);

impl Time {
    /// From Unix milliseconds; `None` for 0, which means that the time is not known.
    pub(crate) fn known(unix_ms: u64) -> Option<Self> {
        let millis = i64::try_from(unix_ms).ok().filter(|millis| *millis != 0)?;
        Timestamp::from_millisecond(millis).ok().map(Self)
    }

    /// The form for people: to the minute.
    pub(crate) fn short(self) -> String {
        self.0.strftime("%Y-%m-%d %H:%M UTC").to_string()
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.3}", self.0))
    }
}

/// Text that somebody else wrote, without what a terminal would obey. Line breaks and tabs stay.
pub(crate) fn plain(text: &str) -> String {
    let harmless = |c: char| if (c.is_control() && c != '\n' && c != '\t') || is_bidi_control(c) { '\u{fffd}' } else { c };
    text.chars().map(harmless).collect()
}

/// Characters that reorder what follows them: a name could pose as another.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A length of time for people.
pub(crate) fn seconds(length: Duration) -> String {
    format!("{} s", length.as_secs_f32())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc_with_milliseconds() {
        let time = |millis| Time::known(millis).map(|time| serde_json::to_string(&time).expect("a string"));
        assert_eq!(time(1_700_000_000_120).as_deref(), Some("\"2023-11-14T22:13:20.120Z\""));
        assert_eq!(time(1_700_000_000_000).as_deref(), Some("\"2023-11-14T22:13:20.000Z\""));
        assert_eq!(time(0), None);
        assert_eq!(time(u64::MAX), None);
    }

    #[test]
    fn text_of_others_cannot_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\r\nc\td\u{202e}e"), "a\u{fffd}[2Jb\u{fffd}\nc\td\u{fffd}e");
        assert_eq!(plain("héllo 👋"), "héllo 👋");
    }
}
