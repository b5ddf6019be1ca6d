//! The images that environments begin from: of each runtime before it knows a function, and of versions with SnapStart after their
//! Init.
//!
//! ```text
//! first start of a runtime ── boots; meanwhile its template is made ──> image ──> every later start is a copy
//! prepare(version) ── Init in an environment of its own, up to the gate ──> image ──> starts of that version are copies
//! ```
//!
//! An image is never needed: whoever finds none, or one that no copy can be made of, boots.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use freehold_base::limits::MEMORY_PER_VCPU_MIB;
use freehold_runtimes::catalog::Installed;
use freehold_runtimes::template::{TEMPLATE_MEMORY_MIB, has_template, template};
use freehold_sandbox::image::Image;
use freehold_sandbox::spec::{Beginning, Companions, Network, Sandbox, SandboxError, Spec};

use crate::environment::sandbox_name;

/// How long a runtime may take to come to its gate: a thousand times what it takes.
const TEMPLATE_TIMEOUT: Duration = Duration::from_secs(60);
/// After a failure, how long a runtime's image is not tried again; doubled by each further one.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// The longest such time.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// The memory that images of versions may take together, in bytes. The one used longest ago goes first; its version boots then.
const VERSIONS_BYTES_MAX: u64 = 2 << 30;
/// The size of a template's `/tmp`, in MiB: AWS's smallest, which is ready at hand.
const TEMPLATE_TMP_MIB: u32 = 512;

/// Where the image of a runtime is.
enum Shelf {
    Making,
    Ready(Arc<Image>),
    Failed { until: Instant, wait: Duration },
}

struct OfVersion {
    image: Arc<Image>,
    used: Instant,
}

#[derive(Default)]
struct State {
    runtimes: HashMap<&'static str, Shelf>,
    versions: HashMap<String, OfVersion>,
}

/// All images.
pub(crate) struct Images {
    sandbox: Arc<dyn Sandbox>,
    state: Mutex<State>,
}

impl Images {
    pub(crate) fn new(sandbox: Arc<dyn Sandbox>) -> Arc<Self> {
        Arc::new(Self { sandbox, state: Mutex::default() })
    }

    /// The image of a runtime. If there is none yet, it is made meanwhile.
    pub(crate) fn of_runtime(self: &Arc<Self>, installed: &Arc<Installed>) -> Option<Arc<Image>> {
        if !self.sandbox.has_images() || !has_template(installed) {
            return None;
        }
        let mut state = self.lock();
        let wait = match state.runtimes.get(installed.runtime.id) {
            Some(Shelf::Ready(image)) => return Some(Arc::clone(image)),
            Some(Shelf::Making) => return None,
            Some(Shelf::Failed { until, .. }) if Instant::now() < *until => return None,
            Some(Shelf::Failed { wait, .. }) => (*wait * 2).min(RETRY_AFTER_MAX),
            None => RETRY_AFTER,
        };
        state.runtimes.insert(installed.runtime.id, Shelf::Making);
        let (images, installed) = (Arc::clone(self), Arc::clone(installed));
        tokio::spawn(async move {
            let shelf = match make(images.sandbox.as_ref(), &installed).await {
                Ok(image) => Shelf::Ready(image),
                Err(error) => {
                    tracing::info!(%error, runtime = installed.runtime.id, "environments boot: no image can be made");
                    Shelf::Failed { until: Instant::now() + wait, wait }
                }
            };
            images.lock().runtimes.insert(installed.runtime.id, shelf);
        });
        None
    }

    /// The image of a version, by its key.
    pub(crate) fn of_version(&self, key: &str) -> Option<Arc<Image>> {
        let mut state = self.lock();
        let found = state.versions.get_mut(key)?;
        found.used = Instant::now();
        Some(Arc::clone(&found.image))
    }

    /// Keeps the image of a version.
    pub(crate) fn keep(&self, key: &str, image: Arc<Image>) {
        let mut state = self.lock();
        state.versions.insert(key.to_owned(), OfVersion { image, used: Instant::now() });
        while state.versions.values().map(|kept| kept.image.bytes()).sum::<u64>() > VERSIONS_BYTES_MAX {
            let oldest = state.versions.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            tracing::info!(version = oldest, "a snapshot is dropped: there are too many");
            state.versions.remove(&oldest);
        }
    }

    /// The version has gone.
    pub(crate) fn forget(&self, key: &str) {
        self.lock().versions.remove(key);
    }

    /// No copy can be made of this one: it is used no more.
    pub(crate) fn discard(&self, image: &Arc<Image>) {
        let mut state = self.lock();
        state.versions.retain(|_, kept| !Arc::ptr_eq(&kept.image, image));
        for shelf in state.runtimes.values_mut() {
            if matches!(shelf, Shelf::Ready(ready) if Arc::ptr_eq(ready, image)) {
                *shelf = Shelf::Failed { until: Instant::now() + RETRY_AFTER, wait: RETRY_AFTER };
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half-done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a runtime up to its gate, in an environment that reaches nothing and holds no code but the runtime's own.
async fn make(sandbox: &dyn Sandbox, installed: &Installed) -> Result<Arc<Image>, SandboxError> {
    let launch = template(installed);
    let name = sandbox_name();
    let spec = Spec {
        beginning: Beginning::Template,
        name: name.clone(),
        mounts: launch.mounts,
        files: launch.files,
        program: launch.program,
        arguments: launch.arguments,
        variables: launch.variables,
        working_directory: launch.working_directory,
        memory_mib: TEMPLATE_MEMORY_MIB,
        tmp_mib: TEMPLATE_TMP_MIB,
        cpu_millis: TEMPLATE_MEMORY_MIB * 1_000 / MEMORY_PER_VCPU_MIB,
        network: Network::Isolated,
        listeners: Vec::new(),
        companions: Companions::default(),
    };
    let began = Instant::now();
    // Its output is kept open: it may print a warning.
    let (environment, _channels) = sandbox.start(spec).await?;
    let image = tokio::time::timeout(TEMPLATE_TIMEOUT, environment.capture()).await.unwrap_or_else(|_| {
        let reason = format!("it did not come to its gate within {TEMPLATE_TIMEOUT:?}");
        Err(SandboxError::NotCaptured { name, reason })
    });
    environment.stop(Duration::ZERO).await;
    let image = image?;
    tracing::debug!(
        runtime = installed.runtime.id,
        kib = image.bytes() / 1024,
        took = ?began.elapsed(),
        "a runtime's image is made"
    );
    Ok(image)
}
