//! The operations against a store in memory and an executor that only notes what it is asked: what a client sees, what is
//! stored, what the executor is told.

mod accounting;
mod aliasing;
mod changing;
mod creating;
mod invoking;
mod layer_policies;
mod layer_versions;
mod layering;
mod permitting;
mod provisioning;
mod publishing;
mod reading;
mod reserving;
mod setting;
mod signing;
mod snapshotting;
mod tagging;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use freehold_base::clock::ManualClock;
use freehold_base::id::{AccountId, Region, RequestId};
use freehold_executor::event::{Answer, Event, FunctionVersion, InvokeError, Outcome, Provisioned, Usage};
use freehold_runtimes::catalog::{self, Catalog};
use freehold_store::Store;
use freehold_wire::error::ApiError;
use freehold_wire::service::{Call, Operation, Principal, Reply, Service};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{OPERATIONS, known};
use crate::package::tests::{file, zip_of};
use crate::{Invoker, Lambda, Options, SnapshotFailure};

const ACCOUNT: &str = "000000000000";
const ACCOUNT_CONCURRENCY: u32 = 1_000;
const ROLE: &str = "arn:aws:iam::123456789012:role/lambda-exec-role";
/// 2026-11-23T11:45:00.123Z, in ms since 1970.
const NOW_MS: u64 = 1_795_434_300_123;

/// Answers every event with what a test has put there, and notes what it is asked.
struct FakeExecutor {
    answers: Mutex<Vec<Result<Outcome, InvokeError>>>,
    events: Mutex<Vec<(Arc<FunctionVersion>, Event)>>,
    retired: Mutex<Vec<String>>,
    reserved: Mutex<BTreeMap<String, u32>>,
    /// By target.
    provisions: Mutex<BTreeMap<String, (Arc<FunctionVersion>, u32)>>,
    /// What has become of them, where a test says so.
    provisioned: Mutex<BTreeMap<String, Provisioned>>,
    takes_snapshots: AtomicBool,
    /// The versions whose snapshots were asked for.
    prepared: Mutex<Vec<Arc<FunctionVersion>>>,
    /// As many snapshots are done as there are permits.
    snapshots_done: Semaphore,
    snapshots_fail: Mutex<Option<SnapshotFailure>>,
}

impl Default for FakeExecutor {
    fn default() -> Self {
        Self {
            answers: Mutex::default(),
            events: Mutex::default(),
            retired: Mutex::default(),
            reserved: Mutex::default(),
            provisions: Mutex::default(),
            provisioned: Mutex::default(),
            takes_snapshots: AtomicBool::new(false),
            prepared: Mutex::default(),
            snapshots_done: Semaphore::new(0),
            snapshots_fail: Mutex::default(),
        }
    }
}

#[async_trait]
impl Invoker for FakeExecutor {
    async fn invoke(&self, function: Arc<FunctionVersion>, event: Event) -> Result<Outcome, InvokeError> {
        assert!(function.code.is_dir(), "the code is there before the event");
        self.events.lock().unwrap().push((function, event));
        self.answers.lock().unwrap().pop().unwrap_or_else(|| Ok(outcome(Answer::Payload("null".into()))))
    }

    fn retire(&self, key: &str) {
        self.retired.lock().unwrap().push(key.to_owned());
    }

    fn account_concurrency(&self) -> u32 {
        ACCOUNT_CONCURRENCY
    }

    fn reserve(&self, function_arn: &str, executions: Option<u32>) {
        let mut reserved = self.reserved.lock().unwrap();
        match executions {
            Some(executions) => reserved.insert(function_arn.to_owned(), executions),
            None => reserved.remove(function_arn),
        };
    }

    fn provision(&self, target: &str, version: Arc<FunctionVersion>, count: u32) {
        assert!(version.code.is_dir(), "the code is there before the environment");
        self.provisions.lock().unwrap().insert(target.to_owned(), (version, count));
    }

    fn unprovision(&self, target: &str) {
        self.provisions.lock().unwrap().remove(target).expect("only what was asked for is ended");
    }

    fn provisioned(&self, target: &str) -> Option<Provisioned> {
        self.provisioned.lock().unwrap().get(target).cloned()
    }

    fn takes_snapshots(&self, _runtime: &str) -> bool {
        self.takes_snapshots.load(Ordering::SeqCst)
    }

