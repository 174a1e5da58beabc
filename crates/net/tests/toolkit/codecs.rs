//! Content of strangers: nothing that a megabyte can say overflows the stack or takes more memory than it has bytes.

use std::collections::BTreeMap;

use parlour_net::{Blob, Codecs, ContentType};
use serde::{Deserialize, Deserializer, Serialize, de};

const MEGABYTE: usize = 1 << 20;

/// A value that may nest without end.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Tree {
    Leaf(i64),
    Node(Vec<Tree>),
    Map(BTreeMap<String, Tree>),
}

#[derive(Debug, Deserialize)]
struct Known {
    #[serde(default)]
    _known: u8,
}

/// Runs with a stack that a few hundred levels of recursion would not fit, let alone a million.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(512 * 1024).spawn(test).unwrap().join().unwrap();
}

fn repeated(opening: &[u8]) -> Vec<u8> {
    opening.iter().copied().cycle().take(MEGABYTE / opening.len() * opening.len()).collect()
}

#[test]
fn deep_nesting_is_refused_before_it_is_followed() {
    on_a_small_stack(|| {
        let codecs = Codecs::new();
        let cbor: [&[u8]; 7] = [&[0x81], &[0x9f], &[0xa1, 0x61, b'a'], &[0xbf, 0x61, b'a'], &[0xc1], &[0xd8, 30], &[0x82, 0x00]];
        for opening in cbor {
            let content = repeated(opening);
            assert!(codecs.decode::<Tree>(ContentType::CBOR, &content).is_err(), "{opening:x?}");
            assert!(codecs.decode::<serde_json::Value>(ContentType::CBOR, &content).is_err(), "{opening:x?}");
            // Also where nobody asks for it.
            let unknown = [&[0xa1, 0x61, b'x'][..], &content].concat();
            assert!(codecs.decode::<Known>(ContentType::CBOR, &unknown).is_err(), "{opening:x?}");
        }
        for opening in ["[", "{\"a\":", "[[],", "{\"a\":0,\"a\":"] {
            let content = repeated(opening.as_bytes());
            assert!(codecs.decode::<Tree>(ContentType::JSON, &content).is_err(), "{opening}");
            let unknown = [b"{\"x\":", &content[..]].concat();
            assert!(codecs.decode::<Known>(ContentType::JSON, &unknown).is_err(), "{opening}");
        }
    });
}

#[test]
fn a_hundred_levels_are_fine() {
    on_a_small_stack(|| {
        let codecs = Codecs::new();
        let mut tree = Tree::Leaf(7);
        for _ in 0..100 {
            tree = Tree::Node(vec![tree]);
        }
        for content_type in [ContentType::CBOR, ContentType::JSON] {
            let content = codecs.encode(content_type, &tree).unwrap();
            codecs.decode::<Tree>(content_type, &content).unwrap();
        }
    });
}

/// Notes how many elements it is told to expect.
struct Expecting;

