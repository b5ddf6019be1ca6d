"""Runs one attack: as the function's handler inside, or as a positive control on the host.

    python -m attacks.run files.read_host_files root < target.json
"""

import ctypes
import importlib
import json
import os
import pty
import sys

from attacks.kernel import set_name

NOBODY = 65534


events = 0


def handler(event, context):
    """The Lambda handler: the event names the attack and carries its target. An attack may be the end of it: its place comes first."""
    global events
    events += 1
    told = {"place": place()}
    print("RUNG " + json.dumps(told["place"]), flush=True)
    if event["attack"] is None:
        set_name(event["name"])
        return told
    return find(event["attack"])(event["target"]) | told


def place():
    """By which rung of the start ladder this environment came to be, as far as it can tell itself."""
    return {"program": os.readlink("/proc/self/exe"), "began": os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE"), "events": events}


def find(name):
    """The attack called `module.function`."""
    module, function = name.split(".")
    return getattr(importlib.import_module(f"attacks.{module}"), function)


def control(name, mode, target):
    """Runs an attack outside, in the surroundings that its control asks for."""
    attack = find(name)  # imported before the surroundings change
    if mode == "jail":
        os.chroot(target["jail"])
        os.chdir("/")
    elif mode == "nobody":
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    elif mode == "descriptors":
        for path in ("/", "/proc/self/ns/mnt"):
            os.set_inheritable(os.open(path, os.O_RDONLY), True)
    elif mode == "terminal":
        return in_terminal(attack, target)
    return attack(target)


def in_terminal(attack, target):
    """Runs an attack with a controlling terminal."""
    reading, writing = os.pipe()
    child, terminal = pty.fork()
    if child == 0:
        os.write(writing, json.dumps(attack(target)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(child, 0)
    os.close(terminal)
    return answer


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG: a control never outlives its test
    print("\n" + json.dumps(control(sys.argv[1], sys.argv[2], json.load(sys.stdin))), flush=True)
