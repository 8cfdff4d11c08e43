"""Reading what a container wrote, from the log that conmon keeps.

One line a chunk: time, stream, `F` for a full line or `P` for a part of one, and the bytes
(Kubernetes' CRI logging format, which conmon calls k8s-file). When the log has reached its size
conmon starts it afresh, under the same name.
"""

from __future__ import annotations

import asyncio
import calendar
import contextlib
import ctypes
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec

from linkspan.engine.runtime.paths import ContainerPaths
from linkspan.engine.runtime.processes import is_conmon_of, open_process
from linkspan.engine.runtime.spec import ContainerState
from linkspan.errors import KernelRefused

ENTRY = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})(?:Z|([+-])(\d\d):(\d+)) (stdout|stderr) ([FP]) "
)
IN_MODIFY, IN_MOVED_TO = 0x2, 0x80
IN_NONBLOCK, IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
"""include/uapi/linux/inotify.h"""

_libc = ctypes.CDLL(None, use_errno=True)


class LogEntry(msgspec.Struct, frozen=True):
    """What a program wrote at once: a line with its newline, or a part of one without.

    `time` is in nanoseconds since 1970 UTC, `stream` is `stdout` or `stderr`.
    """

    time: int
    stream: str
    data: bytes


def parse_entry(line: bytes) -> LogEntry | None:
    """An entry from a line of the log without its newline; None if it is not one."""
    match = ENTRY.match(line)
    if match is None:
        return None
    moment, nanoseconds, sign, hours, minutes, stream, kind = match.groups()
    seconds = calendar.timegm(time.strptime(moment.decode(), "%Y-%m-%dT%H:%M:%S"))
    if sign:
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds -= offset if sign == b"+" else -offset
    data = line[match.end() :] + (b"\n" if kind == b"F" else b"")
    return LogEntry(seconds * 10**9 + int(nanoseconds), stream.decode(), data)


class LogReader:
    """Reads a log as it grows, and goes on in the new one when conmon starts it afresh."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: int | None = None
        self.rest = b""

    def read(self) -> Iterator[LogEntry]:
        """The entries that were written since the last call."""
        while True:
            if self.file is None:
                try:
                    self.file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    return
            newer = self._was_replaced()  # asked before the last read: nothing comes after it
            while part := os.read(self.file, 1 << 16):
                *lines, self.rest = (self.rest + part).split(b"\n")
                yield from filter(None, map(parse_entry, lines))
            if not newer:
                return
            self.close()

    def _was_replaced(self) -> bool:
        assert self.file is not None
        try:
            return os.stat(self.path).st_ino != os.fstat(self.file).st_ino
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let go of the file; the next read starts at the beginning of the one there is then."""
        if self.file is not None:
            os.close(self.file)
            self.file = None
            self.rest = b""


def read_log(path: Path, *, since: int | None = None, tail: int | None = None) -> list[LogEntry]:
    """The entries of a log after `since` (nanoseconds), and of them the last `tail` lines."""
    reader = LogReader(path)
    try:
        return choose_entries(list(reader.read()), since=since, tail=tail)
    finally:
        reader.close()


def choose_entries(
    entries: list[LogEntry], *, since: int | None = None, tail: int | None = None
) -> list[LogEntry]:
    """The entries after `since`, and of them the last `tail` lines.

    A line counts once, however many parts it came in; parts at the end count as a line.
    """
    if since is not None:
        entries = [entry for entry in entries if entry.time > since]
    if tail is None:
        return entries
    lines, first = 0, len(entries)
    open_streams: set[str] = set()  # of which the part of a line was taken, and not its beginning
    for index in range(len(entries) - 1, -1, -1):
        entry = entries[index]
        if entry.data.endswith(b"\n") or entry.stream not in open_streams:
            if lines == tail:
                break
            lines += 1
            open_streams.add(entry.stream)
        first = index
    return entries[first:]


async def follow_log(
    path: Path,
    look: Callable[[], ContainerState],
    paths: ContainerPaths,
    *,
    since: int | None = None,
    tail: int | None = None,
) -> AsyncIterator[LogEntry]:
    """The same, then what is written, until the container that `look` shows has ended.

    Wakes when the log changes (inotify(7)) and when conmon ends, and at no other time.

    Raises:
        KernelRefused: there are no more inotify watches.
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    watch = watch_directory(path.parent)
    conmon = open_process(look().conmon_pid, is_conmon_of(paths.bundle))
    reader = LogReader(path)

    def drain() -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(watch, 1 << 16):
                pass
        changed.set()

    def report_end(pidfd: int) -> None:
        loop.remove_reader(pidfd)
        changed.set()

    loop.add_reader(watch, drain)
    if conmon is not None:
        loop.add_reader(conmon, report_end, conmon)
    try:
        first = True
        while True:
            changed.clear()
            ended = look().status in ("exited", "missing")  # before reading: no line comes after
            entries = await asyncio.to_thread(lambda: list(reader.read()))
            if first:
                entries, first = choose_entries(entries, since=since, tail=tail), False
            for entry in entries:
                yield entry
            if ended:
                return
            await changed.wait()
    finally:
        loop.remove_reader(watch)
        os.close(watch)
        reader.close()
        if conmon is not None:
            loop.remove_reader(conmon)
            os.close(conmon)


def watch_directory(directory: Path) -> int:
    """An inotify descriptor that can be read when a file in the directory was written or renamed.

    Raises:
        KernelRefused: there are no more inotify instances or watches.
    """
    watch: int = _libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
    if watch < 0:
        raise KernelRefused("inotify_init1", ctypes.get_errno(), "fs.inotify.max_user_instances")
    if _libc.inotify_add_watch(watch, os.fsencode(directory), IN_MODIFY | IN_MOVED_TO) < 0:
        failure = ctypes.get_errno()
        os.close(watch)
        raise KernelRefused(f"watching {directory}", failure, "fs.inotify.max_user_watches")
    return watch
