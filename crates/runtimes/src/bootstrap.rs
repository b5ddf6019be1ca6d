//! The bootstraps: programs of ours, kept in this crate's `bootstraps` folder, that speak the Runtime API inside an
//! environment. They are part of the binary, so that there is nothing to install and no version to mismatch.

use std::path::{Path, PathBuf};

use crate::launch::RUNTIME_DIR;

/// Python's, by module name; the first is the program. The probe turns them into bytecode, which saves the interpreter
/// a few milliseconds at each start ([`crate::find`]).
pub(crate) const PYTHON: [(&str, &str); 4] = [
    ("bootstrap", include_str!("../bootstraps/python/bootstrap.py")),
    ("freehold_faults", include_str!("../bootstraps/python/freehold_faults.py")),
    ("freehold_json", include_str!("../bootstraps/python/freehold_json.py")),
    ("freehold_logging", include_str!("../bootstraps/python/freehold_logging.py")),
];

/// Node's, by file name; the first is the program.
const NODE: [(&str, &str); 5] = [
    ("bootstrap.cjs", include_str!("../bootstraps/node/bootstrap.cjs")),
    ("client.cjs", include_str!("../bootstraps/node/client.cjs")),
    ("console.cjs", include_str!("../bootstraps/node/console.cjs")),
    ("errors.cjs", include_str!("../bootstraps/node/errors.cjs")),
    ("loader.cjs", include_str!("../bootstraps/node/loader.cjs")),
];

/// Where a file of the bootstrap lies inside.
pub(crate) fn inside(file_name: &str) -> PathBuf {
    Path::new(RUNTIME_DIR).join(file_name)
}

/// The files of Node's bootstrap, the program first.
pub(crate) fn node_files() -> Vec<(PathBuf, Vec<u8>)> {
    NODE.iter().map(|(name, source)| (inside(name), source.as_bytes().to_vec())).collect()
}
