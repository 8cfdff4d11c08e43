"""One daemon a network namespace, one a state folder, one a run folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct

from linkspan.errors import Conflict, StorageFailed

_NAME = "\0linkspan"
"""An abstract unix socket: such names belong to a network namespace, and vanish with their
holder, however it ends (unix(7))."""
LOCK_FILE = "lock"


class Lock:
    """Holds everything that only one daemon may use, until `release` or the process's end."""

    def __init__(self, state_dir: str, run_dir: str) -> None:
        """Take the lock. Raises Conflict naming who has it, StorageFailed for a bad folder."""
        with contextlib.ExitStack() as held:
            held.enter_context(_take_namespace())
            for directory in (state_dir, run_dir):
                held.callback(os.close, _take_folder(directory))
            self._held = held.pop_all()

    def release(self) -> None:
        """Let go of it."""
        self._held.close()


def _take_namespace() -> socket.socket:
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        lock.bind(_NAME)
        lock.listen(1)
    except OSError:
        lock.close()
        raise Conflict(
            f"a linkspan daemon already works in this network namespace{_holder()}; "
            "stop it, or start this one in another namespace"
        ) from None
    return lock


def _holder() -> str:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as asking:
        asking.settimeout(1)
        try:
            asking.connect(_NAME)
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        except OSError:
            return ""
    return f" (process {struct.unpack('3i', credentials)[0]})"


def _take_folder(directory: str) -> int:
    path = os.path.join(directory, LOCK_FILE)
    try:
        os.makedirs(directory, mode=0o711, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be made: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Conflict(
            f"{directory} is in use by another linkspan daemon; give this one a folder of its own"
        ) from None
    return descriptor
