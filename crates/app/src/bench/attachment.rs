//! What a file costs a core end to end: going over it, sealing what is sent, opening what comes. BLAKE3 alone stands beside it.

use std::hint::black_box;

use parlour_e2ee::attachment::{CHUNK, FileKey, Opener, Resealer, Sealed, Sealer};
use parlour_wire::content::Attachment;

use super::{Figure, Target, baseline::now};

/// Bytes of the file.
const SIZE: usize = 64 << 20;
/// Runs of which the middle one counts.
const RUNS: usize = 5;
/// What each pass should reach, in MB/s.
const LEAST: f64 = 500.0;

/// Measures the three passes.
pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let file: Vec<u8> = (0..SIZE).map(|at| (at * 31 % 251) as u8).collect();
    let key = FileKey::generate();
    let hash = rate(|| {
        black_box(blake3::hash(black_box(&file)));
        Ok(())
    })?;
    let mut sealed = None;
    let first = rate(|| {
        sealed = Some(first_pass(&key, &file)?);
        Ok(())
    })?;
    let Some(sealed) = sealed else { anyhow::bail!("nothing was sealed") };
    let mut blob = Vec::new();
    let later = rate(|| {
        blob = later_pass(&key, &sealed, &file)?;
        Ok(())
    })?;
    let open = rate(|| opened(&key, &sealed, &blob))?;
    let figure = |what: &'static str, rate: f64| {
        Figure::new(what, rate, "MB/s").against("BLAKE3 alone", hash).target(Target::AtLeast(LEAST))
    };
    Ok(vec![
        Figure::new("BLAKE3 alone, one core", hash, "MB/s"),
        figure("file: going over it (cipher and both hashes)", first),
        figure("file: sealing what is sent", later),
        figure("file: opening it (cipher and both hashes)", open),
    ])
}

/// The middle rate of some runs, MB/s.
fn rate(mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let mut rates = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let begun = now();
        work()?;
        rates.push(SIZE as f64 / 1e6 / begun.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    Ok(rates[RUNS / 2])
}

fn first_pass(key: &FileKey, file: &[u8]) -> anyhow::Result<Sealed> {
    let mut sealer = Sealer::new(key, file.len() as u64)?;
    let mut buffer = Vec::with_capacity(CHUNK + 16);
    let mut rest = file;
    while let Some(wanted) = sealer.wanted() {
        let (chunk, after) = rest.split_at(wanted);
        buffer.extend_from_slice(chunk);
        sealer.take(&mut buffer)?;
        rest = after;
    }
    Ok(sealer.finish()?)
}

fn later_pass(key: &FileKey, sealed: &Sealed, file: &[u8]) -> anyhow::Result<Vec<u8>> {
    let sealer = Resealer::new(key, sealed);
    let mut blob = Vec::with_capacity(usize::try_from(sealed.layout.blob_size())?);
    let mut buffer = Vec::with_capacity(CHUNK + 16);
    for chunk in 0..sealed.layout.chunks() {
        let start = (chunk as usize * CHUNK).min(file.len());
        buffer.clear();
        buffer.extend_from_slice(&file[start..start + sealed.layout.content_len(chunk)]);
        sealer.seal(chunk, &mut buffer)?;
        blob.extend_from_slice(&buffer);
    }
    Ok(blob)
}

fn opened(key: &FileKey, sealed: &Sealed, blob: &[u8]) -> anyhow::Result<()> {
    let attachment = Attachment {
        blob: sealed.blob,
        key: *key.as_bytes(),
        size: sealed.layout.size(),
        blob_size: sealed.layout.blob_size(),
        hash: sealed.hash,
        content_type: String::new(),
        name: "file".to_owned(),
        text: String::new(),
        thumbnail: None,
    };
    let mut opener = Opener::new(&attachment)?;
    let mut buffer = Vec::with_capacity(CHUNK + 16);
    let mut rest = blob;
    while let Some(wanted) = opener.wanted() {
        let (chunk, after) = rest.split_at(wanted);
        buffer.clear();
        buffer.extend_from_slice(chunk);
        opener.take(&mut buffer)?;
        black_box(&buffer);
        rest = after;
    }
    Ok(opener.finish()?)
}