impl<'de> Deserialize<'de> for Expecting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Expecting;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Expecting, A::Error> {
                assert!(list.size_hint().unwrap_or(0) <= MEGABYTE, "a length that is not there is announced");
                while list.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(Expecting)
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

#[test]
fn announced_lengths_are_not_believed() {
    let codecs = Codecs::new();
    for head in [0x9b_u8, 0xbb, 0x5b, 0x7b] {
        for length in [MEGABYTE as u64, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
            let content = [&[head][..], &length.to_be_bytes(), &[0; 64]].concat();
            assert!(codecs.decode::<Expecting>(ContentType::CBOR, &content).is_err());
            assert!(codecs.decode::<Vec<[u64; 8]>>(ContentType::CBOR, &content).is_err());
            assert!(codecs.decode::<Blob>(ContentType::CBOR, &content).is_err());
            assert!(codecs.decode::<String>(ContentType::CBOR, &content).is_err());
            assert!(codecs.decode::<BTreeMap<u64, u64>>(ContentType::CBOR, &content).is_err());
            // Somewhere inside.
            let inside = [&[0x82, 0x01][..], &content].concat();
            assert!(codecs.decode::<(u8, Expecting)>(ContentType::CBOR, &inside).is_err());
        }
    }
    let honest = [&[0x9a][..], &1000_u32.to_be_bytes(), &[1; 1000]].concat();
    codecs.decode::<Expecting>(ContentType::CBOR, &honest).unwrap();
    assert_eq!(codecs.decode::<Vec<u64>>(ContentType::CBOR, &honest).unwrap(), [1; 1000]);
}

#[test]
fn content_is_one_whole_value() {
    let codecs = Codecs::new();
    assert!(codecs.decode::<u8>(ContentType::CBOR, &[1, 2]).is_err());
    assert!(codecs.decode::<u8>(ContentType::CBOR, &[]).is_err());
    assert!(codecs.decode::<u8>(ContentType::JSON, b"1 2").is_err());
    assert!(codecs.decode::<u8>(ContentType::JSON, b"").is_err());
    assert!(codecs.decode::<String>(ContentType::TEXT, &[0xff]).is_err());
}

#[test]
fn text_is_a_string_and_bytes_are_bytes() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Name(String);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Mode {
        Fast,
    }
    let codecs = Codecs::new();
    let text = |content: &[u8]| codecs.decode::<Name>(ContentType::TEXT, content);
    assert_eq!(codecs.encode(ContentType::TEXT, &Name("x".into())).unwrap(), "x");
    assert_eq!(text(b"x").unwrap(), Name("x".into()));
    assert_eq!(codecs.encode(ContentType::TEXT, &Mode::Fast).unwrap(), "Fast");
    assert_eq!(codecs.decode::<Mode>(ContentType::TEXT, b"Fast").unwrap(), Mode::Fast);
    assert!(codecs.decode::<Mode>(ContentType::TEXT, b"Slow").is_err());
    assert!(codecs.encode(ContentType::TEXT, &5).is_err());
    assert!(codecs.encode(ContentType::TEXT, &["a"]).is_err());
    assert!(codecs.decode::<i64>(ContentType::TEXT, b"5").is_err());
    assert!(codecs.decode::<()>(ContentType::TEXT, b"5").is_err());

    assert_eq!(codecs.encode(ContentType::BYTES, &[1_u8, 2]).unwrap(), vec![1, 2]);
    assert_eq!(codecs.encode(ContentType::BYTES, &Blob::from(vec![1, 2])).unwrap(), vec![1, 2]);
    assert_eq!(codecs.decode::<[u8; 2]>(ContentType::BYTES, &[1, 2]).unwrap(), [1, 2]);
    assert!(codecs.decode::<[u8; 2]>(ContentType::BYTES, &[1, 2, 3]).is_err(), "one too many");
    assert!(codecs.decode::<[u8; 2]>(ContentType::BYTES, &[1]).is_err(), "one too few");
    assert_eq!(codecs.decode::<Blob>(ContentType::BYTES, &[1, 2]).unwrap(), Blob::from(vec![1, 2]));
    assert!(codecs.encode(ContentType::BYTES, &[1000]).is_err());
    assert!(codecs.encode(ContentType::BYTES, &"text").is_err());
}

#[test]
#[should_panic(expected = "128")]
fn the_protocols_content_types_cannot_be_replaced() {
    struct Nothing;
    impl parlour_net::Codec for Nothing {
        fn encode(&self, _: parlour_net::Value<'_>) -> Result<Vec<u8>, parlour_net::CodecError> {
            Ok(Vec::new())
        }

        fn decode(&self, _: &[u8], _: parlour_net::Reader<'_>) -> Result<(), parlour_net::CodecError> {
            Ok(())
        }
    }
    let unread = Codecs::new().with(ContentType(200), Nothing).decode::<u8>(ContentType(200), &[]);
    assert!(unread.is_err(), "a codec that reads nothing gives nothing");
    let _ = Codecs::new().with(ContentType(127), Nothing);
}
