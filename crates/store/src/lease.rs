//! Leases: who owns what, one at a time.
//!
//! A [`Session`] is one process's presence: a record that says until when it lives, renewed while it does. A [`Lease`] is
//! a name that a session holds. One heartbeat keeps all leases of a process, so that a thousand idle queues cost one small
//! write every few seconds; on an engine that one process has for itself, none at all.
//!
//! ```text
//! session  start ── renew … renew ── end | expired (nobody renewed it)
//! lease    free ── acquire: token 1 ── release | its session ended ── acquire by another: token 2 ── …
//! ```
//!
//! **Fencing.** Each acquisition has a larger token than the one before. An owner makes every one of its writes in a
//! transaction that calls [`Lease::check`]: if another has taken the lease over, however late the former owner notices,
//! that transaction fails with [`StoreError::Fenced`] and writes nothing. So clocks decide only how soon a dead owner is
//! replaced, never who may write.
//!
//! **Who is dead.** A session whose time has passed, by the wall clock of whoever asks. On an engine that isn't shared,
//! also every session of another opening of the store: the engine's lock proves it.

use std::sync::Arc;
use std::time::Duration;

use freehold_base::clock::SharedClock;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::StoreError;
use crate::key::Part;
use crate::keyspace;
use crate::record::Record;
use crate::store::Store;
use crate::table::Table;
use crate::transaction::{Read, Transaction};

static SESSIONS: Table<SessionRecord> = Table::new(keyspace::SESSIONS);
static LEASES: Table<LeaseRecord> = Table::new(keyspace::LEASES);

/// How long a session lives after its last renewal, on a shared store: how long what a dead process owned stands still.
pub const SESSION_DURATION: Duration = Duration::from_secs(10);
/// How often a session is renewed within its duration: two renewals may fail.
const RENEWALS: u32 = 3;

#[derive(Debug, Serialize, Deserialize)]
struct SessionRecord {
    /// The opening of the store that it belongs to.
    instance: String,
    /// Milliseconds since 1970; none where only the end of its process ends it.
    expires_at_ms: Option<u64>,
}

impl Record for SessionRecord {
    const VERSION: u8 = 1;
}

#[derive(Debug, Serialize, Deserialize)]
struct LeaseRecord {
    /// The session that holds it, if one does.
    session: Option<String>,
    /// The number of acquisitions so far. Never goes back, so the record stays when the lease is released.
    token: u64,
}

impl Record for LeaseRecord {
    const VERSION: u8 = 1;
}

/// One process's presence in the store. Clones are the same session.
#[derive(Clone)]
pub struct Session(Arc<SessionInner>);

struct SessionInner {
    store: Store,
    clock: SharedClock,
    id: String,
    duration: Option<Duration>,
}

impl Session {
    /// Begins a session that lives for `duration` after each renewal. Where the store isn't shared it lives as long as
    /// this opening of the store, and is never written again.
    pub async fn start(store: &Store, clock: &SharedClock, duration: Duration) -> Result<Self, StoreError> {
        let duration = store.is_shared().then_some(duration);
        Self::start_with(store, clock, duration).await
    }

    /// Begins a session that expires also where the store isn't shared, as tests want it.
    pub async fn start_expiring(
        store: &Store,
        clock: &SharedClock,
        duration: Duration,
    ) -> Result<Self, StoreError> {
        Self::start_with(store, clock, Some(duration)).await
    }

    async fn start_with(
        store: &Store,
        clock: &SharedClock,
        duration: Option<Duration>,
    ) -> Result<Self, StoreError> {
        let id = uuid::Uuid::new_v4().to_string();
        let session =
            Self(Arc::new(SessionInner { store: store.clone(), clock: clock.clone(), id, duration }));
        let record = session.record();
        let write = store.transact(|tx| {
            let written = SESSIONS.put(&tx, &session.key(), &record);
            async move { written }
        });
        write.await?;
        Ok(session)
    }

    /// The session's name.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Lets the session live for another duration. [`StoreError::Fenced`] if it had expired and another has noticed;
    /// its leases are then lost.
    pub async fn renew(&self) -> Result<(), StoreError> {
        if self.0.duration.is_none() {
            return Ok(());
        }
        let renew = self.0.store.transact(|tx| async move {
            if SESSIONS.get(&tx, &self.key()).await?.is_none() {
                return Err(StoreError::Fenced { lease: format!("session {}", self.id()) });
            }
            SESSIONS.put(&tx, &self.key(), &self.record())
        });
        renew.await
    }

