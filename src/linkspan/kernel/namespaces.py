"""Network namespaces: made, opened, entered, listed and deleted.

A namespace lives as long as a process, an open file or a mount holds it. Ours are held by
a bind mount of the namespace's file on `<run_dir>/netns/<name>`, so they outlive the
daemon and any tool (`nsenter --net=FILE`) can enter them. The folder needs no mount of its
own: unlinking the file detaches it in every mount namespace (vfs_unlink in fs/namei.c).

The network namespace is a property of a thread. Whoever enters one here leaves it before
the function returns. Inside, read /proc/thread-self/net and /proc/sys/net: /proc/self/net
shows the namespace of the process's first thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from linkspan.errors import KernelRefused, NotFound, PermissionRefused
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.socket import ROUTE, NetlinkSocket

_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MNT_DETACH = 2
_NS_GET_NSTYPE = 0xB703
_THREAD_NAMESPACE = "/proc/thread-self/ns/net"
_LOOPBACK_UP = wire.pack_message(
    16, 0, 0, bytes((0, 0, 0, 0)) + wire.pack_u32s(1, 1, 1)
)  # RTM_NEWLINK of link 1: flags IFF_UP, mask IFF_UP

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


class Created(NamedTuple):
    """A namespace that was just made."""

    socket: NetlinkSocket
    """A route socket inside it; the caller closes it."""
    inode: int
    """Its identity for as long as it lives (the inode number in nsfs)."""


def create(path: str) -> Created:
    """Make a namespace with lo up, held by a bind mount on the file `path`, which is made.

    The folder of `path` must exist. Raises KernelRefused (EEXIST when `path` exists), or
    PermissionRefused without CAP_SYS_ADMIN.
    """
    what = f"creating network namespace {path}"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise KernelRefused(what, error.errno or 0, "its file cannot be made") from error
    try:
        home = open_own()
        try:
            _call("unshare", what, _CLONE_NEWNET)
            try:
                return _furnish(path, what)
            finally:
                _go_home(home)
        finally:
            os.close(home)
    except BaseException:
        delete(path)
        raise


def _furnish(path: str, what: str) -> Created:
    """Hold the calling thread's namespace on `path` and bring lo up in it."""
    mine, target = _THREAD_NAMESPACE.encode(), os.fsencode(path)
    _call("mount", what, mine, target, None, ctypes.c_ulong(_MS_BIND), None)
    inode = os.stat(path).st_ino
    socket = NetlinkSocket(ROUTE)
    (refusal,) = socket.request((_LOOPBACK_UP,))
    if refusal is not None:
        socket.close()
        raise refusal.as_error(f"bringing up lo in {path}")
    return Created(socket, inode)


def delete(path: str) -> None:
    """Let go of the namespace held on `path` and unlink the file; nothing there is fine.

    The namespace itself lives on while a process is in it. Raises KernelRefused.
    """
    target = os.fsencode(path)
    while _libc.umount2(target, _MNT_DETACH) == 0:
        pass
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOENT):
        raise KernelRefused(f"unmounting network namespace {path}", number)
    with contextlib.suppress(FileNotFoundError):
        try:
            os.unlink(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise KernelRefused(f"removing {path}", error.errno or 0) from error


def open_own() -> int:
    """A file descriptor of the calling thread's network namespace."""
    return os.open(_THREAD_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)


def open_path(path: str) -> int:
    """A file descriptor of the namespace held on `path` (also /proc/PID/ns/net).

    While it is open the namespace lives: close it soon. Raises NotFound when the file is
    missing or holds no network namespace any more, PermissionRefused when it is closed to us.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as error:
        raise PermissionRefused(f"network namespace {path} may not be opened: run as root") from (
            error
        )
    except OSError as error:
        raise NotFound(f"no network namespace at {path}: {error.strerror}") from error
    try:
        held = fcntl.ioctl(descriptor, _NS_GET_NSTYPE)
    except OSError:
        held = 0
    if held != _CLONE_NEWNET:
        os.close(descriptor)
        raise NotFound(f"no network namespace at {path}: it is a file of another kind")
    return descriptor


def open_process(pid: int) -> int:
    """A file descriptor of the namespace that a process is in. Raises as `open_path` does."""
    return open_path(f"/proc/{pid}/ns/net")


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """`open_path` for the length of a block."""
    descriptor = open_path(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def identity(namespace: int) -> int:
    """The inode number of an open namespace: equal exactly for the same living namespace."""
    return os.fstat(namespace).st_ino


def has_vanished(path: str, inode: int | None) -> bool:
    """Whether `path` no longer holds the namespace `inode` (None: any namespace will do).

    Numbers are used again after a namespace died, so a stranger may pass for the old one
    when `path` was made anew in between.
    """
    try:
        with opened(path) as descriptor:
            return inode is not None and identity(descriptor) != inode
    except NotFound:
        return True


def held_in(directory: str) -> dict[str, int | None]:
    """The files of a folder, by name, with the inode of the namespace each one holds.

    None marks a file that holds none: left by a crash or a reboot.
    """
    found: dict[str, int | None] = {}
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return found
    for name in names:
        try:
            with opened(os.path.join(directory, name)) as descriptor:
                found[name] = identity(descriptor)
        except NotFound:
            found[name] = None
    return found


@contextlib.contextmanager
def entered(namespace: int) -> Iterator[None]:
    """The calling thread is in `namespace` (a file descriptor) until the block ends.

    Keep the block short, and do not await in it. A thread that cannot go back ends the
    process: it would work on the wrong network from then on.
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


def inside(namespace: int, function: Callable[[], T]) -> T:
    """Run a blocking function in `namespace`, on a thread of its own that ends with it."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            _call("setns", "entering a network namespace", namespace, _CLONE_NEWNET)
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="inside-namespace", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _call(name: str, what: str, *arguments: object) -> None:
    """Call a function of libc that returns 0 or sets errno; the interpreter lock is released."""
    if getattr(_libc, name)(*arguments) == 0:
        return
    number = ctypes.get_errno()
    if number == errno.EPERM:
        raise PermissionRefused(f"{what}: not permitted; it needs root (CAP_SYS_ADMIN)")
    raise KernelRefused(what, number)


def _go_home(home: int) -> None:
    if _libc.setns(home, _CLONE_NEWNET) != 0:
        sys.stderr.write("a thread cannot leave a network namespace; ending the process\n")
        os.abort()
