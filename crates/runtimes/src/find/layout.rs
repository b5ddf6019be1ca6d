//! How an interpreter that was found gets into an environment.
//!
//! | its prefix | inside |
//! |---|---|
//! | `/usr` | where it is: the base root carries `/usr` |
//! | shared with other software (`/usr/local`, …) | only its own files, at `/var/lang` |
//! | its own (pyenv, uv, nvm, `/opt/python`, …) | at `/var/lang`, as on AWS |
//!
//! Ruby is usually built for one place and looks for its library there: one with a prefix of its own lies inside where it
//! lies on the host, and one from `/usr/local`, which the base root keeps empty, is told where it lies now.

use std::path::{Path, PathBuf};

use freehold_sandbox::spec::Mount;

use crate::launch::INTERPRETER_DIR;

/// Prefixes that hold more than one interpreter.
const SHARED_PREFIXES: [&str; 4] = ["/usr/local", "/opt", "/opt/local", "/home/linuxbrew/.linuxbrew"];

/// How many libraries of one interpreter are mounted: `libpython3.12.so.1.0`, a link or two to it, `libpython3.so`.
const LIBRARIES: usize = 8;

/// Where the program lies inside, and what it takes to have it there.
pub(crate) struct Layout {
    pub(crate) program: PathBuf,
    pub(crate) mounts: Vec<Mount>,
    /// What it must be told on its command line in order to find its library there.
    pub(crate) options: Vec<String>,
}

impl Layout {
    fn new(program: impl Into<PathBuf>, mounts: Vec<Mount>) -> Self {
        Self { program: program.into(), mounts, options: Vec::new() }
    }
}

/// Python's: the program, the standard library, `libpython`.
pub(crate) fn python(executable: &Path, prefix: &Path, release: &str) -> Layout {
    if prefix == Path::new("/usr") {
        return Layout::new(executable, Vec::new());
    }
    let program = Path::new(INTERPRETER_DIR).join("bin").join(format!("python{release}"));
    if is_own(prefix) && prefix.join("bin").join(format!("python{release}")).exists() {
        return Layout::new(program, vec![mount(prefix, Path::new(INTERPRETER_DIR))]);
    }
    let library_dir = Path::new(INTERPRETER_DIR).join("lib");
    let standard = format!("python{release}");
    let mut mounts = vec![
        mount(executable, &program),
        mount(&prefix.join("lib").join(&standard), &library_dir.join(&standard)),
    ];
    mounts.extend(shared_objects(&prefix.join("lib"), &format!("libpython{release}"), &library_dir));
    Layout::new(program, mounts)
}

/// Node's: the program, which carries nearly everything in itself, and `libnode` where it was built with one.
pub(crate) fn node(executable: &Path, prefix: &Path) -> Layout {
    if prefix == Path::new("/usr") {
        return Layout::new(executable, Vec::new());
    }
    let program = Path::new(INTERPRETER_DIR).join("bin/node");
    let mut mounts = vec![mount(executable, &program)];
    mounts.extend(shared_objects(&prefix.join("lib"), "libnode", &Path::new(INTERPRETER_DIR).join("lib")));
    Layout::new(program, mounts)
}

/// Ruby's: the program, `lib/ruby` with its standard library (`libraries` are folders in there), `libruby`.
pub(crate) fn ruby(executable: &Path, prefix: &Path, libraries: &[PathBuf]) -> Layout {
    if prefix == Path::new("/usr") {
        return Layout::new(executable, Vec::new());
    }
    if is_own(prefix) && executable.starts_with(prefix) && !prefix.starts_with("/usr") {
        return Layout::new(executable, vec![mount(prefix, prefix)]);
    }
    let inside = |path: &Path| Path::new(INTERPRETER_DIR).join(path.strip_prefix(prefix).unwrap_or(path));
    let program = Path::new(INTERPRETER_DIR).join("bin/ruby");
    let library = prefix.join("lib/ruby");
    let mut mounts = vec![mount(executable, &program), mount(&library, &inside(&library))];
    mounts.extend(shared_objects(&prefix.join("lib"), "libruby", &Path::new(INTERPRETER_DIR).join("lib")));
    let options = libraries.iter().flat_map(|folder| ["-I".to_owned(), inside(folder).display().to_string()]);
    Layout { options: options.collect(), ..Layout::new(program, mounts) }
}

/// Java's: its whole home, which may lie anywhere.
pub(crate) fn java(home: &Path) -> Layout {
    if home.starts_with("/usr") && !home.starts_with("/usr/local") {
        return Layout::new(home.join("bin/java"), Vec::new());
    }
    let inside = Path::new(INTERPRETER_DIR);
    Layout::new(inside.join("bin/java"), vec![mount(home, inside)])
}