    /// Renews the session again and again until `stop` says so or is dropped, then ends it. Returns early, with
    /// [`StoreError::Fenced`], when the session was lost.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) -> Result<(), StoreError> {
        loop {
            let Some(duration) = self.0.duration else {
                stopped(&mut stop).await;
                break;
            };
            let next = self.0.clock.monotonic() + duration / RENEWALS;
            tokio::select! {
                () = stopped(&mut stop) => break,
                () = self.0.clock.until(next) => match self.renew().await {
                    Err(error) if error.is_fenced() => return Err(error),
                    // The next renewal may succeed, and the lease's checks decide who may write.
                    Err(error) => tracing::warn!(%error, "a session could not be renewed"),
                    Ok(()) => {}
                },
            }
        }
        self.end().await
    }

    /// Ends the session: all its leases are free.
    pub async fn end(&self) -> Result<(), StoreError> {
        let end = self.0.store.transact(|tx| {
            SESSIONS.delete(&tx, &self.key());
            async { Ok(()) }
        });
        end.await
    }

    /// Takes the lease `name` if nobody living holds it; `None` if another session does. What this session holds
    /// already is given again, with the same token.
    pub async fn acquire(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        let acquire = self.0.store.transact(|tx| async move {
            let before = LEASES.get(&tx, &[Part::Text(name)]).await?;
            let token = before.as_ref().map_or(0, |lease| lease.token);
            match before.and_then(|lease| lease.session) {
                Some(holder) if holder == self.id() => return Ok(Some(token)),
                Some(holder) if self.is_alive(&tx, &holder).await? => return Ok(None),
                _ => {}
            }
            let record = LeaseRecord { session: Some(self.id().to_owned()), token: token + 1 };
            LEASES.put(&tx, &[Part::Text(name)], &record)?;
            Ok::<_, StoreError>(Some(token + 1))
        });
        let token = acquire.await?;
        Ok(token
            .map(|token| Lease(Arc::new(LeaseInner { session: self.clone(), name: name.to_owned(), token }))))
    }

    /// Waits until the lease is free, and takes it. Asks again whenever the lease changes, and at times.
    pub async fn wait_for(&self, name: &str) -> Result<Lease, StoreError> {
        let mut watch = self.0.store.watch(LEASES.key(&[Part::Text(name)]));
        loop {
            if let Some(lease) = self.acquire(name).await? {
                return Ok(lease);
            }
            let again = self.0.clock.monotonic() + self.0.duration.unwrap_or(SESSION_DURATION) / RENEWALS;
            tokio::select! {
                change = watch.changed() => if change.is_none() { return Err(StoreError::Closed) },
                () = self.0.clock.until(again) => {}
            }
        }
    }

    /// Whether a session lives. A dead one's record is deleted in the same transaction, so that it cannot come back.
    async fn is_alive(&self, tx: &Transaction, id: &str) -> Result<bool, StoreError> {
        let key = [Part::Text(id)];
        let Some(session) = SESSIONS.get(tx, &key).await? else { return Ok(false) };
        let expired = session.expires_at_ms.is_some_and(|at| at <= self.0.clock.wall_ms());
        let gone = !self.0.store.is_shared() && session.instance != self.0.store.instance();
        if expired || gone {
            SESSIONS.delete(tx, &key);
        }
        Ok(!(expired || gone))
    }

    fn key(&self) -> [Part<'_>; 1] {
        [Part::Text(&self.0.id)]
    }

    fn record(&self) -> SessionRecord {
        let lives = |duration: Duration| {
            self.0.clock.wall_ms().saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
        };
        SessionRecord {
            instance: self.0.store.instance().to_owned(),
            expires_at_ms: self.0.duration.map(lives),
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever could stop it is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A name that a session holds. Clones are the same lease. Dropping it releases nothing: [`Lease::release`] or the
/// session's end does.
#[derive(Clone)]
pub struct Lease(Arc<LeaseInner>);

struct LeaseInner {
    session: Session,
    name: String,
    token: u64,
}

impl Lease {
    /// The lease's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The fencing token: larger than that of every earlier holder.
    pub fn token(&self) -> u64 {
        self.0.token
    }

    /// Makes the transaction fail, with [`StoreError::Fenced`], unless this is still the lease's holder when it commits.
    pub async fn check(&self, read: &impl Read) -> Result<(), StoreError> {
        let now = LEASES.get(read, &[Part::Text(self.name())]).await?;
        let ours = now.is_some_and(|lease| {
            lease.token == self.token() && lease.session.as_deref() == Some(self.0.session.id())
        });
        if ours { Ok(()) } else { Err(StoreError::Fenced { lease: self.name().to_owned() }) }
    }

    /// Gives the lease up; does nothing if it is lost already.
    pub async fn release(&self) -> Result<(), StoreError> {
        let release = self.0.session.0.store.transact(|tx| async move {
            match self.check(&tx).await {
                Err(StoreError::Fenced { .. }) => Ok(()),
                Err(error) => Err(error),
                Ok(()) => LEASES.put(
                    &tx,
                    &[Part::Text(self.name())],
                    &LeaseRecord { session: None, token: self.token() },
                ),
            }
        });
        release.await
    }
}
