//! The functions as the invoke path sees them: definitions in memory, read through from the store and kept true by its
//! watch, so that an invocation waits for no disk.
//!
//! ```text
//! get: in memory? --no--> read a snapshot, make sure of the code folders --> remember, unless something changed meanwhile
//! own update:     commit --> forget --> environments of the old deployment are retired --> the client is answered
//! others' update: watch --> read again --> forget if it differs, and retire
//! ```
//!
//! What is remembered is what each qualifier of a function leads to. A change of the function, of a version or of an alias
//! forgets all of that function's; what this process changes is forgotten before the client is answered, so a client always
//! sees its own updates.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use freehold_base::id::RequestId;
use freehold_executor::event::FunctionVersion;
use freehold_executor::logging::{LogFormat, LogLevel, Logging};
use freehold_store::{Change, Key, Read, Store, StoreError, Watch};

use crate::access;
use crate::code::CodeStore;
use crate::error::LambdaError;
use crate::invoker::Invoker;
use crate::names::{FunctionId, LATEST, Target};
use crate::policy::Document;
use crate::records::{self, ALIASES, FUNCTIONS, POLICIES, Snapshot, VERSIONS, VersionRecord};
use crate::versions::{self, Found};

/// Definitions that are remembered. Beyond it all are forgotten and read again as they are used.
const REMEMBERED: usize = 100_000;

/// A version as it runs.
#[derive(Debug, PartialEq)]
pub(crate) struct Runnable {
    pub(crate) version: Arc<FunctionVersion>,
    /// How far its snapshot is: whether it takes events.
    pub(crate) snapshot: Snapshot,
}

/// What a qualifier of a function leads to.
#[derive(Debug, PartialEq)]
pub(crate) struct Function {
    main: Runnable,
    /// The version that gets a share of the events, and how large a share.
    additional: Option<(f64, Runnable)>,
    /// The policies that have a say about an invocation.
    pub(crate) policies: Vec<Document>,
    /// Whether an environment may serve one tenant alone.
    pub(crate) per_tenant: bool,
}

impl Function {
    /// The version that runs this event: the share is kept by the event's id, which is random.
    pub(crate) fn version_for(&self, event: &RequestId) -> &Runnable {
        match &self.additional {
            Some((weight, version)) if share_of(event) < *weight => version,
            _ => &self.main,
        }
    }

    fn versions(&self) -> impl Iterator<Item = &Arc<FunctionVersion>> {
        let additional = self.additional.as_ref().map(|(_, runnable)| runnable);
        [Some(&self.main), additional].into_iter().flatten().map(|runnable| &runnable.version)
    }
}

/// A number from 0.0 to below 1.0 that is as random as the id.
fn share_of(event: &RequestId) -> f64 {
    let digits: String = event.as_str().chars().filter(char::is_ascii_hexdigit).collect();
    // The last eight digits of a random UUID are all random.
    let tail = u32::from_str_radix(&digits[digits.len().saturating_sub(8)..], 16).unwrap_or_default();
    f64::from(tail) / (f64::from(u32::MAX) + 1.0)
}

/// All functions. Clones are the same.
#[derive(Clone)]
pub(crate) struct Functions(Arc<Inner>);

struct Inner {
    store: Store,
    code: CodeStore,
    invoker: Arc<dyn Invoker>,
    remembered: RwLock<Remembered>,
    /// Counts what was forgotten: a definition that was read before is not remembered after.
    forgotten: AtomicU64,
}

/// By function, then by qualifier (`$LATEST` where the request has none).
#[derive(Debug, Default)]
struct Remembered {
    functions: HashMap<Key, HashMap<String, Arc<Function>>>,
    /// How many in all.
    count: usize,
}

impl Remembered {
    fn insert(&mut self, key: Key, qualifier: &str, function: Arc<Function>) {
        if self.count >= REMEMBERED {
            *self = Self::default();
        }
        let old = self.functions.entry(key).or_default().insert(qualifier.to_owned(), function);
        self.count += usize::from(old.is_none());
    }

    fn remove(&mut self, key: &Key) {
        self.count -= self.functions.remove(key).map_or(0, |function| function.len());
    }
}

impl Functions {
    /// Begins to follow the store.
    pub(crate) fn open(store: Store, code: CodeStore, invoker: Arc<dyn Invoker>) -> Self {
        let tables = [FUNCTIONS.key(&[]), VERSIONS.key(&[]), ALIASES.key(&[]), POLICIES.key(&[])];
        let watches = tables.map(|key| store.watch(key));
        let (remembered, forgotten) = (RwLock::default(), AtomicU64::new(0));
        let functions = Self(Arc::new(Inner { store, code, invoker, remembered, forgotten }));
        for watch in watches {
            functions.follow(watch);
        }
        functions
    }

    /// What the target leads to now, `None` if there is no such function, version or alias.
    pub(crate) async fn get(&self, target: &Target) -> Result<Option<Arc<Function>>, LambdaError> {
        let (key, qualifier) = (target.id.key(), target.qualifier.as_deref().unwrap_or(LATEST));
        let inner = &self.0;
        if let Some(function) = inner.read().functions.get(&key).and_then(|function| function.get(qualifier))
        {
            return Ok(Some(Arc::clone(function)));
        }
        let before = inner.forgotten.load(Ordering::SeqCst);
        let snapshot = inner.store.snapshot().await?;
        let Some(found) = versions::find(&snapshot, target).await? else { return Ok(None) };
        let function = Arc::new(self.definition(&snapshot, target, &found).await?);
        let mut remembered = inner.write();
        if inner.forgotten.load(Ordering::SeqCst) == before {
            remembered.insert(key, qualifier, Arc::clone(&function));
        }
        Ok(Some(function))
    }

