//! Reserved concurrency: how much of the server's concurrency belongs to single functions.
//!
//! ```text
//! own change:     commit --> tell the executor --> the client is answered
//! others' change: watch --> tell the executor
//! start:          tell the executor of every reservation
//! ```
//!
//! What the executor is told is always read anew, one function at a time, so that the last it hears is what is stored. A
//! reservation is no part of a version: no definition changes with it, and no environment is started or dropped.
//!
//! The executor's concurrency is one pool for all accounts and regions of this server, so what is left unreserved is
//! counted over all of them too: otherwise two regions could each reserve nine tenths of it.

use std::collections::HashSet;
use std::sync::Arc;

use freehold_store::{Change, Read, Store, StoreError, Watch};
use tokio::sync::Mutex;

use crate::error::LambdaError;
use crate::invoker::Invoker;
use crate::names::FunctionId;
use crate::records::RESERVATIONS;

/// Concurrency that stays for functions without a reservation. Source: "Configuring reserved concurrency for a function".
const MINIMUM_UNRESERVED: u32 = 100;

/// Keeps the executor told. Clones are the same.
#[derive(Clone)]
pub(crate) struct Reservations(Arc<Inner>);

struct Inner {
    store: Store,
    invoker: Arc<dyn Invoker>,
    /// The functions of whose reservation the executor knows.
    told: Mutex<HashSet<FunctionId>>,
}

impl Reservations {
    /// Tells the executor of every reservation, and begins to follow the store.
    pub(crate) async fn open(store: Store, invoker: Arc<dyn Invoker>) -> Result<Self, StoreError> {
        let watch = store.watch(RESERVATIONS.key(&[]));
        let reservations = Self(Arc::new(Inner { store, invoker, told: Mutex::default() }));
        reservations.tell_all().await?;
        reservations.follow(watch);
        Ok(reservations)
    }

    /// Tells the executor of the function's reservation as it is stored now, or that it has none.
    pub(crate) async fn tell(&self, id: &FunctionId) -> Result<(), StoreError> {
        let mut told = self.0.told.lock().await;
        let record = RESERVATIONS.get(&self.0.store.snapshot().await?, &id.parts()).await?;
        self.0.invoker.reserve(&id.arn(), record.as_ref().map(|record| record.executions));
        match record {
            Some(_) => told.insert(id.clone()),
            None => told.remove(id),
        };
        Ok(())
    }

    async fn tell_all(&self) -> Result<(), StoreError> {
        let mut told = self.0.told.lock().await;
        let mut stored = HashSet::new();
        for (key, record) in RESERVATIONS.all(&self.0.store.snapshot().await?, &[]).await? {
            let Some(id) = RESERVATIONS.parts(&key).and_then(FunctionId::from_parts) else { continue };
            self.0.invoker.reserve(&id.arn(), Some(record.executions));
            stored.insert(id);
        }
        for gone in told.difference(&stored) {
            self.0.invoker.reserve(&gone.arn(), None);
        }
        *told = stored;
        Ok(())
    }

    fn follow(&self, mut watch: Watch) {
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            while let Some(change) = watch.changed().await {
                let Some(inner) = inner.upgrade() else { return };
                if let Err(error) = Self(inner).hear(change).await {
                    tracing::warn!(%error, "cannot read a reserved concurrency; it takes effect when it is next changed");
                }
            }
        });
    }

    async fn hear(&self, change: Change) -> Result<(), StoreError> {
        let Change::Keys(keys) = change else { return self.tell_all().await };
        for key in keys {
            if let Some(id) = RESERVATIONS.parts(&key).and_then(FunctionId::from_parts) {
                self.tell(&id).await?;
            }
        }
        Ok(())
    }
}

/// What is left of the account's concurrency for functions without a reservation.
pub(crate) async fn unreserved(read: &impl Read, account: u32) -> Result<u32, StoreError> {
    Ok(account.saturating_sub(reserved(read, None).await?))
}

/// Refuses a reservation that would leave too little for the others.
pub(crate) async fn check(
    read: &impl Read,
    id: &FunctionId,
    executions: u32,
    account: u32,
) -> Result<(), LambdaError> {
    let minimum = MINIMUM_UNRESERVED.min(account);
    let others = reserved(read, Some(id)).await?;
    if others.saturating_add(executions) > account - minimum {
        return Err(LambdaError::InvalidParameter(format!(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below \
             its minimum value of [{minimum}]."
        )));
    }
    Ok(())
}

/// All reservations together, but for that of `except`.
async fn reserved(read: &impl Read, except: Option<&FunctionId>) -> Result<u32, StoreError> {
    let except = except.map(|id| RESERVATIONS.key(&id.parts()));
    let all = RESERVATIONS.all(read, &[]).await?.into_iter().filter(|(key, _)| Some(key) != except.as_ref());
    Ok(all.fold(0_u32, |sum, (_, record)| sum.saturating_add(record.executions)))
}
