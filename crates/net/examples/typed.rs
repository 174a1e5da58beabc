//! Temporary: how fast typed calls are.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a measurement")]
use std::time::Instant;
use futures_util::{StreamExt, stream::FuturesUnordered};
use parlour_net::*;

fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[tokio::main]
async fn main() {
    let mut config = StationConfig::new(Identity::generate().unwrap(), "127.0.0.1:0".parse().unwrap());
    config.handlers.allow_by_default(Access::Authenticated);
    config.handlers.on_request("add", |_cx, (a, b): (i64, i64)| async move { Ok(a + b) });
    config.handlers.on_request("yield", |_cx, (a, b): (i64, i64)| async move { tokio::task::yield_now().await; Ok(a + b) });
    config.handlers.on_request_raw("echo", |_cx, raw: Raw| async move { Ok(raw) });
    config.handlers.on_action("note", |_cx, _n: u64| async move {});
    let station = Station::bind(config).await.unwrap();
    let mut config = AgentConfig::new(station.url(), Trust::Key(station.key()));
    config.connect.identity = Some(Identity::generate().unwrap());
    let agent = Agent::connect(config);
    agent.ready().await.unwrap();
    for name in ["add", "yield"] {
        for window in [64, 512] {
            let total = 400_000;
            let (begin, used) = (Instant::now(), cpu());
            let mut open: FuturesUnordered<Reply<i64>> = FuturesUnordered::new();
            for n in 0..total {
                if open.len() >= window {
                    open.next().await.unwrap().unwrap();
                }
                open.push(agent.request::<i64>(name, &(n, 3)).send());
            }
            while let Some(answer) = open.next().await { answer.unwrap(); }
            println!("{name}: window {window}: {:.0} /s, {:.2} us cpu each", total as f64 / begin.elapsed().as_secs_f64(), (cpu() - used) * 1e6 / total as f64);
        }
    }
    let total = 400_000;
    let (begin, used) = (Instant::now(), cpu());
    let mut open: FuturesUnordered<Asked> = FuturesUnordered::new();
    for _ in 0..total {
        if open.len() >= 512 { open.next().await.unwrap().unwrap(); }
        open.push(agent.link().ask(Ask { name: "echo".into(), content_type: ContentType::CBOR, content: vec![1,2,3].into(), timeout: None, origin: None }));
    }
    while let Some(answer) = open.next().await { answer.unwrap(); }
    println!("raw echo: {:.0} /s, {:.2} us cpu each", total as f64 / begin.elapsed().as_secs_f64(), (cpu() - used) * 1e6 / total as f64);
    let (begin, used) = (Instant::now(), cpu());
    for n in 0..1_000_000_u64 { agent.link().send("note", &n).await.unwrap(); }
    agent.request::<i64>("add", &(1, 1)).await.unwrap();
    println!("actions: {:.0} /s, {:.2} us cpu each", 1e6 / begin.elapsed().as_secs_f64(), (cpu() - used));
}
