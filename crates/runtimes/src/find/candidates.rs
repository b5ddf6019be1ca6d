//! Where an interpreter could be, most wanted first: the folders of the settings, the `PATH`, version managers, the usual
//! system folders. Only files whose name fits are named, so that little is run in vain.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::catalog::{Family, Runtime};
use crate::find::Options;

/// How many entries of one folder are looked at: a folder of versions has dozens at most.
const FOLDER_ENTRIES: usize = 1_000;

/// Where version managers keep what they install, below the home folder: one folder per version.
const PYTHON_FOLDERS: [&str; 4] = [
    ".pyenv/versions",
    ".local/share/uv/python",
    ".local/share/mise/installs/python",
    ".asdf/installs/python",
];
const NODE_FOLDERS: [&str; 9] = [
    ".nvm/versions/node",
    ".config/nvm/versions/node",
    ".local/share/fnm/node-versions",
    ".fnm/node-versions",
    ".volta/tools/image/node",
    ".local/share/mise/installs/node",
    ".asdf/installs/nodejs",
    ".nodenv/versions",
    ".local/share/n/versions/node",
];
const RUBY_FOLDERS: [&str; 5] =
    [".rbenv/versions", ".rubies", ".rvm/rubies", ".local/share/mise/installs/ruby", ".asdf/installs/ruby"];
const JAVA_FOLDERS: [&str; 5] = [
    ".sdkman/candidates/java",
    ".jdks",
    ".jenv/versions",
    ".local/share/mise/installs/java",
    ".asdf/installs/java",
];

/// What may precede the version in the name of such a folder: uv writes `cpython-3.12.1-…`, nvm and fnm `v22.3.0`, chruby
/// and rvm `ruby-3.3.5`, and Java's have their distributor's name.
const BEFORE_VERSION: [&str; 7] = ["cpython-", "ruby-", "temurin-", "corretto-", "openjdk-", "v", ""];

/// Where the programs lie in such a folder (the second is fnm's).
const BIN_FOLDERS: [&str; 2] = ["bin", "installation/bin"];

/// `bin` folders that need not be on the `PATH` of a service.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// Where distributions keep their Java virtual machines, one folder each.
const JAVA_SYSTEM_FOLDER: &str = "/usr/lib/jvm";

/// Existing files that could be the runtime's interpreter, most wanted first.
pub(crate) fn candidates(runtime: &Runtime, options: &Options) -> Vec<PathBuf> {
    let mut list = List::default();
    let (exact, loose) = names(runtime);
    for folder in options.folders.iter().filter_map(|folder| std::path::absolute(folder).ok()) {
        if folder.is_file() {
            list.add(folder.clone());
        }
        for name in exact.iter().chain(&loose) {
            list.add(folder.join(name));
            list.add(folder.join("bin").join(name));
        }
    }
    let path: Vec<PathBuf> = options.path.iter().flat_map(std::env::split_paths).collect();
    list.add_all(&path, &exact);
    list.add_all(&managed(runtime, options), &exact);
    let system: Vec<PathBuf> = if options.system_folders {
        let opt = children(Path::new("/opt")).into_iter().map(|folder| folder.join("bin"));
        let own =
            if runtime.family == Family::Java { children(Path::new(JAVA_SYSTEM_FOLDER)) } else { Vec::new() };
        let own = own.into_iter().map(|folder| folder.join("bin"));
        opt.chain(own).chain(SYSTEM_FOLDERS.map(PathBuf::from)).collect()
    } else {
        Vec::new()
    };
    list.add_all(&system, &exact);
    list.add_all(&path, &loose);
    list.add_all(&system, &loose);
    list.finish()
}