    async fn prepare(&self, version: Arc<FunctionVersion>) -> Result<(), SnapshotFailure> {
        assert!(version.code.is_dir(), "the code is there before the snapshot");
        self.prepared.lock().unwrap().push(version);
        self.snapshots_done.acquire().await.unwrap().forget();
        self.snapshots_fail.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

fn outcome(answer: Answer) -> Outcome {
    let usage = Usage {
        duration: Duration::from_millis(1),
        billed_ms: 1,
        memory_mib: 128,
        max_memory_mib: 30,
        init: None,
    };
    Outcome { answer, log_tail: "START\nEND\n".into(), usage }
}

/// A service of its own, with everything that a test looks at.
struct Fixture {
    lambda: Lambda,
    executor: Arc<FakeExecutor>,
    clock: Arc<ManualClock>,
    store: Store,
    folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let store = Store::open("memory:").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self::over(store, folder).await
    }

    /// A service over what an earlier one left.
    async fn over(store: Store, folder: tempfile::TempDir) -> Self {
        Self::with_executor(store, folder, FakeExecutor::default()).await
    }

    async fn with_executor(store: Store, folder: tempfile::TempDir, executor: FakeExecutor) -> Self {
        let executor = Arc::new(executor);
        let clock = Arc::new(ManualClock::new(UNIX_EPOCH + Duration::from_millis(NOW_MS)));
        // Nowhere to look: only the provided runtimes are there, on every host.
        let nowhere = catalog::Options::nowhere();
        let options = Options {
            store: store.clone(),
            executor: Arc::clone(&executor) as Arc<dyn Invoker>,
            catalog: Arc::new(Catalog::new(nowhere)),
            code_folder: folder.path().join("code"),
            clock: Arc::clone(&clock) as Arc<_>,
            downloads: Some(crate::download_key()),
        };
        let lambda = Lambda::assemble(options).await.unwrap();
        Self { lambda, executor, clock, store, folder }
    }

    async fn send(&self, call: Call) -> Result<Reply, ApiError> {
        self.lambda.call(call).await
    }

    async fn json(&self, call: Call) -> Value {
        let reply = self.send(call).await.unwrap();
        serde_json::from_slice(&reply.body).unwrap()
    }

    async fn error(&self, call: Call) -> (String, u16, String) {
        let error = self.send(call).await.expect_err("must be refused");
        (error.code.to_owned(), error.status.as_u16(), error.message)
    }

    async fn create(&self, name: &str) -> Value {
        self.json(create(name)).await
    }

    /// The names in the code folder.
    fn code_folders(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("code")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn invoked(&self) -> (Arc<FunctionVersion>, Event) {
        self.executor.events.lock().unwrap().last().cloned().expect("an event")
    }

    fn retired(&self) -> Vec<String> {
        self.executor.retired.lock().unwrap().clone()
    }

    fn folder_of_last(&self) -> PathBuf {
        self.invoked().0.code.clone()
    }
}

fn zip(content: &str) -> Vec<u8> {
    let mut bootstrap = file("bootstrap", content);
    bootstrap.mode = 0o100_755;
    zip_of(&[bootstrap])
}

fn zip_base64(content: &str) -> String {
    STANDARD.encode(zip(content))
}

fn call(operation: &str, name: Option<&str>) -> Call {
    let operation: &'static Operation =
        OPERATIONS.iter().find(|found| found.name == operation).expect("an operation of the table");
    Call {
        operation,
        principal: Principal {
            account: AccountId::new(ACCOUNT),
            arn: format!("arn:aws:iam::{ACCOUNT}:root"),
            user_id: ACCOUNT.to_owned(),
            access_key_id: Some("test".to_owned()),
        },
        region: Region::new("us-east-1"),
        request_id: RequestId::random(),
        labels: name.map(|name| ("FunctionName", name.to_owned())).into_iter().collect::<BTreeMap<_, _>>(),
        query: Vec::new(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
    }
}

fn with_body(mut call: Call, body: &Value) -> Call {
    call.body = body.to_string().into();
    call
}

fn with_query(mut call: Call, name: &str, value: &str) -> Call {
    call.query.push((name.to_owned(), value.to_owned()));
    call
}

fn with_header(mut call: Call, name: &'static str, value: &str) -> Call {
    call.headers.insert(name, value.parse().unwrap());
    call
}

fn creation(name: &str) -> Value {
    json!({
        "FunctionName": name, "Runtime": "provided.al2023", "Handler": "bootstrap", "Role": ROLE,
        "Code": {"ZipFile": zip_base64("#!/bin/sh")},
    })
}

fn create(name: &str) -> Call {
    with_body(call("CreateFunction", None), &creation(name))
}

/// A creation with one more or another member.
fn create_with(member: &str, value: Value) -> Call {
    let mut body = creation("f");
    body[member] = value;
    with_body(call("CreateFunction", None), &body)
}

#[test]
fn every_operation_declares_an_action_and_a_resource() {
    for operation in &OPERATIONS {
        let action = operation.action.strip_prefix("lambda:").unwrap_or_default();
        assert!(action.chars().all(char::is_alphanumeric) && !action.is_empty(), "{}", operation.name);
        // Anything, a function, a configuration, or what an ARN in the path names.
        let by_arn = ["{Resource}", "{ResourceArn}"].contains(&operation.resource);
        let by_kind = ["function:", "code-signing-config:", "layer:"]
            .iter()
            .any(|kind| operation.resource.starts_with(kind));
        assert!(operation.resource == "*" || by_kind || by_arn, "{}", operation.name);
        assert!(operation.body_limit > 0, "{}", operation.name);
    }
}

#[test]
fn the_two_tables_are_awss_91_operations() {
    let mut names: Vec<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
    names.retain(|name| *name != "DownloadPackage");
    names.extend(known::KNOWN.iter().map(|operation| operation.name));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 91);
}

#[tokio::test]
async fn every_operation_of_the_table_is_carried_out() {
    let fixture = Fixture::new().await;
    for operation in &OPERATIONS {
        if let Err(error) = fixture.send(call(operation.name, Some("missing"))).await {
            assert_ne!(error.code, "UnknownOperationException", "{}", operation.name);
            assert!(error.status.is_client_error(), "{}: {error}", operation.name);
        }
    }
}

fn member<'a>(error: &'a ApiError, name: &str) -> &'a Value {
    error.members.iter().find(|(found, _)| found == name).map_or(&Value::Null, |(_, value)| value)
}
