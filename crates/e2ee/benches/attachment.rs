//! What a file costs a core: the first pass (both hashes and the cipher), a later pass (the cipher), and opening (all three again); beside
//! it the ciphers that the choice was between.
#![allow(clippy::unwrap_used, missing_docs, reason = "benchmarks")]

use std::hint::black_box;

use aes_gcm::{Aes256Gcm, KeyInit, aead::AeadInPlace};
use chacha20poly1305::ChaCha20Poly1305;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parlour_e2ee::attachment::{CHUNK, FileKey, Opener, Resealer, Sealed, Sealer};
use parlour_wire::content::Attachment;

const SIZE: usize = 16 << 20;

fn first_pass(key: &FileKey, file: &[u8], buffer: &mut Vec<u8>) -> Sealed {
    let mut sealer = Sealer::new(key, file.len() as u64).unwrap();
    for chunk in file.chunks(CHUNK) {
        buffer.extend_from_slice(chunk);
        sealer.take(buffer).unwrap();
    }
    sealer.finish().unwrap()
}

fn passes(c: &mut Criterion) {
    let mut group = c.benchmark_group("attachment");
    group.throughput(Throughput::Bytes(SIZE as u64)).sample_size(20);
    let (key, file, mut buffer) = (FileKey::generate(), vec![7; SIZE], Vec::new());
    group.bench_function("first pass", |b| b.iter(|| first_pass(&key, black_box(&file), &mut buffer)));

    let sealed = first_pass(&key, &file, &mut buffer);
    let again = Resealer::new(&key, &sealed);
    let mut blob = Vec::new();
    group.bench_function("later pass", |b| {
        b.iter(|| {
            blob.clear();
            for (at, chunk) in file.chunks(CHUNK).enumerate() {
                buffer.clear();
                buffer.extend_from_slice(chunk);
                again.seal(at as u32, &mut buffer).unwrap();
                blob.extend_from_slice(&buffer);
            }
        });
    });

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
    group.bench_function("open", |b| {
        b.iter(|| {
            let mut opener = Opener::new(&attachment).unwrap();
            let mut rest = black_box(&blob[..]);
            while let Some(wanted) = opener.wanted() {
                let (chunk, after) = rest.split_at(wanted);
                buffer.clear();
                buffer.extend_from_slice(chunk);
                opener.take(&mut buffer).unwrap();
                rest = after;
            }
            opener.finish().unwrap();
        });
    });
    group.finish();
}

fn ciphers(c: &mut Criterion) {
    let mut group = c.benchmark_group("attachment alone");
    group.throughput(Throughput::Bytes(CHUNK as u64));
    let mut chunk = vec![7; CHUNK];
    let aes = Aes256Gcm::new(&[1; 32].into());
    group.bench_function("AES-256-GCM", |b| {
        b.iter(|| aes.encrypt_in_place_detached(&[0; 12].into(), b"", black_box(&mut chunk)).unwrap());
    });
    let chacha = ChaCha20Poly1305::new(&[1; 32].into());
    group.bench_function("ChaCha20-Poly1305", |b| {
        b.iter(|| chacha.encrypt_in_place_detached(&[0; 12].into(), b"", black_box(&mut chunk)).unwrap());
    });
    group.bench_function("BLAKE3", |b| b.iter(|| blake3::hash(black_box(&chunk))));
    group.finish();
}

criterion_group!(benches, passes, ciphers);
criterion_main!(benches);
