//! Decrypted content: every kind survives, and what a malicious member may have made is refused or kept, never believed.

use minicbor::Encoder;
use parlour_wire::{
    AccountId, DecodeError, MessageId,
    content::{Attachment, Body, Content, Expiry, MARKDOWN, Profile, safe_name},
    limits,
};

use crate::samples::{MESSAGE, attachment, contents};

fn text(body: &str) -> Content {
    Content::new(1_700_000_000_123, Body::Text(body.to_owned()))
}

/// A message by hand: `[salt, replaces, topic, expires, in reply to, extensions, part]`.
fn by_hand(part: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut e = Encoder::new(&mut out);
    e.array(7)
        .expect("memory")
        .bytes(&[0; 16])
        .expect("memory")
        .null()
        .expect("memory")
        .bytes(b"topic")
        .expect("memory")
        .null()
        .expect("memory")
        .null()
        .expect("memory");
    e.map(3).expect("memory").u8(1).expect("memory").u64(5).expect("memory");
    e.str("later")
        .expect("memory")
        .map(1)
        .expect("memory")
        .u8(0)
        .expect("memory")
        .array(1)
        .expect("memory")
        .str("nested")
        .expect("memory");
    e.u8(99).expect("memory").bool(true).expect("memory");
    part(&mut e);
    out
}

fn single(disposition: u8, content_type: &str, payload: &[u8]) -> Vec<u8> {
    by_hand(|e| {
        e.array(5).expect("memory").u8(disposition).expect("memory").str("de").expect("memory").u8(1).expect("memory");
        e.str(content_type).expect("memory").bytes(payload).expect("memory");
    })
}

#[test]
fn every_kind_of_content_survives() {
    for (name, content) in contents() {
        assert_eq!(Content::from_bytes(&content.to_bytes().unwrap()), Ok(content), "{name}");
    }
    let bare = Content::new(0, Body::Profile(Profile::default()));
    assert_eq!(Content::from_bytes(&bare.to_bytes().unwrap()), Ok(bare));
}

#[test]
fn salt_topic_language_and_later_extensions_are_passed_over() {
    let content = Content::from_bytes(&single(1, MARKDOWN, b"hello")).unwrap();
    assert_eq!(content, Content::new(5, Body::Text("hello".to_owned())));
}

/// As programs write it that keep to the draft: addresses under the numbers that are a time and mentions here, and another variant.
#[test]
fn a_text_by_another_program_of_the_content_model_is_read() {
    let write = |e: &mut Encoder<&mut Vec<u8>>, content_type: &str| {
        e.array(7)?.bytes(&[0x5e; 16])?.null()?.bytes(b"")?.null()?.null()?;
        e.map(2)?.u8(1)?.str("mimi://example.com/u/alice-smith")?.u8(2)?.str("mimi://example.com/r/engineering_team")?;
        e.array(5)?.u8(1)?.str("")?.u8(1)?.str(content_type)?.bytes(b"Hi, *everyone*")?;
        Ok::<_, minicbor::encode::Error<std::convert::Infallible>>(())
    };
    for content_type in
        ["text/markdown;variant=GFM", "text/plain;charset=utf-8", "text/plain", "Text/Markdown ; variant=CommonMark"]
    {
        let mut bytes = Vec::new();
        write(&mut Encoder::new(&mut bytes), content_type).expect("memory");
        let read = Content::from_bytes(&bytes).unwrap();
        assert_eq!(read, Content::new(0, Body::Text("Hi, *everyone*".to_owned())), "{content_type}");
    }
    let mut other = Vec::new();
    write(&mut Encoder::new(&mut other), "text/html").expect("memory");
    assert!(matches!(Content::from_bytes(&other).unwrap().body, Body::Unknown { .. }));
}

