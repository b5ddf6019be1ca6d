//! How much of the server's concurrency belongs to single functions: reserved for them, or provisioned (see `provisioned`).
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
//! counted over all of them too: otherwise two regions could each reserve nine tenths of it. What is provisioned of a function
//! counts towards its reservation where it has one, and else as if it were reserved, as on AWS.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use freehold_store::{Change, Read, Store, StoreError, Watch};
use tokio::sync::Mutex;

use crate::error::LambdaError;
use crate::invoker::Invoker;
use crate::names::FunctionId;
use crate::records::{self, PROVISIONED, RESERVATIONS};

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

/// What is left of the account's concurrency for functions that share it.
pub(crate) async fn unreserved(read: &impl Read, account: u32) -> Result<u32, StoreError> {
    Ok(account.saturating_sub(Claims::of(read).await?.except(None)))
}

/// Refuses a reservation that would leave too little for the others, or that is less than what is provisioned.
pub(crate) async fn check(
    read: &impl Read,
    id: &FunctionId,
    executions: u32,
    account: u32,
) -> Result<(), LambdaError> {
    let claims = Claims::of(read).await?;
    let provisioned = claims.provisioned_of(id, None);
    if executions < provisioned {
        // Two spaces and one at the beginning, as AWS writes it.
        return Err(LambdaError::InvalidParameter(format!(
            " ReservedConcurrentExecutions  {executions} should not be lower than function's total provisioned concurrency \
             [{provisioned}]."
        )));
    }
    let minimum = MINIMUM_UNRESERVED.min(account);
    if claims.except(Some(id)).saturating_add(executions) > account - minimum {
        return Err(LambdaError::InvalidParameter(format!(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below \
             its minimum value of [{minimum}]."
        )));
    }
    Ok(())
}

/// Refuses to provision more than the function's reservation has room for, or, where it has none, more than the account.
pub(crate) async fn check_provisioned(
    read: &impl Read,
    id: &FunctionId,
    qualifier: &str,
    executions: u32,
    account: u32,
) -> Result<(), LambdaError> {
    let claims = Claims::of(read).await?;
    let together = claims.provisioned_of(id, Some(qualifier)).saturating_add(executions);
    let refused = |text: String| Err(LambdaError::InvalidParameter(text));
    if let Some(reserved) = claims.reserved.get(id) {
        return match together > *reserved {
            true => refused(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
                    .to_owned(),
            ),
            false => Ok(()),
        };
    }
    let minimum = MINIMUM_UNRESERVED.min(account);
    let free = account.saturating_sub(claims.except(Some(id)));
    if together > free {
        return refused(format!(
            "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{free}]."
        ));
    }
    if together > free.saturating_sub(minimum) {
        return refused(format!(
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum \
             value of [{minimum}]."
        ));
    }
    Ok(())
}

/// What belongs to single functions: what is reserved for each, or else what is provisioned of it.
struct Claims {
    reserved: HashMap<FunctionId, u32>,
    /// By function and then by version or alias.
    provisioned: HashMap<FunctionId, HashMap<String, u32>>,
}

impl Claims {
    async fn of(read: &impl Read) -> Result<Self, StoreError> {
        let mut claims = Self { reserved: HashMap::new(), provisioned: HashMap::new() };
        for (key, record) in RESERVATIONS.all(read, &[]).await? {
            if let Some(id) = RESERVATIONS.parts(&key).and_then(FunctionId::from_parts) {
                claims.reserved.insert(id, record.executions);
            }
        }
        for (key, record) in PROVISIONED.all(read, &[]).await? {
            let id = PROVISIONED.parts(&key).and_then(FunctionId::from_parts);
            if let (Some(id), Some(qualifier)) = (id, records::provisioned_in(&key)) {
                claims.provisioned.entry(id).or_default().insert(qualifier, record.executions);
            }
        }
        Ok(claims)
    }

    /// What is provisioned of a function, but for one of its versions or aliases.
    fn provisioned_of(&self, id: &FunctionId, except: Option<&str>) -> u32 {
        let all = self.provisioned.get(id).into_iter().flatten();
        all.filter(|(qualifier, _)| Some(qualifier.as_str()) != except)
            .fold(0, |sum, (_, executions)| sum.saturating_add(*executions))
    }

    /// All together, but for those of a function.
    fn except(&self, except: Option<&FunctionId>) -> u32 {
        let shared = self.provisioned.keys().filter(|id| !self.reserved.contains_key(id));
        let provisioned = shared.map(|id| (id, self.provisioned_of(id, None)));
        let reserved = self.reserved.iter().map(|(id, executions)| (id, *executions));
        reserved
            .chain(provisioned)
            .filter(|(id, _)| Some(*id) != except)
            .fold(0, |sum, (_, executions)| sum.saturating_add(executions))
    }
}
