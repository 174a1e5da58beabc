//! What the devices of one account agree about: contacts, petnames, blocks, verified marks, settings, drafts. Pure: bytes in,
//! values out.
//!
//! Each thing is a register of its own: the last writer wins, by time and then by device, so all devices that have seen the same
//! changes hold the same values, in whatever order the changes came. A writer's time is later than that of the value it saw
//! ([`Stamp::after`]), so a change that follows another wins over it whatever the clocks say.
//!
//! What a device of a newer version says and this one does not know is kept and passed on, so that it is not lost on the way
//! through an older one.

use minicbor::{Decode, Encode};
use parlour_wire::{AccountId, ConversationId, DecodeError, DeviceId, MessageId, codec::bounded, id::BlobId, limits};

/// Largest time of a change, Unix milliseconds: what an id's time may be (RFC 9562, 48 bits). A wilder clock is a mistake.
const LATEST: u64 = (1 << 48) - 1;
/// Longest subject of a register, in bytes: ids have 32, settings short names.
const SUBJECT: usize = 64;
/// Longest value of a register, in bytes: a draft is as long as a message may be, less what stands around it.
pub(crate) const VALUE: usize = limits::SYNC_CONTENT - 4096;
/// Changes and read marks in one batch. What does not fit goes in the next.
const BATCH: usize = 1024;

/// When a register was written, and by whom. Ordered: the larger one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    pub(crate) at_ms: u64,
    pub(crate) device: DeviceId,
}

impl Stamp {
    /// The stamp of a change by `device` over a value with the stamp `seen`.
    pub(crate) fn after(seen: Option<Stamp>, now_ms: u64, device: DeviceId) -> Self {
        let at_ms = seen.map_or(0, |seen| seen.at_ms.saturating_add(1)).max(now_ms).min(LATEST);
        Self { at_ms, device }
    }
}

/// What kind of thing a register is about. Unknown kinds are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub(crate) struct Kind(#[n(0)] pub(crate) u16);

impl Kind {
    /// Whether a contact is in the list: empty: as it came; 1: added; 0: removed. The subject is the account.
    pub(crate) const LISTED: Self = Self(1);
    /// What the owner calls a contact.
    pub(crate) const PETNAME: Self = Self(2);
    /// Whether a contact is refused.
    pub(crate) const BLOCKED: Self = Self(3);
    /// Whether the safety number with a contact has been compared.
    pub(crate) const VERIFIED: Self = Self(4);
    /// A setting of this program; the subject is its name.
    pub(crate) const SETTING: Self = Self(5);
    /// A text that has not been sent; the subject is the conversation.
    pub(crate) const DRAFT: Self = Self(6);
    /// Who the owner says to be; the subject is empty.
    pub(crate) const PROFILE: Self = Self(7);
}

/// One register with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Register {
    pub(crate) kind: Kind,
    pub(crate) subject: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) stamp: Stamp,
}

/// What a register says, if this version knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Listed(AccountId, bool),
    Petname(AccountId, Option<String>),
    Blocked(AccountId, bool),
    Verified(AccountId, bool),
    Setting(String, Vec<u8>),
    Draft(ConversationId, String),
    Profile(OwnProfile),
}

/// What the owner says about themselves, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct OwnProfile {
    #[n(0)]
    pub(crate) display_name: String,
    #[n(1)]
    pub(crate) status: String,
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(crate) avatar: Option<Vec<u8>>,
    /// Unix milliseconds.
    #[n(3)]
    pub(crate) updated_ms: u64,
}

impl OwnProfile {
    fn is_sound(&self) -> bool {
        self.display_name.len() <= limits::LABEL
            && self.status.len() <= limits::PROFILE_STATUS
            && self.avatar.as_ref().is_none_or(|picture| picture.len() <= limits::AVATAR)
    }
}

impl Meaning {
    /// Kind, subject and value of its register.
    pub(crate) fn parts(&self) -> (Kind, Vec<u8>, Vec<u8>) {
        let flag = |on: bool| vec![u8::from(on)];
        match self {
            Self::Listed(account, on) => (Kind::LISTED, account.0.to_vec(), flag(*on)),
            Self::Petname(account, name) => {
                (Kind::PETNAME, account.0.to_vec(), name.as_deref().unwrap_or_default().as_bytes().to_vec())
            }
            Self::Blocked(account, on) => (Kind::BLOCKED, account.0.to_vec(), flag(*on)),
            Self::Verified(account, on) => (Kind::VERIFIED, account.0.to_vec(), flag(*on)),
            Self::Setting(name, value) => (Kind::SETTING, name.as_bytes().to_vec(), value.clone()),
            Self::Draft(conversation, text) => (Kind::DRAFT, conversation.0.to_vec(), text.as_bytes().to_vec()),
            Self::Profile(profile) => (Kind::PROFILE, Vec::new(), parlour_wire::encode(profile)),
        }
    }
}

