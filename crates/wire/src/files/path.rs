//! The name of a file at a peer: the name of a root, and a path below it that every file system understands in the same way.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::limits;

/// The name of a file at a peer, such as `inbox/2024/report.pdf`: a root that the peer has opened, then folders, then the file.
///
/// It cannot lead anywhere but below the root, on no platform: it has no empty parts, no `.` or `..`, no backslash, no colon (drive
/// letters and streams of Windows), no control characters, no dot or space at the end of a part, no names of devices. Names of
/// our own part files are refused too.
///
/// ```
/// use parlour_wire::files::RemotePath;
///
/// let path: RemotePath = "inbox/2024/report.pdf".parse()?;
/// assert_eq!((path.root(), path.below(), path.name()), ("inbox", "2024/report.pdf", "report.pdf"));
/// assert!("inbox/../secrets".parse::<RemotePath>().is_err());
/// # Ok::<(), parlour_wire::files::PathError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemotePath {
    text: String,
    /// Size of the root's name.
    root: usize,
}

/// Why a text is no [`RemotePath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// Longer than [`limits::REMOTE_PATH`].
    #[error("the path is longer than allowed")]
    TooLong,
    /// More parts than [`limits::REMOTE_DEPTH`].
    #[error("the path is deeper than allowed")]
    TooDeep,
    /// A root without a file below it.
    #[error("the path names no file below a root")]
    NoFile,
    /// It begins with a slash.
    #[error("the path is absolute")]
    Absolute,
    /// Two slashes beside each other, or one at the end.
    #[error("a part of the path is empty")]
    EmptyPart,
    /// A part is longer than [`limits::REMOTE_PART`].
    #[error("a part of the path is longer than allowed")]
    PartTooLong,
    /// `.` or `..`.
    #[error("the path has a part that leads elsewhere")]
    Relative,
    /// A backslash, a colon or a control character.
    #[error("the path has a character that is not allowed")]
    Character,
    /// A part ends with a dot or a space, which some systems drop.
    #[error("a part of the path ends with a dot or a space")]
    Ending,
    /// A part that some systems take for a device.
    #[error("a part of the path is the name of a device")]
    Device,
    /// A name in the manner of our part files.
    #[error("the path names the part file of a transfer")]
    PartFile,
}

/// Names that Windows takes for devices, whatever their case and extension. `COM` and `LPT` have digits behind them.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
const NUMBERED_DEVICES: [&str; 2] = ["COM", "LPT"];

/// Hexadecimal digits of the tag in the name of a part file.
const TAG_DIGITS: usize = 16;
const PART_SUFFIX: &str = ".part";

impl RemotePath {
    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of the root.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.text[..self.root]
    }

    /// The path below the root.
    #[must_use]
    pub fn below(&self) -> &str {
        &self.text[self.root + 1..]
    }

    /// The folders below the root, outermost first.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        let folders = self.below().rsplit_once('/').map(|(folders, _)| folders);
        folders.into_iter().flat_map(|folders| folders.split('/'))
    }

    /// The name of the file.
    #[must_use]
    pub fn name(&self) -> &str {
        self.below().rsplit_once('/').map_or(self.below(), |(_, name)| name)
    }

    /// Checks one part of a path: the name of a root, of a folder or of a file.
    ///
    /// # Errors
    /// [`PathError`] saying what is wrong with it.
    pub fn check_part(part: &str) -> Result<(), PathError> {
        if part.is_empty() {
            return Err(PathError::EmptyPart);
        }
        if part.len() > limits::REMOTE_PART {
            return Err(PathError::PartTooLong);
        }
        if part == "." || part == ".." {
            return Err(PathError::Relative);
        }
        if part.chars().any(|c| matches!(c, '/' | '\\' | ':') || c.is_control()) {
            return Err(PathError::Character);
        }
        if part.ends_with(['.', ' ']) {
            return Err(PathError::Ending);
        }
        if is_device(part) {
            return Err(PathError::Device);
        }
        if Self::is_part_file(part) {
            return Err(PathError::PartFile);
        }
        Ok(())
    }

    /// Whether a file of this name is the part file of a transfer: `.NAME.TAG.part`, or the same one to systems that do not tell large
    /// letters from small ones.
    #[must_use]
    pub fn is_part_file(name: &str) -> bool {
        let split = name.len().checked_sub(PART_SUFFIX.len()).and_then(|at| name.split_at_checked(at));
        let rest = split.filter(|(_, suffix)| suffix.eq_ignore_ascii_case(PART_SUFFIX)).map(|(rest, _)| rest);
        let tag = rest.and_then(|rest| rest.strip_prefix('.')).and_then(|rest| rest.rsplit_once('.'));
        tag.is_some_and(|(_, tag)| tag.len() == TAG_DIGITS && tag.bytes().all(|c| c.is_ascii_hexdigit()))
    }

    /// The name of the part file of a file with this name. The tag tells transfers of the same file apart.
    #[must_use]
    pub fn part_file(name: &str, tag: u64) -> String {
        let room = limits::REMOTE_PART - PART_SUFFIX.len() - TAG_DIGITS - 2;
        let end = (0..=room.min(name.len())).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        format!(".{}.{tag:0width$x}{PART_SUFFIX}", &name[..end], width = TAG_DIGITS)
    }
}

