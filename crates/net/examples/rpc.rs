//! A calculator at a station, and an agent that uses it: answers, faults, progress, cancelling, access, and a call the other way.
//!
//! Both ends run in this one process, over loopback: `cargo run --example rpc`.
#![allow(clippy::print_stdout, reason = "a transcript is what this is for")]

use std::time::Duration;

use parlour_net::{
    Access, Agent, AgentConfig, Code, Context, Fault, Handlers, Identity, KeySet, Station, StationConfig, Trust, refuse,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// What the calculator can do with two numbers.
#[derive(Debug, Serialize, Deserialize)]
enum Operation {
    Add,
    Divide,
}

fn calculate(operation: &Operation, a: f64, b: f64) -> Result<f64, Fault> {
    match operation {
        Operation::Add => Ok(a + b),
        Operation::Divide if b == 0.0 => Err(refuse(Code::BAD_REQUEST, "division by zero")),
        Operation::Divide => Ok(a / b),
    }
}

/// Counts primes, tells how far it is, and stops when nobody waits for it any more.
async fn count_primes(cx: Context, below: u64) -> Result<u64, Fault> {
    let is_prime = |n: u64| n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    let mut found = 0;
    for block in 0..below.div_ceil(1000) {
        found += (block * 1000..below.min((block + 1) * 1000)).filter(|n| is_prime(*n)).count() as u64;
        cx.progress((block + 1) * 1000, Some(below));
        tokio::task::yield_now().await;
        if cx.is_cancelled() {
            return Err(refuse(Code::CANCELLED, "nobody waits for it"));
        }
    }
    Ok(found)
}

/// The station's functions. Who waits for `cancelled` learns that a handler has noticed that nobody waits for it.
fn calculator(operators: KeySet, cancelled: oneshot::Sender<u64>) -> Handlers {
    let cancelled = std::sync::Mutex::new(Some(cancelled));
    let mut handlers = Handlers::new();
    handlers.allow_by_default(Access::Authenticated);
    handlers.on_request("calculate", |_cx, (operation, a, b): (Operation, f64, f64)| async move { calculate(&operation, a, b) });
    handlers.on_request("count-primes", count_primes);
    handlers.on_request("wait-for-ever", move |cx: Context, number: u64| {
        let cancelled = cancelled.lock().ok().and_then(|mut cancelled| cancelled.take());
        async move {
            cx.progress(0, None);
            cx.cancelled().await;
            cancelled.map(|cancelled| cancelled.send(number));
            Ok(())
        }
    });
    handlers.on_request("ask-my-name", |cx: Context, ()| async move {
        let name: String = cx.link().request("name", &()).await?;
        Ok(format!("you are {name}"))
    });
    handlers.on_request("switch-off", |_cx, ()| async { Ok(()) }).allow(Access::Keys(operators));
    handlers
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (sender, cancelled) = oneshot::channel();
    let operators = KeySet::default();
    let mut config = StationConfig::new(Identity::generate()?, "127.0.0.1:0".parse()?);
    config.handlers = calculator(operators.clone(), sender);
    config.hooks.on_connect(|peer| async move { println!("station: {} connects", peer.agent()) });
    let station = Station::bind(config).await?;
    println!("station: listening on {}, key {}", station.local_addr(), station.key());

    let identity = Identity::generate()?;
    let key = identity.key();
    let mut config = AgentConfig::new(station.url(), Trust::Key(station.key()));
    config.connect.identity = Some(identity);
    config.connect.link.agent = "rpc-example/1".to_owned();
    config.handlers.on_request("name", |_cx, ()| async { Ok("Ada") }).allow(Access::Authenticated);
    let agent = Agent::connect(config);

    let sum: f64 = agent.request("calculate", &(Operation::Add, 19.5, 22.5)).await?;
    println!("agent:   19.5 + 22.5 = {sum}");
    let fault = agent.request::<f64>("calculate", &(Operation::Divide, 1, 0)).await;
    println!("agent:   1 / 0: {}", fault.err().ok_or("a fault was expected")?);
    let fault = agent.request::<f64>("calculate", &(Operation::Divide, 1.0, 0.0)).await;
    println!("agent:   1.0 / 0.0: {}", fault.err().ok_or("a fault was expected")?);

    let primes: u64 = agent
        .request("count-primes", &20_000)
        .on_progress(|at| println!("agent:   … {} of {:?}", at.done, at.total.unwrap_or_default()))
        .await?;
    println!("agent:   {primes} primes below 20000");

    let late = agent.request::<()>("wait-for-ever", &7).deadline(Duration::from_millis(50)).await;
    println!("agent:   waiting for ever: {}", late.err().ok_or("a fault was expected")?);
    println!("station: nobody waits for number {} any more", cancelled.await?);

    println!("agent:   {}", agent.request::<String>("ask-my-name", &()).await?);
    let fault = agent.request::<()>("switch-off", &()).await;
    println!("agent:   switch-off: {}", fault.err().ok_or("a fault was expected")?);
    operators.insert(key);
    agent.request::<()>("switch-off", &()).await?;
    println!("agent:   switch-off, as an operator: done");

    agent.close().await;
    station.stop().await;
    println!("station: stopped");
    Ok(())
}
