//! AWS Lambda: its operations, its records, its rules.
//!
//! ```text
//! gateway --Call--> operations --+--> model      shapes, constraints, what is refused
//!                                +--> records    what is stored, one transaction per change
//!                                +--> code       zips as blobs, unpacked into read-only folders
//!                                +--> functions  definitions in memory, kept true by the store's watch
//!                                +--> invoker    the executor
//! ```
//!
//! - `operations`: one file per operation, and the table by which the gateway knows them
//! - `model`, `names`, `settings`: from a request to what is meant and stored
//! - `concurrency`: what of the server's concurrency belongs to single functions; `provisioned`: what of it is kept ready
//! - `snapshots`: versions that start from a snapshot of theirs
//! - `usage`: how much an account has; `signing`: what may be deployed where code must be signed
//! - `versions`: what a qualifier means, and how a version is published
//! - `policy`, `access`: resource-based policies, and whom they keep out
//! - `layers`: layer versions, and how functions refer to them
//! - [`package`]: checks and unpacks deployment packages
//! - [`error`]: why an operation failed, in AWS's codes and words
//!
//! The crate knows neither HTTP connections nor signatures (the gateway has seen to both), nor how an environment is made.
//! Functions belong to the caller's account and to the region that the request was signed for.
#![forbid(unsafe_code)]

mod access;
mod code;
mod concurrency;
pub mod error;
mod functions;
mod invoker;
mod layers;
mod model;
mod names;
mod operations;
pub mod package;
mod policy;
mod provisioned;
mod records;
mod settings;
mod signing;
mod snapshots;
mod updates;
mod usage;
mod versions;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use freehold_base::clock::SharedClock;
use freehold_runtimes::catalog::Catalog;
use freehold_store::Store;
use freehold_wire::error::ApiError;
use freehold_wire::service::{Call, Definition, Reply, Service};
use freehold_wire::sigv4::Credentials;

use crate::code::CodeStore;
use crate::concurrency::Reservations;
use crate::error::LambdaError;
use crate::functions::Functions;
pub use crate::invoker::{Invoker, SnapshotFailure};
use crate::operations::Downloads;
use crate::provisioned::ProvisionedConcurrency;
use crate::records::FUNCTIONS;
use crate::snapshots::Snapshots;
use crate::updates::Updates;

/// How many functions are asked for their runtime at a start: there are a dozen runtimes.
const FUNCTIONS_LOOKED_AT: usize = 1_000;

/// What Lambda is made of.
pub struct Options {
    /// Where functions and packages are kept.
    pub store: Store,
    /// What runs the events: the executor.
    pub executor: Arc<dyn Invoker>,
    /// Which runtimes this host has.
    pub catalog: Arc<Catalog>,
    /// The folder for unpacked packages: of this service alone, on the host that runs the environments.
    pub code_folder: PathBuf,
    /// The time.
    pub clock: SharedClock,
    /// The key that signs links to packages: see [`download_key`]. Without one, `GetFunction` gives no links.
    pub downloads: Option<Credentials>,
}

/// A fresh random key for [`Options::downloads`]. The front door must know it, and nobody else.
pub fn download_key() -> Credentials {
    let random = || uuid::Uuid::new_v4().simple().to_string();
    Credentials::new(
        format!("FREEHOLD{}", &random()[..12].to_uppercase()),
        format!("{}{}", random(), random()),
    )
}

/// The service. Clones are the same.
#[derive(Clone)]
pub struct Lambda {
    store: Store,
    executor: Arc<dyn Invoker>,
    catalog: Arc<Catalog>,
    clock: SharedClock,
    code: CodeStore,
    functions: Functions,
    reservations: Reservations,
    provisioned: ProvisionedConcurrency,
    snapshots: Snapshots,
    updates: Updates,
    downloads: Option<Downloads>,
    /// The quota of code storage, of each account in each region, in bytes.
    code_storage_bytes: u64,
}

impl Lambda {
    /// Opens the service and begins to follow the store and to collect unused packages in the background. Must be called
    /// inside a Tokio runtime.
    pub async fn open(options: Options) -> Result<Arc<Self>, LambdaError> {
        let lambda = Self::assemble(options).await?;
        lambda.code.collect_in_background();
        let lambda = Arc::new(lambda);
        tokio::spawn(Arc::clone(&lambda).find_runtimes());
        Ok(lambda)
    }

    /// Looks for the runtimes of the functions that are there, so that the first invocation after a start need not.
    async fn find_runtimes(self: Arc<Self>) {
        let found: Result<BTreeSet<String>, LambdaError> = async {
            let snapshot = self.store.snapshot().await?;
            let functions = FUNCTIONS.scan(&snapshot, &[], None, FUNCTIONS_LOOKED_AT).await?;
            Ok(functions.into_iter().map(|(_, record)| record.latest.configuration.runtime).collect())
        }
        .await;
        let runtimes = match found {
            Ok(runtimes) => runtimes,
            Err(error) => return tracing::warn!(%error, "cannot read which runtimes are in use"),
        };
        let catalog = Arc::clone(&self.catalog);
        let search = tokio::task::spawn_blocking(move || {
            for runtime in runtimes {
                if let Err(error) = catalog.resolve(&runtime) {
                    tracing::warn!(%error, "functions here use a runtime that is gone");
                }
            }
        });
        if search.await.is_err() {
            tracing::error!("the search for runtimes panicked");
        }
    }

    async fn assemble(options: Options) -> Result<Self, LambdaError> {
        let Options { store, executor, catalog, code_folder, clock, downloads } = options;
        let code = CodeStore::open(code_folder, store.clone(), Arc::clone(&clock)).await?;
        let functions = Functions::open(store.clone(), code.clone(), Arc::clone(&executor));
        let reservations = Reservations::open(store.clone(), Arc::clone(&executor)).await?;
        let provisioned =
            ProvisionedConcurrency::open(store.clone(), functions.clone(), Arc::clone(&executor));
        let snapshots = Snapshots::open(store.clone(), functions.clone(), Arc::clone(&executor));
        let code_storage_bytes = usage::CODE_STORAGE_BYTES;
        let (updates, downloads) = (Updates::default(), downloads.map(Downloads::new));
        Ok(Self {
            store,
            executor,
            catalog,
            clock,
            code,
            functions,
            reservations,
            provisioned,
            snapshots,
            updates,
            downloads,
            code_storage_bytes,
        })
    }

    /// Wall time in ms since 1970.
    fn now_ms(&self) -> i64 {
        milliseconds(self.clock.wall())
    }
}

#[async_trait]
impl Service for Lambda {
    fn definition(&self) -> &'static Definition {
        &operations::DEFINITION
    }

    async fn call(&self, call: Call) -> Result<Reply, ApiError> {
        operations::call(self, call).await
    }
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
