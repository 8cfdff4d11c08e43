"""Asking for real: a connection or datagram from a namespace, and who answers what."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import selectors
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

from lab.places import open_socket
from linkspan.analysis import Flow
from linkspan.analysis.relay import relayed_flow
from linkspan.dataplane import Listener

_GREETING = b"here\n"
RELAY_TIMEOUT = 2.0
_MOST_THREADS = 100
_GREETED = "greeted"
"""What is known of a connection that only waits for its client to go."""


@dataclass(frozen=True)
class Probe:
    """One flow to try: from a namespace by its path, with a source port of its own."""

    namespace: str
    path: str
    address: str
    port: int
    protocol: str
    source_port: int


def ask(probe: Probe, timeout: float) -> str:
    """ "ok", or why not: refused, unreachable, timeout, reset."""
    if probe.protocol == "icmp":
        return _ask_for_echo(probe, timeout)
    family = socket.AF_INET6 if ":" in probe.address else socket.AF_INET
    kind = socket.SOCK_STREAM if probe.protocol == "tcp" else socket.SOCK_DGRAM
    with open_socket(Path(probe.path), family, kind) as client:
        client.settimeout(timeout)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Without this a closed connection would hold the port for the next try.
        if kind == socket.SOCK_STREAM:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        try:
            client.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", probe.source_port))
            client.connect((probe.address, probe.port))
            if probe.protocol == "udp":
                client.send(b"hello")
            return "ok" if client.recv(16) == _GREETING else "reset"
        except TimeoutError:
            return "timeout"
        except OSError as error:
            return _WORDS.get(error.errno or 0, str(error))


def _ask_for_echo(probe: Probe, timeout: float) -> str:
    """As ping does; an answer from another address than was asked is none."""
    family, protocol, kind = socket.AF_INET, socket.IPPROTO_ICMP, b"\x08"
    if ":" in probe.address:
        family, protocol, kind = socket.AF_INET6, socket.IPPROTO_ICMPV6, b"\x80"
    with open_socket(Path(probe.path), family, socket.SOCK_DGRAM, protocol) as client:
        client.settimeout(timeout)
        try:
            client.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", probe.source_port))
            client.connect((probe.address, 0))
            client.send(kind + b"\0\0\0\0\0\0\1hello")
            while True:
                answer, sender = client.recvfrom(64)
                if sender[0] == probe.address and answer[0] in (0, 129):
                    return "ok"
        except TimeoutError:
            return "timeout"
        except OSError as error:
            return _WORDS.get(error.errno or 0, str(error))


_WORDS = {
    errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable", errno.EACCES: "unreachable", errno.EINVAL: "unreachable",
    errno.EPERM: "unreachable", errno.EADDRNOTAVAIL: "unreachable",
}  # fmt: skip


def ask_all(probes: list[Probe], timeout: float) -> list[str]:
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        return list(pool.map(lambda probe: ask(probe, timeout), probes))


def _relay(connection: socket.socket, path: str, onward: Flow) -> None:
    """Pass a greeting on from where a connection of one's own leads to, as docker-proxy does."""
    probe = Probe("", path, onward.destination, onward.destination_port, onward.protocol, 0)
    with connection, contextlib.suppress(OSError):
        if ask(probe, RELAY_TIMEOUT) == "ok":
            connection.sendall(_GREETING)
            connection.settimeout(RELAY_TIMEOUT)
            connection.recv(1)


class Servers:
    """Sockets that greet everybody, in many namespaces, on one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._waker, self._bell = socket.socketpair()
        self._selector.register(self._waker, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="walk-servers")
        self._thread.start()

    def listen(self, path: str, one: Listener) -> None:
        family = socket.AF_INET6 if ":" in one.address else socket.AF_INET
        kind = socket.SOCK_STREAM if one.protocol == "tcp" else socket.SOCK_DGRAM
        server = open_socket(Path(path), family, kind)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not one.dual_stack)
        if one.link is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, one.link.encode())
        server.bind((one.address, one.port))
        if kind == socket.SOCK_STREAM:
            server.listen(64)
        server.setblocking(False)
        onward = relayed_flow(one.processes)
        self._selector.register(server, selectors.EVENT_READ, (path, onward) if onward else None)

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                one, onward = key.fileobj, key.data
                if one is self._waker:
                    return
                assert isinstance(one, socket.socket)
                if onward is _GREETED:
                    self._selector.unregister(one)
                    one.close()
                    continue
                with contextlib.suppress(OSError):
                    if one.type == socket.SOCK_DGRAM:
                        _, client = one.recvfrom(64)
                        one.sendto(_GREETING, client)
                    else:
                        connection, _ = one.accept()
                        if onward is not None and threading.active_count() > _MOST_THREADS:
                            connection.close()  # relays that lead to each other
                            continue
                        if onward is not None:
                            relay = threading.Thread(target=_relay, args=(connection, *onward))
                            relay.start()
                            continue
                        # The end of a connection would carry the greeting that was held back.
                        self._selector.register(connection, selectors.EVENT_READ, _GREETED)
                        connection.sendall(_GREETING)

    def close(self) -> None:
        self._bell.send(b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()
        self._bell.close()
