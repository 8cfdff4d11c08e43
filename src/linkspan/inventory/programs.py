"""The programs that watch over containers, and what control groups say of processes.

Both outlive the daemons that started them: containerd's shims and conmon have the ids of their
containers in their arguments, and a container's processes have it in the names of their groups.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from linkspan.inventory.sightings import Sighting

_WATCHERS = ("containerd-shim", "conmon")

# Names of groups as systemd's and cgroupfs's drivers make them: docker-ID.scope, docker/ID,
# libpod-ID.scope, cri-containerd-ID.scope, crio-ID.scope, kubepods/.../ID.
_GROUPS = (
    ("docker", re.compile(r"/docker[-/]([0-9a-f]{64})(?:\.scope)?(?:/|$)")),
    ("podman", re.compile(r"/libpod-([0-9a-f]{64})(?:\.scope)?(?:/|$)")),
    ("containerd", re.compile(r"/cri-containerd-([0-9a-f]{64})(?:\.scope)?(?:/|$)")),
    ("cri-o", re.compile(r"/crio-([0-9a-f]{64})(?:\.scope)?(?:/|$)")),
    ("containerd", re.compile(r"/kubepods[^:]*/([0-9a-f]{64})(?:/|$)")),
)
_NAMED_GROUPS = (
    ("lxc", re.compile(r"/lxc(?:\.payload)?[./]([^/:]+)")),
    ("machine", re.compile(r"/machine-([^/:]+)\.scope")),
)


class Program(NamedTuple):
    """A process by its number and its arguments."""

    pid: int
    arguments: tuple[str, ...]

    def option(self, *names: str) -> str:
        """The word after the first of some options, "" when there is none."""
        for place, word in enumerate(self.arguments[:-1]):
            if word in names:
                return self.arguments[place + 1]
        return ""

    def options(self, name: str) -> list[str]:
        """The words after every occurrence of an option."""
        words = self.arguments
        return [words[place + 1] for place, word in enumerate(words[:-1]) if word == name]

    def inside(self, path: str) -> str:
        """A path as this process sees it: it may have a file system of its own."""
        return f"/proc/{self.pid}/root{path}"


def find_watchers() -> list[Program]:
    """The shims of containerd and the conmons that run now."""
    found = []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        try:
            with open(f"/proc/{pid}/comm") as file:
                if not file.read(32).startswith(_WATCHERS):
                    continue
            with open(f"/proc/{pid}/cmdline", "rb") as data:
                words = data.read(1 << 16).decode(errors="replace").split("\0")
        except OSError:
            continue
        if words != [""]:
            found.append(Program(pid, tuple(words[:-1])))
    return found


def find_groups(pids: Iterable[int]) -> Iterator[Sighting]:
    """Containers by the control groups of processes: an id or a name, and the process."""
    seen: set[str] = set()
    for pid in pids:
        try:
            with open(f"/proc/{pid}/cgroup") as file:
                groups = file.read(1 << 16)
        except OSError:
            continue
        sighting = None if len(groups) < 8 else read_groups(groups, pid)
        if sighting is not None and (sighting.id or sighting.name) not in seen:
            seen.add(sighting.id or sighting.name)
            yield sighting


def read_groups(groups: str, pid: int) -> Sighting | None:
    """What the text of /proc/PID/cgroup says about a process's container, if anything."""
    for runtime, pattern in _GROUPS:
        found = pattern.search(groups.replace("\n", "/\n"))
        if found is not None:
            return Sighting(runtime=runtime, id=found[1], pid=pid)
    for runtime, pattern in _NAMED_GROUPS:
        found = pattern.search(groups)
        if found is not None:
            return Sighting(runtime=runtime, name=found[1].replace("\\x2d", "-"), pid=pid)
    return None