/// What to install where nothing was found.
pub(crate) fn advice(runtime: &Runtime) -> String {
    let release = runtime.release();
    match runtime.family {
        Family::Python => format!(
            "Install it with `uv python install {release}` or `pyenv install {release}`{}, or name the folder of an \
             installed one in the settings.",
            match distribution_python() {
                Some(own) if own == release => format!(", or `apt-get install python{release}`"),
                _ => String::new(),
            }
        ),
        Family::Node => format!(
            "Install it with `nvm install {release}`, `fnm install {release}` or the packages of NodeSource, or name \
             the folder of an installed one in the settings."
        ),
        Family::Ruby => format!(
            "Install it with `rbenv install {release}`, `mise use -g ruby@{release}` or `rvm install {release}`, or name \
             the folder of an installed one in the settings."
        ),
        Family::Java => {
            let release = release.trim_start_matches("1.");
            format!(
                "Install it with `apt-get install openjdk-{release}-jre-headless` (where the distribution has it) or \
                 `sdk install java`, or name the folder of an installed one in the settings."
            )
        }
        Family::Provided => String::new(),
    }
}

/// The names that say which version it is, and those that could be any version.
fn names(runtime: &Runtime) -> (Vec<String>, Vec<String>) {
    let release = runtime.release();
    match runtime.family {
        Family::Python => (vec![format!("python{release}")], vec!["python3".into(), "python".into()]),
        Family::Node => {
            (vec![format!("node{release}"), format!("node-{release}"), "node".into()], vec!["nodejs".into()])
        }
        Family::Ruby => (vec![format!("ruby{release}")], vec!["ruby".into()]),
        Family::Java => (vec!["java".into()], Vec::new()),
        Family::Provided => (Vec::new(), Vec::new()),
    }
}

/// The `bin` folders of version managers' installations of this release; each manager's newest first.
fn managed(runtime: &Runtime, options: &Options) -> Vec<PathBuf> {
    let below_home: &[&str] = match runtime.family {
        Family::Python => &PYTHON_FOLDERS,
        Family::Node => &NODE_FOLDERS,
        Family::Ruby => &RUBY_FOLDERS,
        Family::Java => &JAVA_FOLDERS,
        Family::Provided => &[],
    };
    let below_home =
        options.home.iter().flat_map(|home| below_home.iter().map(move |folder| home.join(folder)));
    let mut found = Vec::new();
    for folder in options.version_folders.iter().cloned().chain(below_home) {
        let mut versions: Vec<(Vec<u32>, PathBuf)> = children(&folder)
            .into_iter()
            .filter_map(|path| {
                let name = path.file_name()?.to_str()?;
                let number = BEFORE_VERSION.iter().find_map(|before| name.strip_prefix(before))?;
                let rest = number.strip_prefix(runtime.release())?;
                (rest.is_empty() || rest.starts_with(['.', '-'])).then(|| (version(number), path.clone()))
            })
            .collect();
        versions.sort_by(|a, b| b.cmp(a));
        found.extend(versions.into_iter().flat_map(|(_, path)| BIN_FOLDERS.map(|bin| path.join(bin))));
    }
    found
}

/// The leading numbers of a folder's name: `3.12.11-linux-x86_64-gnu` is 3, 12, 11.
fn version(name: &str) -> Vec<u32> {
    let numbers = name.split(|character: char| !(character.is_ascii_digit() || character == '.')).next();
    numbers.unwrap_or_default().split('.').map_while(|number| number.parse().ok()).collect()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.take(FOLDER_ENTRIES).filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Debian's and Ubuntu's own Python, which is the one that apt installs.
fn distribution_python() -> Option<&'static str> {
    let release = std::fs::read_to_string("/etc/os-release").ok()?;
    let value = |key: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|text| text.trim_matches('"'))
    };
    match (value("ID")?, value("VERSION_ID")?) {
        ("debian", "12") => Some("3.11"),
        ("debian", "13") | ("ubuntu", "25.04" | "25.10") => Some("3.13"),
        ("ubuntu", "22.04") => Some("3.10"),
        ("ubuntu", "24.04") => Some("3.12"),
        ("ubuntu", "26.04") => Some("3.14"),
        _ => None,
    }
}

/// Candidates in order, each once. A version manager's shims come last: they are slow, and work only where a version is
/// chosen.
#[derive(Default)]
struct List {
    seen: HashSet<PathBuf>,
    wanted: Vec<PathBuf>,
    shims: Vec<PathBuf>,
}

