"""What processes hold open: sockets and network namespaces, in one look through /proc/*/fd."""

from __future__ import annotations

import os
from typing import NamedTuple

_SOCKET, _NAMESPACE = "socket:[", "net:["
_GONE_MEANWHILE = (FileNotFoundError, ProcessLookupError)


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
        except PermissionError:
            unreadable += 1
        except OSError:
            pass
        finally:
            os.close(folder)
    return OpenFiles(sockets, namespaces, unreadable)
