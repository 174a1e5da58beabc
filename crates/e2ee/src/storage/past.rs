//! The message secrets of a group, which OpenMLS hands over whole at every message: the ratchets of the current epoch, and for each
//! past one its ratchets and a list of all its leaves; and for every epoch its group context, in which is our policy with all
//! members. In a large group leaves and contexts are by far the most and never change, so they are written once; the ratchets of
//! a past epoch are written when a late message has moved them. A message then costs as much on disk as the ratchets that it moves.
//!
//! The value is opaque, so it is taken apart while it is serialized: the structs on the way are known by the names of their fields,
//! and any other shape is an error, which every test of this crate would meet.

use minicbor::{Decode, Encode};
use openmls_traits::storage::{CURRENT_VERSION, Entity, Key};
use parlour_wire::codec;
use serde::{
    Serialize, Serializer,
    ser::{Error as _, Impossible, SerializeSeq, SerializeStruct},
};

use super::overlay::{Kind, Overlay, StorageError, decode, encode, row_key};

const LIMIT: &str = "max_epochs";
const CURRENT: &str = "message_secrets";
const PAST: &str = "past_epoch_trees";
const EPOCH: &str = "epoch";
const LEAVES: &str = "leaves";
const CONTEXT: &str = "serialized_context";
/// A key that no other epoch has: its hash tells whose a context is.
const MEMBERSHIP: &str = "membership_key";

type Tag = [u8; 32];

/// The secrets of an epoch, but for its context, which has a row of its own.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Secrets {
    /// Whose context belongs here.
    #[cbor(n(0), with = "minicbor::bytes")]
    tag: Tag,
    /// How many fields there are.
    #[n(1)]
    count: u8,
    /// The fields, key and value, CBOR.
    #[cbor(n(2), with = "minicbor::bytes")]
    fields: Vec<u8>,
}

impl Drop for Secrets {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.fields);
    }
}

/// The row that is written at every message.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Current {
    #[cbor(n(0), with = "minicbor::bytes")]
    limit: Vec<u8>,
    #[n(1)]
    secrets: Secrets,
    /// Oldest first.
    #[n(2)]
    past: Vec<Past>,
}

/// A past epoch that has rows of its own.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
struct Past {
    #[n(0)]
    epoch: u64,
    /// BLAKE3 of its row of secrets, to tell whether they have moved.
    #[cbor(n(1), with = "minicbor::bytes")]
    hash: [u8; 32],
    /// Whose context belongs to it.
    #[cbor(n(2), with = "minicbor::bytes")]
    tag: Tag,
}

/// What is on disk already.
#[derive(Default)]
struct Known {
    past: Vec<Past>,
    tags: Vec<Tag>,
}

impl Known {
    fn has_leaves(&self, epoch: u64) -> bool {
        self.past.iter().any(|past| past.epoch == epoch)
    }
}

fn current<K: Key<CURRENT_VERSION>>(overlay: &Overlay<'_>, group: &K) -> Result<Option<Current>, StorageError> {
    let row = overlay.get_raw(&row_key(Kind::MessageSecrets, group)?)?;
    row.map(|bytes| codec::decode(&bytes).map_err(|_| StorageError::Decode)).transpose()
}

fn known<K: Key<CURRENT_VERSION>>(overlay: &Overlay<'_>, group: &K) -> Result<Known, StorageError> {
    let Some(row) = current(overlay, group)? else { return Ok(Known::default()) };
    let tags = row.past.iter().map(|past| past.tag).chain([row.secrets.tag]).collect();
    Ok(Known { past: row.past.clone(), tags })
}

/// Writes what has changed.
pub(super) fn write<K: Key<CURRENT_VERSION>, V: Entity<CURRENT_VERSION>>(
    overlay: &Overlay<'_>,
    group: &K,
    value: &V,
) -> Result<(), StorageError> {
    let known = known(overlay, group)?;
    let store = value.serialize(Fields { known: &known }).map_err(|_| StorageError::Encode)?;
    let limit = store.bytes(LIMIT)?.to_vec();
    let secrets = write_context(overlay, group, &store)?;
    let mut past = Vec::with_capacity(store.past.len());
    for parts in &store.past {
        let epoch = decode::<u64>(parts.bytes(EPOCH)?)?;
        let secrets = write_context(overlay, group, parts)?;
        let (tag, bytes) = (secrets.tag, codec::encode(&secrets));
        let hash = *blake3::hash(&bytes).as_bytes();
        if !known.past.iter().any(|past| past.epoch == epoch && past.hash == hash) {
            overlay.put_raw(row_key(Kind::PastSecrets, &(group, epoch))?, Some(bytes));
        }
        if let Ok(leaves) = parts.bytes(LEAVES) {
            overlay.put_raw(row_key(Kind::PastLeaves, &(group, epoch))?, Some(leaves.to_vec()));
        }
        past.push(Past { epoch, hash, tag });
    }
    for gone in known.past.iter().filter(|known| !past.iter().any(|past| past.epoch == known.epoch)) {
        forget(overlay, group, gone.epoch)?;
    }
    let used = |tag: &Tag| *tag == secrets.tag || past.iter().any(|past| past.tag == *tag);
    for gone in known.tags.iter().filter(|tag| !used(tag)) {
        overlay.put_raw(row_key(Kind::EpochContext, &(group, gone))?, None);
    }
    let row = codec::encode(&Current { limit, secrets, past });
    overlay.put_raw(row_key(Kind::MessageSecrets, group)?, Some(row));
    Ok(())
}

