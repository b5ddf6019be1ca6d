"""AWS's own runtime interface clients, from the registries, and the packages in which functions run on them.

- Python: `awslambdaric` in a custom runtime (`provided.al2023`) whose `bootstrap` starts the host's own interpreter. Where that
  does not lie in `/usr`, which is all that a custom runtime sees of the host, the managed runtime's wrapper script starts it.
- Node.js: the client's JavaScript, started by the wrapper script on the same interpreter (which is too large for a package).
  Its native part, which needs a C++ compiler and cmake, only speaks HTTP: `rapid-client.cjs` stands in for it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from harness import functions

HERE = Path(__file__).parent
CACHE = HERE.parents[2] / "target" / "manners"
PYTHON_CLIENT = "awslambdaric==4.2.2"
#: The client of AWS's runtimes up to nodejs22.x, and the one from nodejs24.x on.
NODE_CLIENTS = {"nodejs20.x": "3.3.0", "nodejs22.x": "3.3.0", "nodejs24.x": "4.0.2"}
INSTALL_DEADLINE_S = 300
WRAPPER = "/var/task/aws-client"

PYTHON_BOOTSTRAP = """#!/bin/sh
# What AWS's image for Python sets and a custom runtime has not.
export AWS_EXECUTION_ENV=AWS_Lambda_{runtime}
case $PATH in /usr/local/bin:*) export PATH=/var/lang/bin:$PATH;; esac
case $LD_LIBRARY_PATH in /lib64:*) export LD_LIBRARY_PATH=/var/lang/lib:$LD_LIBRARY_PATH;; esac
export SHLVL=0 PYTHONPATH=/var/task/aws
exec {program} -B -m awslambdaric "$_HANDLER"
"""
PYTHON_WRAPPER = """#!/bin/sh
export PYTHONPATH=/var/task/aws
exec "$1" -B -m awslambdaric "$_HANDLER"
"""
NODE_WRAPPER = """#!/bin/sh
# Everything but the last argument, which is our own client.
program=$1; shift
flags=
while [ $# -gt 1 ]; do flags="$flags $1"; shift; done
exec "$program" $flags --require /var/task/aws/rapid-client.cjs /var/task/aws/run.mjs
"""
#: What AWS's images start up to nodejs22.x; the later client starts itself.
NODE_MAIN = "import { run } from './index.mjs';\nawait run(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);\n"
NODE_MAIN_24 = "import './index.mjs';\n"


class Unavailable(Exception):
    """The client cannot be had here."""


def run(*command, cwd=None):
    """Runs a command of a package manager."""
    try:
        subprocess.run(command, check=True, capture_output=True, cwd=cwd, timeout=INSTALL_DEADLINE_S)
    except (OSError, subprocess.SubprocessError) as problem:
        output = getattr(problem, "stderr", b"") or b""
        raise Unavailable(f"{problem}: {output.decode(errors='replace')[-500:]}") from problem


def ready(folder, make):
    """A folder in the cache, made whole or not at all."""
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        make(unfinished)
        unfinished.rename(folder)
    return folder


def python_client(runtime):
    """The folder with AWS's client and what it needs, for this Python."""
    release = runtime.removeprefix("python")
    return ready(CACHE / f"{PYTHON_CLIENT.replace('==', '-')}-{runtime}", lambda folder: run(
        sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:",
        "--python-version", release, "--target", folder, PYTHON_CLIENT))


def npm():
    """The command of npm: the host's, or the one that lies beside a Node.js of the tests."""
    if shutil.which("npm"):
        return ["npm"]
    for folder in os.environ.get("FREEHOLD_RUNTIME_FOLDERS", "").split(os.pathsep):
        program = Path(folder).parent / "lib/node_modules/npm/bin/npm-cli.js"
        if folder and program.exists():
            return [Path(folder) / "node", program]
    raise Unavailable("there is no npm")


def node_client(runtime):
    """The folder with the JavaScript of AWS's client."""
    version = NODE_CLIENTS[runtime]

    def make(folder):
        run(*npm(), "pack", "--silent", f"aws-lambda-ric@{version}", cwd=folder)
        run("tar", "xzf", next(folder.glob("*.tgz")), cwd=folder)

    return ready(CACHE / f"aws-lambda-ric-{version}", make) / "package"


def tree(folder, prefix=""):
    """The files of a folder by their path in a package."""
    return {prefix + path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts}


class Package:
    """The case functions of one runtime with AWS's client beside them, and how a function runs on either."""

    def __init__(self, runtime, executable):
        self.runtime, self.custom = runtime, False
        if runtime.startswith("python"):
            files = tree(HERE / "python") | tree(python_client(runtime), "aws/")
            self.custom = Path(executable).parent == Path("/usr/bin")
            if self.custom:
                files["bootstrap"] = PYTHON_BOOTSTRAP.format(runtime=runtime, program=executable)
            files["aws-client"] = PYTHON_WRAPPER
        else:
            client = node_client(runtime)
            index = client / "dist/index.mjs" if (client / "dist/index.mjs").exists() else client / "index.mjs"
            main = NODE_MAIN if index.parent.name == "dist" else NODE_MAIN_24
            files = tree(HERE / "node") | {
                "aws/index.mjs": index.read_bytes(), "aws/run.mjs": main, "aws/rapid-client.node": "",
                "aws/rapid-client.cjs": (HERE / "stand-in/rapid-client.cjs").read_bytes(), "aws-client": NODE_WRAPPER}
        files["exec-wrapper"] = (HERE / "exec-wrapper.sh").read_bytes()
        executables = {"aws-client": 0o755, "exec-wrapper": 0o755}
        self.zip = functions.zip_of(files, executables)

    def ours(self, client, name, handler, **settings):
        """The function on our client."""
        return functions.create(client, name, self.runtime, handler, self.zip, **settings)

    def theirs(self, client, name, handler, **settings):
        """The function on AWS's."""
        if self.custom:
            return functions.create(client, name, "provided.al2023", handler, self.zip, **settings)
        variables = settings.pop("Environment", {}).get("Variables", {}) | {"AWS_LAMBDA_EXEC_WRAPPER": WRAPPER}
        return functions.create(client, name, self.runtime, handler, self.zip, Environment={"Variables": variables}, **settings)
