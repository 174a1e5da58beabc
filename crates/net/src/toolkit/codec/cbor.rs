//! Looks through CBOR before a deserializer follows it: one whole item, not nested too deep, no length beyond what is there.
//!
//! A deserializer recurses with its input and reserves memory for announced lengths. After this check neither can be abused.

use thiserror::Error;

/// Levels of arrays, maps and tags. As many as the JSON reader follows.
pub(super) const DEPTH: usize = 128;

/// What is wrong with content that claims to be CBOR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Malformed {
    #[error("CBOR nested deeper than {DEPTH} levels")]
    TooDeep,
    #[error("CBOR that is cut off, or announces more than there is")]
    Truncated,
    #[error("bytes after the CBOR value")]
    Trailing,
    #[error("no CBOR")]
    Invalid,
}

/// Items that are still to come on one level.
#[derive(Clone, Copy)]
enum Level {
    Items(u64),
    /// Until the break. Of a map, `odd` while a value is due.
    Open {
        map: bool,
        odd: bool,
    },
}

/// What an item begins.
enum Head {
    /// It is complete.
    Leaf,
    Nested(Level),
    Break,
}

pub(super) fn check(content: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader { rest: content };
    let mut levels = [Level::Items(0); DEPTH];
    let mut depth = 0;
    loop {
        match reader.head()? {
            Head::Nested(level) => {
                *levels.get_mut(depth).ok_or(Malformed::TooDeep)? = level;
                depth += 1;
                if !matches!(level, Level::Items(0)) {
                    continue;
                }
                depth -= 1;
            }
            Head::Leaf => {}
            Head::Break => match depth.checked_sub(1).map(|top| levels[top]) {
                Some(Level::Open { odd: false, .. }) => depth -= 1,
                _ => return Err(Malformed::Invalid),
            },
        }
        // One item is complete; it may complete those around it.
        while let Some(top) = depth.checked_sub(1) {
            match &mut levels[top] {
                Level::Items(left) => {
                    *left -= 1;
                    if *left > 0 {
                        break;
                    }
                    depth -= 1;
                }
                Level::Open { map, odd } => {
                    *odd = *map && !*odd;
                    break;
                }
            }
        }
        if depth == 0 {
            return if reader.rest.is_empty() { Ok(()) } else { Err(Malformed::Trailing) };
        }
    }
}

struct Reader<'c> {
    rest: &'c [u8],
}

impl Reader<'_> {
    fn take(&mut self, count: u64) -> Result<&[u8], Malformed> {
        let count = usize::try_from(count).map_err(|_| Malformed::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn head(&mut self) -> Result<Head, Malformed> {
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 31);
        let argument = match info {
            0..=23 => Some(u64::from(info)),
            24..=27 => Some(self.take(1 << (info - 24))?.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))),
            31 => None,
            _ => return Err(Malformed::Invalid),
        };
        Ok(match (major, argument) {
            (0 | 1, Some(_)) => Head::Leaf,
            (2 | 3, Some(length)) => {
                self.take(length)?;
                Head::Leaf
            }
            (2 | 3, None) => self.chunks(major)?,
            (4, Some(count)) => Head::Nested(Level::Items(self.possible(count)?)),
            (5, Some(count)) => Head::Nested(Level::Items(self.possible(count.checked_mul(2).ok_or(Malformed::Truncated)?)?)),
            (4 | 5, None) => Head::Nested(Level::Open { map: major == 5, odd: false }),
            (6, Some(_)) => Head::Nested(Level::Items(1)),
            (7, Some(_)) => Head::Leaf,
            (7, None) => Head::Break,
            _ => return Err(Malformed::Invalid),
        })
    }

    /// A count of items, each of which takes a byte at least.
    fn possible(&self, count: u64) -> Result<u64, Malformed> {
        if count > self.rest.len() as u64 { Err(Malformed::Truncated) } else { Ok(count) }
    }

    /// The pieces of a string of unknown length.
    fn chunks(&mut self, major: u8) -> Result<Head, Malformed> {
        loop {
            match *self.rest.first().ok_or(Malformed::Truncated)? {
                0xff => {
                    self.take(1)?;
                    return Ok(Head::Leaf);
                }
                piece if piece >> 5 == major && piece & 31 != 31 => {
                    self.head()?;
                }
                _ => return Err(Malformed::Invalid),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nested(levels: usize) -> Vec<u8> {
        let mut content = vec![0x81; levels];
        content.push(0);
        content
    }

    #[test]
    fn nesting_is_followed_to_the_limit_and_no_further() {
        assert_eq!(check(&nested(DEPTH)), Ok(()));
        assert_eq!(check(&nested(DEPTH + 1)), Err(Malformed::TooDeep));
        for opening in [0x81, 0x9f, 0xa1, 0xbf, 0xc1, 0xd8] {
            let deep = vec![opening; 1 << 20];
            let verdict = check(&deep);
            assert!(matches!(verdict, Err(Malformed::TooDeep | Malformed::Invalid)), "{opening:x}: {verdict:?}");
        }
    }

    #[test]
    fn announced_lengths_must_be_there() {
        for head in [0x5b, 0x7b, 0x9b, 0xbb] {
            for length in [2, 9, u64::from(u32::MAX), u64::MAX / 2 + 1, u64::MAX] {
                let content = [&[head][..], &length.to_be_bytes(), &[0]].concat();
                assert_eq!(check(&content), Err(Malformed::Truncated), "{head:x} {length}");
            }
        }
    }

    #[test]
    fn exactly_one_item_is_content() {
        assert_eq!(check(&[]), Err(Malformed::Truncated));
        assert_eq!(check(&[0, 0]), Err(Malformed::Trailing));
        assert_eq!(check(&[0xff]), Err(Malformed::Invalid));
        assert_eq!(check(&[0x9f, 0, 0xff]), Ok(()));
        assert_eq!(check(&[0x9f, 0x81, 0xff]), Err(Malformed::Invalid));
        assert_eq!(check(&[0xbf, 0, 0xff]), Err(Malformed::Invalid), "a key without a value");
        assert_eq!(check(&[0xbf, 0, 0, 0xff]), Ok(()));
        assert_eq!(check(&[0x5f, 0x41, 1, 0x42, 1, 2, 0xff]), Ok(()));
        assert_eq!(check(&[0x5f, 0x61, 1, 0xff]), Err(Malformed::Invalid), "text in a byte string");
        assert_eq!(check(&[0x82, 0x80, 0xa0]), Ok(()));
        assert_eq!(check(&[0xc1, 0xfb, 0, 0, 0, 0, 0, 0, 0, 0]), Ok(()));
    }

    proptest! {
        /// The reference is the reader that follows, which bounds nothing. It looks into texts too, so there are none.
        #[test]
        fn whatever_passes_is_one_item_for_another_reader(
            content in proptest::collection::vec(any::<u8>().prop_map(|byte| if byte >> 5 == 3 { byte ^ 0x20 } else { byte }), 0..64)
        ) {
            if check(&content).is_ok() {
                let mut decoder = minicbor::Decoder::new(&content);
                prop_assert!(decoder.skip().is_ok(), "{content:02x?}");
                prop_assert_eq!(decoder.position(), content.len());
            }
        }

        #[test]
        fn what_the_encoder_writes_passes(value in value()) {
            let content = minicbor_serde::to_vec(&value).unwrap();
            prop_assert_eq!(check(&content), Ok(()));
            for end in 0..content.len() {
                prop_assert!(check(&content[..end]).is_err());
            }
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a-zä]{0,30}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                proptest::collection::btree_map("[a-z]{0,5}", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
