//! One running sandbox with everything that hangs on it: its Runtime API, its output, its platform endpoint.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_base::limits::MEMORY_PER_VCPU_MIB;
use freehold_runtimes::catalog::{Catalog, Installed};
use freehold_runtimes::launch::{self, Settings, check_entrypoint};
use freehold_runtimes::template::{can_begin_from_template, snapshot_argument};
use freehold_sandbox::image::Image;
use freehold_sandbox::spec::{self, Beginning, CompanionExits, Exit, Network, SandboxError, Spec};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::extensions::{Extensions, MAX_EXTENSIONS};
use super::failure::Failure;
use super::identity;
use super::output::Output;
use crate::event::{FunctionVersion, InvokeError, RoleIdentity};
use crate::executor::Shell;
use crate::logging::LogFormat;
use crate::runtime_api::{Call, Invocation, Server};

/// Files of `/opt/extensions` that are looked at: far more than may run.
const EXTENSION_FILES: usize = 1_000;

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

/// The ends of external extensions' programs.
#[derive(Default)]
pub(super) struct Companions(Option<Watched>);

struct Watched {
    environment: Arc<dyn spec::Environment>,
    known: CompanionExits,
    next: Pin<Box<dyn Future<Output = CompanionExits> + Send>>,
}

impl Companions {
    fn watch(environment: &Arc<dyn spec::Environment>) -> Self {
        let (environment, known) = (Arc::clone(environment), CompanionExits::default());
        Self(Some(Watched { next: after(&environment, known), environment, known }))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Waits until there are more of them, and gives all; for ever where there are no programs. May be dropped and called
    /// again.
    pub(super) async fn ended(&mut self) -> CompanionExits {
        let Some(watched) = &mut self.0 else { return std::future::pending().await };
        let exits = (&mut watched.next).await;
        watched.next = match exits == watched.known {
            // The environment is gone, of which its own program's end tells.
            true => Box::pin(std::future::pending()),
            false => after(&watched.environment, exits),
        };
        watched.known = exits;
        exits
    }
}

/// What comes after what is known.
fn after(
    environment: &Arc<dyn spec::Environment>,
    known: CompanionExits,
) -> Pin<Box<dyn Future<Output = CompanionExits> + Send>> {
    let environment = Arc::clone(environment);
    Box::pin(async move { environment.companions_ended(known.iter().flatten().count()).await })
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

/// Starts a sandbox for the version: its runtime, or the external extensions that come before it. `begun` hears which
/// runtime it is, and whether there are extensions, before anything runs.
pub(super) async fn start(
    shell: &Shell,
    version: &Arc<FunctionVersion>,
    role: &RoleIdentity,
    log_stream: &str,
    initialization_type: &'static str,
    rung: Rung,
    begun: impl FnOnce(&Installed, bool),
) -> Result<Instance, StartError> {
    let of_version = if rung == Rung::Image { shell.images.of_version(&version.key) } else { None };
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
        return Err(StartError::Extensions(launch_error(
            &plan.extensions,
            MAX_EXTENSIONS,
            "ErrTooManyExtensions",
        )));
    }
    let image = match rung {
        // A copy has its process number from the template, where the runtime came first: with external extensions it comes
        // after them.
        Rung::Image if plan.extensions.is_empty() => {
            of_version.or_else(|| of_runtime(shell, version, &plan.installed))
        }
        Rung::Image | Rung::Boot | Rung::Snapshot => None,
    };
    plan.spec.beginning = match (&image, rung) {
        (Some(image), _) => Beginning::Copy(Arc::clone(image)),
        (None, Rung::Snapshot) => Beginning::Template,
        (None, _) => Beginning::Program,
    };
    if rung == Rung::Snapshot {
        let flag = snapshot_argument(&plan.installed).ok_or_else(|| no_snapshots(&plan.installed))?;
        plan.spec.arguments.push(flag.to_owned());
    }
    // A program of the function's own that cannot be executed is the function's fault; an interpreter is not.
    let own = (plan.spec.program != plan.installed.program).then(|| plan.spec.program.display().to_string());
    let started = tokio::time::timeout(START_TIMEOUT, shell.sandbox.start(plan.spec)).await;
    let (environment, channels) = started
        .map_err(|_| InvokeError::Environment(format!("the sandbox did not start within {START_TIMEOUT:?}")))?
        .map_err(|error| {
            refused_extension(&error, &plan.extensions).unwrap_or_else(|| refused(&error, own.as_deref()))
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
    can.then(|| shell.images.of_runtime(installed)).flatten()
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

/// The sandbox could not start an extension.
fn refused_extension(error: &SandboxError, names: &[String]) -> Option<StartError> {
    let SandboxError::CompanionNotExecutable { program, reason, .. } = error else { return None };
    let index = names.iter().position(|name| program.ends_with(name)).unwrap_or_default();
    let message = format!("fork/exec {}: {}", program.display(), reason.to_lowercase());
    Some(StartError::Extensions(launch_error(names, index, &message)))
}

/// Extensions of which the one at this place could not be started, nor those behind it.
fn launch_error(names: &[String], index: usize, message: &str) -> Extensions {
    let mut extensions = Extensions::started(&names[..=index.min(names.len() - 1)]);
    extensions.not_started(index, message);
    extensions
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
    let extensions = external_extensions(version.layers.as_deref());
    let companions = match extensions.is_empty() {
        true => spec::Companions::default(),
        false => spec::Companions {
            programs: extensions.iter().map(|name| Path::new(launch::EXTENSIONS_ROOT).join(name)).collect(),
            variables: launch::extension_variables(&launch.variables),
            working_directory: "/".into(),
        },
    };
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
    tokio::task::spawn_blocking(move || !external_extensions(layers.as_deref()).is_empty())
        .await
        .map_err(|error| InvokeError::Environment(error.to_string()))
}

/// The names of the external extensions in a layers folder, sorted: whatever is in `extensions` but no folder. A link in the
/// folder's place is not followed: out here it could lead anywhere.
fn external_extensions(layers: Option<&Path>) -> Vec<String> {
    let folder = layers.map(|layers| layers.join("extensions"));
    let folder = folder.filter(|folder| folder.symlink_metadata().is_ok_and(|found| found.is_dir()));
    let Some(entries) = folder.and_then(|folder| std::fs::read_dir(folder).ok()) else {
        return Vec::new();
    };
    let files = entries
        .take(EXTENSION_FILES)
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
    let mut names: Vec<String> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_a_real_folder_are_extensions() {
        let layers = tempfile::tempdir().expect("a folder");
        assert!(external_extensions(None).is_empty());
        assert!(external_extensions(Some(layers.path())).is_empty());
        std::os::unix::fs::symlink("/etc", layers.path().join("extensions")).expect("a link");
        assert!(external_extensions(Some(layers.path())).is_empty(), "a link is not followed");
        std::fs::remove_file(layers.path().join("extensions")).expect("removed");
        std::fs::create_dir_all(layers.path().join("extensions/folder")).expect("a folder");
        std::fs::write(layers.path().join("extensions/b"), "").expect("a file");
        std::os::unix::fs::symlink("b", layers.path().join("extensions/a")).expect("a link");
        assert_eq!(external_extensions(Some(layers.path())), ["a", "b"]);
    }
}