impl List {
    fn add_all(&mut self, folders: &[PathBuf], names: &[String]) {
        for folder in folders {
            for name in names {
                self.add(folder.join(name));
            }
        }
    }

    fn add(&mut self, file: PathBuf) {
        let Ok(real) = file.canonicalize() else { return };
        let shim = file.parent().and_then(Path::file_name).is_some_and(|name| name == "shims")
            || real.file_name().is_some_and(|name| name == "volta-shim");
        // All shims may be links to one program that goes by the name it was called by.
        let identity = if shim { file.clone() } else { real.clone() };
        if !real.is_file() || !self.seen.insert(identity) {
            return;
        }
        if shim { self.shims.push(file) } else { self.wanted.push(file) }
    }

    fn finish(mut self) -> Vec<PathBuf> {
        self.wanted.append(&mut self.shims);
        self.wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(id: &str) -> Runtime {
        crate::catalog::known().iter().find(|runtime| runtime.id == id).unwrap().clone()
    }

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }

    fn only(home: &Path) -> Options {
        Options { home: Some(home.to_owned()), ..Options::nowhere() }
    }

    #[test]
    fn names_only_what_could_be_it_and_newest_first() {
        let home = tempfile::tempdir().unwrap();
        for version in ["3.12.1", "3.12.11", "3.12.9", "3.1", "3.13.0", "3.12-dev"] {
            touch(&home.path().join(".pyenv/versions").join(version).join("bin/python3.12"));
        }
        let uv = home.path().join(".local/share/uv/python/cpython-3.12.4-linux-x86_64-gnu/bin/python3.12");
        touch(&uv);
        let found = candidates(&runtime("python3.12"), &only(home.path()));
        let inside: Vec<_> = found.iter().filter_map(|path| path.strip_prefix(home.path()).ok()).collect();
        let pyenv = |version: &str| PathBuf::from(format!(".pyenv/versions/{version}/bin/python3.12"));
        let expected = [pyenv("3.12.11"), pyenv("3.12.9"), pyenv("3.12.1"), pyenv("3.12-dev")];
        assert_eq!(inside[..4], expected.iter().map(PathBuf::as_path).collect::<Vec<_>>());
        assert_eq!(inside[4], uv.strip_prefix(home.path()).unwrap());
        assert_eq!(inside.len(), 5);
    }

    #[test]
    fn finds_what_node_version_managers_install() {
        let home = tempfile::tempdir().unwrap();
        let nvm = home.path().join(".nvm/versions/node/v22.3.0/bin/node");
        let fnm = home.path().join(".local/share/fnm/node-versions/v22.1.0/installation/bin/node");
        touch(&nvm);
        touch(&fnm);
        touch(&home.path().join(".nvm/versions/node/v20.3.0/bin/node"));
        let found = candidates(&runtime("nodejs22.x"), &only(home.path()));
        let inside: Vec<_> = found.iter().filter(|path| path.starts_with(home.path())).collect();
        assert_eq!(inside, [&nvm, &fnm]);
    }

    #[test]
    fn shims_come_last_and_folders_of_the_settings_first() {
        let home = tempfile::tempdir().unwrap();
        let shim = home.path().join("shims/python3.12");
        let managed = home.path().join(".pyenv/versions/3.12.1/bin/python3.12");
        let chosen = home.path().join("mine/bin/python3.12");
        for file in [&shim, &managed, &chosen] {
            touch(file);
        }
        let options = Options {
            folders: vec![home.path().join("mine")],
            path: Some(home.path().join("shims").into_os_string()),
            ..only(home.path())
        };
        let found = candidates(&runtime("python3.12"), &options);
        assert_eq!(found.first(), Some(&chosen));
        assert_eq!(found.get(1), Some(&managed));
        assert_eq!(found.last(), Some(&shim));
    }

    #[test]
    fn advice_names_commands() {
        assert!(advice(&runtime("python3.12")).contains("uv python install 3.12"));
        assert!(advice(&runtime("nodejs22.x")).contains("nvm install 22"));
    }
}