#[test]
fn what_another_program_calls_a_text_and_is_none_here_is_kept_as_it_came() {
    let long = "x".repeat(limits::MESSAGE_INLINE + 1);
    for (content_type, payload) in [
        ("text/plain", long.as_bytes()),
        ("text/markdown;variant=GFM", long.as_bytes()),
        ("text/plain;charset=latin1", b"caf\xe9"),
    ] {
        let content = Content::from_bytes(&single(1, content_type, payload)).unwrap();
        assert!(matches!(&content.body, Body::Unknown { content_type: it, .. } if it == content_type));
        assert_eq!(Content::from_bytes(&content.to_bytes().unwrap()), Ok(content));
    }
    // What says that it is of this program has to keep to its rules.
    assert_eq!(Content::from_bytes(&single(1, MARKDOWN, b"caf\xe9")), Err(DecodeError::Invalid("message text")));
}

#[test]
fn an_array_of_something_else_where_mentions_stand_is_passed_over() {
    let account = [7; 32];
    let read = |items: &dyn Fn(&mut Encoder<&mut Vec<u8>>)| {
        let mut bytes = Vec::new();
        let mut e = Encoder::new(&mut bytes);
        e.array(7).unwrap().bytes(b"").unwrap().null().unwrap().bytes(b"").unwrap().null().unwrap().null().unwrap();
        e.map(2).unwrap().u8(1).unwrap().u8(5).unwrap().u8(2).unwrap();
        items(&mut e);
        e.array(5).unwrap().u8(1).unwrap().str("").unwrap().u8(1).unwrap().str(MARKDOWN).unwrap().bytes(b"hello").unwrap();
        Content::from_bytes(&bytes)
    };
    let plain = Content::new(5, Body::Text("hello".to_owned()));
    let texts = read(&|e| {
        e.array(2).unwrap().str("mimi://a").unwrap().str("mimi://b").unwrap();
    });
    assert_eq!(texts.as_ref(), Ok(&plain));
    let mixed = read(&|e| {
        e.array(2).unwrap().bytes(&account).unwrap().array(1).unwrap().null().unwrap();
    });
    assert_eq!(mixed.as_ref(), Ok(&plain));
    let many = read(&|e| {
        e.array(1_000).unwrap();
        for _ in 0..1_000 {
            e.u8(1).unwrap();
        }
    });
    assert_eq!(many.as_ref(), Ok(&plain));
    let mentions = read(&|e| {
        e.array(1).unwrap().bytes(&account).unwrap();
    });
    assert_eq!(mentions, Ok(Content { mentions: vec![AccountId(account)], ..plain }));
    let short = read(&|e| {
        e.array(1).unwrap().bytes(&[7; 31]).unwrap();
    });
    assert!(short.is_err(), "no account");
}

#[test]
fn too_long_a_text_is_refused_on_both_sides() {
    let long = "x".repeat(limits::MESSAGE_INLINE + 1);
    assert_eq!(text(&long).to_bytes(), Err(DecodeError::TooLong("message")));
    assert_eq!(Content::from_bytes(&single(1, MARKDOWN, long.as_bytes())), Err(DecodeError::TooLong("message")));
}

#[test]
fn content_that_is_not_known_is_kept_as_it_came() {
    let bytes = single(1, "image/png", &[1, 2, 3]);
    let Body::Unknown { content_type, bytes: part } = Content::from_bytes(&bytes).unwrap().body else {
        panic!("it is not known")
    };
    assert_eq!(content_type, "image/png");
    assert!(bytes.ends_with(&part) && part.ends_with(&[1, 2, 3]));
}

#[test]
fn parts_of_a_shape_that_is_not_known_are_kept() {
    let many = by_hand(|e| {
        e.array(5).unwrap().u8(1).unwrap().str("").unwrap().u8(3).unwrap().u8(0).unwrap().array(2).unwrap();
        for language in ["de", "en"] {
            e.array(5).unwrap().u8(1).unwrap().str(language).unwrap().u8(1).unwrap().str(MARKDOWN).unwrap().bytes(b"x").unwrap();
        }
    });
    let content = Content::from_bytes(&many).unwrap();
    assert!(matches!(&content.body, Body::Unknown { content_type, .. } if content_type == "part of cardinality 3"));
    assert_eq!(Content::from_bytes(&content.to_bytes().unwrap()), Ok(content));
}