impl Register {
    /// What it says; `None` for what this version does not know or what makes no sense.
    pub(crate) fn meaning(&self) -> Option<Meaning> {
        let account = || AccountId::try_from(self.subject.as_slice()).ok();
        let flag = || match self.value.as_slice() {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        };
        let text = || String::from_utf8(self.value.clone()).ok();
        match self.kind {
            Kind::LISTED => Some(Meaning::Listed(account()?, flag()?)),
            Kind::PETNAME => {
                let name = text()?;
                let sound = name.is_empty() || parlour_wire::name::Name::parse(&name).is_ok();
                sound.then_some(Meaning::Petname(account()?, (!name.is_empty()).then_some(name)))
            }
            Kind::BLOCKED => Some(Meaning::Blocked(account()?, flag()?)),
            Kind::VERIFIED => Some(Meaning::Verified(account()?, flag()?)),
            Kind::SETTING => Some(Meaning::Setting(String::from_utf8(self.subject.clone()).ok()?, self.value.clone())),
            Kind::PROFILE => {
                let profile = parlour_wire::decode(&self.value).ok().filter(OwnProfile::is_sound);
                profile.filter(|_| self.subject.is_empty()).map(Meaning::Profile)
            }
            Kind::DRAFT => Some(Meaning::Draft(ConversationId::try_from(self.subject.as_slice()).ok()?, text()?)),
            _ => None,
        }
    }

    /// Whether it replaces what is known of the same register. Two values of one stamp, which no honest device makes, are
    /// ordered by their bytes, so that all devices agree nevertheless.
    pub(crate) fn wins(&self, known: Option<&Self>) -> bool {
        known.is_none_or(|known| (self.stamp, &self.value) > (known.stamp, &known.value))
    }

    /// The same, stamped with no later time than this.
    pub(crate) fn not_after(mut self, latest_ms: u64) -> Self {
        self.stamp.at_ms = self.stamp.at_ms.min(latest_ms);
        self
    }

    fn size(&self) -> usize {
        self.subject.len() + self.value.len() + 48
    }
}

/// What own devices say to each other in one message of the own conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sync {
    /// Registers that have been written.
    pub(crate) registers: Vec<Register>,
    /// Messages of others that have been shown to the owner.
    pub(crate) shown: Vec<MessageId>,
    /// The hand-over of a history.
    pub(crate) history: Option<HistoryTalk>,
}

/// The hand-over of a history between two own devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HistoryTalk {
    /// The sender has nothing of the time before it came in, and asks for it. The message's id names the request.
    Ask,
    /// The sender has come into the own conversation (again), and asks for the registers, which it may have missed.
    AskRegisters,
    /// The sender will answer a request. The first in the log does.
    Take {
        /// Which request.
        ask: MessageId,
    },
    /// A part of the answer.
    Part {
        /// Which request.
        ask: MessageId,
        /// Its number, from 0; the newest messages are in the first.
        number: u32,
        /// Whether it is the last.
        last: bool,
        /// The pack; none if there is nothing (more).
        pack: Option<PackRef>,
    },
}

