//! Builds the parts bottom up, runs them, and takes them down in reverse.
//!
//! ```text
//! start: data folder, store, ledger, sandbox, executor, lambda, gateway, listener, control socket
//! stop:  control socket, listener and connections (drained), executor (events end), sandbox, ledger (folded), store
//! ```

use std::fs::{OpenOptions, TryLockError};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use freehold_base::clock::{SharedClock, SystemClock};
use freehold_executor::limits::Limits;
use freehold_executor::logs::FileLogSink;
use freehold_executor::{Executor, Options as ExecutorOptions};
use freehold_gateway::credentials::{Identity, KnownKeys};
use freehold_gateway::limits::Limits as GatewayLimits;
use freehold_gateway::{Gateway, Options as GatewayOptions};
use freehold_lambda::{Lambda, Options as LambdaOptions};
use freehold_ledger::Ledger;
use freehold_runtimes::catalog::{Catalog, Options as RuntimeOptions};
use freehold_runtimes::sdk::Sdks;
use freehold_sandbox::doctor::lacking_protections;
use freehold_sandbox::options::{InternetOptions, TmpBacking};
use freehold_sandbox::protection::Protection;
use freehold_sandbox::spec::Network;
use freehold_sandbox::{NamespaceSandbox, Options as SandboxOptions};
use freehold_store::Store;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cli::{DoneWithout, FunctionNetwork, FunctionTmp};
use crate::config::Settings;
use crate::control::Control;
use crate::endpoint::InnerEndpoint;

/// How long requests that are under way may go on after a stop was asked for. A function's timeout may be longer: its
/// event is then cut off.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// How long environments may take to end after that.
const EXECUTOR_DEADLINE: Duration = Duration::from_secs(3);

/// What lies in the data folder, beside the store.
mod folders {
    pub(super) const LEDGER: &str = "ledger";
    pub(super) const LOGS: &str = "logs";
    pub(super) const CODE: &str = "code";
    /// The AWS SDKs that the runtimes carry.
    pub(super) const RUNTIMES: &str = "runtimes";
    pub(super) const SANDBOX: &str = "sandbox";
    /// Locked while a server uses the folder, whatever its store is.
    pub(super) const LOCK: &str = "server.lock";
}

/// Where the functions' logs lie.
pub fn logs_folder(data: &Path) -> std::path::PathBuf {
    data.join(folders::LOGS)
}

/// Where the functions' code lies, in read-only folders.
pub fn code_folder(data: &Path) -> std::path::PathBuf {
    data.join(folders::CODE)
}

/// Where the runtimes' AWS SDKs lie.
pub fn sdks_folder(data: &Path) -> std::path::PathBuf {
    data.join(folders::RUNTIMES)
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    control: Control,
    front: JoinHandle<()>,
    stop_front: watch::Sender<bool>,
    executor: Executor,
    sandbox: Arc<NamespaceSandbox>,
    ledger: Ledger,
    folding: JoinHandle<()>,
    stop_folding: watch::Sender<bool>,
    store: Store,
    /// Held until everything else is gone.
    _lock: DataLock,
}

impl Server {
    /// Builds all parts and begins to listen. The port is bound first of all, so that a second server on it fails
    /// before it has touched anything, and served last.
    pub async fn start(settings: Settings) -> Result<Self> {
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("cannot listen on {}", settings.listen))?;
        let address = listener.local_addr()?;
        let data = &settings.data;
        make_private_folder(data)
            .with_context(|| format!("cannot make the data folder {}", data.display()))?;
        let clock: SharedClock = Arc::new(SystemClock);
        let store_url = settings.store.shown_url();

        let lock = lock(data)?;
        let store = Store::open_with(settings.store.clone()).await.context("cannot open the store")?;
        let ledger = Ledger::open(&data.join(folders::LEDGER), store.clone()).await?;
        let sandbox = NamespaceSandbox::start(sandbox_options(&settings))
            .context("cannot isolate functions (see freehold doctor)")?;
        for protection in lacking_protections() {
            tracing::warn!("as told, without {}: {}", protection.name(), protection.instead());
        }
        let catalog = Arc::new(catalog(&settings));
        let endpoint = Arc::new(InnerEndpoint::new(settings.account.clone()));
        let executor = Executor::start(ExecutorOptions {
            sandbox: sandbox.clone(),
            catalog: catalog.clone(),
            ledger: Some(ledger.clone()),
            logs: Arc::new(FileLogSink::open(logs_folder(data)).context("cannot open the logs' folder")?),
            endpoint: endpoint.clone(),
            clock: clock.clone(),
            network: network(settings.function_network),
            limits: limits(&settings),
            memory: Arc::new(freehold_executor::host::memory),
        });
        let downloads = freehold_lambda::download_key();
        let lambda = Lambda::open(LambdaOptions {
            store: store.clone(),
            executor: Arc::new(executor.clone()),
            catalog,
            code_folder: code_folder(data),
            clock: clock.clone(),
            downloads: Some(downloads.clone()),
        })
        .await
        .context("cannot open the Lambda service")?;
        let gateway = Gateway::new(GatewayOptions {
            services: vec![lambda],
            credentials: Arc::new(known_keys(&settings).with(Identity::root(downloads, &settings.account))),
            clock,
            account: settings.account,
            version: env!("CARGO_PKG_VERSION"),
            limits: GatewayLimits { drain_timeout: DRAIN_DEADLINE, ..GatewayLimits::default() },
        })?;
        endpoint.open(gateway.clone());

