//! The programs of external extensions: which there are, how they are started, and how they end.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use freehold_runtimes::launch;
use freehold_sandbox::spec::{self, CompanionExits, SandboxError};

use super::extensions::Extensions;

/// Files of `/opt/extensions` that are looked at: far more than may run.
const FILES: usize = 1_000;

/// The names of the external extensions in a layers folder, sorted: whatever is in `extensions` but no folder. A link in the
/// folder's place is not followed: out here it could lead anywhere.
pub(super) fn names(layers: Option<&Path>) -> Vec<String> {
    let folder = layers.map(|layers| layers.join("extensions"));
    let folder = folder.filter(|folder| folder.symlink_metadata().is_ok_and(|found| found.is_dir()));
    let Some(entries) = folder.and_then(|folder| std::fs::read_dir(folder).ok()) else {
        return Vec::new();
    };
    let files =
        entries.take(FILES).flatten().filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
    let mut names: Vec<String> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// How they are started.
pub(super) fn programs(names: &[String], variables: &[(String, String)]) -> spec::Companions {
    if names.is_empty() {
        return spec::Companions::default();
    }
    spec::Companions {
        programs: names.iter().map(|name| Path::new(launch::EXTENSIONS_ROOT).join(name)).collect(),
        variables: launch::extension_variables(variables),
        working_directory: "/".into(),
    }
}

/// The sandbox could not start an extension.
pub(super) fn refused(error: &SandboxError, names: &[String]) -> Option<Extensions> {
    let SandboxError::CompanionNotExecutable { program, reason, .. } = error else { return None };
    let index = names.iter().position(|name| program.ends_with(name)).unwrap_or_default();
    let message = format!("fork/exec {}: {}", program.display(), reason.to_lowercase());
    Some(launch_error(names, index, &message))
}

/// Extensions of which the one at this place could not be started, nor those behind it.
pub(super) fn launch_error(names: &[String], index: usize, message: &str) -> Extensions {
    let mut extensions = Extensions::started(&names[..=index.min(names.len() - 1)]);
    extensions.not_started(index, message);
    extensions
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
    /// Watches those of this environment.
    pub(super) fn watch(environment: &Arc<dyn spec::Environment>) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_folder_of_files_holds_no_extensions() {
        let layers = tempfile::tempdir().expect("a folder");
        assert!(names(None).is_empty());
        assert!(names(Some(layers.path())).is_empty());
        std::os::unix::fs::symlink("/etc", layers.path().join("extensions")).expect("a link");
        assert!(names(Some(layers.path())).is_empty(), "a link is not followed");
        std::fs::remove_file(layers.path().join("extensions")).expect("removed");
        std::fs::create_dir_all(layers.path().join("extensions/folder")).expect("a folder");
        std::fs::write(layers.path().join("extensions/b"), "").expect("a file");
        std::os::unix::fs::symlink("b", layers.path().join("extensions/a")).expect("a link");
        assert_eq!(names(Some(layers.path())), ["a", "b"]);
    }
}
