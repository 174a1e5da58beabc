//! Packs: a part of a history in one sealed object, for another own device or for the backup. Pure: records in, bytes out.
//!
//! A record is a message as it is, with its edits done and its reactions, not how it came to be so. Whoever takes several packs
//! in begins with the newest: the first record of a message that it meets is the latest word on it.
//!
//! Form: the CBOR of all records, compressed (zstd), its length before it, filled up with zeros so that the size of the object tells
//! little (Padmé), encrypted under a key made for this pack alone.

use minicbor::{Decode, Decoder, Encode, bytes::ByteVec};
use parlour_e2ee::{open_pack, seal_pack};
use parlour_wire::{
    AccountId, ConversationId, DecodeError, DeviceId, MessageId,
    codec::bounded,
    compress::{Encoding, compress, decompress},
    id::BlobId,
    limits,
};
use zeroize::Zeroizing;

/// Messages in one pack at most: some seconds of work for a slow device.
pub(crate) const MESSAGES: usize = 2_000;
/// Bytes of records in one pack at most, before compression. One message more may begin below it.
pub(crate) const BYTES: usize = 3 << 20;
/// Largest pack after decompression, in bytes; a bomb ends here.
const OPENED: usize = 2 * BYTES;
/// Largest sealed pack, in bytes.
pub(crate) const SEALED: usize = OPENED + (OPENED >> 3);
/// Reactions of one message that a pack takes along.
pub(crate) const REACTIONS: usize = 256;
/// Conversations that one pack may speak of: one for each message.
const CONVERSATIONS: usize = MESSAGES;

/// Records of own devices in one pack at most. Each takes as many registers as fit it, so that a full pack has a hundred.
pub(crate) const AGREED: usize = 1_024;

/// A reaction in a pack.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct PackedReaction {
    #[n(0)]
    pub(crate) id: MessageId,
    #[n(1)]
    pub(crate) sender: AccountId,
    #[n(2)]
    pub(crate) emoji: String,
}

/// A message in a pack.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct PackedMessage {
    #[n(0)]
    pub(crate) id: MessageId,
    /// Which of the pack's conversations.
    #[n(1)]
    pub(crate) conversation: u32,
    #[n(2)]
    pub(crate) sender: AccountId,
    #[n(3)]
    pub(crate) device: DeviceId,
    /// As in the local database: 0 text, 1 said by the program, 2 file, 3 unknown.
    #[n(4)]
    pub(crate) kind: u8,
    #[n(5)]
    pub(crate) body: String,
    #[n(6)]
    pub(crate) reply_to: Option<MessageId>,
    #[n(7)]
    pub(crate) sent_ms: u64,
    #[n(8)]
    pub(crate) stored_ms: Option<u64>,
    #[n(9)]
    pub(crate) seq: Option<u64>,
    /// How far it has come, as in the local database.
    #[n(10)]
    pub(crate) state: u8,
    #[n(11)]
    pub(crate) shown: bool,
    /// CBOR of the content, of files with their keys and of what is not known.
    #[cbor(n(12), with = "minicbor::bytes")]
    pub(crate) content: Option<Vec<u8>>,
    #[n(13)]
    pub(crate) edited_ms: Option<u64>,
    #[n(14)]
    pub(crate) deleted: bool,
    #[n(15)]
    pub(crate) expires_ms: Option<u64>,
    #[n(16)]
    pub(crate) mentions_me: bool,
    #[n(17)]
    pub(crate) reactions: Vec<PackedReaction>,
    /// Who shared it with this account, which was not there when it was written.
    #[n(18)]
    pub(crate) shared_by: Option<AccountId>,
}

impl PackedMessage {
    /// What it adds to a pack, in bytes, roughly.
    pub(crate) fn size(&self) -> usize {
        let reactions: usize = self.reactions.iter().map(|reaction| reaction.emoji.len() + 60).sum();
        self.body.len() + self.content.as_ref().map_or(0, Vec::len) + reactions + 160
    }
}

/// A conversation that a pack speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct PackedConversation {
    #[n(0)]
    pub(crate) id: ConversationId,
    /// The other account of a direct conversation; absent for a group.
    #[n(1)]
    pub(crate) peer: Option<AccountId>,
    /// The last name of a group.
    #[n(2)]
    pub(crate) name: Option<String>,
}

