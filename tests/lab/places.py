"""Where something happens: a network namespace, by record, name, path or process id."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

NAMED = Path("/run/netns")
CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Namespace:
    """A named network namespace. `word` is what the test calls it, `name` is unique here."""

    word: str
    name: str

    @property
    def path(self) -> str:
        """Its file, for `nsenter --net=` and for the API's `netns`."""
        return str(NAMED / self.name)

    def __str__(self) -> str:
        return self.name


Place: TypeAlias = Namespace | Path | str | int
"""A namespace: the record, a path, a name under /run/netns, or the id of a process inside it."""


def path_of(place: Place) -> str:
    """The file of a namespace, whichever way it was named."""
    match place:
        case Namespace():
            return place.path
        case int():
            return f"/proc/{place}/ns/net"
        case _:
            text = str(place)
            return text if "/" in text else str(NAMED / text)


def identity_of(place: Place) -> tuple[int, int]:
    """Device and inode, which are the same for every path that leads to one namespace."""
    status = os.stat(path_of(place))
    return status.st_dev, status.st_ino


def run_ip(*arguments: str) -> None:
    """Run iproute2 and fail with its own words."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise AssertionError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def add_namespace(name: str) -> None:
    """Create a named namespace with its loopback up."""
    run_ip("netns", "add", name)
    run_ip("-n", name, "link", "set", "lo", "up")


def delete_namespace(name: str) -> None:
    """Remove the name; the kernel frees the namespace when nothing holds it any more."""
    if (NAMED / name).exists():
        run_ip("netns", "delete", name)


def open_socket(
    place: Place,
    family: int = socket.AF_INET,
    kind: int = socket.SOCK_STREAM,
    protocol: int = 0,
) -> socket.socket:
    """Open a socket that belongs to another namespace; any thread may use it afterwards.

    A socket stays in the namespace it was opened in, so only a short-lived thread enters.
    """
    opened: list[socket.socket] = []
    failure: list[OSError] = []

    def enter_and_open() -> None:
        try:
            descriptor = os.open(path_of(place), os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), path_of(place))
            finally:
                os.close(descriptor)
            opened.append(socket.socket(family, kind, protocol))
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=enter_and_open, name="lab-setns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return opened[0]


def processes_in(identities: set[tuple[int, int]]) -> Iterator[int]:
    """Ids of the processes whose network namespace is one of these, this process excepted."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                found = identity_of(int(entry.name))
            except OSError:  # ended meanwhile, or a kernel thread
                continue
            if found in identities:
                yield int(entry.name)


def mounts_under(directory: Path) -> list[str]:
    """Mount points below a directory, deepest and youngest first."""
    found: list[str] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # Field 5 is the mount point; proc_pid_mountinfo(5): blanks are written in octal.
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split(" ")[4])
        if Path(point) == directory or directory in Path(point).parents:
            found.append(point)
    return found[::-1]
