//! Requests one at a time and many at a time, actions, and how long a request takes beside other traffic.

use std::{collections::VecDeque, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use parlour_net::{Blob, ContentType};
use serde::{Deserialize, Serialize};

use super::{ends::Ends, times::Times};
use crate::bench::baseline::now;

/// Content of a request in bytes, as an application's message may have.
pub(super) const SIZE: usize = 64;
/// Requests in flight together.
pub(super) const WINDOW: usize = 512;
/// Time between two pings.
const PACE: Duration = Duration::from_millis(2);
const DEADLINE: Duration = Duration::from_secs(30);

/// What an application might ask: a number, and something beside it that brings the content to [`SIZE`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) number: u64,
    pub(super) beside: Blob,
}

impl Ask {
    pub(super) fn new(number: usize) -> Self {
        Self { number: number as u64, beside: vec![7; SIZE - 26].into() }
    }
}

/// Round trips with types, one at a time.
pub(super) async fn round_trips(ends: &Ends, count: usize) -> anyhow::Result<Times> {
    let mut times = Times::default();
    for number in 0..count {
        let start = now();
        let next: u64 = ends.agent.request("next", &Ask::new(number)).await?;
        times.push(start.elapsed());
        anyhow::ensure!(next == number as u64 + 1, "the answer is of another request");
    }
    Ok(times)
}

/// Round trips of bytes, one at a time.
pub(super) async fn raw_round_trips(ends: &Ends, count: usize) -> anyhow::Result<Times> {
    let (mut times, content) = (Times::default(), Bytes::from(vec![7; SIZE]));
    for _ in 0..count {
        let start = now();
        ends.agent.link().request_raw("echo", ContentType::BYTES, content.clone(), DEADLINE).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// Requests with types a second, with [`WINDOW`] of them in flight.
pub(super) async fn pipelined(ends: &Ends, count: usize) -> anyhow::Result<f64> {
    let (start, mut open) = (now(), VecDeque::with_capacity(WINDOW));
    for number in 0..count {
        if open.len() == WINDOW {
            open.pop_front().context("the window is not empty")?.await?;
        }
        open.push_back(ends.agent.request::<u64>("next", &Ask::new(number)).send());
    }
    for reply in open {
        reply.await?;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// The same with bytes.
pub(super) async fn raw_pipelined(ends: &Ends, count: usize) -> anyhow::Result<f64> {
    let (start, mut open) = (now(), VecDeque::with_capacity(WINDOW));
    let content = Bytes::from(vec![7; SIZE]);
    for _ in 0..count {
        if open.len() == WINDOW {
            open.pop_front().context("the window is not empty")?.await?;
        }
        let ask = parlour_net::Ask {
            name: "echo".to_owned(),
            content_type: ContentType::BYTES,
            content: content.clone(),
            timeout: Some(DEADLINE),
            origin: None,
        };
        open.push_back(ends.agent.link().ask(ask));
    }
    for reply in open {
        reply.await?;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Actions with types a second, as fast as the link takes them, until the last one's handler has ended.
pub(super) async fn actions(ends: &Ends, count: usize) -> anyhow::Result<f64> {
    let start = now();
    for number in 0..count {
        ends.agent.link().send("note", &Ask::new(number)).await?;
    }
    let noted: u64 = ends.agent.request("noted", &()).await?;
    let seconds = start.elapsed().as_secs_f64();
    anyhow::ensure!(noted == count as u64, "{noted} of {count} actions have arrived");
    Ok(count as f64 / seconds)
}

/// Round trips at a steady pace until `beside` is over.
pub(super) async fn pings(ends: &Ends, beside: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Times> {
    let mut times = Times::default();
    let mut ticks = tokio::time::interval(PACE);
    let mut beside = std::pin::pin!(beside);
    loop {
        tokio::select! {
            ended = &mut beside => {
                ended?;
                return Ok(times);
            }
            _ = ticks.tick() => {}
        }
        let start = now();
        let asked = ends.agent.request::<u64>("next", &Ask::new(0)).send();
        tokio::select! {
            biased;
            answer = asked => drop(answer?),
            ended = &mut beside => {
                ended?;
                return Ok(times);
            }
        }
        times.push(start.elapsed());
    }
}
