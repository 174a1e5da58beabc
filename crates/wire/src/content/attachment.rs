//! Attachments: files that stay outside the message, with the key that opens them inside.

use minicbor::Decoder;

use super::{
    codec::{Out, Written, array, bad, bytes_of},
    part::{self, Head},
};
use crate::{
    codec::{DecodeError, bounded},
    id::BlobId,
    limits,
};

/// Fields of an external part.
pub(super) const EXTERNAL_FIELDS: u64 = 15;
/// "All parts are one unit" (section 4.4).
const SINGLE_UNIT: u64 = 1;
const SCHEME: &str = "parlour-blob:";
/// The chunked encryption of attachments, from the range for private use of the IANA registry of AEAD algorithms.
const STREAM: u64 = 0xf001;
/// BLAKE3, which the registry of named hashes does not list.
const BLAKE3: u64 = 0xff;
/// What thumbnails are said to be if nothing in their bytes tells.
const IMAGE: &str = "image/jpeg";

/// A file that a message names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Where its ciphertext is.
    pub blob: BlobId,
    /// The key that opens it, made for this file alone.
    pub key: [u8; 32],
    /// Size of the plaintext in bytes.
    pub size: u64,
    /// Size of the blob in bytes.
    pub blob_size: u64,
    /// BLAKE3 of the plaintext.
    pub hash: [u8; 32],
    /// Its content type: the sender's claim.
    pub content_type: String,
    /// A base name without a path, as [`safe_name`] leaves it.
    pub name: String,
    /// Text beside it; may be empty.
    pub text: String,
    /// A small picture of it, PNG, JPEG or WebP; at most [`limits::THUMBNAIL`] bytes.
    pub thumbnail: Option<Vec<u8>>,
}

impl Attachment {
    fn check(&self) -> Result<(), DecodeError> {
        bounded("content type", self.content_type.len(), limits::LABEL)?;
        bounded("caption", self.text.len(), limits::CAPTION)?;
        bounded("thumbnail", self.thumbnail.as_ref().map_or(0, Vec::len), limits::THUMBNAIL)?;
        if self.size > limits::BLOB || self.blob_size > limits::BLOB {
            return Err(DecodeError::TooLong("attachment"));
        }
        if self.thumbnail.as_ref().is_some_and(Vec::is_empty) || self.content_type.chars().any(char::is_control) {
            return Err(DecodeError::Invalid("attachment"));
        }
        if self.name != safe_name(&self.name) {
            return Err(DecodeError::Invalid("file name"));
        }
        Ok(())
    }

    /// Its part.
    pub(super) fn to_part(&self) -> Result<Vec<u8>, DecodeError> {
        self.check()?;
        Ok(bytes_of(|e| match &self.thumbnail {
            None => self.write_external(e),
            Some(thumbnail) => {
                e.array(5)?.u64(part::ATTACHMENT)?.str("")?.u64(part::MULTI)?.u64(SINGLE_UNIT)?.array(2)?;
                self.write_external(e)?;
                part::write_single(e, part::PREVIEW, image_type(thumbnail), thumbnail)
            }
        }))
    }

    fn write_external(&self, e: &mut Out<'_>) -> Written {
        let url = format!("{SCHEME}{}?size={}", self.blob, self.blob_size);
        e.array(EXTERNAL_FIELDS)?.u64(part::ATTACHMENT)?.str("")?.u64(part::EXTERNAL)?;
        // Not before its message does it expire; nonce and additional data are those of the construction.
        e.str(&self.content_type)?.str(&url)?.u32(0)?.u64(self.size)?;
        e.u64(STREAM)?.bytes(&self.key)?.bytes(&[])?.bytes(&[])?;
        e.u64(BLAKE3)?.bytes(&self.hash)?.str(&self.text)?.str(&self.name)?;
        Ok(())
    }

