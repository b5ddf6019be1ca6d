//! Provisioned concurrency: environments of a version that the executor keeps ready.
//!
//! ```text
//! own change:     commit --> tell the executor --> the client is answered
//! others' change: watch (configurations, and the aliases by which they go) --> tell the executor
//! start:          tell the executor of everything, in the background
//! ```
//!
//! A configuration is a version's or an alias's. What the executor is told goes by that name, and says which version is meant
//! now: so an alias that is led to another version moves its environments. What it is told is always read anew, one function at
//! a time, so that the last it hears is what is stored. How far it is, it is asked whenever a client asks: nothing of that is
//! stored, and so nothing is wrong after a restart.
//!
//! (What may be configured is counted in `concurrency`.)

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use freehold_executor::event::Provisioned;
use freehold_store::{Change, Key, Read, Store, StoreError, Table, Watch};
use tokio::sync::Mutex;

use crate::error::LambdaError;
use crate::functions::Functions;
use crate::invoker::Invoker;
use crate::names::{FunctionId, LATEST, Qualified, Target};
use crate::records::{self, ALIASES, AliasRecord, PROVISIONED, ProvisionedRecord};
use crate::versions::Found;

/// Keeps the executor told. Clones are the same.
#[derive(Clone)]
pub(crate) struct ProvisionedConcurrency(Arc<Inner>);

struct Inner {
    store: Store,
    functions: Functions,
    invoker: Arc<dyn Invoker>,
    /// The qualifiers, by function, of whose configuration the executor knows.
    told: Mutex<HashMap<FunctionId, BTreeSet<String>>>,
}

impl ProvisionedConcurrency {
    /// Begins to follow the store, and to tell the executor of everything that is there.
    pub(crate) fn open(store: Store, functions: Functions, invoker: Arc<dyn Invoker>) -> Self {
        let watches = [store.watch(PROVISIONED.key(&[])), store.watch(ALIASES.key(&[]))];
        let provisioned = Self(Arc::new(Inner { store, functions, invoker, told: Mutex::default() }));
        tokio::spawn({
            let provisioned = provisioned.clone();
            async move { provisioned.tell_all().await }
        });
        for watch in watches {
            provisioned.follow(watch);
        }
        provisioned
    }

    /// Tells the executor of the function's configurations as they are stored now, and which are gone.
    pub(crate) async fn tell(&self, id: &FunctionId) -> Result<(), LambdaError> {
        let Inner { store, functions, invoker, told } = &*self.0;
        let mut told = told.lock().await;
        let snapshot = store.snapshot().await?;
        let mut stored = BTreeSet::new();
        for (key, record) in PROVISIONED.all(&snapshot, &id.parts()).await? {
            let Some(qualifier) = records::provisioned_in(&key) else { continue };
            let target = Target { id: id.clone(), qualifier: Some(qualifier.clone()) };
            if let Some(version) = functions.main_version(&snapshot, &target).await? {
                invoker.provision(&id.qualified_arn(Some(&qualifier)), version, record.executions);
                stored.insert(qualifier);
            }
        }
        for gone in told.remove(id).unwrap_or_default().difference(&stored) {
            invoker.unprovision(&id.qualified_arn(Some(gone)));
        }
        if !stored.is_empty() {
            told.insert(id.clone(), stored);
        }
        Ok(())
    }

    /// How far the executor is with a configuration.
    pub(crate) fn state(&self, id: &FunctionId, qualifier: &str) -> Provisioned {
        self.0.invoker.provisioned(&id.qualified_arn(Some(qualifier))).unwrap_or_default()
    }

    async fn tell_all(&self) {
        let mut ids: HashSet<FunctionId> = self.0.told.lock().await.keys().cloned().collect();
        let stored: Result<_, StoreError> =
            async { PROVISIONED.all(&self.0.store.snapshot().await?, &[]).await }.await;
        match stored {
            Ok(stored) => ids.extend(stored.iter().filter_map(|(key, _)| function_in(&PROVISIONED, key))),
            Err(error) => tracing::warn!(%error, "cannot read what is provisioned"),
        }
        for id in ids {
            self.try_to_tell(&id).await;
        }
    }