fn mount(source: &Path, target: &Path) -> Mount {
    Mount { source: source.to_owned(), target: target.to_owned() }
}

fn is_own(prefix: &Path) -> bool {
    prefix != Path::new("/") && !SHARED_PREFIXES.iter().any(|shared| prefix == Path::new(shared))
}

/// The shared libraries in `folder` whose name begins so, each under its own name in `target`.
fn shared_objects(folder: &Path, beginning: &str, target: &Path) -> Vec<Mount> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<Mount> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let fits = name.starts_with(beginning) && name.contains(".so");
            // The mount of a link would be a mount of what it leads to, under the link's name: as good as the link.
            fits.then(|| {
                folder.join(&name).canonicalize().ok().map(|real| mount(&real, &target.join(&name)))
            })?
        })
        .collect();
    found.sort_by(|a, b| a.target.cmp(&b.target));
    found.truncate(LIBRARIES);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_interpreter_needs_no_mount() {
        let layout = python(Path::new("/usr/bin/python3.11"), Path::new("/usr"), "3.11");
        assert_eq!((layout.program, layout.mounts), (PathBuf::from("/usr/bin/python3.11"), Vec::new()));
    }

    #[test]
    fn a_prefix_of_its_own_is_mounted_whole_and_a_shared_one_in_parts() {
        let prefix = tempfile::tempdir().unwrap();
        for file in ["bin/python3.12", "lib/python3.12/os.py", "lib/libpython3.12.so.1.0", "lib/libother.so"]
        {
            let file = prefix.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let executable = prefix.path().join("bin/python3.12");
        let own = python(&executable, prefix.path(), "3.12");
        assert_eq!(own.program, PathBuf::from("/var/lang/bin/python3.12"));
        assert_eq!(own.mounts, [mount(prefix.path(), Path::new("/var/lang"))]);

        // Where the prefix lacks the program, it is not this interpreter's alone.
        let parts = python(&executable, prefix.path(), "3.13");
        let targets: Vec<_> = parts.mounts.iter().map(|mount| mount.target.to_str().unwrap()).collect();
        assert_eq!(targets, ["/var/lang/bin/python3.13", "/var/lang/lib/python3.13"]);
        let libraries =
            shared_objects(&prefix.path().join("lib"), "libpython3.12", Path::new("/var/lang/lib"));
        assert_eq!(libraries.len(), 1);
        assert_eq!(libraries[0].target, PathBuf::from("/var/lang/lib/libpython3.12.so.1.0"));
    }

    #[test]
    fn a_ruby_stays_where_it_was_built_for_or_is_told_where_it_lies() {
        let own = ruby(Path::new("/home/me/.rbenv/3.3.5/bin/ruby"), Path::new("/home/me/.rbenv/3.3.5"), &[]);
        assert_eq!(own.program, PathBuf::from("/home/me/.rbenv/3.3.5/bin/ruby"));
        let prefix = Path::new("/home/me/.rbenv/3.3.5");
        assert_eq!((own.mounts, own.options), (vec![mount(prefix, prefix)], Vec::new()));

        let libraries =
            ["/usr/local/lib/ruby/3.3.0", "/usr/local/lib/ruby/3.3.0/x86_64-linux"].map(PathBuf::from);
        let parts = ruby(Path::new("/usr/local/bin/ruby"), Path::new("/usr/local"), &libraries);
        assert_eq!(parts.program, PathBuf::from("/var/lang/bin/ruby"));
        assert_eq!(parts.mounts[1], mount(Path::new("/usr/local/lib/ruby"), Path::new("/var/lang/lib/ruby")));
        assert_eq!(
            parts.options,
            ["-I", "/var/lang/lib/ruby/3.3.0", "-I", "/var/lang/lib/ruby/3.3.0/x86_64-linux"]
        );
    }

    #[test]
    fn a_java_is_where_aws_has_it_unless_it_belongs_to_the_system() {
        let system = java(Path::new("/usr/lib/jvm/java-17"));
        assert_eq!((system.program, system.mounts), ("/usr/lib/jvm/java-17/bin/java".into(), Vec::new()));
        for home in ["/usr/local/openjdk-21", "/home/me/.jdks/temurin-21.0.3"] {
            let own = java(Path::new(home));
            assert_eq!(own.program, PathBuf::from("/var/lang/bin/java"));
            assert_eq!(own.mounts, [mount(Path::new(home), Path::new("/var/lang"))]);
        }
    }

    #[test]
    fn the_usual_shared_prefixes_are_known() {
        assert!(!is_own(Path::new("/usr/local")));
        assert!(is_own(Path::new("/opt/python3.12")));
    }
}