        let control = Control::start(data, settings.store.url.clone(), store.clone()).await?;
        let (stop_folding, folding_stops) = watch::channel(false);
        let folding = tokio::spawn({
            let ledger = ledger.clone();
            async move { ledger.run(folding_stops).await }
        });
        let (stop_front, mut front_stops) = watch::channel(false);
        let front = tokio::spawn(async move {
            let stopped = async move {
                // An error means that the sender is gone, and so is the server.
                let _ = front_stops.wait_for(|stop| *stop).await;
            };
            gateway.serve(listener, stopped).await;
        });
        tracing::info!(%address, data = %settings.data.display(), store = store_url, "ready");
        Ok(Self {
            address,
            control,
            front,
            stop_front,
            executor,
            sandbox,
            ledger,
            folding,
            stop_folding,
            store,
            _lock: lock,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for what the server cannot go on without to be gone, which it never should be.
    pub async fn failed(&self) {
        self.sandbox.ended().await;
    }

    /// Takes everything down, in reverse of start. Each part has a deadline of its own.
    pub async fn stop(self) {
        self.control.stop().await;
        self.stop_front.send_replace(true);
        if let Err(error) = self.front.await {
            tracing::error!(%error, "the front door broke");
        }
        self.executor.shutdown(EXECUTOR_DEADLINE).await;
        self.sandbox.shutdown().await;
        self.stop_folding.send_replace(true);
        if let Err(error) = self.folding.await {
            tracing::error!(%error, "the ledger's loop broke");
        }
        if let Err(error) = self.ledger.fold().await {
            tracing::error!(%error, "the ledger could not be folded; the next start does it");
        }
        self.store.close().await;
    }
}

/// AWS's, but for what is set.
fn limits(settings: &Settings) -> Limits {
    let aws = Limits {
        account_concurrency: settings.account_concurrency,
        scaling_burst: settings.scaling_burst,
        ..Limits::default()
    };
    match settings.memory_floor_mib {
        Some(memory_floor_mib) => Limits { memory_floor_mib, memory_floor_percent: 0, ..aws },
        None => aws,
    }
}

/// What runs functions. No environment runs yet: SDKs that none will get are removed.
fn catalog(settings: &Settings) -> Catalog {
    let sdks = Sdks::new(sdks_folder(&settings.data));
    if let Err(error) = sdks.tidy() {
        tracing::warn!(%error, "old AWS SDKs could not be removed");
    }
    let options = RuntimeOptions { folders: settings.runtime_folders.clone(), ..RuntimeOptions::default() };
    Catalog::new(options).with_sdks(sdks)
}

/// Code, logs and settings of all functions are in there: nobody else on this machine needs to read them.
fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The data folder's lock.
struct DataLock(std::fs::File);

impl Drop for DataLock {
    fn drop(&mut self) {
        // Closing is not enough: a child that has been forked and not yet executed still holds a copy of the descriptor.
        let _ = self.0.unlock();
    }
}

/// Two servers may share a database, never a data folder. The kernel lets go of the lock when the process ends.
fn lock(data: &Path) -> Result<DataLock> {
    let path = data.join(folders::LOCK);
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(DataLock(file)),
        Err(TryLockError::WouldBlock) => {
            bail!("the data folder {} is in use by another server", data.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn sandbox_options(settings: &Settings) -> SandboxOptions {
    let tmp_backing = match settings.function_tmp {
        FunctionTmp::Disk => TmpBacking::Disk,
        FunctionTmp::Memory => TmpBacking::Memory,
    };
    let internet = InternetOptions {
        resolvers: settings.function_resolvers.clone(),
        allow_private: settings.function_private_networks,
        ..InternetOptions::default()
    };
    SandboxOptions {
        network: network(settings.function_network),
        internet,
        allow_without_memory_limit: settings.allow_without_memory_limit,
        allow_without: settings.allow_without.iter().map(|what| protection(*what)).collect(),
        tmp_backing,
        ..SandboxOptions::new(settings.data.join(folders::SANDBOX))
    }
}

fn protection(what: DoneWithout) -> Protection {
    match what {
        DoneWithout::CpuShare => Protection::CpuShare,
        DoneWithout::Freezer => Protection::Freezer,
        DoneWithout::SeparateUsers => Protection::SeparateUsers,
    }
}

fn network(setting: FunctionNetwork) -> Network {
    match setting {
        FunctionNetwork::Isolated => Network::Isolated,
        FunctionNetwork::Internet => Network::Internet,
    }
}

fn known_keys(settings: &Settings) -> KnownKeys {
    let mut keys = KnownKeys::new();
    if let Some(credentials) = &settings.credentials {
        keys = keys.with(Identity::root(credentials.clone(), &settings.account));
    }
    if settings.development_key {
        keys = keys.with_development_key(&settings.account);
    }
    keys
}