/// A part of a history, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Pack {
    #[n(0)]
    pub(crate) conversations: Vec<PackedConversation>,
    #[n(1)]
    pub(crate) messages: Vec<PackedMessage>,
    /// What own devices agree about, in the form of [`super::own::Sync`]; in backups.
    #[cbor(n(2), decode_with = "few_agreed")]
    pub(crate) agreed: Vec<ByteVec>,
}

/// Reads what own devices agree about. Counted while it is read: an empty one is a byte in a pack and many in memory.
fn few_agreed<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<ByteVec>, minicbor::decode::Error> {
    let mut agreed = Vec::new();
    for one in d.array_iter::<ByteVec>()? {
        agreed.push(one?);
        if agreed.len() > AGREED {
            return Err(minicbor::decode::Error::message("too many records of own devices in a pack"));
        }
    }
    Ok(agreed)
}

/// A pack, sealed.
pub(crate) struct SealedPack {
    pub(crate) blob: BlobId,
    pub(crate) key: Zeroizing<[u8; 32]>,
    pub(crate) bytes: Vec<u8>,
}

impl Pack {
    /// Adds a message. The same conversation is named once.
    pub(crate) fn push(&mut self, conversation: PackedConversation, mut message: PackedMessage) {
        // Messages of one conversation often stand together; a pack has few conversations.
        let at = self.conversations.iter().rposition(|known| known.id == conversation.id).unwrap_or_else(|| {
            self.conversations.push(conversation);
            self.conversations.len() - 1
        });
        message.conversation = u32::try_from(at).unwrap_or(u32::MAX);
        message.reactions.truncate(REACTIONS);
        self.messages.push(message);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.agreed.is_empty()
    }

    /// Compresses, pads and encrypts.
    pub(crate) fn seal(&self) -> SealedPack {
        let plain = Zeroizing::new(parlour_wire::encode(self));
        let compressed = compress(&plain, Encoding::Zstd).map(Zeroizing::new);
        let (flag, body) = match &compressed {
            Some(compressed) => (1, compressed),
            None => (0, &plain),
        };
        let mut padded = Zeroizing::new(Vec::with_capacity(padded_len(body.len() + HEAD)));
        padded.push(flag);
        padded.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        padded.extend_from_slice(body);
        let len = padded_len(padded.len());
        padded.resize(len, 0);
        let (key, bytes) = seal_pack(&padded);
        SealedPack { blob: BlobId(*blake3::hash(&bytes).as_bytes()), key, bytes }
    }

    /// Opens a sealed pack that has come from a server; everything is bounded and checked.
    ///
    /// # Errors
    /// [`DecodeError`]: not the blob, not the key, or not a pack; nothing of it counts then.
    pub(crate) fn open(blob: &BlobId, key: &[u8; 32], sealed: &[u8]) -> Result<Self, DecodeError> {
        bounded("pack", sealed.len(), SEALED)?;
        if blake3::hash(sealed).as_bytes() != &blob.0 {
            return Err(DecodeError::Invalid("blob of a pack"));
        }
        let padded = open_pack(key, sealed).map_err(|_| DecodeError::BadSignature("pack"))?;
        let (head, rest) = padded.split_at_checked(HEAD).ok_or(DecodeError::Truncated)?;
        let len = head[1..].iter().fold(0_usize, |len, byte| len << 8 | usize::from(*byte));
        let body = rest.get(..len).ok_or(DecodeError::Truncated)?;
        let pack: Self = match head[0] {
            0 => parlour_wire::decode(body)?,
            1 => {
                let plain = decompress(body, Encoding::Zstd, OPENED).map_err(|_| DecodeError::TooLong("pack"))?;
                parlour_wire::decode(&plain)?
            }
            _ => return Err(DecodeError::Malformed),
        };
        pack.check()?;
        Ok(pack)
    }

    fn check(&self) -> Result<(), DecodeError> {
        bounded("messages of a pack", self.messages.len(), MESSAGES)?;
        bounded("conversations of a pack", self.conversations.len(), CONVERSATIONS)?;
        for conversation in &self.conversations {
            bounded("name", conversation.name.as_ref().map_or(0, String::len), limits::NAME)?;
        }
        for message in &self.messages {
            if usize::try_from(message.conversation).is_ok_and(|at| at >= self.conversations.len()) {
                return Err(DecodeError::Invalid("conversation of a message"));
            }
            bounded("message", message.body.len(), limits::MESSAGE_INLINE)?;
            bounded("content", message.content.as_ref().map_or(0, Vec::len), limits::ENTRY_PAYLOAD)?;
            bounded("reactions", message.reactions.len(), REACTIONS)?;
            for reaction in &message.reactions {
                bounded("reaction", reaction.emoji.len(), limits::REACTION)?;
            }
        }
        self.agreed.iter().try_for_each(|agreed| bounded("sync", agreed.len(), limits::SYNC_CONTENT))
    }
}

