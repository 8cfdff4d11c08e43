"""Network namespaces: made, opened, entered, listed and deleted.

A namespace lives as long as a process, an open file or a mount holds it. Ours are held by
a bind mount of the namespace's file on `<run_dir>/netns/<name>`, so they outlive the
daemon and any tool (`nsenter --net=FILE`) can enter them.

The network namespace is a property of a thread. Whoever enters one here leaves it before
the function returns. Inside, read /proc/thread-self/net and /proc/sys/net: /proc/self/net
shows the namespace of the process's first thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from linkspan.errors import KernelRefused, NotFound

_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MS_REC = 16384
_MS_PRIVATE = 1 << 18
_MS_SHARED = 1 << 20
_MNT_DETACH = 2
_THREAD_NAMESPACE = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def _call(name: str, what: str, *arguments: object) -> None:
    """Call a function of libc that returns 0 or sets errno; the interpreter lock is released."""
    if getattr(_libc, name)(*arguments) != 0:
        raise KernelRefused(what, ctypes.get_errno())


def open_own() -> int:
    """A file descriptor of the calling thread's network namespace."""
    return os.open(_THREAD_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def entered(namespace: int) -> Iterator[None]:
    """The calling thread is in `namespace` (a file descriptor) until the block ends.

    Keep the block short and free of switches to other code of the same thread. A thread
    that cannot go back ends the process: it would work on the wrong network from then on.
    """
    home = open_own()
    try:
        _call("setns", "entering a network namespace", namespace, _CLONE_NEWNET)
        try:
            yield
        finally:
            _go_home(home)
    finally:
        os.close(home)


def _go_home(home: int) -> None:
    if _libc.setns(home, _CLONE_NEWNET) != 0:
        os.abort()
