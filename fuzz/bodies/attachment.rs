//! A blob from a malicious server, and a file that changes: nothing but the blob that was sealed opens, and nothing but the file that
//! was sealed is sealed again.

use parlour_e2ee::attachment::{AttachmentError, CHUNK, Chunks, FileKey, Layout, Opener, Resealer, Sealed, Sealer};
use parlour_wire::content::Attachment;

const KEY: [u8; 32] = [7; 32];

/// The first three bytes say how large the file is (up to two and a half chunks), the rest are changes to its blob: each is an offset
/// of three bytes and a byte to be XORed there.
pub(crate) fn run(data: &[u8]) {
    let Some((size, changes)) = data.split_first_chunk::<3>() else { return };
    let size = small(*size) % (5 * CHUNK / 2);
    let file: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    let (sealed, blob) = seal(&file);
    let mut wrong = blob.clone();
    for change in changes.chunks_exact(4) {
        let at = small([change[0], change[1], change[2]]) % wrong.len();
        wrong[at] ^= change[3];
    }
    let opened = open(&sealed, &wrong);
    assert_eq!(opened.is_ok(), wrong == blob, "only the blob that was sealed opens");
    if let Ok(opened) = opened {
        assert_eq!(opened, file);
    }
    let mut arbitrary = changes.to_vec();
    let layout = Layout::new(changes.len().saturating_sub(16) as u64).expect("small");
    assert!(Chunks::new(&FileKey::from_bytes(KEY), layout).open(0, &mut arbitrary).is_err(), "nobody guesses a tag");
    assert!(arbitrary.is_empty());
}

fn small(bytes: [u8; 3]) -> usize {
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

fn seal(file: &[u8]) -> (Sealed, Vec<u8>) {
    let key = FileKey::from_bytes(KEY);
    let mut sealer = Sealer::new(&key, file.len() as u64).expect("small");
    let mut rest = file;
    while let Some(wanted) = sealer.wanted() {
        let (chunk, after) = rest.split_at(wanted);
        sealer.take(&mut chunk.to_vec()).expect("as long as wanted");
        rest = after;
    }
    let sealed = sealer.finish().expect("all chunks");
    let again = Resealer::new(&key, &sealed);
    let mut blob = Vec::new();
    for (chunk, content) in chunks(file, sealed.layout).enumerate() {
        let mut buffer = content.to_vec();
        again.seal(chunk as u32, &mut buffer).expect("the same file");
        blob.extend(buffer);
        if let Some((last, before)) = content.split_last() {
            let mut changed = [before, &[last ^ 1]].concat();
            let error = AttachmentError::SourceChanged { chunk: chunk as u32 };
            assert_eq!(again.seal(chunk as u32, &mut changed), Err(error));
            assert!(changed.is_empty());
        }
    }
    assert_eq!(blob.len() as u64, sealed.layout.blob_size());
    (sealed, blob)
}

fn chunks(file: &[u8], layout: Layout) -> impl Iterator<Item = &[u8]> {
    (0..layout.chunks()).map(move |chunk| {
        let start = (chunk as usize * CHUNK).min(file.len());
        &file[start..start + layout.content_len(chunk)]
    })
}

fn open(sealed: &Sealed, blob: &[u8]) -> Result<Vec<u8>, AttachmentError> {
    let mut opener = Opener::new(&Attachment {
        blob: sealed.blob,
        key: KEY,
        size: sealed.layout.size(),
        blob_size: sealed.layout.blob_size(),
        hash: sealed.hash,
        content_type: String::new(),
        name: "file".to_owned(),
        text: String::new(),
        thumbnail: None,
    })?;
    let (mut file, mut rest) = (Vec::new(), blob);
    while let Some(wanted) = opener.wanted() {
        let (chunk, after) = rest.split_at(wanted);
        let mut buffer = chunk.to_vec();
        opener.take(&mut buffer)?;
        file.extend(buffer);
        rest = after;
    }
    opener.finish().map(|()| file)
}
