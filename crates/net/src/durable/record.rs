//! The bytes of a log file: a header, then records. Nothing here touches a file.
//!
//! ```text
//! header   magic 16 · id 16 · key 32 · next number u64 · whole until u64 · check 16                                     96 bytes
//! record   marker 4 · length u32 · number u64 · durable u64 · kind u8 · content type u8 · name length u16 · check 12    40 bytes
//!          name and content · check 16                                               only where the length is not 0
//! ```
//!
//! Numbers are big endian. A check is a keyed BLAKE3 hash, cut; it covers the place in the file, so a block that a disk puts
//! elsewhere does not pass, and the key is random for each file, so no content can look like a record of it. `durable` says how
//! much of the file was on disk when the record was written: that is how a reader tells a write that a crash has torn, which
//! nobody was promised, from damage to something that was.

use parlour_wire::{frame::ContentType, limits};

/// Size of the header of a file in bytes.
pub(crate) const HEADER: usize = 96;
/// Size of the head of a record in bytes.
pub(crate) const HEAD: usize = 40;
/// Size of the check behind a body in bytes.
const BODY_CHECK: usize = 16;
/// First bytes of every record: what a reader looks for behind damage.
pub(crate) const MARKER: [u8; 4] = *b"\xf1Rec";
/// Largest name and content of a record together: what a frame of the link takes, and a name.
pub(crate) const BODY: usize = limits::FRAME + limits::LABEL;

/// What a log file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Messages that wait to be sent.
    Queue,
    /// What was taken from the queues of others.
    Marks,
}

impl Purpose {
    fn magic(self) -> &'static [u8; 16] {
        match self {
            Self::Queue => b"parlour queue 1\n",
            Self::Marks => b"parlour marks 1\n",
        }
    }
}

/// The header of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Names the log, through all its files.
    pub(crate) id: [u8; 16],
    /// Key of the checks of this file.
    pub(crate) key: [u8; 32],
    /// No record that comes later has a smaller number.
    pub(crate) next: u64,
    /// The file was made with so many bytes, all on disk before it got its name.
    pub(crate) whole: u64,
}

impl Header {
    /// The bytes.
    pub(crate) fn encode(&self, purpose: Purpose) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..16].copy_from_slice(purpose.magic());
        bytes[16..32].copy_from_slice(&self.id);
        bytes[32..64].copy_from_slice(&self.key);
        bytes[64..72].copy_from_slice(&self.next.to_be_bytes());
        bytes[72..80].copy_from_slice(&self.whole.to_be_bytes());
        let check = hash(&self.key, 0, &[&bytes[..80]]);
        bytes[80..].copy_from_slice(&check[..16]);
        bytes
    }

    /// Reads a header; `None` if this is none of that purpose, or a damaged one.
    pub(crate) fn decode(bytes: &[u8; HEADER], purpose: Purpose) -> Option<Self> {
        let key: [u8; 32] = part(bytes, 32);
        let sound = bytes[..16] == *purpose.magic() && bytes[80..] == hash(&key, 0, &[&bytes[..80]])[..16];
        sound.then(|| Self {
            id: part(bytes, 16),
            key,
            next: u64::from_be_bytes(part(bytes, 64)),
            whole: u64::from_be_bytes(part(bytes, 72)),
        })
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind(pub(crate) u8);

impl Kind {
    /// An action waits to be sent.
    pub(crate) const ACTION: Self = Self(1);
    /// A request waits to be sent.
    pub(crate) const REQUEST: Self = Self(2);
    /// The record with this number is settled.
    pub(crate) const DONE: Self = Self(3);
    /// A message of a queue has taken effect here.
    pub(crate) const MARK: Self = Self(4);
    /// What was written before is on disk: nothing else.
    pub(crate) const SYNCED: Self = Self(5);
    /// What is known of a queue's last numbers; its own number is the highest of them.
    pub(crate) const SEEN: Self = Self(6);
}

/// A record without its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
    pub(crate) content_type: ContentType,
    pub(crate) name: &'a [u8],
    pub(crate) content: &'a [u8],
}