/// Where a sealed pack is, and what opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct PackRef {
    /// The blob.
    #[n(0)]
    pub(crate) blob: BlobId,
    /// Its key, made for it alone.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) key: [u8; 32],
    /// Size of the blob in bytes.
    #[n(2)]
    pub(crate) size: u32,
    /// Messages in it.
    #[n(3)]
    pub(crate) messages: u32,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireRegister {
    #[n(0)]
    kind: Kind,
    #[cbor(n(1), with = "minicbor::bytes")]
    subject: Vec<u8>,
    #[cbor(n(2), with = "minicbor::bytes")]
    value: Vec<u8>,
    #[n(3)]
    at_ms: u64,
    #[n(4)]
    device: DeviceId,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WirePart {
    #[n(0)]
    ask: MessageId,
    #[n(1)]
    number: u32,
    #[n(2)]
    last: bool,
    #[n(3)]
    pack: Option<PackRef>,
}

#[derive(Default, Encode, Decode)]
#[cbor(map)]
struct WireSync {
    #[n(0)]
    registers: Vec<WireRegister>,
    #[n(1)]
    shown: Vec<MessageId>,
    #[n(2)]
    ask: Option<bool>,
    #[n(3)]
    take: Option<MessageId>,
    #[n(4)]
    part: Option<WirePart>,
}

impl Sync {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let registers = self.registers.iter().map(|register| WireRegister {
            kind: register.kind,
            subject: register.subject.clone(),
            value: register.value.clone(),
            at_ms: register.stamp.at_ms,
            device: register.stamp.device,
        });
        let mut wire = WireSync { registers: registers.collect(), shown: self.shown.clone(), ..WireSync::default() };
        match self.history {
            None => {}
            Some(HistoryTalk::Ask) => wire.ask = Some(true),
            Some(HistoryTalk::AskRegisters) => wire.ask = Some(false),
            Some(HistoryTalk::Take { ask }) => wire.take = Some(ask),
            Some(HistoryTalk::Part { ask, number, last, pack }) => wire.part = Some(WirePart { ask, number, last, pack }),
        }
        parlour_wire::encode(&wire)
    }

    /// Reads what another own device said. Everything is bounded before it is used.
    ///
    /// # Errors
    /// [`DecodeError`] for anything malformed or above its bound; nothing of the message counts then.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        bounded("sync", bytes.len(), limits::SYNC_CONTENT)?;
        let wire: WireSync = parlour_wire::decode(bytes)?;
        bounded("registers", wire.registers.len(), BATCH)?;
        bounded("read marks", wire.shown.len(), BATCH)?;
        let registers = wire.registers.into_iter().map(|register| {
            bounded("subject", register.subject.len(), SUBJECT)?;
            bounded("value", register.value.len(), VALUE)?;
            if register.at_ms > LATEST {
                return Err(DecodeError::Invalid("time of a change"));
            }
            let stamp = Stamp { at_ms: register.at_ms, device: register.device };
            Ok(Register { kind: register.kind, subject: register.subject, value: register.value, stamp })
        });
        let history = match (wire.ask, wire.take, wire.part) {
            (Some(true), None, None) => Some(HistoryTalk::Ask),
            (Some(false), None, None) => Some(HistoryTalk::AskRegisters),
            (None, Some(ask), None) => Some(HistoryTalk::Take { ask }),
            (None, None, Some(part)) => {
                Some(HistoryTalk::Part { ask: part.ask, number: part.number, last: part.last, pack: part.pack })
            }
            _ => None,
        };
        Ok(Self { registers: registers.collect::<Result<_, _>>()?, shown: wire.shown, history })
    }
}