#[test]
fn unknown_content_cannot_carry_a_known_one_past_its_checks() {
    let known = text("x").to_bytes().unwrap();
    for bytes in [known, vec![0x80], vec![]] {
        let body = Body::Unknown { content_type: "x/y".to_owned(), bytes };
        assert!(Content::new(0, body).to_bytes().is_err());
    }
}

#[test]
fn a_reaction_or_deletion_without_a_target_is_refused() {
    assert_eq!(Content::new(0, Body::Reaction("+".into())).to_bytes(), Err(DecodeError::Invalid("reaction")));
    assert_eq!(Content::new(0, Body::Deleted).to_bytes(), Err(DecodeError::Invalid("deletion")));
    let deletion = by_hand(|e| {
        e.array(3).unwrap().u8(0).unwrap().str("").unwrap().u8(0).unwrap();
    });
    assert_eq!(Content::from_bytes(&deletion), Err(DecodeError::Invalid("deletion")));
}

#[test]
fn a_reaction_is_one_short_visible_sign() {
    let reaction = |emoji: &str| Content { in_reply_to: Some(MESSAGE), ..Content::new(0, Body::Reaction(emoji.to_owned())) };
    for good in ["\u{1f44d}", "+1", "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}"] {
        assert!(reaction(good).to_bytes().is_ok(), "{good}");
    }
    for bad in ["", " ", "a b", "\u{1b}[2J", "x\n", &"x".repeat(limits::REACTION + 1)] {
        assert!(reaction(bad).to_bytes().is_err(), "{bad:?}");
    }
}

#[test]
fn what_has_a_bound_is_refused_beyond_it() {
    let mentions = vec![AccountId([1; 32]); limits::MENTIONS + 1];
    assert_eq!(Content { mentions, ..text("x") }.to_bytes(), Err(DecodeError::TooLong("mentions")));
    let refused = |change: fn(&mut Attachment)| {
        let mut attachment = attachment();
        change(&mut attachment);
        Content::new(0, Body::Attachment(attachment)).to_bytes().expect_err("refused")
    };
    assert_eq!(refused(|a| a.text = "x".repeat(limits::CAPTION + 1)), DecodeError::TooLong("caption"));
    assert_eq!(refused(|a| a.thumbnail = Some(vec![0; limits::THUMBNAIL + 1])), DecodeError::TooLong("thumbnail"));
    assert_eq!(refused(|a| a.size = u64::MAX), DecodeError::TooLong("attachment"));
    assert_eq!(refused(|a| a.name = "../x".to_owned()), DecodeError::Invalid("file name"));
    let profile = |profile| Content::new(0, Body::Profile(profile)).to_bytes().expect_err("refused");
    let avatar = Some(vec![0; limits::AVATAR + 1]);
    assert_eq!(profile(Profile { avatar, ..Profile::default() }), DecodeError::TooLong("avatar"));
    let display_name = "\u{1b}]0;x".to_owned();
    assert_eq!(profile(Profile { display_name, ..Profile::default() }), DecodeError::Invalid("profile"));
    let changes = Body::Sync(vec![0; limits::SYNC_CONTENT + 1]);
    assert_eq!(Content::new(0, changes).to_bytes(), Err(DecodeError::TooLong("changes")));
}

