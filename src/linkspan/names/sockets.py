"""The resolver's sockets inside a sandbox, and the redirect that leads to them.

A socket keeps its namespace alive. Whoever holds these must close them when the namespace is
taken away: `vanished` says so where nobody else does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

from linkspan.dataplane.diff import Add, Remove
from linkspan.errors import Conflict, KernelRefused, LinkspanError, NotFound
from linkspan.kernel import namespaces
from linkspan.kernel.netfilter.firewall import Firewall
from linkspan.names.records import Resolver
from linkspan.names.redirect import FAMILY, TABLE, describe_redirect
from linkspan.names.resolvconf import ADDRESS

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
        self._firewall: Firewall | None = None

    @classmethod
    def open(cls, resolver: Resolver) -> Sockets:
        """Listen inside the sandbox and lead its port 53 here."""
        with namespaces.opened(resolver.netns) as descriptor:
            if resolver.inode not in (None, namespaces.identity(descriptor)):
                raise NotFound(f"{resolver.netns} holds another namespace than it did")
            with namespaces.entered(descriptor):
                _check_nobody_listens(resolver.netns)
                udp, tcp = _listen(resolver.netns)
            sockets = cls(resolver, udp, tcp)
            try:
                sockets._redirect(descriptor)
            except BaseException:
                sockets.close()
                raise
        return sockets

    @property
    def port(self) -> int:
        """The port that both listen on."""
        return int(self.udp.getsockname()[1])

    def repair(self) -> None:
        """Load the redirect again if it is not as it should be. Raises as opening does."""
        if self._firewall is not None and self._firewall.intact(FAMILY, TABLE):
            return
        with namespaces.opened(self.resolver.netns) as descriptor:
            if not self.vanished():
                self._redirect(descriptor)

    def _redirect(self, namespace: int) -> None:
        # The table belongs to our socket where the kernel knows that: a container that may
        # change its firewall cannot flush it by accident.
        if self._firewall is None:
            self._firewall = Firewall(namespace, self.resolver.id)
        self._firewall.claim(FAMILY, TABLE)
        self._firewall.transaction([Add(describe_redirect(self.port, self.resolver.id))])

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
        firewall, self._firewall = self._firewall, None
        if firewall is None:
            return
        if lives_on:
            with contextlib.suppress(LinkspanError):
                firewall.transaction([Remove(describe_redirect(1, self.resolver.id))])
        # Closing waits until the kernel has freed what was removed shortly before, for 10 ms.
        threading.Thread(target=firewall.close, name="closing-firewall").start()


def _listen(place: str) -> tuple[socket.socket, socket.socket]:
    """A datagram and a stream socket on one port that is free for both."""
    for _ in range(_TRIES):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
            for made in (udp, tcp):
                # lo of a foreign namespace may still be down.
                made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            udp.bind((ADDRESS, 0))
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
