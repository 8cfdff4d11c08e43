"""All network namespaces of the machine, whoever made them and whatever keeps them alive.

A namespace lives by a process in it, a mount of its file, or an open file. All three are
looked through, and each namespace is listed once, by the best name that leads to it.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from linkspan.errors import LinkspanError
from linkspan.kernel import namespaces
from linkspan.kernel.descriptors import OpenFiles, read_open_files

FOLDERS: Final = (
    "/run/netns",  # ip netns, CNI, containerd, rootful Podman
    "/run/docker/netns",
    "/run/linkspan/netns",
    "/run/user/*/netns",  # rootless Podman
)
"""Where programs keep their namespaces; a star stands for any one name."""

_OWN = "/proc/thread-self/ns/net"
_LINK = "net:["


class FoundNamespace(msgspec.Struct, frozen=True, kw_only=True):
    """A network namespace and a file that leads to it.

    `identity` is (device, inode): equal exactly for the same living namespace. `kind` says
    what `path` is: "named" (a file in one of the known folders), "mount" (a file elsewhere),
    "process" (/proc/PID/ns/net) or "open-file" (/proc/PID/fd/N). `pids` are the processes
    in it, lowest first, also when it has a name.
    """

    path: str
    identity: tuple[int, int]
    kind: str
    pids: tuple[int, ...] = ()


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What a look over the machine gave.

    `unseen` says in a sentence each what could not be looked at; `files` is who holds which
    socket, for the listeners of an observation right after it.
    """

    namespaces: tuple[FoundNamespace, ...]
    unseen: tuple[str, ...] = ()
    files: OpenFiles


def find_namespaces(folders: Iterable[str] = FOLDERS) -> list[FoundNamespace]:
    """All network namespaces of the machine, once each, one's own among them."""
    return list(look_over(folders).namespaces)


def look_over(folders: Iterable[str] = FOLDERS) -> Machine:
    """All network namespaces of the machine, and what could not be seen of it.

    The order is that of the kinds in FoundNamespace. A namespace that goes meanwhile may be
    listed: who opens its path finds nothing.
    """
    device, own = _identify(_OWN)
    processes = _Processes()
    mounts = _Mounts(processes.mount_holders(own))
    found: dict[int, tuple[str, str]] = {}
    for path in _files_in(folders):
        inode = _inode_of(path, device, mounts)
        if inode is not None:
            found.setdefault(inode, (path, "named"))
    for path, inode in mounts.elsewhere():
        found.setdefault(inode, (path, "mount"))
    for inode, pids in processes.inside.items():
        found.setdefault(inode, (f"/proc/{pids[0]}/ns/net", "process"))
    files = read_open_files()
    for inode, holders in files.namespaces.items():
        pid, descriptor = holders[0]
        found.setdefault(inode, (f"/proc/{pid}/fd/{descriptor}", "open-file"))
    return Machine(
        namespaces=tuple(
            FoundNamespace(
                path=path, identity=(device, inode), kind=kind,
                pids=tuple(processes.inside.get(inode, ())),
            )
            for inode, (path, kind) in found.items()
        ),
        unseen=tuple(_complaints(processes.unreadable, files.unreadable)),
        files=files,
    )  # fmt: skip


def _complaints(unseen: int, closed: int) -> Iterator[str]:
    way_out = "run as root" if os.geteuid() else "even root may not look into them here"
    if unseen:
        yield (
            f"the network namespaces of {unseen} process{'es' if unseen > 1 else ''} could not "
            f"be seen: {way_out}"
        )
    if closed:
        yield (
            f"the open files of {closed} process{'es' if closed > 1 else ''} could not be seen, "
            f"so sockets may lack their processes: {way_out}"
        )


class _Processes:
    """Which process is in which network namespace."""

    def __init__(self) -> None:
        self.inside: dict[int, list[int]] = {}
        self.unreadable = 0
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
        for pid in pids:
            try:
                target = os.readlink(f"/proc/{pid}/ns/net")
            except PermissionError:
                self.unreadable += 1
            except OSError:
                continue
            else:
                if target.startswith(_LINK):
                    self.inside.setdefault(int(target[len(_LINK) : -1]), []).append(pid)

    def mount_holders(self, own: int) -> list[int]:
        """One process a mount namespace, of those that are in the network namespace `own`.

        Services that make namespaces are in the host's network; those that run apart, as
        systemd can have it, keep their mounts to themselves.
        """
        chosen: dict[str, int] = {}
        for pid in self.inside.get(own, ()):
            try:
                chosen.setdefault(os.readlink(f"/proc/{pid}/ns/mnt"), pid)
            except OSError:
                continue
        return list(chosen.values())


class _Mounts:
    """Files that namespaces are mounted on, as our own and others' mount tables show them."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.own = dict(_mounted("self"))
        self._others: list[tuple[str, int]] = []
        for pid in pids:
            root = f"/proc/{pid}/root"
            self._others += [(root + path, inode) for path, inode in _mounted(str(pid))]

    def elsewhere(self) -> Iterator[tuple[str, int]]:
        """(path, inode) of all, our own table's first."""
        yield from self.own.items()
        yield from self._others


def _mounted(process: str) -> Iterator[tuple[str, int]]:
    """Where a process's mount table has network namespaces (proc_pid_mountinfo(5))."""
    try:
        with open(f"/proc/{process}/mountinfo", errors="surrogateescape") as file:
            text = file.read()
    except OSError:
        return
    if _LINK not in text:
        return
    for line in text.splitlines():
        fields = line.split(" ", 5)
        if len(fields) == 6 and fields[3].startswith(_LINK):
            yield _unescaped(fields[4]), int(fields[3][len(_LINK) : -1])


def _unescaped(path: str) -> str:
    if "\\" not in path:
        return path
    for octal in ("040", "011", "012", "134"):
        path = path.replace(f"\\{octal}", chr(int(octal, 8)))
    return path


def _files_in(folders: Iterable[str]) -> Iterator[str]:
    for pattern in folders:
        for folder in sorted(glob.glob(pattern)) if "*" in pattern else (pattern,):
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                continue
            for name in names:
                yield os.path.join(folder, name)


def _inode_of(path: str, device: int, mounts: _Mounts) -> int | None:
    """The namespace that a file holds, None when it holds none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if status.st_dev != device:
        return None
    if mounts.own.get(path) == status.st_ino:
        return status.st_ino
    try:
        with namespaces.opened(path) as descriptor:
            return namespaces.identity(descriptor)
    except LinkspanError:
        return None


def _identify(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
