"""Sockets to the servers outside: datagrams on random ports, and connections.

They belong to the namespace of this process, the host's: a server on the host's loopback can
be asked as well as any other.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import time
from collections.abc import Callable

from linkspan.names.loop import READ, WRITE, Loop

PORT = 53
MOST_CHANNELS = 8
"""Sockets to one server that are in use at a time; each has a random port of its own."""
LONGEST_USE, MOST_USES = 10.0, 64
"""Seconds and queries after which a socket is not used again, so that nobody who learnt its
port can go on guessing (RFC 5452, section 9.2)."""
_LARGEST = 65535

Answered = Callable[[bytes | None], None]
"""Called with an answer, or with None when the server could not be asked."""

_random = random.SystemRandom()  # `secrets` would load all of OpenSSL


def _address(server: str) -> tuple[int, tuple[object, ...]]:
    family, _, _, _, address = socket.getaddrinfo(
        server, PORT, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
    )[0]
    return family, address


class Channel:
    """A datagram socket to one server, with the queries that it has open."""

    def __init__(self, loop: Loop, server: str) -> None:
        self._loop = loop
        family, address = _address(server)
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise
        self._waiting: dict[int, tuple[bytes, Answered]] = {}
        self._uses = 0
        self._worn_out_at = time.monotonic() + LONGEST_USE
        loop.watch(self._socket.fileno(), self._receive)

    @property
    def usable(self) -> bool:
        """Whether another query may go out here."""
        return self._uses < MOST_USES and time.monotonic() < self._worn_out_at

    @property
    def idle(self) -> bool:
        """Whether no answer is awaited."""
        return not self._waiting

    def ask(self, tail: bytes, question: bytes, answered: Answered) -> int:
        """Send a query, given without its id; `question` is how an answer must repeat it.

        Gives the id that was chosen. Raises OSError.
        """
        number = _random.getrandbits(16)
        while number in self._waiting:
            number = _random.getrandbits(16)
        self._uses += 1
        self._socket.send(number.to_bytes(2, "big") + tail)
        self._waiting[number] = question, answered
        return number

    def give_up(self, number: int) -> None:
        """Do not wait for an answer any more."""
        self._waiting.pop(number, None)

    def close(self) -> None:
        """Close the socket; whoever waits is not told."""
        self._loop.forget(self._socket.fileno())
        self._socket.close()

    def _receive(self, _: int) -> None:
        for _ in range(MOST_USES):
            try:
                answer = self._socket.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError:
                self._fail()  # the server's host refuses (ICMP), or cannot be reached
                return
            if len(answer) < 12 or not answer[2] & 0x80:
                continue
            number = int.from_bytes(answer[:2], "big")
            waiting = self._waiting.get(number)
            if waiting is None or not _repeats(answer, waiting[0]):
                continue
            del self._waiting[number]
            waiting[1](answer)

    def _fail(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for _, answered in waiting.values():
            answered(None)


def _repeats(answer: bytes, question: bytes) -> bool:
    """Whether an answer repeats the question; one that says "cannot read it" need not."""
    if answer[12 : 12 + len(question)].lower() == question:
        return answer[4:6] == b"\0\1"
    return bool(answer[3] & 15) and answer[4:6] == b"\0\0" and len(answer) <= 64


class Channels:
    """The datagram sockets to all servers."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._usable: dict[str, list[Channel]] = {}
        self._worn_out: list[Channel] = []

    def take(self, server: str) -> Channel:
        """A socket to this server, any of those that are there or a new one. Raises OSError."""
        channels = self._usable.setdefault(server, [])
        fit = [channel for channel in channels if channel.usable]
        if len(fit) < len(channels):
            self._worn_out += [channel for channel in channels if not channel.usable]
            self._usable[server] = channels = fit
        if len(channels) < MOST_CHANNELS:
            channels.append(Channel(self._loop, server))
            return channels[-1]
        return _random.choice(channels)

    def tidy(self) -> None:
        """Close sockets that nobody uses any more."""
        for server, channels in list(self._usable.items()):
            self._worn_out += [channel for channel in channels if not channel.usable]
            self._usable[server] = [channel for channel in channels if channel.usable]
            if not self._usable[server]:
                del self._usable[server]
        for channel in self._worn_out:
            if channel.idle:
                channel.close()
        self._worn_out = [channel for channel in self._worn_out if not channel.idle]

    @property
    def open(self) -> bool:
        """Whether any socket is open."""
        return bool(self._usable or self._worn_out)

    def close(self) -> None:
        """Close all of them."""
        for channel in (*self._worn_out, *(c for cs in self._usable.values() for c in cs)):
            channel.close()
        self._worn_out, self._usable = [], {}


class Exchange:
    """One query over one connection (RFC 7766). Calls back once, unless it is closed before."""

    def __init__(
        self, loop: Loop, server: str, tail: bytes, question: bytes, answered: Answered
    ) -> None:
        self._loop = loop
        self._question = question
        self._answered = answered
        self._number = os.urandom(2)
        message = self._number + tail
        self._unsent = len(message).to_bytes(2, "big") + message
        self._received = bytearray()
        family, address = _address(server)
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(address)
        except OSError as error:
            if error.errno != errno.EINPROGRESS:
                self._socket.close()
                raise
        loop.watch(self._socket.fileno(), self._go_on, WRITE)

    def close(self) -> None:
        """End the connection without an answer; twice is fine."""
        if self._socket.fileno() >= 0:
            self._loop.forget(self._socket.fileno())
            self._socket.close()

    def _go_on(self, _: int) -> None:
        try:
            if self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
                if not self._unsent:
                    self._loop.watch(self._socket.fileno(), self._go_on, READ)
                return
            data = self._socket.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        if not data:
            self._end(None)
            return
        size = int.from_bytes(self._received[:2], "big")
        if len(self._received) >= max(size, 12) + 2:
            answer = bytes(self._received[2 : 2 + size])
            good = answer[:2] == self._number and _repeats(answer, self._question)
            self._end(answer if good and answer[2] & 0x80 else None)

    def _end(self, answer: bytes | None) -> None:
        self.close()
        self._answered(answer)
