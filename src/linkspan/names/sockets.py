"""The resolver's sockets inside a sandbox, and the redirect that leads to them.

A socket keeps its namespace alive. Whoever holds these must close them when the namespace is
taken away: `vanished` says so where nobody else does.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import threading
from collections.abc import Iterator, Sequence

from linkspan.errors import Conflict, KernelRefused, NotFound
from linkspan.kernel import namespaces
from linkspan.kernel.netfilter import observed
from linkspan.kernel.netfilter.batch import Message, send_batch
from linkspan.kernel.netfilter.firewall import OWNED
from linkspan.kernel.netfilter.tables import claim_table, create_table, delete_table
from linkspan.kernel.netlink.socket import NETFILTER, NetlinkSocket
from linkspan.names.records import Resolver
from linkspan.names.redirect import FAMILY, TABLE, describe_redirect
from linkspan.names.resolvconf import ADDRESS

PORT = 30053
"""The resolver's port, below those that the kernel gives to clients; where somebody has it in
a foreign namespace, any other."""
RECEIVE_BUFFER = 1 << 20
"""Bytes of questions that may wait: some 1,500 (each takes 768 bytes of the kernel's)."""
BACKLOG = 64
_SO_RCVBUFFORCE = 33
_IP_FREEBIND = 15
_TRIES = 16


class Sockets:
    """Where one sandbox is answered. Opening raises NotFound, Conflict, KernelRefused."""

    def __init__(self, resolver: Resolver, udp: socket.socket, tcp: socket.socket) -> None:
        self.resolver = resolver
        self.udp = udp
        self.tcp = tcp
        self._owner: NetlinkSocket | None = None
        """Where the kernel knows owners of tables, the redirect belongs to this socket: a
        container that may change its firewall cannot flush it by accident."""

    @classmethod
    def open(cls, resolver: Resolver) -> Sockets:
        """Listen inside the sandbox and lead its port 53 here."""
        with namespaces.opened(resolver.netns) as descriptor:
            if resolver.inode not in (None, namespaces.identity(descriptor)):
                raise NotFound(f"{resolver.netns} holds another namespace than it did")
            with namespaces.entered(descriptor):
                _check_nobody_listens(resolver.netns)
                sockets = cls(resolver, *_listen(resolver.netns))
                try:
                    sockets._redirect()
                except BaseException:
                    sockets.close()
                    raise
        return sockets

    @property
    def port(self) -> int:
        """The port that both listen on."""
        return int(self.udp.getsockname()[1])

    def repair(self) -> None:
        """Load the redirect again where others could have changed it. Raises as opening does."""
        if self._owner is not None and _Owners.known:
            return
        with namespaces.opened(self.resolver.netns) as descriptor:
            if not self.vanished():
                with namespaces.entered(descriptor):
                    self._redirect()

    def _redirect(self) -> None:
        """Lead the port 53 of the calling thread's namespace here."""
        if self._owner is None:
            self._owner = NetlinkSocket(NETFILTER)
        owner = self._owner
        made = _messages(self.port, OWNED if _Owners.known else 0)
        if observed.read_table(owner, FAMILY, TABLE) is not None:
            # Left by a process before this one: it is nobody's until somebody claims it.
            send_batch(owner, [claim_table(FAMILY, TABLE, OWNED)])
            made = (*_removal(), *made)
        failures = send_batch(owner, made)
        if not failures:
            return
        if _Owners.known and failures[0].errno in (errno.EOPNOTSUPP, errno.EINVAL):
            _Owners.known = False
            self._redirect()
            return
        raise KernelRefused(
            f"leading {ADDRESS} to the resolver in {self.resolver.netns}",
            failures[0].errno,
            failures[0].detail,
        )

    def vanished(self) -> bool:
        """Whether the namespace is not where it was any more."""
        try:
            found = os.stat(self.resolver.netns).st_ino
        except OSError:
            return True
        return self.resolver.inode is not None and found != self.resolver.inode

    def close(self, lives_on: bool = False) -> None:
        """Let go of the namespace; where it `lives_on`, take the redirect away as well."""
        self.udp.close()
        self.tcp.close()
        owner, self._owner = self._owner, None
        if owner is None:
            return
        if lives_on:
            with contextlib.suppress(KernelRefused):
                send_batch(owner, _removal())
        # Closing waits until the kernel has freed what was removed shortly before, for 10 ms.
        threading.Thread(target=owner.close, name="closing-netlink").start()


class _Owners:
    """Whether this kernel knows owners of tables (Linux 6.9); found out by the first table."""

    known = True


@functools.lru_cache(maxsize=64)
def _messages(port: int, flags: int) -> Sequence[Message]:
    """What makes the redirect, ready to be sent: the same bytes in every namespace."""
    return tuple(create_table(describe_redirect(port, ""), flags, 1))


@functools.lru_cache(maxsize=1)
def _removal() -> Sequence[Message]:
    return tuple(delete_table(describe_redirect(PORT, "")))


def _listen(place: str) -> tuple[socket.socket, socket.socket]:
    """A datagram and a stream socket on one port that is free for both."""
    for port in (PORT, *(0 for _ in range(_TRIES))):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
            for made in (udp, tcp):
                # lo of a foreign namespace may still be down.
                made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            udp.bind((ADDRESS, port))
            tcp.bind(udp.getsockname())
            tcp.listen(BACKLOG)
        except OSError as error:
            udp.close()
            tcp.close()
            last = error
        else:
            return udp, tcp
    raise KernelRefused(f"listening on {ADDRESS} in {place}", last.errno or 0) from last


def _check_nobody_listens(place: str) -> None:
    """Docker answers on the same address in its containers: two would take turns."""
    if any(address == ADDRESS for address in _bound_addresses()):
        raise Conflict(f"another resolver listens on {ADDRESS} in {place}; it is left alone")


def _bound_addresses() -> Iterator[str]:
    """Local addresses of the IPv4 datagram sockets of the calling thread's namespace."""
    with open("/proc/thread-self/net/udp", encoding="ascii") as file:
        next(file, None)
        for line in file:
            digits = line.split()[1].split(":")[0]
            yield socket.inet_ntoa(bytes.fromhex(digits)[::-1])