/// Flag and length before the body.
const HEAD: usize = 5;

/// The next length that Padmé allows: at most 12 % more, and only O(log log n) bits of the true length are told.
fn padded_len(len: usize) -> usize {
    if len < 256 {
        return 256;
    }
    let exponent = len.ilog2();
    let low = exponent - (exponent.ilog2() + 1);
    let mask = (1_usize << low) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: u32) -> PackedMessage {
        let sender = AccountId([1; 32]);
        PackedMessage {
            id: MessageId::new(u64::from(n), &[7; 10]),
            conversation: 0,
            sender,
            device: DeviceId([2; 16]),
            kind: 0,
            body: format!("message {n}"),
            reply_to: None,
            sent_ms: u64::from(n),
            stored_ms: Some(u64::from(n)),
            seq: Some(u64::from(n)),
            state: 2,
            shown: true,
            content: n.is_multiple_of(3).then(|| vec![1; 20]),
            edited_ms: None,
            deleted: false,
            expires_ms: None,
            mentions_me: false,
            reactions: vec![PackedReaction { id: MessageId([3; 16]), sender, emoji: "👍".to_owned() }],
            shared_by: n.is_multiple_of(5).then_some(sender),
        }
    }

    fn pack(messages: u32) -> Pack {
        let mut pack = Pack::default();
        for n in (0..messages).rev() {
            let id = ConversationId([u8::try_from(n % 3).unwrap(); 32]);
            pack.push(PackedConversation { id, peer: Some(AccountId([4; 32])), name: None }, message(n));
        }
        pack
    }

    #[test]
    fn a_pack_comes_back_as_it_was_and_names_each_conversation_once() {
        for messages in [0, 1, 500] {
            let pack = pack(messages);
            assert!(pack.conversations.len() <= 3);
            let sealed = pack.seal();
            assert_eq!(Pack::open(&sealed.blob, &sealed.key, &sealed.bytes), Ok(pack));
        }
    }

    #[test]
    fn another_key_and_changed_bytes_are_refused() {
        let sealed = pack(5).seal();
        assert!(Pack::open(&sealed.blob, &[0; 32], &sealed.bytes).is_err());
        assert!(Pack::open(&BlobId([0; 32]), &sealed.key, &sealed.bytes).is_err());
        for at in 0..sealed.bytes.len() {
            let mut changed = sealed.bytes.clone();
            changed[at] ^= 1;
            assert!(Pack::open(&sealed.blob, &sealed.key, &changed).is_err());
            let blob = BlobId(*blake3::hash(&changed).as_bytes());
            assert!(Pack::open(&blob, &sealed.key, &changed).is_err(), "also under its own name");
        }
    }

    #[test]
    fn what_is_above_its_bound_or_contradicts_itself_is_refused_whole() {
        let refused = |pack: &Pack| {
            let sealed = pack.seal();
            Pack::open(&sealed.blob, &sealed.key, &sealed.bytes).is_err()
        };
        let mut many = pack(1);
        many.messages = vec![message(1); MESSAGES + 1];
        assert!(refused(&many));
        let mut stray = pack(1);
        stray.messages[0].conversation = 1;
        assert!(refused(&stray));
        let mut long = pack(1);
        long.messages[0].body = "x".repeat(limits::MESSAGE_INLINE + 1);
        assert!(refused(&long));
        let mut bomb = pack(1);
        bomb.agreed = vec![vec![0; limits::SYNC_CONTENT].into(); OPENED / limits::SYNC_CONTENT + 1];
        assert!(refused(&bomb), "more comes out than is allowed");
        bomb.agreed = vec![ByteVec::from(Vec::new()); AGREED];
        assert!(!refused(&bomb));
        bomb.agreed.push(ByteVec::from(Vec::new()));
        assert!(refused(&bomb), "bytes that are nothing but places in memory");
    }

    #[test]
    fn the_size_of_a_pack_tells_little() {
        let sizes: std::collections::BTreeSet<_> = (1..100_000).map(padded_len).collect();
        assert!(sizes.len() < 250, "{}", sizes.len());
        assert!((1..100_000).all(|len| padded_len(len) >= len && padded_len(len) <= len + len / 8 + 256));
    }
}
