"""What a server may leave behind: taken down while it runs, looked for after it is gone."""

import os

from harness import host


class Before:
    """The host before a server starts."""

    def __init__(self):
        self.cgroups = host.cgroups()
        self.interfaces = host.interfaces()


class Remains:
    """Everything that belongs to a running server: processes, namespaces, cgroups, mounts, files."""

    def __init__(self, server, before):
        self.data = str(server.data)
        below = host.descendants(server.pid)
        self.at_ticks = host.now_ticks()
        self.processes = {each for each in (host.identity(process) for process in below) if each}
        own = set(host.namespaces(os.getpid()).values()) | host.namespaces_of_others(below + [server.pid])
        self.namespaces = {inode for process in below for inode in host.namespaces(process).values()} - own
        self.cgroups = {group for process in below for group in host.cgroups_of(process)} - before.cgroups
        # Also those that hold no process just now, such as a pool: whatever is new beside the ones found.
        parents = {topmost(group, before.cgroups) for group in self.cgroups}
        self.cgroup_trees = parents
        self.interfaces = host.interfaces() - before.interfaces
        self.pending = None

    def left(self):
        """What of it is still there, by kind; nothing where all is gone."""
        found = {
            "processes": [each for each in self.processes if host.lives(each)],
            "namespaces": sorted(self.namespaces & host.namespaces_of_older(self.at_ticks)),
            "cgroups": sorted(group for group in self.cgroups | self.cgroup_trees if os.path.isdir(group)),
            "mounts": sorted(host.mounts_below(self.data)),
            "interfaces": sorted(self.interfaces & host.interfaces()),
            "loop devices": host.loop_devices(self.data),
        }
        return {kind: what for kind, what in found.items() if what}

    def gone(self):
        """Whether each of them was seen to be gone: the kernel gives the number of a namespace to the next one that anybody makes."""
        left = {(kind, each) for kind, several in self.left().items() for each in several}
        self.pending = left if self.pending is None else self.pending & left
        return not self.pending


def topmost(group, before):
    """The highest folder above a cgroup that was not there before."""
    while os.path.dirname(group) not in before:
        group = os.path.dirname(group)
    return group