#[test]
fn the_largest_of_every_kind_fits_an_entry() {
    let mentions = vec![AccountId([1; 32]); limits::MENTIONS];
    let refers = |body| Content {
        in_reply_to: Some(MESSAGE),
        replaces: Some(MessageId([1; 16])),
        expires: Some(Expiry::At(u32::MAX)),
        mentions: mentions.clone(),
        ..Content::new(u64::MAX, body)
    };
    let text = "x".repeat(limits::CAPTION);
    let name = "x".repeat(limits::FILE_NAME);
    let thumbnail = Some(vec![1; limits::THUMBNAIL]);
    let attachment = Attachment { text, name, thumbnail, size: limits::BLOB, ..attachment() };
    let status = "x".repeat(limits::PROFILE_STATUS);
    let profile = Profile { display_name: "x".repeat(limits::LABEL), status, avatar: Some(vec![1; limits::AVATAR]) };
    let text = Body::Text("x".repeat(limits::MESSAGE_INLINE));
    let changes = Body::Sync(vec![0; limits::SYNC_CONTENT]);
    for body in [text, Body::Attachment(attachment), Body::Profile(profile), changes] {
        let content = refers(body);
        let bytes = content.to_bytes().unwrap();
        // What MLS adds and padding take.
        assert!(bytes.len() + 8 * 1024 < limits::ENTRY_PAYLOAD);
        assert_eq!(Content::from_bytes(&bytes), Ok(content));
    }
}

#[test]
fn names_of_files_are_made_safe() {
    for (name, safe) in [
        ("report.pdf", "report.pdf"),
        ("/etc/passwd", "passwd"),
        ("../../.ssh/authorized_keys", "authorized_keys"),
        ("C:\\Windows\\system32\\cmd.exe", "cmd.exe"),
        ("..", "file"),
        ("", "file"),
        (".bashrc", "bashrc"),
        ("a\u{1b}[2J\nb\0.txt", "a[2Jb.txt"),
        ("invoice\u{202e}fdp.exe", "invoicefdp.exe"),
        ("a<b>:\"|?*.txt", "a_b______.txt"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("trailing. . .", "trailing"),
    ] {
        assert_eq!(safe_name(name), safe, "{name:?}");
    }
    for name in [format!("{}.tar.gz", "ü".repeat(300)), format!("con.{}", "x".repeat(300)), ". ".repeat(300) + "x"] {
        let safe = safe_name(&name);
        assert!(safe.len() <= limits::FILE_NAME && !safe.is_empty());
        assert_eq!(safe_name(&safe), safe);
    }
    assert!(safe_name(&format!("{}.pdf", "x".repeat(300))).ends_with(".pdf"));
}

/// An external part by hand, as no program of ours writes it.
struct Forged<'a> {
    name: &'a str,
    size: u64,
    url: &'a str,
    key: &'a [u8],
    hash: &'a [u8],
}

const BLOB: &str = "parlour-blob:0101010101010101010101010101010101010101010101010101010101010101?size=65552";

impl Default for Forged<'_> {
    fn default() -> Self {
        Self { name: "plan.pdf", size: 1000, url: BLOB, key: &[3; 32], hash: &[4; 32] }
    }
}

impl Forged<'_> {
    fn write(&self, e: &mut Encoder<&mut Vec<u8>>) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        e.array(15)?.u8(6)?.str("")?.u8(2)?.str("application/pdf")?.str(self.url)?.u32(0)?.u64(self.size)?;
        e.u64(0xf001)?.bytes(self.key)?.bytes(&[])?.bytes(&[])?.u64(0xff)?.bytes(self.hash)?.str("look")?.str(self.name)?;
        Ok(())
    }

    fn read(&self) -> Result<Body, DecodeError> {
        Content::from_bytes(&by_hand(|e| self.write(e).expect("memory"))).map(|content| content.body)
    }

    /// The same with a preview.
    fn read_with_preview(&self) -> Result<Body, DecodeError> {
        let write = |e: &mut Encoder<&mut Vec<u8>>| {
            e.array(5)?.u8(6)?.str("")?.u8(3)?.u8(1)?.array(2)?;
            self.write(e)?;
            e.array(5)?.u8(8)?.str("")?.u8(1)?.str("image/png")?.bytes(&[1])?.ok()
        };
        Content::from_bytes(&by_hand(|e| write(e).expect("memory"))).map(|content| content.body)
    }
}

