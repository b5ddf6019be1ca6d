//! The store against a sorted map: random transactions, scans and reopenings give the same answers.

use std::collections::BTreeMap;

use freehold_store::{Bytes, Direction, Key, KeyRange, Part, Read, Store, StoreError, keyspace};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::Target;

type Model = BTreeMap<Key, Bytes>;

#[derive(Clone, Debug)]
enum Operation {
    Put(Key, u16),
    Delete(Key),
    Get(Key),
    Scan(KeyRange, Direction, usize),
}

#[derive(Clone, Debug)]
enum Step {
    /// Some operations in one transaction, which fails in the end if told so.
    Transaction(Vec<Operation>, bool),
    /// Reads from a snapshot.
    Snapshot(Vec<Operation>),
    Reopen,
}

fn any_key() -> impl Strategy<Value = Key> {
    prop::collection::vec(0..4_u64, 0..3)
        .prop_map(|parts| keyspace::TESTS.key(&parts.into_iter().map(Part::Number).collect::<Vec<_>>()))
}

fn any_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        Just(KeyRange::all()),
        any_key().prop_map(|prefix| KeyRange::prefix(&prefix)),
        (any_key(), any_key()).prop_map(|(start, end)| KeyRange::new(start, end)),
    ]
}

fn any_direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Forward), Just(Direction::Reverse)]
}

fn any_read() -> impl Strategy<Value = Operation> {
    prop_oneof![
        any_key().prop_map(Operation::Get),
        (any_range(), any_direction(), 0..12_usize)
            .prop_map(|(range, direction, limit)| Operation::Scan(range, direction, limit)),
    ]
}

fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => (any_key(), any::<u16>()).prop_map(|(key, value)| Operation::Put(key, value)),
        2 => any_key().prop_map(Operation::Delete),
        3 => any_read(),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (prop::collection::vec(any_operation(), 0..8), prop::bool::weighted(0.2))
            .prop_map(|(operations, fails)| Step::Transaction(operations, fails)),
        4 => prop::collection::vec(any_read(), 0..4).prop_map(Step::Snapshot),
        1 => Just(Step::Reopen),
    ]
}

/// What the map says to a read; `None` for a write, which it applies.
fn apply(model: &mut Model, operation: &Operation) -> Option<Vec<(Key, Bytes)>> {
    match operation {
        Operation::Put(key, value) => {
            model.insert(key.clone(), Bytes::copy_from_slice(&value.to_be_bytes()));
            None
        }
        Operation::Delete(key) => {
            model.remove(key);
            None
        }
        Operation::Get(key) => Some(model.get_key_value(key).into_iter().map(own).collect()),
        Operation::Scan(range, direction, limit) => {
            let found = model.iter().filter(|(key, _)| range.contains(key)).map(own);
            Some(match direction {
                Direction::Forward => found.take(*limit).collect(),
                Direction::Reverse => found.rev().take(*limit).collect(),
            })
        }
    }
}

fn own((key, value): (&Key, &Bytes)) -> (Key, Bytes) {
    (key.clone(), value.clone())
}

async fn read(from: &impl Read, operation: &Operation) -> Result<Vec<(Key, Bytes)>, StoreError> {
    match operation {
        Operation::Get(key) => {
            Ok(from.get(key).await?.map(|value| (key.clone(), value)).into_iter().collect())
        }
        Operation::Scan(range, direction, limit) => from.scan(range.clone(), *direction, *limit).await,
        Operation::Put(..) | Operation::Delete(_) => unreachable!("only reads are read"),
    }
}

async fn transact(store: &Store, model: &mut Model, operations: &[Operation], fails: bool) {
    let before = &*model;
    let result = store.transact(|tx| async move {
        let mut model = before.clone();
        for operation in operations {
            let expected = apply(&mut model, operation);
            match operation {
                Operation::Put(key, value) => tx.put(key.clone(), value.to_be_bytes().to_vec()),
                Operation::Delete(key) => tx.delete(key.clone()),
                reading => assert_eq!(Some(read(&tx, reading).await?), expected, "{operation:?}"),
            }
        }
        if fails { Err(StoreError::Closed) } else { Ok(model) }
    });
    if let Ok(after) = result.await {
        *model = after;
    } else {
        assert!(fails);
    }
}

fn does_what_a_sorted_map_does(target: impl Fn() -> Target) {
    // Each case on a folder waits for its disk.
    let cases = if target().keeps { 32 } else { 256 };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let steps = prop::collection::vec(any_step(), 1..30);
    let outcome = runner.run(&steps, |steps| {
        runtime.block_on(follow(&target(), &steps));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

async fn follow(target: &Target, steps: &[Step]) {
    let (mut store, mut model) = (target.open().await, Model::new());
    for step in steps {
        match step {
            Step::Transaction(operations, fails) => transact(&store, &mut model, operations, *fails).await,
            Step::Snapshot(reads) => {
                let snapshot = store.snapshot().await.unwrap();
                for operation in reads {
                    let expected = apply(&mut model, operation);
                    assert_eq!(Some(read(&snapshot, operation).await.unwrap()), expected, "{operation:?}");
                }
            }
            Step::Reopen if target.keeps => {
                store.close().await;
                store = target.open().await;
            }
            Step::Reopen => {}
        }
    }
    let everything = store.snapshot().await.unwrap().scan(KeyRange::all(), Direction::Forward, 1_000).await;
    assert_eq!(everything.unwrap(), model.into_iter().collect::<Vec<_>>());
}

mod engines {
    use crate::suite::Target;

    #[test]
    fn embedded() {
        super::does_what_a_sorted_map_does(Target::folder);
    }

    #[test]
    fn postgres() {
        super::does_what_a_sorted_map_does(Target::database);
    }

    #[test]
    fn memory() {
        super::does_what_a_sorted_map_does(Target::memory);
    }
}
