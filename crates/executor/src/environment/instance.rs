//! One running sandbox with everything that hangs on it: its Runtime API, its output, its platform endpoint.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_base::limits::MEMORY_PER_VCPU_MIB;
use freehold_runtimes::catalog::{Catalog, Installed};
use freehold_runtimes::launch::{self, Settings, check_entrypoint};
use freehold_runtimes::template::{can_begin_from_template, snapshot_argument};
use freehold_sandbox::image::Image;
use freehold_sandbox::spec::{self, Beginning, Exit, Network, SandboxError, Spec};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::companions::{self, Companions};
use super::extensions::{Extensions, MAX_EXTENSIONS};
use super::failure::Failure;
use super::identity;
use super::output::Output;
use crate::event::{FunctionVersion, InvokeError, RoleIdentity};
use crate::executor::Shell;
use crate::logging::LogFormat;
use crate::runtime_api::{Call, Invocation, Server};

/// Where the Runtime API listens inside.
const RUNTIME_API: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9001);
/// Where the platform's own endpoint listens inside.
const ENDPOINT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4566);

/// How long the sandbox may take to start a program: a thousand times what it takes.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long freezing or thawing may take: ten thousand times what it takes.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer that was sent just before the program ended may take to be read. Its connections end with it, and
/// this with them: only a machine that is very busy, or somebody who has got hold of a connection, takes so long.
const LAST_CALL: Duration = Duration::from_secs(2);

/// The same where programs of extensions live on: as long as an answer that is there already may take to be read.
const LAST_CALL_AMONG_OTHERS: Duration = Duration::from_millis(100);

/// Why there is no instance.
pub(super) enum StartError {
    /// Nobody can start it now.
    Impossible(InvokeError),
    /// The function itself has nothing that can be started.
    Failed(Failure),
    /// One of these cannot be started.
    Extensions(Extensions),
}

impl From<InvokeError> for StartError {
    fn from(error: InvokeError) -> Self {
        Self::Impossible(error)
    }
}

/// How an environment comes to its first event, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rung {
    /// From an image, where there is one.
    Image,
    /// By starting the program.
    Boot,
    /// None: the program is started to be captured after its Init.
    Snapshot,
}

/// How a sandbox comes to be, beside what its version says.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) role: &'a RoleIdentity,
    pub(super) log_stream: &'a str,
    /// AWS's word for it.
    pub(super) initialization_type: &'static str,
    pub(super) rung: Rung,
}

/// A running sandbox.
pub(super) struct Instance {
    pub(super) environment: Arc<dyn spec::Environment>,
    pub(super) api: Server,
    pub(super) output: Output,
    pub(super) process: Process,
    /// When its first program was started.
    pub(super) started: Instant,
    /// The image that its program was made from.
    pub(super) image: Option<Arc<Image>>,
    pub(super) extensions: Extensions,
    /// The programs of external ones.
    pub(super) companions: Companions,
    pub(super) installed: Arc<Installed>,
    /// What the runtime's program is called, where it is the function's own.
    own_program: Option<String>,
    /// Runtimes (usually one) that ask for an event.
    asking: VecDeque<oneshot::Sender<Arc<Invocation>>>,
    /// Tells the platform's endpoint to end.
    closed: watch::Sender<bool>,
}

impl Instance {
    /// Notes that the runtime asks for an event.
    pub(super) fn asks(&mut self, reply: oneshot::Sender<Arc<Invocation>>) {
        // As many as it has connections: those that have closed are no use.
        self.asking.retain(|reply| !reply.is_closed());
        self.asking.push_back(reply);
    }

    /// Gives an event to whoever asks for one. `false`: nobody does at the moment.
    pub(super) fn hand(&mut self, invocation: &Arc<Invocation>) -> bool {
        while let Some(reply) = self.asking.pop_front() {
            if reply.send(Arc::clone(invocation)).is_ok() {
                return true;
            }
        }
        false
    }

    /// Stops all its processes. `false`: that is not possible, and the sandbox must go.
    pub(super) async fn freeze(&mut self) -> bool {
        possible("frozen", self.environment.freeze()).await
    }

    /// Lets them go on. `false`: that is not possible, and the sandbox must go.
    pub(super) async fn thaw(&mut self) -> bool {
        possible("thawed", self.environment.thaw()).await
    }

    /// Starts the runtime, which external extensions have come before.
    pub(super) async fn proceed(&mut self) -> Result<(), StartError> {
        let began = tokio::time::timeout(START_TIMEOUT, self.environment.proceed()).await;
        let began = began.map_err(|_| {
            InvokeError::Environment(format!("the runtime did not start within {START_TIMEOUT:?}"))
        })?;
        began.map_err(|error| refused(&error, self.own_program.as_deref()))
    }

