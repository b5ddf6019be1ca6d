//! How an interpreter that was found gets into an environment.
//!
//! | its prefix | inside |
//! |---|---|
//! | `/usr` | where it is: the base root carries `/usr` |
//! | shared with other software (`/usr/local`, …) | only its own files, at `/var/lang` |
//! | its own (pyenv, uv, nvm, `/opt/python`, …) | at `/var/lang`, as on AWS |

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
}

/// Python's: the program, the standard library, `libpython`.
pub(crate) fn python(executable: &Path, prefix: &Path, release: &str) -> Layout {
    if prefix == Path::new("/usr") {
        return Layout { program: executable.to_owned(), mounts: Vec::new() };
    }
    let program = Path::new(INTERPRETER_DIR).join("bin").join(format!("python{release}"));
    if is_own(prefix) && prefix.join("bin").join(format!("python{release}")).exists() {
        return Layout { program, mounts: vec![mount(prefix, Path::new(INTERPRETER_DIR))] };
    }
    let library_dir = Path::new(INTERPRETER_DIR).join("lib");
    let standard = format!("python{release}");
    let mut mounts = vec![
        mount(executable, &program),
        mount(&prefix.join("lib").join(&standard), &library_dir.join(&standard)),
    ];
    mounts.extend(libraries(&prefix.join("lib"), &format!("libpython{release}"), &library_dir));
    Layout { program, mounts }
}

/// Node's: the program, which carries nearly everything in itself, and `libnode` where it was built with one.
pub(crate) fn node(executable: &Path, prefix: &Path) -> Layout {
    if prefix == Path::new("/usr") {
        return Layout { program: executable.to_owned(), mounts: Vec::new() };
    }
    let program = Path::new(INTERPRETER_DIR).join("bin/node");
    let mut mounts = vec![mount(executable, &program)];
    mounts.extend(libraries(&prefix.join("lib"), "libnode", &Path::new(INTERPRETER_DIR).join("lib")));
    Layout { program, mounts }
}

fn mount(source: &Path, target: &Path) -> Mount {
    Mount { source: source.to_owned(), target: target.to_owned() }
}

fn is_own(prefix: &Path) -> bool {
    prefix != Path::new("/") && !SHARED_PREFIXES.iter().any(|shared| prefix == Path::new(shared))
}

/// The shared libraries in `folder` whose name begins so, each under its own name in `target`.
fn libraries(folder: &Path, beginning: &str, target: &Path) -> Vec<Mount> {
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
        let libraries = libraries(&prefix.path().join("lib"), "libpython3.12", Path::new("/var/lang/lib"));
        assert_eq!(libraries.len(), 1);
        assert_eq!(libraries[0].target, PathBuf::from("/var/lang/lib/libpython3.12.so.1.0"));
    }

    #[test]
    fn the_usual_shared_prefixes_are_known() {
        assert!(!is_own(Path::new("/usr/local")));
        assert!(is_own(Path::new("/opt/python3.12")));
    }
}
