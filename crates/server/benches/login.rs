//! What a login by password costs the server: both of its steps (OPAQUE, RFC 9807) with the store in memory. What the client does between
//! them, the slow hash of the password before all, is left out of the time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "benchmarks")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use opaque_ke::{ClientLogin, ClientLoginFinishParameters, CredentialResponse};
use parlour_server::throttle::{Rate, ThrottleConfig};
use parlour_wire::api;
use support::{Suite, World, config, identifiers};

fn login(c: &mut Criterion) {
    let any = Rate::new(u32::MAX, 1);
    let throttle = ThrottleConfig { login_per_name: any, login_per_address: any, ..ThrottleConfig::default() };
    let mut world = World::with(parlour_server::ServiceConfig { throttle, ..config() });
    let (alice, _) = world.person("alice", 1);
    let password = alice.password.as_bytes();
    c.bench_function("login, server side", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let mut link = world.link();
                let started = ClientLogin::<Suite>::start(&mut world.rng, password).unwrap();
                let request = started.message.serialize().to_vec();
                let call = api::LoginStart { name: alice.name.clone(), request, recovery: false };
                let begun = Instant::now();
                let answer = world.ask(&mut link, &call).unwrap();
                spent += begun.elapsed();
                let response = CredentialResponse::deserialize(&answer.response).unwrap();
                let parameters = ClientLoginFinishParameters::new(Some(b"parlour login v1"), identifiers(&alice.name), None);
                let finished = started.state.finish(&mut world.rng, password, response, parameters).unwrap();
                let call = api::LoginFinish { login: answer.login, finalization: finished.message.serialize().to_vec() };
                let begun = Instant::now();
                world.ask(&mut link, &call).unwrap();
                spent += begun.elapsed();
                world.close(&mut link);
            }
            spent
        });
    });
}

criterion_group!(benches, login);
criterion_main!(benches);
