//! Raw requests of files, and a push whose sender is the test itself.

use bytes::Bytes;
use parlour_net::{Code, Fault, Link, Source};
use parlour_wire::{
    api::Call,
    decode, encode,
    files::{Closing, Destination, Opening, Part, Push, Settle, Whole},
    frame::ContentType,
    limits,
};

use crate::{
    support::BOUND,
    world::{MIB, World, bounded, content, hash},
};

pub const CBOR: ContentType = ContentType::CBOR;
pub const NOTHING: Part = Part { size: 0, hash: [0; 32] };

pub async fn ask<T: Call>(link: &Link, request: &T) -> Result<T::Answer, Fault> {
    // What this end calls `timed_out` by itself must not be taken for the other's word.
    let answer = bounded(link.request_raw(T::NAME, CBOR, encode(request).into(), 2 * BOUND)).await?;
    Ok(decode(&answer.content).unwrap())
}

pub fn offer(path: &str, size: u64) -> Push {
    Push { path: path.into(), size, replace: false, afresh: false, hash: None }
}

/// A push whose sender is the test itself.
pub struct Raw {
    pub source: Source,
    pub into: Destination,
    pub settled: tokio::task::JoinHandle<Result<Whole, Fault>>,
}

impl Raw {
    pub async fn begin(world: &World, push: Push) -> Self {
        Self::begin_over(world.agent.link(), push).await
    }

    pub async fn begin_over(link: &Link, push: Push) -> Self {
        let link = link.clone();
        let into = ask(&link, &push).await.unwrap().into.unwrap();
        let source = link.source(into.stream, into.credit);
        let settle = Settle { stream: into.stream };
        let settled = tokio::spawn(async move { ask(&link, &settle).await });
        Self { source, into, settled }
    }

    pub async fn open(&mut self, from: u64, size: u64) {
        let opening = Opening { from, size, modified_ms: None };
        self.send(&encode(&opening), &[]).await;
    }

    /// The receiver may have stopped the stream.
    pub async fn send(&mut self, mark: &[u8], content: &[u8]) {
        let _ = bounded(self.source.send(Bytes::copy_from_slice(mark), Bytes::copy_from_slice(content))).await;
    }

    pub async fn data(&mut self, content: &[u8]) {
        for chunk in content.chunks(limits::STREAM_CHUNK) {
            self.send(&[], chunk).await;
        }
    }

    pub async fn finish(self, size: u64, hash: [u8; 32]) -> Result<Whole, Fault> {
        let words = encode(&Closing { whole: Some(Whole { size, hash }) });
        let _ = bounded(self.source.finish(words.into())).await;
        bounded(self.settled).await.unwrap()
    }

    pub async fn refused(self) -> Code {
        let _source = self.source;
        bounded(self.settled).await.unwrap().unwrap_err().code
    }
}

/// The other links and transfers do not notice.
pub async fn all_is_well(world: &World) {
    let bytes = content(3 * MIB, 77);
    let local = world.here("well", &bytes);
    world.push(&local, "box/well").await.unwrap();
    assert_eq!(hash(&std::fs::read(world.there("well")).unwrap()), hash(&bytes));
    std::fs::remove_file(world.there("well")).unwrap();
}
