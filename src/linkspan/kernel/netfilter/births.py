"""Hearing of connections as a namespace begins to track them (NFNLGRP_CONNTRACK_NEW).

The kernel tells at the end of a connection's first packet, with what it was translated to.
"""

from __future__ import annotations

import os

from linkspan.kernel.netfilter.conntrack import read_entry
from linkspan.kernel.netfilter.flows import ConntrackEntry
from linkspan.kernel.netlink.socket import NETFILTER, NetlinkSocket, Overrun
from linkspan.kernel.netlink.wire import parse_messages

_GROUP = 1
_NEW = 1 << 8
"""Subsystem of connection tracking, message IPCTNL_MSG_CT_NEW."""


class NewConnections:
    """The connections of one namespace (an open descriptor) that begin from now on.

    When more begin than are read the rest is lost. Raises KernelRefused.
    """

    def __init__(self, namespace: int) -> None:
        self._socket = NetlinkSocket(NETFILTER, namespace, timeout=None)
        try:
            self._socket.join(_GROUP)
            os.set_blocking(self._socket.fileno(), False)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """End it; twice is fine."""
        self._socket.close()

    def read(self) -> list[ConntrackEntry]:
        """Those since the last call, without waiting."""
        found: list[ConntrackEntry] = []
        while self._socket.fileno() >= 0:
            try:
                data = self._socket.receive()
            except TimeoutError:
                break
            except Overrun:
                continue
            for type, _, _, payload in parse_messages(data):
                if type == _NEW:
                    found.append(read_entry(payload))
        return found