fn is_device(part: &str) -> bool {
    let stem = part.split_once('.').map_or(part, |(stem, _)| stem).trim_end_matches(' ');
    let is = |device: &&str| stem.eq_ignore_ascii_case(device);
    let numbered = |device: &&str| {
        let Some((name, number)) = stem.char_indices().nth(device.len()).map(|(at, _)| stem.split_at(at)) else { return false };
        // The superscript digits count as digits there.
        let is_digit = |c: char| c.is_ascii_digit() || matches!(c, '¹' | '²' | '³');
        let mut number = number.chars();
        name.eq_ignore_ascii_case(device) && number.next().is_some_and(is_digit) && number.next().is_none()
    };
    DEVICES.iter().any(is) || NUMBERED_DEVICES.iter().any(numbered)
}

impl FromStr for RemotePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.len() > limits::REMOTE_PATH {
            return Err(PathError::TooLong);
        }
        if text.starts_with('/') {
            return Err(PathError::Absolute);
        }
        if text.split('/').count() > limits::REMOTE_DEPTH {
            return Err(PathError::TooDeep);
        }
        text.split('/').try_for_each(Self::check_part)?;
        let (root, _) = text.split_once('/').ok_or(PathError::NoFile)?;
        Ok(Self { root: root.len(), text: text.to_owned() })
    }
}

impl fmt::Display for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_elsewhere_is_refused_by_name() {
        let cases = [
            ("", PathError::EmptyPart),
            ("inbox", PathError::NoFile),
            ("/etc/passwd", PathError::Absolute),
            ("inbox/", PathError::EmptyPart),
            ("inbox//a", PathError::EmptyPart),
            ("inbox/../a", PathError::Relative),
            ("../a", PathError::Relative),
            ("inbox/./a", PathError::Relative),
            ("inbox/..\\a", PathError::Character),
            ("inbox/C:", PathError::Character),
            ("inbox/a:stream", PathError::Character),
            ("inbox/a\0", PathError::Character),
            ("inbox/a\nb", PathError::Character),
            ("inbox/a\u{85}b", PathError::Character),
            ("inbox/a.", PathError::Ending),
            ("inbox/... /a", PathError::Ending),
            ("inbox/nul", PathError::Device),
            ("inbox/NUL .txt", PathError::Device),
            ("inbox/Com1.tar.gz", PathError::Device),
            ("inbox/lpt\u{b3}", PathError::Device),
            ("inbox/conin$", PathError::Device),
            ("inbox/.a.0123456789abcdef.part", PathError::PartFile),
            ("inbox/.a.0123456789ABCDEF.PART", PathError::PartFile),
            ("inbox/.a.0123456789abcdef.Part", PathError::PartFile),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<RemotePath>(), Err(error), "{text:?}");
        }
        let long = |part: usize, parts: usize| vec!["x".repeat(part); parts].join("/").parse::<RemotePath>();
        assert_eq!(long(256, 2), Err(PathError::PartTooLong));
        assert_eq!(long(1, 33), Err(PathError::TooDeep));
        assert_eq!(long(255, 5), Err(PathError::TooLong));
        assert!(long(255, 4).is_ok() && long(1, 32).is_ok());
    }

    #[test]
    fn usual_names_are_allowed() {
        for text in
            ["a/b", "inbox/.hidden", "inbox/..a", "a/com", "a/COM12", "a/null", "a/ü b/c.tar.gz", "a/.a.0123.part", "a/com\u{e9}"]
        {
            assert_eq!(text.parse::<RemotePath>().map(|path| path.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_path_knows_its_parts() {
        let path: RemotePath = "root/a/b/c.txt".parse().expect("valid");
        assert_eq!((path.root(), path.below(), path.name()), ("root", "a/b/c.txt", "c.txt"));
        assert_eq!(path.folders().collect::<Vec<_>>(), ["a", "b"]);
        let path: RemotePath = "root/c".parse().expect("valid");
        assert_eq!((path.folders().count(), path.name()), (0, "c"));
    }

    #[test]
    fn part_files_have_names_that_fit_and_are_known() {
        for name in ["a", "c.tar.gz", &"ü".repeat(127), &"x".repeat(255)] {
            let part = RemotePath::part_file(name, 0xab);
            assert!(part.len() <= limits::REMOTE_PART && RemotePath::is_part_file(&part), "{part}");
            assert_ne!(part, RemotePath::part_file(name, 0xac));
        }
    }
}
