//! What the tests need of the machine: a few Debian packages, and a Python virtual environment in `target/`. Only what
//! is missing is installed, so that a second run costs nothing.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run;

/// Debian packages and the program by which each is recognised.
const PACKAGES: &[(&str, &str)] = &[
    ("python3", "/usr/bin/python3"),
    ("python3-venv", "/usr/share/doc/python3-venv"),
    ("curl", "/usr/bin/curl"),
    ("zip", "/usr/bin/zip"),
    ("gcc", "/usr/bin/gcc"),
    ("ca-certificates", "/etc/ssl/certs/ca-certificates.crt"),
];

/// Installs the Debian packages that are missing. Needs root only if one is.
pub(crate) fn install_packages() -> Result<()> {
    let missing: Vec<&str> =
        PACKAGES.iter().filter(|(_, sign)| !PathBuf::from(sign).exists()).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    let apt = |arguments: &[&str]| {
        let mut command = run::command("apt-get", arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        run::checked(&mut command)
    };
    let advice = || format!("the tests need Debian's packages {}: install them as root", missing.join(" "));
    apt(&["update", "-q"]).with_context(advice)?;
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(&missing);
    apt(&arguments).with_context(advice)
}

/// The virtual environment's Python, with the packages of `tests/e2e/requirements.txt` in it.
pub(crate) fn python() -> Result<PathBuf> {
    let folder = run::root().join("target/venv");
    let python = folder.join("bin/python");
    let requirements = run::root().join("tests/e2e/requirements.txt");
    let wanted = fs::read(&requirements).context("cannot read tests/e2e/requirements.txt")?;
    let stamp = folder.join("installed.txt");
    if python.exists() && fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let system = ["/usr/bin/python3", "python3"].into_iter().find(|program| has_venv(program));
    let Some(system) = system else { bail!("no Python 3 with the venv module was found") };
    run::checked(&mut run::command(system, &["-m", "venv", "--clear", &folder.to_string_lossy()]))?;
    let arguments =
        ["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", &requirements.to_string_lossy()];
    run::checked(&mut run::command(&python, &arguments))?;
    fs::write(stamp, wanted)?;
    Ok(python)
}

fn has_venv(program: &str) -> bool {
    let mut command = Command::new(program);
    command.args(["-c", "import venv, ensurepip"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
