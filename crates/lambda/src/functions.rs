//! The functions as the invoke path sees them: definitions in memory, read through from the store and kept true by its
//! watch, so that an invocation waits for no disk.
//!
//! ```text
//! get: in memory? --no--> read a snapshot, make sure of the code folder --> remember, unless something changed meanwhile
//! own update:     commit --> forget --> environments of the old deployment are retired --> the client is answered
//! others' update: watch --> read again --> forget if it differs, and retire
//! ```
//!
//! What this process changes is forgotten before the client is answered, so a client always sees its own updates.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use freehold_base::id::RevisionId;
use freehold_executor::event::FunctionVersion;
use freehold_executor::logging::{LogFormat, LogLevel, Logging};
use freehold_store::{Change, Key, Store, Watch};

use crate::code::CodeStore;
use crate::error::LambdaError;
use crate::invoker::Invoker;
use crate::names::{FunctionId, LATEST};
use crate::records::{self, FUNCTIONS, FunctionRecord};

/// Definitions that are remembered. Beyond it all are forgotten and read again as they are used.
const REMEMBERED: usize = 100_000;

/// A function that can be invoked.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) version: Arc<FunctionVersion>,
    revision_id: RevisionId,
}

/// All functions. Clones are the same.
#[derive(Clone)]
pub(crate) struct Functions(Arc<Inner>);

struct Inner {
    store: Store,
    code: CodeStore,
    invoker: Arc<dyn Invoker>,
    remembered: RwLock<HashMap<Key, Arc<Function>>>,
    /// Counts what was forgotten: a definition that was read before is not remembered after.
    forgotten: AtomicU64,
}

impl Functions {
    /// Begins to follow the store.
    pub(crate) fn open(store: Store, code: CodeStore, invoker: Arc<dyn Invoker>) -> Self {
        let watch = store.watch(FUNCTIONS.key(&[]));
        let (remembered, forgotten) = (RwLock::default(), AtomicU64::new(0));
        let functions = Self(Arc::new(Inner { store, code, invoker, remembered, forgotten }));
        functions.follow(watch);
        functions
    }

    /// The function's current definition, `None` if there is no such function.
    pub(crate) async fn get(&self, id: &FunctionId) -> Result<Option<Arc<Function>>, LambdaError> {
        let key = id.key();
        if let Some(function) = self.remembered(&key) {
            return Ok(Some(function));
        }
        let inner = &self.0;
        let before = inner.forgotten.load(Ordering::SeqCst);
        let snapshot = inner.store.snapshot().await?;
        let Some(record) = FUNCTIONS.get(&snapshot, &id.parts()).await? else { return Ok(None) };
        let folder = inner.code.folder(&record.code.zip).await?;
        let version = Arc::new(version_of(id, &record, folder));
        let function = Arc::new(Function { version, revision_id: record.revision_id });
        let mut remembered = inner.remembered.write().unwrap_or_else(PoisonError::into_inner);
        if inner.forgotten.load(Ordering::SeqCst) == before {
            if remembered.len() >= REMEMBERED {
                remembered.clear();
            }
            remembered.insert(key, Arc::clone(&function));
        }
        Ok(Some(function))
    }

    /// Tells that `old` was committed away: the next invocation reads anew, and no environment of `old` takes one more.
    pub(crate) fn replaced(&self, id: &FunctionId, old: &FunctionRecord) {
        self.forget(&id.key());
        self.0.invoker.retire(&old.deployment);
    }

    fn remembered(&self, key: &Key) -> Option<Arc<Function>> {
        self.0.remembered.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn forget(&self, key: &Key) -> Option<Arc<Function>> {
        // Before the removal: whoever reads the old state now and remembers it late finds the count changed.
        self.0.forgotten.fetch_add(1, Ordering::SeqCst);
        self.0.remembered.write().unwrap_or_else(PoisonError::into_inner).remove(key)
    }

    fn follow(&self, mut watch: Watch) {
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            while let Some(change) = watch.changed().await {
                let Some(inner) = inner.upgrade() else { return };
                let functions = Self(inner);
                let keys = match change {
                    Change::Keys(keys) => keys,
                    Change::Reset => {
                        let remembered =
                            functions.0.remembered.read().unwrap_or_else(PoisonError::into_inner);
                        remembered.keys().cloned().collect()
                    }
                };
                for key in keys {
                    functions.check(&key).await;
                }
            }
        });
    }

    /// Forgets a definition that is no longer the stored one. Our own updates have been seen to already: what is
    /// remembered then is the new state, and its environments must stay.
    async fn check(&self, key: &Key) {
        let Some(function) = self.remembered(key) else { return };
        let current = async {
            let snapshot = self.0.store.snapshot().await?;
            let Some(parts) = FUNCTIONS.parts(key) else { return Ok(None) };
            let parts: Vec<_> = parts.iter().map(as_part).collect();
            FUNCTIONS.get(&snapshot, &parts).await
        };
        match current.await {
            Ok(Some(record)) if record.revision_id == function.revision_id => {}
            Ok(record) => {
                self.forget(key);
                if record.is_none_or(|record| record.deployment != function.version.key) {
                    self.0.invoker.retire(&function.version.key);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read a changed function; it is read again when it is next invoked");
                self.forget(key);
            }
        }
    }
}

fn as_part(value: &freehold_store::PartValue) -> freehold_store::Part<'_> {
    match value {
        freehold_store::PartValue::Text(text) => freehold_store::Part::Text(text),
        freehold_store::PartValue::Number(number) => freehold_store::Part::Number(*number),
    }
}

fn version_of(id: &FunctionId, record: &FunctionRecord, code: PathBuf) -> FunctionVersion {
    let configuration = &record.configuration;
    FunctionVersion {
        key: record.deployment.clone(),
        function_arn: id.arn(),
        name: id.name.clone(),
        version: LATEST.to_owned(),
        runtime: configuration.runtime.clone(),
        handler: configuration.handler.clone(),
        code,
        variables: configuration.variables.clone().unwrap_or_default(),
        memory_mib: configuration.memory_mib,
        timeout: Duration::from_secs(configuration.timeout_seconds.into()),
        ephemeral_mib: configuration.ephemeral_mib,
        role_arn: configuration.role.clone(),
        region: id.region.to_string(),
        log_group: configuration.logging.group.clone(),
        logging: logging_of(&configuration.logging),
        reserved_concurrency: None,
    }
}

fn logging_of(logging: &records::Logging) -> Logging {
    if logging.format != "JSON" {
        return Logging::default();
    }
    let level = |name: &Option<String>| name.as_deref().and_then(LogLevel::named).unwrap_or(LogLevel::Info);
    Logging {
        format: LogFormat::Json,
        application_level: level(&logging.application_level),
        system_level: level(&logging.system_level),
    }
}
