//! Random use of a queue beside a model that cannot be wrong: a map.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use parlour_wire::frame::ContentType;
use proptest::prelude::*;

use super::files::{contents, open, settle};
use crate::durable::{DurableQueue, record::HEADER};

#[derive(Clone, Debug)]
enum Step {
    /// Push so many messages at a time, of this size.
    Push { count: usize, size: usize },
    /// Settle one of those that wait.
    Settle(prop::sample::Index),
    /// Close in good order and open again.
    Reopen,
    /// Look at what a crash at this moment would leave, with so much of what was not waited for.
    Crash(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_usize..6, prop_oneof![0_usize..100, 100_000_usize..300_000]).prop_map(|(count, size)| Step::Push { count, size }),
        6 => any::<prop::sample::Index>().prop_map(Step::Settle),
        1 => Just(Step::Reopen),
        2 => any::<prop::sample::Index>().prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 1..40)
}

/// What should be there.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<u64, Bytes>,
    given: u64,
    /// Bytes of the file that were on disk when the last push had returned.
    promised: u64,
    /// What waited then.
    at_promise: BTreeMap<u64, Bytes>,
}

async fn same(queue: &DurableQueue, model: &Model) {
    let found: BTreeMap<u64, Bytes> =
        contents(queue).await.into_iter().map(|(number, message)| (number, message.content)).collect();
    assert!(found == model.waiting, "{:?} instead of {:?}", found.keys(), model.waiting.keys());
    assert_eq!(queue.waiting().records, model.waiting.len());
}

async fn crash(path: &Path, model: &Model, cut: prop::sample::Index) {
    let bytes = fs::read(path).unwrap();
    let promised = usize::try_from(model.promised).unwrap().max(HEADER).min(bytes.len());
    let copy = path.with_extension("crashed");
    fs::write(&copy, &bytes[..promised + cut.index(bytes.len() - promised + 1)]).unwrap();
    let queue = open(&copy).await;
    let found: BTreeMap<u64, Bytes> =
        contents(&queue).await.into_iter().map(|(number, message)| (number, message.content)).collect();
    queue.close().await;
    assert!(model.waiting.iter().all(|(number, content)| found.get(number) == Some(content)), "something promised is lost");
    assert!(found.iter().all(|(number, content)| model.at_promise.get(number) == Some(content)), "something comes from nowhere");
}

async fn run(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox");
    let (mut queue, mut model) = (open(&path).await, Model::default());
    for step in steps {
        match step {
            Step::Push { count, size } => {
                let first = model.given + 1;
                let contents = (0..count).map(|index| Bytes::from(vec![(first as usize + index) as u8; size]));
                let pushes: Vec<_> =
                    contents.map(|content| (content.clone(), queue.action_raw("tell", ContentType::BYTES, content))).collect();
                for (content, push) in pushes {
                    model.given += 1;
                    assert_eq!(push.await, Ok(model.given));
                    model.waiting.insert(model.given, content);
                }
                // The writer has answered; what it does next changes the file only by a rewrite, which is whole at once.
                same(&queue, &model).await;
                (model.promised, model.at_promise) = (fs::metadata(&path).unwrap().len(), model.waiting.clone());
            }
            Step::Settle(which) if !model.waiting.is_empty() => {
                let number = *which.get(&model.waiting.keys().copied().collect::<Vec<_>>());
                settle(&queue, number).await;
                model.waiting.remove(&number);
            }
            Step::Settle(_) => {}
            Step::Reopen => {
                queue.close().await;
                queue = open(&path).await;
            }
            Step::Crash(cut) => {
                same(&queue, &model).await;
                crash(&path, &model, cut).await;
            }
        }
        same(&queue, &model).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_is_a_map_that_survives(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}