/// Writes the context of an epoch, if it is not on disk; gives the rest of its secrets.
fn write_context<K: Key<CURRENT_VERSION>>(overlay: &Overlay<'_>, group: &K, parts: &Parts) -> Result<Secrets, StorageError> {
    let parts = parts.secrets.as_deref().ok_or(StorageError::Encode)?;
    let tag = parts.tag()?;
    let mut fields = Vec::new();
    let mut count = 0;
    for (name, bytes) in &parts.fields {
        if *name == CONTEXT {
            overlay.put_raw(row_key(Kind::EpochContext, &(group, &tag))?, Some(bytes.clone()));
            continue;
        }
        entry(&mut fields, name, bytes)?;
        count += 1;
    }
    Ok(Secrets { tag, count, fields })
}

fn forget<K: Key<CURRENT_VERSION>>(overlay: &Overlay<'_>, group: &K, epoch: u64) -> Result<(), StorageError> {
    overlay.put_raw(row_key(Kind::PastSecrets, &(group, epoch))?, None);
    overlay.put_raw(row_key(Kind::PastLeaves, &(group, epoch))?, None);
    Ok(())
}

/// Deletes all rows.
pub(super) fn delete<K: Key<CURRENT_VERSION>>(overlay: &Overlay<'_>, group: &K) -> Result<(), StorageError> {
    let known = known(overlay, group)?;
    known.past.iter().try_for_each(|past| forget(overlay, group, past.epoch))?;
    for tag in &known.tags {
        overlay.put_raw(row_key(Kind::EpochContext, &(group, tag))?, None);
    }
    overlay.delete(Kind::MessageSecrets, group)
}

/// Puts the value together again.
pub(super) fn read<K: Key<CURRENT_VERSION>, V: Entity<CURRENT_VERSION>>(
    overlay: &Overlay<'_>,
    group: &K,
) -> Result<Option<V>, StorageError> {
    let Some(row) = current(overlay, group)? else { return Ok(None) };
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    map_header(&mut bytes, 3);
    entry(&mut bytes, LIMIT, &row.limit)?;
    read_secrets(overlay, group, &row.secrets, &mut bytes)?;
    bytes.extend(encode(&PAST)?);
    array_header(&mut bytes, row.past.len());
    for past in &row.past {
        let part = |kind| overlay.get_raw(&row_key(kind, &(group, past.epoch))?)?.ok_or(StorageError::Missing);
        map_header(&mut bytes, 3);
        entry(&mut bytes, EPOCH, &encode(&past.epoch)?)?;
        let secrets = codec::decode(&part(Kind::PastSecrets)?).map_err(|_| StorageError::Decode)?;
        read_secrets(overlay, group, &secrets, &mut bytes)?;
        entry(&mut bytes, LEAVES, &part(Kind::PastLeaves)?)?;
    }
    decode(&bytes).map(Some)
}

/// Puts the secrets of an epoch together again.
fn read_secrets<K: Key<CURRENT_VERSION>>(
    overlay: &Overlay<'_>,
    group: &K,
    secrets: &Secrets,
    bytes: &mut Vec<u8>,
) -> Result<(), StorageError> {
    let context = overlay.get_raw(&row_key(Kind::EpochContext, &(group, &secrets.tag))?)?.ok_or(StorageError::Missing)?;
    bytes.extend(encode(&CURRENT)?);
    map_header(bytes, secrets.count + 1);
    bytes.extend_from_slice(&secrets.fields);
    entry(bytes, CONTEXT, &context)
}

/// CBOR of small lengths: a group keeps few past epochs.
fn map_header(bytes: &mut Vec<u8>, length: u8) {
    bytes.push(0xA0 | length);
}

fn array_header(bytes: &mut Vec<u8>, length: usize) {
    bytes.push(0x9A);
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn entry(bytes: &mut Vec<u8>, key: &str, value: &[u8]) -> Result<(), StorageError> {
    bytes.extend(encode(&key)?);
    bytes.extend_from_slice(value);
    Ok(())
}

/// A struct taken apart.
#[derive(Default)]
struct Parts {
    fields: Vec<(&'static str, Vec<u8>)>,
    secrets: Option<Box<Parts>>,
    past: Vec<Parts>,
}

impl Parts {
    fn bytes(&self, name: &str) -> Result<&[u8], StorageError> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, bytes)| bytes.as_slice()).ok_or(StorageError::Encode)
    }

    fn tag(&self) -> Result<Tag, StorageError> {
        Ok(blake3::derive_key("parlour epoch of message secrets v1", self.bytes(MEMBERSHIP)?))
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.fields.iter_mut().for_each(|(_, bytes)| zeroize::Zeroize::zeroize(bytes));
    }
}

