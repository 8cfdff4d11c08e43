"""The unix socket that the API is served on: made by us, so that its mode is right from birth."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import stat

from linkspan.errors import Conflict, InvalidRequest, PermissionRefused

GROUP = "linkspan"
"""Members of this group may use the socket, where the group exists."""

MODE = 0o660
LONGEST_PATH = 107
"""Bytes that fit in sun_path with the NUL after them (unix(7))."""


def open_listener(path: str) -> socket.socket:
    """A listening socket at `path`, mode 0660, group `linkspan` if there is one.

    A socket that nobody answers on is replaced. Connections queue from the moment it exists.

    Raises:
        Conflict: a daemon answers there, or the path is something else than a socket.
        InvalidRequest: the path is too long for a socket.
        PermissionRefused: the folder may not be written.
    """
    path = os.path.abspath(path)
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise InvalidRequest(f"socket path {path}: longer than {LONGEST_PATH} bytes")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        make_folder(os.path.dirname(path))
        remove_stale(path)
        bind_with_mode(listener, path)
        listener.listen(1024)
        listener.setblocking(False)
    except PermissionError as error:
        listener.close()
        raise PermissionRefused(f"socket {path}: {error.strerror}; run as root") from error
    except OSError as error:
        listener.close()
        raise Conflict(f"socket {path}: {error.strerror}") from error
    except BaseException:
        listener.close()
        raise
    return listener


def bind_with_mode(listener: socket.socket, path: str) -> None:
    """Bind so that there is no moment at which others could connect."""
    # fchmod before bind(2) sets the mode that the socket file is born with (minus the umask,
    # which belongs to the whole process: another thread's files must not get ours).
    os.fchmod(listener.fileno(), 0o600)
    listener.bind(path)
    with contextlib.suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
    os.chmod(path, MODE)


def make_folder(folder: str) -> None:
    """Make the folder of the socket, which everybody may enter; the socket's mode decides."""
    os.makedirs(folder, mode=0o755, exist_ok=True)


def remove_stale(path: str) -> None:
    """Unlink a socket that nobody answers on; nothing there is fine.

    Raises:
        Conflict: somebody answers, or it is not a socket.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise Conflict(f"{path} exists and is not a socket; name another with --socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as attempt:
        # Not blocking: a living daemon with a full queue answers EAGAIN, and is alive.
        attempt.setblocking(False)
        refusal = attempt.connect_ex(path)
    if refusal not in (errno.ECONNREFUSED, errno.ENOENT):
        raise Conflict(f"a daemon answers on {path} already; name another socket with --socket")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_own(listener: socket.socket, path: str, identity: tuple[int, int]) -> None:
    """Close a listener and unlink its file, unless another daemon has put its own there."""
    with contextlib.suppress(OSError):
        if identify(path) == identity:
            os.unlink(path)
    listener.close()


def identify(path: str) -> tuple[int, int]:
    """Device and inode of the socket's file."""
    found = os.stat(path)
    return found.st_dev, found.st_ino