/// Takes as many registers from the front as fit one message.
pub(crate) fn batch(registers: &mut std::collections::VecDeque<Register>) -> Vec<Register> {
    let mut size = 0;
    let mut taken = Vec::new();
    while let Some(register) = registers.front() {
        size += register.size();
        if taken.len() == BATCH || (size > VALUE && !taken.is_empty()) {
            break;
        }
        taken.extend(registers.pop_front());
    }
    taken
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

    use super::*;

    fn written(meaning: &Meaning, stamp: Stamp) -> Register {
        let (kind, subject, value) = meaning.parts();
        Register { kind, subject, value, stamp }
    }

    fn register(at_ms: u64, device: u8, blocked: bool) -> Register {
        let stamp = Stamp { at_ms, device: DeviceId([device; 16]) };
        written(&Meaning::Blocked(AccountId([1; 32]), blocked), stamp)
    }

    #[test]
    fn devices_that_saw_the_same_changes_in_any_order_agree() {
        let seed = rand::random();
        eprintln!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..200 {
            let mut changes: Vec<_> = (0..8).map(|_| register(rng.gen_range(0..3), rng.gen_range(0..3), rng.r#gen())).collect();
            let merged = |changes: &[Register]| {
                changes.iter().fold(
                    None,
                    |known: Option<Register>, change| {
                        if change.wins(known.as_ref()) { Some(change.clone()) } else { known }
                    },
                )
            };
            let first = merged(&changes);
            changes.shuffle(&mut rng);
            assert_eq!(merged(&changes), first);
            assert_eq!(merged(&[changes.clone(), changes].concat()), first, "twice is as good as once");
        }
    }

    #[test]
    fn a_change_wins_over_the_value_it_saw_whatever_the_clock_says() {
        let ahead = register(9_000, 1, true);
        let stamp = Stamp::after(Some(ahead.stamp), 5, DeviceId([0; 16]));
        assert!(register(stamp.at_ms, 0, false).wins(Some(&ahead)));
        assert_eq!(Stamp::after(None, 5, DeviceId([0; 16])).at_ms, 5);
        assert!(Stamp::after(Some(Stamp { at_ms: LATEST, ..stamp }), 5, DeviceId([0; 16])).at_ms <= LATEST);
    }

    #[test]
    fn every_kind_of_message_survives() {
        let stamp = Stamp { at_ms: 7, device: DeviceId([3; 16]) };
        let (account, conversation) = (AccountId([1; 32]), ConversationId([2; 32]));
        let meanings = [
            Meaning::Listed(account, true),
            Meaning::Petname(account, Some("bobby".to_owned())),
            Meaning::Petname(account, None),
            Meaning::Blocked(account, true),
            Meaning::Verified(account, false),
            Meaning::Setting("receipts".to_owned(), vec![0]),
            Meaning::Draft(conversation, "unsent".to_owned()),
        ];
        let registers: Vec<_> = meanings.iter().map(|meaning| written(meaning, stamp)).collect();
        for (register, meaning) in registers.iter().zip(&meanings) {
            assert_eq!(register.meaning().as_ref(), Some(meaning));
        }
        let ask = MessageId([9; 16]);
        let pack = PackRef { blob: BlobId([1; 32]), key: [2; 32], size: 3, messages: 4 };
        for history in [
            None,
            Some(HistoryTalk::Ask),
            Some(HistoryTalk::AskRegisters),
            Some(HistoryTalk::Take { ask }),
            Some(HistoryTalk::Part { ask, number: 3, last: true, pack: Some(pack) }),
        ] {
            let sync = Sync { registers: registers.clone(), shown: vec![ask], history };
            assert_eq!(Sync::from_bytes(&sync.to_bytes()), Ok(sync));
        }
    }

    #[test]
    fn what_is_not_known_is_kept_and_what_makes_no_sense_means_nothing() {
        let stamp = Stamp { at_ms: 7, device: DeviceId([3; 16]) };
        let strange =
            |kind, subject: &[u8], value: &[u8]| Register { kind, subject: subject.to_vec(), value: value.to_vec(), stamp };
        for register in [
            strange(Kind(999), b"x", b"y"),
            strange(Kind::BLOCKED, b"short", &[1]),
            strange(Kind::BLOCKED, &[0; 32], &[2]),
            strange(Kind::PETNAME, &[0; 32], b"two words"),
            strange(Kind::PETNAME, &[0; 32], &[0xff]),
        ] {
            assert_eq!(register.meaning(), None);
            let sync = Sync { registers: vec![register], ..Sync::default() };
            assert_eq!(Sync::from_bytes(&sync.to_bytes()), Ok(sync), "kept and passed on");
        }
    }

    #[test]
    fn malformed_and_oversized_messages_are_refused_whole() {
        let stamp = Stamp { at_ms: 7, device: DeviceId([3; 16]) };
        let sync = |registers, shown| Sync { registers, shown, history: None }.to_bytes();
        let one = |subject: usize, value: usize, at_ms| {
            let stamp = Stamp { at_ms, ..stamp };
            sync(vec![Register { kind: Kind::DRAFT, subject: vec![0; subject], value: vec![0; value], stamp }], vec![])
        };
        assert!(Sync::from_bytes(&one(SUBJECT, VALUE, LATEST)).is_ok());
        assert!(Sync::from_bytes(&one(SUBJECT + 1, 1, 1)).is_err());
        assert!(Sync::from_bytes(&one(1, VALUE + 1, 1)).is_err());
        assert!(Sync::from_bytes(&one(1, 1, LATEST + 1)).is_err());
        assert!(Sync::from_bytes(&sync(vec![], vec![MessageId([0; 16]); BATCH + 1])).is_err());
        assert!(Sync::from_bytes(&vec![0; limits::SYNC_CONTENT + 1]).is_err());
        let bytes = one(3, 3, 3);
        for at in 0..bytes.len() {
            assert!(Sync::from_bytes(&bytes[..at]).is_err());
        }
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..20_000 {
            let mut noise = bytes.clone();
            let at = rng.gen_range(0..noise.len());
            noise[at] = rng.r#gen();
            drop(Sync::from_bytes(&noise));
        }
    }

    #[test]
    fn registers_are_told_in_messages_that_fit() {
        let stamp = Stamp { at_ms: 7, device: DeviceId([3; 16]) };
        let draft = |n: usize| {
            let mut conversation = [0; 32];
            conversation[..8].copy_from_slice(&(n as u64).to_be_bytes());
            written(&Meaning::Draft(ConversationId(conversation), "x".repeat(n % 9_000)), stamp)
        };
        let all: Vec<_> = (0..3_000).map(draft).chain([register(1, 1, true)]).collect();
        let mut queue = all.clone().into();
        let mut told = Vec::new();
        loop {
            let registers = batch(&mut queue);
            if registers.is_empty() {
                break;
            }
            let bytes = Sync { registers, ..Sync::default() }.to_bytes();
            told.extend(Sync::from_bytes(&bytes).unwrap().registers);
        }
        assert_eq!(told, all);
    }
}