impl<'a> Record<'a> {
    /// A record that has nothing but its kind and number.
    pub(crate) fn bare(kind: Kind, number: u64) -> Self {
        Self { kind, number, content_type: ContentType::BYTES, name: &[], content: &[] }
    }

    /// How many bytes it takes in a file.
    pub(crate) fn size(&self) -> usize {
        size_of(self.name.len() + self.content.len())
    }

    /// Appends the record as it stands at `offset` of the file.
    ///
    /// Name and content are within [`BODY`]; who makes records sees to that.
    pub(crate) fn encode(&self, key: &[u8; 32], offset: u64, durable: u64, into: &mut Vec<u8>) {
        let length = self.name.len() + self.content.len();
        let head = Head {
            length: u32::try_from(length).expect("a body is within its bound"),
            number: self.number,
            durable,
            kind: self.kind,
            content_type: self.content_type,
            name: u16::try_from(self.name.len()).expect("a name is within its bound"),
        }
        .encode(key, offset);
        into.reserve(size_of(length));
        into.extend_from_slice(&head);
        if length > 0 {
            into.extend_from_slice(self.name);
            into.extend_from_slice(self.content);
            into.extend_from_slice(&hash(key, offset, &[&head, self.name, self.content])[..BODY_CHECK]);
        }
    }
}

/// The head of a record in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes of name and content.
    pub(crate) length: u32,
    pub(crate) number: u64,
    /// Bytes of the file that were on disk when this was written.
    pub(crate) durable: u64,
    pub(crate) kind: Kind,
    pub(crate) content_type: ContentType,
    /// Bytes of the name.
    pub(crate) name: u16,
}

impl Head {
    fn encode(&self, key: &[u8; 32], offset: u64) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..4].copy_from_slice(&MARKER);
        bytes[4..8].copy_from_slice(&self.length.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.durable.to_be_bytes());
        bytes[24] = self.kind.0;
        bytes[25] = self.content_type.0;
        bytes[26..28].copy_from_slice(&self.name.to_be_bytes());
        let check = hash(key, offset, &[&bytes[..28]]);
        bytes[28..].copy_from_slice(&check[..12]);
        bytes
    }

    /// Reads the head of the record at `offset`; `None` if none stands there.
    pub(crate) fn decode(bytes: &[u8; HEAD], key: &[u8; 32], offset: u64) -> Option<Self> {
        if bytes[..4] != MARKER || bytes[28..] != hash(key, offset, &[&bytes[..28]])[..12] {
            return None;
        }
        let head = Self {
            length: u32::from_be_bytes(part(bytes, 4)),
            number: u64::from_be_bytes(part(bytes, 8)),
            durable: u64::from_be_bytes(part(bytes, 16)),
            kind: Kind(bytes[24]),
            content_type: ContentType(bytes[25]),
            name: u16::from_be_bytes(part(bytes, 26)),
        };
        let fits = head.body() <= BODY && usize::from(head.name) <= head.body();
        fits.then_some(head)
    }

    /// Bytes of name and content.
    pub(crate) fn body(&self) -> usize {
        usize::try_from(self.length).unwrap_or(usize::MAX)
    }

    /// Bytes behind the head: the body and its check.
    pub(crate) fn rest(&self) -> usize {
        size_of(self.body()) - HEAD
    }

    /// The record, if what stands behind the head is its body.
    pub(crate) fn record<'a>(&self, rest: &'a [u8], key: &[u8; 32], offset: u64) -> Option<Record<'a>> {
        let (body, check) = rest.split_at_checked(self.body())?;
        if self.length > 0 && *check != hash(key, offset, &[&self.encode(key, offset), body])[..BODY_CHECK] {
            return None;
        }
        let (name, content) = body.split_at_checked(usize::from(self.name))?;
        Some(Record { kind: self.kind, number: self.number, content_type: self.content_type, name, content })
    }
}

/// Bytes of a record with a body of this length.
pub(crate) const fn size_of(body: usize) -> usize {
    if body == 0 { HEAD } else { HEAD + body + BODY_CHECK }
}

fn hash(key: &[u8; 32], offset: u64, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&offset.to_be_bytes());
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// The bytes at a place whose size the caller knows to be inside.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of this length")
}
