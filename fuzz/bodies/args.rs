//! Arguments of strangers in every content type: decoding never panics and never follows nesting without end, and what was read is
//! written and read again as the same.

use std::collections::BTreeMap;

use parlour_net::{Codecs, ContentType};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Nothing,
    Flag(bool),
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Named(BTreeMap<String, Tree>),
    Maybe(Option<Box<Tree>>),
    Pair { left: Box<Tree>, right: (u8, String) },
}

fn again<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(codecs: &Codecs, content_type: ContentType, content: &[u8]) {
    let Ok(value) = codecs.decode::<T>(content_type, content) else { return };
    let Ok(written) = codecs.encode(content_type, &value) else { return };
    // What is deeper than is followed cannot have been read.
    assert_eq!(codecs.decode::<T>(content_type, &written).as_ref(), Ok(&value));
}

pub(crate) fn run(data: &[u8]) {
    let Some((first, content)) = data.split_first() else { return };
    let types = [ContentType::CBOR, ContentType::JSON, ContentType::TEXT, ContentType::BYTES];
    let content_type = types[usize::from(*first) % types.len()];
    let codecs = Codecs::new();
    again::<Tree>(&codecs, content_type, content);
    again::<Vec<Tree>>(&codecs, content_type, content);
    again::<String>(&codecs, content_type, content);
    again::<Vec<u8>>(&codecs, content_type, content);
    again::<(u64, Option<bool>, Vec<String>)>(&codecs, content_type, content);
    again::<BTreeMap<String, BTreeMap<String, i32>>>(&codecs, content_type, content);
    again::<()>(&codecs, content_type, content);
    // Whatever nests is looked at to its depth; numbers with a point need not come back to the last bit.
    drop(codecs.decode::<serde_json::Value>(content_type, content));
    drop(codecs.decode::<serde::de::IgnoredAny>(content_type, content));
}
