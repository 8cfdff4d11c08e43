"""What processes hold open: sockets and network namespaces, in one look through /proc/*/fd."""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from linkspan.errors import LinkspanError
from linkspan.kernel.namespaces import identity, opened

_SOCKET, _NAMESPACE = "socket:[", "net:["


class OpenFiles(NamedTuple):
    """Who holds what, by inode.

    `sockets` names processes, `namespaces` (process, descriptor); `unreadable` counts the
    processes whose files this one may not see.
    """

    sockets: dict[int, list[int]]
    namespaces: dict[int, list[tuple[int, int]]]
    unreadable: int


def read_open_files() -> OpenFiles:
    """Look through the open files of all processes that may be seen.

    A process is listed once for a socket, however often it holds it. Those that end
    meanwhile are left out.
    """
    sockets: dict[int, list[int]] = {}
    namespaces: dict[int, list[tuple[int, int]]] = {}
    unreadable = 0
    device = os.stat("/proc/thread-self/ns/net").st_dev
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            folder = os.open(f"/proc/{name}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:
            unreadable += 1
            continue
        except OSError:
            continue
        pid = int(name)
        try:
            for descriptor in os.listdir(folder):
                # Looked up from the folder: a path would be checked from /proc down each time.
                try:
                    target = os.readlink(descriptor, dir_fd=folder)
                except OSError:
                    continue
                if target.startswith(_SOCKET):
                    holders = sockets.setdefault(int(target[len(_SOCKET) : -1]), [])
                    if not holders or holders[-1] != pid:
                        holders.append(pid)
                elif target.startswith(_NAMESPACE):
                    inode = int(target[len(_NAMESPACE) : -1])
                    namespaces.setdefault(inode, []).append((pid, int(descriptor)))
                elif target == "/" or "netns" in target:
                    held = _namespace_in(f"/proc/{name}/fd/{descriptor}", device)
                    if held is not None:
                        namespaces.setdefault(held, []).append((pid, int(descriptor)))
        except PermissionError:
            unreadable += 1
        except OSError:
            pass
        finally:
            os.close(folder)
    return OpenFiles(sockets, namespaces, unreadable)


def _namespace_in(path: str, device: int) -> int | None:
    """The network namespace that an open file is, when it was opened by a mount: it is shown
    by the mount's path, and as "/" when that is gone.
    """
    with contextlib.suppress(OSError, LinkspanError):
        if os.stat(path).st_dev == device:
            with opened(path) as descriptor:
                return identity(descriptor)
    return None