    /// An external part from its content type on; `None` for one that is kept or encrypted in a way not known here. The name is made safe.
    pub(super) fn read_external(d: &mut Decoder<'_>) -> Result<Option<Self>, DecodeError> {
        let content_type = d.str().map_err(bad)?.to_owned();
        let url = d.str().map_err(bad)?;
        d.u32().map_err(bad)?; // expires
        let size = d.u64().map_err(bad)?;
        let encryption = d.u64().map_err(bad)?;
        let key = d.bytes().map_err(bad)?;
        let (_nonce, _aad) = (d.bytes().map_err(bad)?, d.bytes().map_err(bad)?);
        let algorithm = d.u64().map_err(bad)?;
        let hash = d.bytes().map_err(bad)?;
        let text = d.str().map_err(bad)?.to_owned();
        let name = safe_name(d.str().map_err(bad)?);
        let Some((blob, blob_size)) = read_url(url) else { return Ok(None) };
        if (encryption, algorithm) != (STREAM, BLAKE3) {
            return Ok(None);
        }
        let key = key.try_into().map_err(|_| DecodeError::Invalid("key of an attachment"))?;
        let hash = hash.try_into().map_err(|_| DecodeError::Invalid("hash of an attachment"))?;
        let attachment = Self { blob, key, size, blob_size, hash, content_type, name, text, thumbnail: None };
        attachment.check()?;
        Ok(Some(attachment))
    }
}

/// A multi-part from its semantics on: an attachment with its preview; `None` for any other.
pub(super) fn read_multi(d: &mut Decoder<'_>) -> Result<Option<Attachment>, DecodeError> {
    if d.u64().map_err(bad)? != SINGLE_UNIT || array(d)? != 2 {
        return Ok(None);
    }
    let head = Head::read(d)?;
    if (head.cardinality, head.fields, head.disposition) != (part::EXTERNAL, EXTERNAL_FIELDS, part::ATTACHMENT) {
        return Ok(None);
    }
    let Some(mut attachment) = Attachment::read_external(d)? else { return Ok(None) };
    let head = Head::read(d)?;
    if (head.cardinality, head.fields, head.disposition) != (part::SINGLE, 5, part::PREVIEW) {
        return Ok(None);
    }
    if !d.str().map_err(bad)?.starts_with("image/") {
        return Ok(None);
    }
    attachment.thumbnail = Some(d.bytes().map_err(bad)?.to_vec());
    attachment.check()?;
    Ok(Some(attachment))
}

fn read_url(url: &str) -> Option<(BlobId, u64)> {
    let (blob, size) = url.strip_prefix(SCHEME)?.split_once("?size=")?;
    Some((blob.parse().ok()?, size.parse().ok()?))
}

fn image_type(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [b'R', b'I', b'F', b'F', ..] => "image/webp",
        _ => IMAGE,
    }
}

/// A base name that can be a file anywhere and cannot mislead who reads it: without folders, control and invisible characters, characters and
/// names that some system reserves, and not longer than [`limits::FILE_NAME`]. Never empty.
#[must_use]
pub fn safe_name(name: &str) -> String {
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let visible = base.chars().filter(|c| !is_misleading(*c));
    let safe: String = visible.map(|c| if RESERVED.contains(c) { '_' } else { c }).collect();
    // A leading dot would hide the file from its owner, one at the end is lost on some systems.
    let trim = |name: &str| name.trim_matches(|c: char| c.is_whitespace() || c == '.').to_owned();
    let mut safe = trim(&safe);
    let stem = safe.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    if DEVICES.contains(&&*stem) {
        safe.insert(0, '_');
    }
    shorten(&mut safe);
    let safe = trim(&safe);
    if safe.is_empty() { "file".to_owned() } else { safe }
}

const RESERVED: &str = "<>:\"|?*";

/// Names that are devices on some systems, with any ending.
const DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "lpt1", "lpt2", "lpt3",
    "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// Control characters, and those that change the order or the look of what stands beside them.
fn is_misleading(c: char) -> bool {
    let invisible = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || invisible
}

/// Cuts the stem, so that the ending stays.
fn shorten(name: &mut String) {
    if name.len() <= limits::FILE_NAME {
        return;
    }
    let ending = name.rfind('.').map(|at| name[at..].to_owned()).filter(|ending| ending.len() <= 16).unwrap_or_default();
    let mut cut = limits::FILE_NAME - ending.len();
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    name.truncate(cut);
    name.push_str(&ending);
}
