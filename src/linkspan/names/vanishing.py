"""Noticing at once that a namespace is taken away, so that our sockets do not keep it alive.

A namespace that is named by a process goes with it: a pidfd tells. One that is held by a file
goes when the file is deleted: inotify tells, of the file's folder. What neither tells (the
file unmounted but not deleted) is for whoever looks now and then.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Callable

from linkspan.names.loop import Loop

_PROCESS = re.compile(r"/proc/(\d+)/ns/net")
_DELETED = 0x200 | 0x40 | 0x400
"""IN_DELETE, IN_MOVED_FROM, IN_DELETE_SELF (linux/inotify.h)."""
_event = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Vanishing:
    """Calls `suspect` with the path of a namespace that may have been taken away."""

    def __init__(self, loop: Loop, suspect: Callable[[str], None]) -> None:
        self._loop = loop
        self._suspect = suspect
        self._processes: dict[str, int] = {}
        self._folders: dict[str, int] = {}
        self._by_watch: dict[int, str] = {}
        self._paths: dict[str, int] = {}
        self._notifier = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._notifier >= 0:
            loop.watch(self._notifier, self._read)

    def watch(self, path: str) -> None:
        """Tell when this namespace goes; each call needs one of `forget`."""
        self._paths[path] = self._paths.get(path, 0) + 1
        if self._paths[path] > 1:
            return
        found = _PROCESS.fullmatch(path)
        if found is not None:
            self._watch_process(path, int(found[1]))
        else:
            self._watch_folder(os.path.dirname(path))

    def _watch_process(self, path: str, pid: int) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return  # it has ended: whoever opens the namespace finds out

        def ended(_: int) -> None:
            self._close(path)
            self._suspect(path)

        self._processes[path] = descriptor
        self._loop.watch(descriptor, ended)

    def _watch_folder(self, folder: str) -> None:
        if folder in self._folders or self._notifier < 0:
            return
        number = _libc.inotify_add_watch(self._notifier, os.fsencode(folder), _DELETED)
        if number >= 0:
            self._folders[folder] = number
            self._by_watch[number] = folder

    def forget(self, path: str) -> None:
        """Stop telling about a namespace."""
        left = self._paths.get(path, 0) - 1
        if left > 0:
            self._paths[path] = left
            return
        self._paths.pop(path, None)
        self._close(path)
        folder = os.path.dirname(path)
        if folder in self._folders and not any(os.path.dirname(p) == folder for p in self._paths):
            number = self._folders.pop(folder)
            del self._by_watch[number]
            _libc.inotify_rm_watch(self._notifier, number)

    def _close(self, path: str) -> None:
        descriptor = self._processes.pop(path, None)
        if descriptor is not None:
            self._loop.forget(descriptor)
            os.close(descriptor)

    def _read(self, _: int) -> None:
        try:
            data = os.read(self._notifier, 65536)
        except BlockingIOError:
            return
        position = 0
        while position < len(data):
            number, _, _, size = _event.unpack_from(data, position)
            start = position + _event.size
            name = os.fsdecode(data[start : start + size].rstrip(b"\0"))
            position = start + size
            path = os.path.join(self._by_watch.get(number, ""), name)
            if path in self._paths:
                self._suspect(path)