    /// After the program's end: what it had still sent.
    pub(super) async fn last_call(&mut self) -> Option<Call> {
        if !self.companions.is_empty() {
            // Others go on to ask, and it cannot be told whose connection is whose.
            return tokio::time::timeout(LAST_CALL_AMONG_OTHERS, self.api.call()).await.ok().flatten();
        }
        self.api.close();
        tokio::time::timeout(LAST_CALL, self.api.call()).await.ok().flatten()
    }

    /// The image that it was to be made from, where this failure says that this was not possible.
    pub(super) fn unusable_image(&self, failure: &Failure) -> Option<Arc<Image>> {
        let unusable = matches!(failure, Failure::Exit(Exit::Status(freehold_sandbox::image::FAILED)));
        self.image.clone().filter(|_| unusable)
    }

    /// Removes the sandbox, whatever still runs in it.
    pub(super) async fn stop(self) {
        self.closed.send_replace(true);
        drop(self.api);
        self.environment.stop(Duration::ZERO).await;
    }
}

async fn possible(what: &str, deed: impl Future<Output = Result<(), SandboxError>>) -> bool {
    let error = match tokio::time::timeout(FREEZE_TIMEOUT, deed).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {FREEZE_TIMEOUT:?}"),
    };
    tracing::warn!(%error, "an idle environment is dropped: it cannot be {what}");
    false
}

/// The program's end.
pub(super) struct Process {
    exited: Pin<Box<dyn Future<Output = Exit> + Send>>,
    exit: Option<Exit>,
}

impl Process {
    /// Waits for it. May be dropped and called again.
    pub(super) async fn exit(&mut self) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        let exit = (&mut self.exited).await;
        self.exit = Some(exit);
        exit
    }

    /// How it has ended, as far as is known.
    pub(super) fn ended(&self) -> Option<Exit> {
        self.exit
    }

    /// Whether it is known to have ended.
    pub(super) fn has_ended(&self) -> bool {
        self.exit.is_some()
    }
}

/// What to start, found out on a thread that may block.
struct Plan {
    spec: Spec,
    installed: Arc<Installed>,
    /// The names of external extensions.
    extensions: Vec<String>,
}

impl Plan {
    /// Settles how the program begins. Gives the image, if it is made from one.
    fn begin(
        &mut self,
        shell: &Shell,
        version: &FunctionVersion,
        rung: Rung,
    ) -> Result<Option<Arc<Image>>, InvokeError> {
        match rung {
            // A copy's process number follows from its template's, beside which nothing else ran: that of a runtime behind
            // external extensions is another one.
            Rung::Image if self.extensions.is_empty() => {
                let image = shell.images.of_version(&version.key);
                let image = image.or_else(|| of_runtime(shell, version, &self.installed));
                if let Some(image) = &image {
                    self.spec.beginning = Beginning::Copy(Arc::clone(image));
                }
                Ok(image)
            }
            Rung::Image | Rung::Boot => Ok(None),
            Rung::Snapshot => {
                let flag = snapshot_argument(&self.installed).ok_or_else(|| no_snapshots(&self.installed))?;
                self.spec.arguments.push(flag.to_owned());
                self.spec.beginning = Beginning::Template;
                Ok(None)
            }
        }
    }
}

/// Starts a sandbox for the version: its runtime, or the external extensions that come before it. `begun` hears which
/// runtime it is, and whether there are extensions, before anything runs.
pub(super) async fn start(
    shell: &Shell,
    version: &Arc<FunctionVersion>,
    origin: Origin<'_>,
    begun: impl FnOnce(&Installed, bool),
) -> Result<Instance, StartError> {
    let Origin { role, log_stream, initialization_type, rung } = origin;
    let mut plan = {
        let (catalog, version) = (Arc::clone(&shell.catalog), Arc::clone(version));
        let (role, log_stream, network) = (role.clone(), log_stream.to_owned(), shell.network);
        let plan = move || plan(&catalog, &version, &role, &log_stream, initialization_type, network);
        tokio::task::spawn_blocking(plan)
            .await
            .map_err(|error| InvokeError::Environment(error.to_string()))??
    };
    begun(&plan.installed, !plan.extensions.is_empty());
    if plan.extensions.len() > MAX_EXTENSIONS {
        let many = companions::launch_error(&plan.extensions, MAX_EXTENSIONS, "ErrTooManyExtensions");
        return Err(StartError::Extensions(many));
    }
    let image = plan.begin(shell, version, rung)?;
    // A program of the function's own that cannot be executed is the function's fault; an interpreter is not.
    let own = (plan.spec.program != plan.installed.program).then(|| plan.spec.program.display().to_string());
    let started = tokio::time::timeout(START_TIMEOUT, shell.sandbox.start(plan.spec)).await;
    let (environment, channels) = started
        .map_err(|_| InvokeError::Environment(format!("the sandbox did not start within {START_TIMEOUT:?}")))?
        .map_err(|error| {
            let extensions = companions::refused(&error, &plan.extensions);
            extensions.map_or_else(|| refused(&error, own.as_deref()), StartError::Extensions)
        })?;
    let started = shell.clock.monotonic();
    let mut listeners = channels.listeners.into_iter();
    let (Some(runtime_api), Some(endpoint)) = (listeners.next(), listeners.next()) else {
        return Err(
            InvokeError::Environment("the sandbox gave back fewer listeners than asked for".into()).into()
        );
    };
    let io = |error: std::io::Error| InvokeError::Environment(error.to_string());
    let (closed, close) = watch::channel(false);
    shell.endpoint.serve(listen(endpoint).map_err(io)?, role.clone(), close);
    let exited = {
        let environment = Arc::clone(&environment);
        Box::pin(async move { environment.exited().await })
    };
    Ok(Instance {
        api: Server::start(listen(runtime_api).map_err(io)?),
        output: Output::new(channels.output, channels.companions_output).map_err(io)?,
        process: Process { exited, exit: None },
        companions: match plan.extensions.is_empty() {
            true => Companions::default(),
            false => Companions::watch(&environment),
        },
        installed: plan.installed,
        extensions: Extensions::started(&plan.extensions),
        own_program: own,
        environment,
        started,
        image,
        asking: VecDeque::new(),
        closed,
    })
}

