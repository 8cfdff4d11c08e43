"""Who is at the other end of the socket: the kernel says so, the client need not.

SO_PEERCRED holds the process that connected and whom it ran as (socket(7), unix(7)). It is
read once a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import pwd
import socket
import struct

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from linkspan.drivers.records import Actor

PEER = "linkspan.peer"
"""The key of the ASGI scope that holds the Actor."""
NOBODY_LOGGED_IN = 2**32 - 1
"""What /proc/PID/loginuid says of processes that no login led to."""

_credentials = struct.Struct("=iII")
"""struct ucred (linux/socket.h): process, user, group."""


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, which also tells the application who asks."""

    peer: Actor | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self.peer = identify_peer(transport.get_extra_info("socket"))

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope[PEER] = self.peer  # type: ignore[literal-required]


def identify_peer(connection: socket.socket | None) -> Actor | None:
    """Who connected; None where the kernel does not say."""
    if connection is None:
        return None
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _credentials.size)
    except OSError:
        return None
    pid, uid, _ = _credentials.unpack(found)
    login = _read(pid, "loginuid")
    logged_in = login.isdecimal() and int(login) != NOBODY_LOGGED_IN
    return Actor(
        uid=uid,
        pid=pid,
        user=name_user(uid),
        login=name_user(int(login)) or login if logged_in else None,
        program=_read(pid, "comm"),
    )


@functools.lru_cache(maxsize=256)
def name_user(uid: int) -> str:
    """The name of a user, "" if it has none."""
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return ""


def _read(pid: int, name: str) -> str:
    """A file of a process; "" if it has ended, or is in another process namespace (pid 0)."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