#[test]
fn a_forged_name_of_a_file_is_reduced_by_who_reads_it() {
    let long = format!("/{}/{}.pdf", "d/".repeat(500), "x".repeat(4000));
    for (name, safe) in [
        ("../../x", "x"),
        ("../../.ssh/authorized_keys", "authorized_keys"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\evil.exe", "evil.exe"),
        ("..", "file"),
        ("a/\0", "file"),
        ("x\u{202e}fdp.exe", "xfdp.exe"),
        (&long, &format!("{}.pdf", "x".repeat(limits::FILE_NAME - 4))),
    ] {
        let forged = Forged { name, ..Forged::default() };
        for body in [forged.read(), forged.read_with_preview()] {
            let Ok(Body::Attachment(read)) = body else { panic!("{name:?}: {body:?}") };
            assert_eq!((read.name.as_str(), read.size), (safe, 1000), "{name:?}");
        }
    }
}

#[test]
fn forged_sizes_keys_and_hashes_of_a_file_are_refused() {
    let huge = format!("{}?size={}", BLOB.split_once('?').unwrap().0, u64::MAX);
    let forged = [
        (Forged { size: u64::MAX, ..Forged::default() }, DecodeError::TooLong("attachment")),
        (Forged { size: limits::BLOB + 1, ..Forged::default() }, DecodeError::TooLong("attachment")),
        (Forged { url: &huge, ..Forged::default() }, DecodeError::TooLong("attachment")),
        (Forged { key: &[3; 31], ..Forged::default() }, DecodeError::Invalid("key of an attachment")),
        (Forged { key: &[3; 4000], ..Forged::default() }, DecodeError::Invalid("key of an attachment")),
        (Forged { hash: &[], ..Forged::default() }, DecodeError::Invalid("hash of an attachment")),
    ];
    for (at, (forged, error)) in forged.iter().enumerate() {
        assert_eq!(forged.read(), Err(*error), "{at}");
        assert_eq!(forged.read_with_preview(), Err(*error), "{at} with a preview");
    }
}

#[test]
fn a_file_that_is_said_to_be_elsewhere_is_kept_as_unknown_and_never_fetched() {
    for url in [
        "https://example.org/plan.pdf",
        "file:///etc/passwd",
        "parlour-blob:../../etc/passwd?size=1",
        "parlour-blob:0101?size=1",
        "parlour-blob:0101010101010101010101010101010101010101010101010101010101010101",
        "parlour-blob:0101010101010101010101010101010101010101010101010101010101010101?size=-1",
        "",
    ] {
        let forged = Forged { url, ..Forged::default() };
        for body in [forged.read(), forged.read_with_preview()] {
            assert!(matches!(body, Ok(Body::Unknown { .. })), "{url}: {body:?}");
        }
    }
}

#[test]
fn a_tower_of_arrays_is_refused_without_climbing_it() {
    let tower = by_hand(|e| {
        for _ in 0..50_000 {
            e.array(1).unwrap();
        }
        e.u8(0).unwrap();
    });
    assert_eq!(Content::from_bytes(&tower), Err(DecodeError::Malformed));
}

#[test]
fn announced_sizes_are_not_believed() {
    let huge = by_hand(|e| {
        e.array(5).unwrap().u8(1).unwrap().str("").unwrap().u8(3).unwrap().u8(1).unwrap().array(u64::MAX).unwrap();
    });
    assert_eq!(Content::from_bytes(&huge), Err(DecodeError::Malformed));
}

#[test]
fn an_expiry_counts_from_when_the_home_stored_the_message() {
    assert_eq!(Expiry::At(7).at_ms(1_000_000), 7000);
    assert_eq!(Expiry::After(7).at_ms(1_000_000), 1_007_000);
    assert_eq!(Expiry::After(1).at_ms(u64::MAX), u64::MAX);
}
