"""Sockets that wait for packets are listed with their address, port and process."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from lab import Namespace as Place
from linkspan.kernel import namespaces
from linkspan.kernel.sockets import BoundSocket, find_processes, list_bound

_IPV6_V6ONLY = 26


def bind(address: str, port: int, kind: int = socket.SOCK_STREAM, v6only: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, kind)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_V6ONLY, v6only)
    opened.bind((address, port))
    if kind == socket.SOCK_STREAM:
        opened.listen()
    return opened


def listed() -> list[tuple[str, str, int, str, bool]]:
    return [(s.protocol, s.address, s.port, s.state, s.v6only) for s in list_bound()]


@pytest.mark.parametrize(
    ("address", "kind", "v6only", "expected"),
    [
        ("127.0.0.1", socket.SOCK_STREAM, 0, ("tcp", "127.0.0.1", 8080, "listening", False)),
        ("0.0.0.0", socket.SOCK_DGRAM, 0, ("udp", "0.0.0.0", 8080, "bound", False)),
        ("::", socket.SOCK_STREAM, 0, ("tcp", "::", 8080, "listening", False)),
        ("::", socket.SOCK_STREAM, 1, ("tcp", "::", 8080, "listening", True)),
        ("::1", socket.SOCK_DGRAM, 1, ("udp", "::1", 8080, "bound", True)),
        ("::ffff:127.0.0.1", socket.SOCK_STREAM, 0,
         ("tcp", "::ffff:127.0.0.1", 8080, "listening", False)),
    ],
)  # fmt: skip
def test_a_bound_socket_is_listed(
    home: Place, address: str, kind: int, v6only: int, expected: tuple[object, ...]
) -> None:
    with bind(address, 8080, kind, v6only):
        assert listed() == [expected]
    assert listed() == []


def test_what_talks_to_one_peer_only_is_no_obstacle(home: Place) -> None:
    with bind("127.0.0.1", 8080) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted, bind("127.0.0.1", 9000, socket.SOCK_DGRAM) as datagrams:
            datagrams.connect(("127.0.0.1", 9001))
            assert [row[2] for row in listed()] == [8080]


def test_another_namespace_is_looked_into(home: Place, netns: Callable[[str], Place]) -> None:
    other = netns("other")
    with bind("127.0.0.1", 8080), namespaces.opened(other.path) as descriptor:
        assert list_bound(descriptor) == []
        with namespaces.entered(descriptor):
            inside = bind("127.0.0.1", 8081)
        with inside:
            assert [s.port for s in list_bound(descriptor)] == [8081]


def test_the_process_is_found_when_asked(home: Place) -> None:
    with bind("127.0.0.1", 8080) as opened:
        (found,) = list_bound()
        assert isinstance(found, BoundSocket)
        assert found.inode == os.fstat(opened.fileno()).st_ino
        assert os.getpid() in [
            process.pid for process in find_processes([found.inode])[found.inode]
        ]
    assert find_processes([found.inode]) == {}
    assert find_processes([]) == {}
