"""Telling the service manager how the daemon fares (sd_notify(3)); nothing without one."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str, environment: dict[str, str] | None = None) -> bool:
    """Send a line such as "READY=1" to NOTIFY_SOCKET; whether there was somebody to tell.

    An address that begins with "@" is abstract. A service manager that does not listen is no
    reason to fail.
    """
    address = (os.environ if environment is None else environment).get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    target = "\0" + address[1:] if address.startswith("@") else address
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
    ):
        channel.connect(target)
        channel.send(state.encode())
        return True
    return False
