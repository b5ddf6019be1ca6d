//! The bootstraps: programs of ours, kept in this crate's `bootstraps` folder, that speak the Runtime API inside an
//! environment. They are part of the binary, so that there is nothing to install and no version to mismatch.

use std::path::{Path, PathBuf};

use crate::launch::RUNTIME_DIR;

/// Python's, by module name; the first is the program. The probe turns them into bytecode, which saves the interpreter
/// a few milliseconds at each start (module `find`).
pub(crate) const PYTHON: [(&str, &str); 6] = [
    ("bootstrap", include_str!("../bootstraps/python/bootstrap.py")),
    ("freehold_faults", include_str!("../bootstraps/python/freehold_faults.py")),
    ("freehold_gate", include_str!("../bootstraps/python/freehold_gate.py")),
    ("freehold_json", include_str!("../bootstraps/python/freehold_json.py")),
    ("freehold_logging", include_str!("../bootstraps/python/freehold_logging.py")),
    ("snapshot_restore_py", include_str!("../bootstraps/python/snapshot_restore_py.py")),
];

/// Node's, by file name; each may require those above it.
const NODE: [(&str, &str); 7] = [
    ("./errors.cjs", include_str!("../bootstraps/node/errors.cjs")),
    ("./client.cjs", include_str!("../bootstraps/node/client.cjs")),
    ("./console.cjs", include_str!("../bootstraps/node/console.cjs")),
    ("./paths.cjs", include_str!("../bootstraps/node/paths.cjs")),
    ("./loader.cjs", include_str!("../bootstraps/node/loader.cjs")),
    ("./store.cjs", include_str!("../bootstraps/node/store.cjs")),
    ("./bootstrap.cjs", include_str!("../bootstraps/node/bootstrap.cjs")),
];

/// Ruby's.
const RUBY: &str = include_str!("../bootstraps/ruby/bootstrap.rb");

/// Where a file of the bootstrap lies inside.
pub(crate) fn inside(file_name: &str) -> PathBuf {
    Path::new(RUNTIME_DIR).join(file_name)
}

/// What stands in for `require` inside the one file: its own parts first.
const BUNDLE_START: &str = "'use strict';
const parts = { __proto__: null };
function part(name) {
  return parts[name] ?? require(name);
}
part.resolve = require.resolve;
";

/// Node's bootstrap as one file: finding and reading five costs it a millisecond at each start.
pub(crate) fn node_files() -> Vec<(PathBuf, Vec<u8>)> {
    let mut whole = BUNDLE_START.to_owned();
    for (name, source) in NODE {
        whole += &format!("((exports, require) => {{\n{source}}})((parts['{name}'] = {{}}), part);\n");
    }
    vec![(inside("bootstrap.cjs"), whole.into_bytes())]
}

/// Ruby's bootstrap, one file.
pub(crate) fn ruby_files() -> Vec<(PathBuf, Vec<u8>)> {
    vec![(inside("bootstrap.rb"), RUBY.as_bytes().to_vec())]
}
