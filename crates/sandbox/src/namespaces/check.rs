//! What is refused before anything is done: an order outside the limits, or for more than is configured.

use std::path::{Component, Path};

use crate::options::{
    COMPANIONS_MAX, FILES_BYTES_MAX, FILES_MAX, LISTENERS_MAX, MOUNTS_MAX, Options, REQUEST_BYTES_MAX,
};
use crate::spec::{Beginning, Network, SandboxError, Spec};

/// Room for a request's numbers and punctuation beside its texts, in bytes.
const OVERHEAD_BYTES: usize = 8 << 10;
/// The least memory that lets an init and a small program live, in MiB. (The service's own minimum is far higher.)
const MEMORY_MIN_MIB: u32 = 16;

/// Checks an order.
pub(super) fn check(spec: &Spec, options: &Options) -> Result<(), SandboxError> {
    if spec.network == Network::Internet && options.network != Network::Internet {
        return Err(SandboxError::Unsupported(
            "functions are configured without access to the internet".to_owned(),
        ));
    }
    problem(spec).map_or(Ok(()), |reason| {
        Err(SandboxError::Failed { name: spec.name.clone(), step: "accept the order for", reason })
    })
}

fn problem(spec: &Spec) -> Option<String> {
    let name_is_plain = spec.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if spec.name.is_empty() || !name_is_plain {
        return Some("its name has other characters than letters, digits and `-`".to_owned());
    }
    let bytes: usize = spec.files.iter().map(|(_, content, _)| content.len()).sum();
    if spec.mounts.len() > MOUNTS_MAX || spec.files.len() > FILES_MAX || spec.listeners.len() > LISTENERS_MAX
    {
        return Some("it has too many mounts, files or listeners".to_owned());
    }
    if spec.companions.programs.len() > COMPANIONS_MAX {
        return Some(format!("it has more than {COMPANIONS_MAX} companions"));
    }
    if !spec.companions.programs.is_empty() && spec.beginning != Beginning::Program {
        // They come first, and a copy must have the process number that its template had.
        return Some("it has companions and does not begin by executing its program".to_owned());
    }
    if bytes > FILES_BYTES_MAX {
        return Some(format!("its files have more than {FILES_BYTES_MAX} bytes"));
    }
    if texts(spec) + OVERHEAD_BYTES > REQUEST_BYTES_MAX {
        return Some("its paths, arguments and variables are too long".to_owned());
    }
    if spec.memory_mib < MEMORY_MIN_MIB || spec.tmp_mib == 0 || spec.cpu_millis == 0 {
        return Some("it has no memory, no /tmp or no CPU to speak of".to_owned());
    }
    if let Some(address) = spec.listeners.iter().find(|address| !address.ip().is_loopback()) {
        return Some(format!("the listener {address} is not on the loopback"));
    }
    let inside = spec.mounts.iter().map(|mount| mount.target.as_path());
    let inside = inside.chain(spec.files.iter().map(|(path, ..)| path.as_path()));
    let inside = inside.chain([spec.program.as_path(), spec.working_directory.as_path()]);
    let mut inside = inside.chain(spec.companions.programs.iter().map(std::path::PathBuf::as_path));
    if !spec.companions.programs.is_empty() && !is_plain(&spec.companions.working_directory) {
        return Some("its companions start in a folder that is not absolute and plain".to_owned());
    }
    if let Some(path) = inside.find(|path| !is_plain(path)) {
        return Some(format!("the path {} is not absolute and plain", path.display()));
    }
    None
}

/// Upper bound of the encoded length of what varies: JSON may write a byte as six.
fn texts(spec: &Spec) -> usize {
    let text =
        |text: &str| serde_json::to_string(text).map_or(usize::MAX / 1024, |encoded| encoded.len() + 16);
    let path = |path: &Path| path.to_str().map_or(usize::MAX / 1024, text);
    spec.mounts.iter().map(|mount| path(&mount.source) + path(&mount.target)).sum::<usize>()
        + spec.files.iter().map(|(file, ..)| path(file) + 64).sum::<usize>()
        + spec.arguments.iter().map(|argument| text(argument)).sum::<usize>()
        + spec.variables.iter().map(|(name, value)| text(name) + text(value)).sum::<usize>()
        + path(&spec.program)
        + path(&spec.working_directory)
        + spec.companions.programs.iter().map(|program| path(program)).sum::<usize>()
        + spec.companions.variables.iter().map(|(name, value)| text(name) + text(value)).sum::<usize>()
        + path(&spec.companions.working_directory)
}

/// Absolute, without `.` and `..`.
fn is_plain(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir) && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Companions, Mount};

    fn spec() -> Spec {
        Spec {
            beginning: Beginning::Program,
            name: "a-1".to_owned(),
            mounts: vec![],
            files: vec![],
            program: "/bin/true".into(),
            arguments: vec![],
            variables: vec![],
            working_directory: "/".into(),
            memory_mib: 128,
            tmp_mib: 512,
            cpu_millis: 72,
            network: Network::Isolated,
            listeners: vec!["127.0.0.1:9001".parse().unwrap()],
            companions: Companions::default(),
        }
    }

    #[test]
    fn what_is_outside_the_limits_is_refused() {
        assert_eq!(problem(&spec()), None);
        let options = Options::new("/nowhere");
        type Change = fn(&mut Spec);
        let changes: &[Change] = &[
            |spec| spec.name = "a/b".to_owned(),
            |spec| spec.memory_mib = 1,
            |spec| spec.tmp_mib = 0,
            |spec| spec.listeners = vec!["0.0.0.0:80".parse().unwrap()],
            |spec| spec.program = "bin/true".into(),
            |spec| spec.mounts = vec![Mount { source: "/a".into(), target: "/opt/../etc".into() }],
            |spec| spec.files = vec![("/x".into(), vec![0; FILES_BYTES_MAX + 1], false)],
            |spec| spec.variables = vec![("A".to_owned(), "\u{1}".repeat(REQUEST_BYTES_MAX / 4))],
            |spec| spec.network = Network::Internet,
            |spec| spec.companions.programs = vec!["/bin/true".into(); COMPANIONS_MAX + 1],
            |spec| spec.companions.programs = vec!["bin/true".into()],
            |spec| {
                spec.beginning = Beginning::Template;
                spec.companions.programs = vec!["/bin/true".into()];
                spec.companions.working_directory = "/".into();
            },
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut changed = spec();
            change(&mut changed);
            assert!(check(&changed, &options).is_err(), "change {number} was accepted");
        }
    }
}
