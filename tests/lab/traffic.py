"""Traffic between namespaces: listeners that say whom they saw, and clients with deadlines.

A listener answers every connection or datagram with one line of JSON,
`{"seen": client address, "port": client port, "reply": text}`, and over TCP then echoes lines
until the client closes. All sockets live in this process; only their namespaces differ.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import selectors
import socket
import threading
from typing import NamedTuple

from lab.places import Place, open_socket


class Answer(NamedTuple):
    """What became of one attempt. `seen` is the client's address as the listener saw it."""

    ok: bool
    seen: str = ""
    reply: str = ""
    seen_port: int = 0
    error: str = ""
    """Why it failed: "timed out", "refused", "reset", "unreachable" or the system's words."""


def family_of(address: str) -> socket.AddressFamily:
    """AF_INET or AF_INET6, by the address."""
    version = ipaddress.ip_address(address.partition("%")[0]).version
    return socket.AF_INET6 if version == 6 else socket.AF_INET


class Listener:
    """A TCP or UDP server in a namespace, on a thread of this process, until it is closed."""

    def __init__(self, place: Place, address: str, port: int, reply: str, kind: int) -> None:
        self._kind = kind
        self._reply = reply
        self._socket = open_socket(place, family_of(address), kind)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((address, port))
            if kind == socket.SOCK_STREAM:
                self._socket.listen(128)
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self.seen: list[tuple[str, int]] = []
        """Every client so far: address and port, in order of arrival."""
        self._waker, self._bell = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name=f"lab-listener-{self.port}")
        self._thread.start()

    def close(self) -> None:
        """Stop listening and close every connection."""
        if self._thread.is_alive():
            self._bell.send(b"x")
            self._thread.join()
        self._bell.close()
        self._waker.close()

    def _greeting(self, client: tuple[str, int]) -> bytes:
        self.seen.append(client)
        line = {"seen": client[0], "port": client[1], "reply": self._reply}
        return json.dumps(line).encode() + b"\n"

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._waker, selectors.EVENT_READ)
            selector.register(self._socket, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._waker in ready:
                    break
                for one in ready:
                    assert isinstance(one, socket.socket)
                    with contextlib.suppress(OSError):
                        self._handle(one, selector)
            for key in list(selector.get_map().values()):
                if key.fileobj is not self._waker:
                    assert isinstance(key.fileobj, socket.socket)
                    key.fileobj.close()

    def _handle(self, one: socket.socket, selector: selectors.BaseSelector) -> None:
        if one is not self._socket:
            self._echo(one, selector)
        elif self._kind == socket.SOCK_DGRAM:
            _, client = one.recvfrom(65535)
            one.sendto(self._greeting(client[:2]), client)
        else:
            connection, client = one.accept()
            selector.register(connection, selectors.EVENT_READ)
            connection.sendall(self._greeting(client[:2]))

    def _echo(self, connection: socket.socket, selector: selectors.BaseSelector) -> None:
        try:
            data = connection.recv(65535)
            if data:
                connection.sendall(data)
        except OSError:
            data = b""
        if not data:
            selector.unregister(connection)
            connection.close()


class Conversation:
    """An established TCP connection to a listener, for tests of what outlives what."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        self.greeting: str = self._file.readline().decode().rstrip("\n")

    def say(self, text: str) -> str:
        """Send a line, return the echoed line; fails when the connection broke or stalls."""
        self._connection.sendall(text.encode() + b"\n")
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the connection was closed")
        return line.decode().rstrip("\n")

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._connection.close()


def read_answer(data: bytes) -> Answer:
    """An Answer from what a server sent: a lab listener's line, or any other server's bytes."""
    try:
        line = json.loads(data)
        return Answer(True, line["seen"], line["reply"], line["port"])
    except (ValueError, KeyError, TypeError):
        return Answer(True, reply=data.decode(errors="replace"))


def explain_failure(error: OSError) -> Answer:
    """An Answer that says in a word why nothing came back."""
    match error:
        case TimeoutError():
            why = "timed out"
        case ConnectionRefusedError():
            why = "refused"
        case ConnectionResetError():
            why = "reset"
        case OSError(errno=101 | 113):  # ENETUNREACH, EHOSTUNREACH
            why = "unreachable"
        case _:
            why = str(error)
    return Answer(False, error=why)


def exchange_tcp(
    place: Place, address: str, port: int, timeout: float, request: bytes, source: str
) -> Answer:
    """Connect from a namespace; without a request read one line, with one read to the end."""
    try:
        with open_socket(place, family_of(address), socket.SOCK_STREAM) as client:
            client.settimeout(timeout)
            if source:
                client.bind((source, 0))
            client.connect((address, port))
            if request:
                client.sendall(request)
            data = b""
            while request or not data.endswith(b"\n"):
                chunk = client.recv(65535)
                if not chunk:
                    break
                data += chunk
            return read_answer(data)
    except OSError as error:
        return explain_failure(error)


def exchange_udp(
    place: Place, address: str, port: int, timeout: float, request: bytes, source: str
) -> Answer:
    """Send one datagram from a namespace and take the answer from that address and port only."""
    try:
        with open_socket(place, family_of(address), socket.SOCK_DGRAM) as client:
            client.settimeout(timeout)
            if source:
                client.bind((source, 0))
            client.connect((address, port))
            client.send(request or b"hello\n")
            return read_answer(client.recv(65535))
    except OSError as error:
        return explain_failure(error)