    async fn try_to_tell(&self, id: &FunctionId) {
        if let Err(error) = self.tell(id).await {
            let function = id.arn();
            tracing::warn!(%error, function, "cannot provision a function; it is tried again when that is next changed");
        }
    }

    fn follow(&self, mut watch: Watch) {
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            while let Some(change) = watch.changed().await {
                let Some(inner) = inner.upgrade() else { return };
                Self(inner).hear(change).await;
            }
        });
    }

    async fn hear(&self, change: Change) {
        let Change::Keys(keys) = change else { return self.tell_all().await };
        let mut ids: HashSet<FunctionId> =
            keys.iter().filter_map(|key| function_in(&PROVISIONED, key)).collect();
        {
            let told = self.0.told.lock().await;
            let moved = keys.iter().filter_map(|key| function_in(&ALIASES, key));
            ids.extend(moved.filter(|id| told.contains_key(id)));
        }
        for id in ids {
            self.try_to_tell(&id).await;
        }
    }
}

fn function_in<R: freehold_store::Record>(table: &Table<R>, key: &Key) -> Option<FunctionId> {
    table.parts(key).and_then(FunctionId::from_parts)
}

/// What is configured for a version or an alias, and where it leads.
pub(crate) async fn find(
    read: &impl Read,
    id: &FunctionId,
    qualifier: &str,
) -> Result<Option<ProvisionedRecord>, StoreError> {
    PROVISIONED.get(read, &id.provisioned_parts(qualifier)).await
}

/// Refuses to provision what AWS does not: `qualifier` leads to `found`.
pub(crate) async fn check(
    read: &impl Read,
    id: &FunctionId,
    qualifier: &str,
    found: &Found,
) -> Result<(), LambdaError> {
    let refused = |text: &str| Err(LambdaError::InvalidParameter(text.to_owned()));
    if found.published.is_none() {
        return refused(UNPUBLISHED);
    }
    if found.additional.is_some() {
        return refused("Alias with weights can not be used with Provisioned Concurrency");
    }
    let configuration = &found.version().configuration;
    if configuration.snap_start {
        return refused("Provisioned Concurrency is not supported for SnapStart enabled functions.");
    }
    if configuration.per_tenant {
        return refused("Provisioned Concurrency is not supported for functions with tenant isolation mode.");
    }
    check_alone(read, id, qualifier, &found.name()).await
}

const UNPUBLISHED: &str =
    "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";

/// Refuses to lead an alias with a configuration where none could be made. Weights may be added: the environments stay with
/// the alias's own version.
pub(crate) async fn check_move(
    read: &impl Read,
    id: &FunctionId,
    alias: &str,
    record: &AliasRecord,
) -> Result<(), LambdaError> {
    if find(read, id, alias).await?.is_none() {
        return Ok(());
    }
    if record.version == LATEST {
        return Err(LambdaError::InvalidParameter(UNPUBLISHED.to_owned()));
    }
    check_alone(read, id, alias, &record.version).await
}

/// A version has one configuration at most: its own, or that of one alias which leads to it.
async fn check_alone(
    read: &impl Read,
    id: &FunctionId,
    qualifier: &str,
    version: &str,
) -> Result<(), LambdaError> {
    let is_alias = matches!(Qualified::of(qualifier), Qualified::Alias(_));
    for (key, _) in PROVISIONED.all(read, &id.parts()).await? {
        let Some(other) = records::provisioned_in(&key).filter(|other| other != qualifier) else { continue };
        let leads_to = match Qualified::of(&other) {
            Qualified::Alias(alias) => {
                ALIASES.get(read, &id.alias_parts(alias)).await?.map(|alias| alias.version)
            }
            _ => Some(other),
        };
        if leads_to.as_deref() == Some(version) {
            return Err(if is_alias {
                LambdaError::AlreadyProvisioned
            } else {
                LambdaError::ProvisionedByAlias
            });
        }
    }
    Ok(())
}
