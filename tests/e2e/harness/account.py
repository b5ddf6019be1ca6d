"""An ordinary user: a home, a copy of the program that he may run, and how to run things as him."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from harness import server as servers

#: A user and a group that no host has.
USER = 54_321


class Account:
    """A user without a name, a range of ids or a cgroup; or whoever runs the tests, if that is not root. A context manager."""

    def __enter__(self):
        self.home = Path(tempfile.mkdtemp(prefix="freehold-user-"))
        self.identity, self.number = {}, os.geteuid()
        if self.number == 0:
            self.identity, self.number = {"user": USER, "group": USER, "extra_groups": []}, USER
            os.chown(self.home, USER, USER)
        # The build may lie where only root can go.
        self.program = str(self.home / "freehold")
        shutil.copy(servers.binary(), self.program)
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.home)}
        if folders := os.environ.get("FREEHOLD_RUNTIME_FOLDERS"):
            self.environment["FREEHOLD_RUNTIME_FOLDERS"] = folders
        return self

    def run(self, *arguments, timeout_s=60):
        """Runs `freehold ARGUMENTS…` as this user: the completed process, text out."""
        return subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s,
                              cwd="/", env=self.environment, check=False, **self.identity)

    def sleeper(self, mark, secret):
        """A process of the user's, with a secret in its environment."""
        return subprocess.Popen(["/usr/bin/python3", "-c", "import time; time.sleep(3600)", mark], env={"SECRET": secret},
                                stdin=subprocess.DEVNULL, cwd="/", **self.identity)

    def folder(self, name):
        """A new folder in the home, his own."""
        folder = self.home / name
        folder.mkdir(mode=0o700)
        os.chown(folder, self.number, -1)
        return folder

    def findings(self):
        """What `doctor` says to this user, by name."""
        return {row["name"]: row for row in json.loads(self.run("doctor", "--json").stdout)}

    def newest(self, family):
        """The newest runtime that this user may use, such as python3.12 of `python3.`; or nothing."""
        rows = json.loads(self.run("runtimes", "--json").stdout)
        found = [row["id"] for row in rows if row["installed"] and row["id"].startswith(family)]
        return max(found, key=lambda each: int(each.removeprefix(family).removesuffix(".x")), default=None)

    def __exit__(self, *_):
        shutil.rmtree(self.home, ignore_errors=True)