/// What the version's environments can begin from, where it has no snapshot of its own.
fn of_runtime(shell: &Shell, version: &FunctionVersion, installed: &Arc<Installed>) -> Option<Arc<Image>> {
    let can = can_begin_from_template(installed, &version.variables);
    can.then(|| shell.images.of_runtime(installed, version.memory_mib)).flatten()
}

fn no_snapshots(installed: &Installed) -> InvokeError {
    InvokeError::Environment(format!("there are no snapshots of {} functions", installed.runtime.id))
}

/// What the sandbox said, and whose fault it is.
fn refused(error: &SandboxError, own_program: Option<&str>) -> StartError {
    if let (SandboxError::NotExecutable { reason, .. }, Some(program)) = (error, own_program) {
        let reason = reason.to_lowercase();
        return StartError::Failed(Failure::InvalidEntrypoint(format!("fork/exec {program}: {reason}")));
    }
    StartError::Impossible(InvokeError::Environment(error.to_string()))
}

/// The listener was made in the sandbox's network namespace and is non-blocking already.
fn listen(descriptor: OwnedFd) -> std::io::Result<TcpListener> {
    TcpListener::from_std(std::net::TcpListener::from(descriptor))
}

fn plan(
    catalog: &Catalog,
    version: &FunctionVersion,
    role: &RoleIdentity,
    log_stream: &str,
    initialization_type: &'static str,
    network: Network,
) -> Result<Plan, StartError> {
    let installed = catalog.resolve(&version.runtime).map_err(InvokeError::from)?;
    if let Err(error) = check_entrypoint(&installed, &version.code, version.layers.as_deref()) {
        return Err(StartError::Failed(Failure::InvalidEntrypoint(error.to_string())));
    }
    let json = version.logging.format == LogFormat::Json;
    let launch = launch::launch(
        &installed,
        &Settings {
            function_name: &version.name,
            function_version: &version.version,
            handler: &version.handler,
            code: &version.code,
            layers: version.layers.as_deref(),
            variables: &version.variables,
            memory_mib: version.memory_mib,
            log_group: &version.log_group,
            log_stream,
            json_log_level: json.then(|| version.logging.application_level.name()),
            region: &version.region,
            access_key_id: &role.access_key_id,
            secret_access_key: &role.secret_access_key,
            session_token: &role.session_token,
            runtime_api: &RUNTIME_API.to_string(),
            endpoint: &format!("http://{ENDPOINT}"),
            initialization_type,
        },
    );
    let extensions = companions::names(version.layers.as_deref());
    let companions = companions::programs(&extensions, &launch.variables);
    let mut mounts = launch.mounts;
    mounts.extend(catalog.sdk(&installed));
    let spec = Spec {
        beginning: Beginning::Program,
        name: identity::sandbox_name(),
        mounts,
        files: launch.files,
        program: launch.program,
        arguments: launch.arguments,
        variables: launch.variables,
        working_directory: launch.working_directory,
        memory_mib: version.memory_mib,
        tmp_mib: version.ephemeral_mib,
        cpu_millis: version.memory_mib * 1_000 / MEMORY_PER_VCPU_MIB,
        network,
        listeners: vec![RUNTIME_API, ENDPOINT],
        companions,
    };
    Ok(Plan { spec, installed, extensions })
}

/// Whether programs run beside the runtime's in the version's environments.
pub(super) async fn has_external_extensions(version: &FunctionVersion) -> Result<bool, InvokeError> {
    let layers = version.layers.clone();
    tokio::task::spawn_blocking(move || !companions::names(layers.as_deref()).is_empty())
        .await
        .map_err(|error| InvokeError::Environment(error.to_string()))
}