type Failed = serde::de::value::Error;

fn unknown<T>() -> Result<T, Failed> {
    Err(Failed::custom("message secrets of another shape"))
}

/// Takes a struct apart: each field becomes CBOR of its own, secrets and past epochs become parts again, and what never changes is not
/// even encoded if it is on disk already.
#[derive(Clone, Copy)]
struct Fields<'a> {
    known: &'a Known,
}

struct Taking<'a> {
    known: &'a Known,
    parts: Parts,
}

impl Taking<'_> {
    fn is_on_disk(&self, field: &str) -> bool {
        match field {
            LEAVES => {
                let epoch = self.parts.bytes(EPOCH).and_then(decode::<u64>);
                epoch.is_ok_and(|epoch| self.known.has_leaves(epoch))
            }
            CONTEXT => self.parts.tag().is_ok_and(|tag| self.known.tags.contains(&tag)),
            _ => false,
        }
    }
}

impl SerializeStruct for Taking<'_> {
    type Ok = Parts;
    type Error = Failed;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Failed> {
        match key {
            PAST => self.parts.past = value.serialize(Epochs { known: self.known })?,
            CURRENT => self.parts.secrets = Some(Box::new(value.serialize(Fields { known: self.known })?)),
            _ if self.is_on_disk(key) => {}
            _ => {
                let mut bytes = Vec::new();
                ciborium::into_writer(value, &mut bytes).map_err(Failed::custom)?;
                self.parts.fields.push((key, bytes));
            }
        }
        Ok(())
    }

    fn end(self) -> Result<Parts, Failed> {
        Ok(self.parts)
    }
}

/// Takes a list of structs apart.
struct Epochs<'a> {
    known: &'a Known,
}

struct Listing<'a> {
    known: &'a Known,
    list: Vec<Parts>,
}

impl SerializeSeq for Listing<'_> {
    type Ok = Vec<Parts>;
    type Error = Failed;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
        self.list.push(value.serialize(Fields { known: self.known })?);
        Ok(())
    }

    fn end(self) -> Result<Vec<Parts>, Failed> {
        Ok(self.list)
    }
}

/// The methods of a serializer that takes one shape only.
macro_rules! refuse {
    ($ok:ty) => {
        refuse!(@values serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
            serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32, serialize_f64: f64,
            serialize_char: char, serialize_str: &str, serialize_bytes: &[u8], serialize_unit_struct: &'static str);
        type Ok = $ok;
        type Error = Failed;
        type SerializeTuple = Impossible<$ok, Failed>;
        type SerializeTupleStruct = Impossible<$ok, Failed>;
        type SerializeTupleVariant = Impossible<$ok, Failed>;
        type SerializeMap = Impossible<$ok, Failed>;
        type SerializeStructVariant = Impossible<$ok, Failed>;
        fn serialize_none(self) -> Result<$ok, Failed> {
            unknown()
        }
        fn serialize_unit(self) -> Result<$ok, Failed> {
            unknown()
        }
        fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<$ok, Failed> {
            unknown()
        }
        fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<$ok, Failed> {
            unknown()
        }
        fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<$ok, Failed> {
            unknown()
        }
        fn serialize_newtype_variant<T: Serialize + ?Sized>(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: &T,
        ) -> Result<$ok, Failed> {
            unknown()
        }
        fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Failed> {
            unknown()
        }
        fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Failed> {
            unknown()
        }
        fn serialize_tuple_variant(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: usize,
        ) -> Result<Self::SerializeTupleVariant, Failed> {
            unknown()
        }
        fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Failed> {
            unknown()
        }
        fn serialize_struct_variant(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: usize,
        ) -> Result<Self::SerializeStructVariant, Failed> {
            unknown()
        }
    };
    (@values $($method:ident: $type:ty),*) => {
        $(
            fn $method(self, _: $type) -> Result<Self::Ok, Failed> {
                unknown()
            }
        )*
    };
}

impl<'a> Serializer for Fields<'a> {
    type SerializeSeq = Impossible<Parts, Failed>;
    type SerializeStruct = Taking<'a>;
    refuse!(Parts);

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Failed> {
        unknown()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Taking<'a>, Failed> {
        Ok(Taking { known: self.known, parts: Parts::default() })
    }
}

impl<'a> Serializer for Epochs<'a> {
    type SerializeSeq = Listing<'a>;
    type SerializeStruct = Impossible<Vec<Parts>, Failed>;
    refuse!(Vec<Parts>);

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Listing<'a>, Failed> {
        Ok(Listing { known: self.known, list: Vec::new() })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Failed> {
        unknown()
    }
}
