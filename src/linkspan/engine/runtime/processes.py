"""Recognising, signalling and awaiting processes, safe against reused process ids.

A number read from a file means nothing by itself: its process may be long gone, and the number
another's, as after a reboot. Each check opens a pidfd first and then asks who it is, so what was
recognised is what the pidfd refers to.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path

from linkspan.engine.runtime.bundle import cgroup_of


def read_number(path: Path) -> int | None:
    """The decimal number that a file holds; None if there is none (yet)."""
    try:
        text = path.read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return int(text) if text.isdecimal() else None


def open_process(pid: int | None, recognise: Callable[[int], bool]) -> int | None:
    """A pidfd of a living process that `recognise` knows by its number, else None.

    The caller closes it.
    """
    if not pid:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        return None
    if recognise(pid) and not has_ended(pidfd):
        return pidfd
    os.close(pidfd)
    return None


def is_alive(pid: int | None, recognise: Callable[[int], bool]) -> bool:
    """Whether the process lives and is the one that is meant."""
    pidfd = open_process(pid, recognise)
    if pidfd is not None:
        os.close(pidfd)
    return pidfd is not None


def has_ended(pidfd: int) -> bool:
    """Whether the process is gone, or only waits for its parent to read its status."""
    return bool(select.select([pidfd], [], [], 0)[0])


def is_conmon_of(bundle: Path) -> Callable[[int], bool]:
    """Recognises the conmon that was started for this bundle, by its arguments."""
    wanted = b"\0-b\0" + os.fsencode(bundle) + b"\0"

    def recognise(pid: int) -> bool:
        return wanted in read_proc(pid, "cmdline")

    return recognise


def find_conmons(bundle: Path) -> list[int]:
    """The conmons of a bundle: the one it names, else all that were started for it.

    A conmon that has just been started is two processes, and neither has left its number yet.
    """
    recognise = is_conmon_of(bundle)
    pid = read_number(bundle / "conmon.pid")
    if pid is not None:
        return [pid] if is_alive(pid, recognise) else []
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and recognise(int(name))]


def is_process_of(id: str, conmon_pid: int | None) -> Callable[[int], bool]:
    """Recognises a container's first process: a child of its conmon, or a member of its cgroup.

    `conmon_pid` must be that of a recognised conmon, or None.
    """
    cgroup = os.fsencode(cgroup_of(id))

    def recognise(pid: int) -> bool:
        if conmon_pid is not None and read_parent(pid) == conmon_pid:
            return True
        return any(line.endswith(cgroup) for line in read_proc(pid, "cgroup").splitlines())

    return recognise


def read_parent(pid: int) -> int | None:
    """The parent of a process; None if it is gone."""
    for line in read_proc(pid, "status").splitlines():
        if line.startswith(b"PPid:"):
            return int(line.split()[1])
    return None


def read_proc(pid: int, name: str) -> bytes:
    """A file of /proc/<pid>; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def find_descendants(pid: int) -> list[int]:
    """The children of a process, and theirs, as far as the kernel shows them (proc(5))."""
    found = []
    for task in read_tasks(pid):
        for child in map(int, read_proc(pid, f"task/{task}/children").split()):
            found += [child, *find_descendants(child)]
    return found


def read_tasks(pid: int) -> list[str]:
    """The thread ids of a process; none if it is gone."""
    try:
        return os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return []


def send_signal(pidfd: int, number: int) -> bool:
    """Signal a process; False if it is gone."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


async def wait_for_end(pidfd: int) -> None:
    """Return when the process has ended. Takes over the pidfd, and closes it."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def report() -> None:
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(pidfd, report)
    try:
        await ended
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def wait_until_ended(pidfd: int, seconds: float) -> bool:
    """The same for a thread; False if the time is up first. Does not close the pidfd."""
    return bool(select.select([pidfd], [], [], seconds)[0])
