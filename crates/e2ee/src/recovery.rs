//! The recovery code: a second way to the account's root, for whoever has lost the password. It is random, written down on
//! paper, and works as the password of an OPAQUE record of its own.
//!
//! Form: Crockford's base 32 (no I, L, O, U), 27 characters and a check character, in groups of four. The check is the number
//! modulo 37, so it finds every single wrong character and every swap of two neighbours.

use std::fmt;

use parlour_wire::Code;
use rand::{RngCore, rngs::OsRng};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters that carry the secret: 135 bits.
const CHARACTERS: usize = 27;
const GROUP: usize = 4;
/// The modulus of Crockford's check symbol.
const MODULUS: u32 = 37;

/// Why a text is no recovery code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecoveryCodeError {
    /// It has another number of characters.
    #[error("a recovery code has 28 letters and digits; this has {0}")]
    Length(usize),
    /// A character that is in no code.
    #[error("{0:?} is in no recovery code")]
    Character(char),
    /// The check character does not fit the others.
    #[error("a character of the recovery code is wrong, or two are swapped")]
    Check,
}

impl RecoveryCodeError {
    /// The row of the error table.
    #[must_use]
    pub const fn code(self) -> Code {
        Code::USAGE
    }
}

/// A recovery code: 135 random bits. Wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct RecoveryCode([u8; CHARACTERS]);

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode(…)")
    }
}

impl RecoveryCode {
    /// A code nobody has had before.
    #[must_use]
    pub fn generate() -> Self {
        loop {
            let mut symbols = [0; CHARACTERS];
            OsRng.fill_bytes(&mut symbols);
            symbols.iter_mut().for_each(|symbol| *symbol &= 31);
            // Five check values would need the signs * ~ $ = U, which people misread; codes that have one of them are passed over.
            if check(&symbols) < 32 {
                return Self(symbols);
            }
        }
    }

    /// Reads what a person types: any case, with or without hyphens and spaces, O for 0, I and L for 1.
    ///
    /// # Errors
    /// [`RecoveryCodeError`]: mistyped. Whether it is the right code only the server's record tells.
    pub fn parse(text: &str) -> Result<Self, RecoveryCodeError> {
        let mut symbols = Zeroizing::new([0; CHARACTERS + 1]);
        let mut count = 0;
        for character in text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '–' | '_' | '.')) {
            let symbol = symbol(character).ok_or(RecoveryCodeError::Character(character))?;
            if let Some(place) = symbols.get_mut(count) {
                *place = symbol;
            }
            count += 1;
        }
        if count != CHARACTERS + 1 {
            return Err(RecoveryCodeError::Length(count));
        }
        let (code, last) = symbols.split_at(CHARACTERS);
        let code = Self(code.try_into().map_err(|_| RecoveryCodeError::Length(count))?);
        if check(&code.0) == u32::from(last[0]) { Ok(code) } else { Err(RecoveryCodeError::Check) }
    }

    /// The code for people: seven groups of four.
    #[must_use]
    pub fn grouped(&self) -> Zeroizing<String> {
        let plain = self.plain();
        let mut text = Zeroizing::new(String::with_capacity(plain.len() * 5 / 4 + 1));
        for (at, character) in plain.chars().enumerate() {
            if at > 0 && at % GROUP == 0 {
                text.push('-');
            }
            text.push(character);
        }
        text
    }

    /// What OPAQUE takes as the password: the characters without hyphens, so that every way to type the code is the same.
    #[must_use]
    pub fn plain(&self) -> Zeroizing<String> {
        let last = u8::try_from(check(&self.0)).expect("a check value is below 37");
        let symbols = self.0.iter().chain(std::iter::once(&last));
        Zeroizing::new(symbols.map(|symbol| char::from(ALPHABET[usize::from(symbol & 31)])).collect())
    }
}

/// The number that the symbols write, modulo 37.
fn check(symbols: &[u8; CHARACTERS]) -> u32 {
    symbols.iter().fold(0, |sum, symbol| (sum * 32 + u32::from(*symbol)) % MODULUS)
}

fn symbol(character: char) -> Option<u8> {
    let upper = match character.to_ascii_uppercase() {
        'O' => b'0',
        'I' | 'L' => b'1',
        other => u8::try_from(other).ok()?,
    };
    let at = ALPHABET.iter().position(|known| *known == upper)?;
    u8::try_from(at).ok()
}