    /// The version that the target leads to, an alias's own; `None` if there is no such version or alias.
    pub(crate) async fn main_version(
        &self,
        read: &impl Read,
        target: &Target,
    ) -> Result<Option<Arc<FunctionVersion>>, LambdaError> {
        let Some(found) = versions::find(read, target).await? else { return Ok(None) };
        Ok(Some(self.runnable(&target.id, found.name(), found.version()).await?.version))
    }

    /// Tells that something of the function was committed: the next invocation reads anew, and no environment of the
    /// `retired` versions takes one more.
    pub(crate) fn changed<'a>(&self, id: &FunctionId, retired: impl IntoIterator<Item = &'a VersionRecord>) {
        self.forget(&id.key());
        for version in retired {
            self.0.invoker.retire(&version.deployment);
        }
    }

    async fn definition(
        &self,
        read: &impl Read,
        target: &Target,
        found: &Found,
    ) -> Result<Function, LambdaError> {
        let id = &target.id;
        let main = self.runnable(id, found.name(), found.version()).await?;
        let additional = match &found.additional {
            Some((additional, record)) => {
                Some((additional.weight, self.runnable(id, additional.version.clone(), record).await?))
            }
            None => None,
        };
        let policies = access::policies(read, target).await?;
        Ok(Function { main, additional, policies, per_tenant: found.version().configuration.per_tenant })
    }

    /// A version as it runs, with its code in place.
    pub(crate) async fn runnable(
        &self,
        id: &FunctionId,
        version: String,
        record: &VersionRecord,
    ) -> Result<Runnable, LambdaError> {
        let configuration = &record.configuration;
        let version = FunctionVersion {
            key: record.deployment.clone(),
            function_arn: id.arn(),
            name: id.name.clone(),
            version,
            runtime: configuration.runtime.clone(),
            handler: configuration.handler.clone(),
            code: self.0.code.folder(&record.code.zip).await?,
            layers: self.0.code.merged_folder(&record.layer_zips()).await?,
            variables: configuration.variables.clone().unwrap_or_default(),
            memory_mib: configuration.memory_mib,
            timeout: Duration::from_secs(configuration.timeout_seconds.into()),
            ephemeral_mib: configuration.ephemeral_mib,
            role_arn: configuration.role.clone(),
            region: id.region.to_string(),
            log_group: configuration.logging.group.clone(),
            logging: logging_of(&configuration.logging),
        };
        Ok(Runnable { version: Arc::new(version), snapshot: record.snapshot.clone() })
    }

    fn forget(&self, key: &Key) {
        // Before the removal: whoever reads the old state now and remembers it late finds the count changed.
        self.0.forgotten.fetch_add(1, Ordering::SeqCst);
        self.0.write().remove(key);
    }

    fn follow(&self, mut watch: Watch) {
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            while let Some(change) = watch.changed().await {
                let Some(inner) = inner.upgrade() else { return };
                let functions = Self(inner);
                let ids: HashSet<FunctionId> = match change {
                    Change::Keys(keys) => keys.iter().filter_map(function_in).collect(),
                    Change::Reset => functions.0.read().functions.keys().filter_map(function_in).collect(),
                };
                for id in ids {
                    functions.check(&id).await;
                }
            }
        });
    }

    /// Forgets a function of which something is no longer as it is stored. Our own updates have been seen to already: what
    /// is remembered then is the new state, and its environments must stay.
    async fn check(&self, id: &FunctionId) {
        let key = id.key();
        let Some(remembered) = self.0.read().functions.get(&key).cloned() else { return };
        match self.outdated(id, &remembered).await {
            Ok(None) => {}
            Ok(Some(deployments)) => {
                self.forget(&key);
                deployments.iter().for_each(|deployment| self.0.invoker.retire(deployment));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read a changed function; it is read again when it is next invoked");
                self.forget(&key);
            }
        }
    }

    /// If something that is remembered differs from what is stored: the deployments that are stored no more.
    async fn outdated(
        &self,
        id: &FunctionId,
        remembered: &HashMap<String, Arc<Function>>,
    ) -> Result<Option<HashSet<String>>, LambdaError> {
        let snapshot = self.0.store.snapshot().await?;
        let mut differs = false;
        let mut deployments: HashSet<String> = HashSet::new();
        for (qualifier, function) in remembered {
            let target = Target { id: id.clone(), qualifier: Some(qualifier.clone()) };
            let stored = match versions::find(&snapshot, &target).await? {
                Some(found) => Some(self.definition(&snapshot, &target, &found).await?),
                None => None,
            };
            differs |= stored.as_ref() != Some(function.as_ref());
            for version in function.versions() {
                if !is_stored(&snapshot, id, version).await? {
                    deployments.insert(version.key.clone());
                }
            }
        }
        Ok(differs.then_some(deployments))
    }
}

impl Inner {
    fn read(&self) -> RwLockReadGuard<'_, Remembered> {
        self.remembered.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Remembered> {
        self.remembered.write().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn is_stored(read: &impl Read, id: &FunctionId, version: &FunctionVersion) -> Result<bool, StoreError> {
    let target = Target { id: id.clone(), qualifier: Some(version.version.clone()) };
    Ok(versions::find(read, &target).await?.is_some_and(|found| found.version().deployment == version.key))
}

/// The function to which a key of any of its tables belongs.
fn function_in(key: &Key) -> Option<FunctionId> {
    let tables = [FUNCTIONS.parts(key), VERSIONS.parts(key), ALIASES.parts(key), POLICIES.parts(key)];
    FunctionId::from_parts(tables.into_iter().flatten().next()?)
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
