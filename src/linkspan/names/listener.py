"""One sandbox's resolver: questions in, answers out, by UDP and TCP.

Answers that do not depend on the moment are kept by the question's bytes, all but its id:
the same question is answered again without being read.
"""

from __future__ import annotations

import functools
import itertools
import socket
import struct
from collections.abc import Callable
from typing import Any, Protocol

from linkspan.names import answers, wire
from linkspan.names.directory import Directory
from linkspan.names.loop import Loop
from linkspan.names.records import Resolver
from linkspan.names.sockets import Sockets
from linkspan.names.stream import Connection
from linkspan.names.wire import Malformed, Question

AT_ONCE = 64
"""Questions that are answered before the other sandboxes have their turn."""
LARGEST_QUERY = 4096
MOST_KEPT, LARGEST_KEPT = 512, 8192
"""Ready answers of a sandbox, and bytes of one in all its orders."""
LARGEST_KEPT_QUERY = 320
MOST_OUTSIDE = 256
"""Questions of one sandbox that are asked outside at a time."""
MOST_CONNECTIONS = 32
COMPLAINTS_A_SECOND = 100
"""Answers to what cannot be understood."""
_LARGEST_STREAM = 65535

Send = Callable[[bytes], None]


class Outside(Protocol):
    """Who knows about the rest of the world."""

    def recall(self, question: Question, servers: tuple[str, ...], stream: bool) -> bytes | None:
        """An answer that is known, without its id."""
        ...

    def ask(
        self,
        question: Question,
        servers: tuple[str, ...],
        stream: bool,
        deliver: Callable[[bytes | None], None],
    ) -> None:
        """Ask servers, and deliver an answer with the client's id, or None."""
        ...


class Listener:
    """Answers one sandbox until it is closed. `find_servers` says whom to ask outside names of.

    While it holds something that a change or the next second makes wrong, it is in `awake`.
    """

    def __init__(
        self,
        loop: Loop,
        sockets: Sockets,
        directory: Directory,
        outside: Outside,
        find_servers: Callable[[Resolver], tuple[str, ...]],
        port_of: answers.PortOf,
        awake: set[Listener] | None = None,
    ) -> None:
        self.sockets = sockets
        self._awake = set() if awake is None else awake
        self.resolver = sockets.resolver
        self._loop = loop
        self._directory = directory
        self._outside = outside
        self._find_servers = find_servers
        self._port_of = port_of
        self._own: dict[bytes, Callable[[], bytes]] = {}
        self._brief: dict[bytes, Callable[[], bytes]] = {}
        self._waiting = 0
        self._complaints = 0
        self._closed = False
        self._connections: set[Connection] = set()
        loop.watch(sockets.udp.fileno(), self._receive)
        loop.watch(sockets.tcp.fileno(), self._accept)

    # Change

    def become(self, resolver: Resolver) -> None:
        """Answer by other rules from now on; the namespace is the same."""
        self.resolver = resolver
        self.sockets.resolver = resolver
        self.forget()

    def forget(self) -> None:
        """Own names have changed: work answers out again."""
        self._own.clear()
        self._brief.clear()
        if not self._complaints:
            self._awake.discard(self)

    def tick(self) -> None:
        """A second has passed."""
        self._brief.clear()
        self._complaints = 0
        if not self._own:
            self._awake.discard(self)

    def close(self, lives_on: bool = False) -> None:
        """Answer no more; where the namespace `lives_on`, nothing of ours stays in it."""
        self._closed = True
        self._awake.discard(self)
        for connection in list(self._connections):
            connection.close()
        self._loop.forget(self.sockets.udp.fileno())
        self._loop.forget(self.sockets.tcp.fileno())
        self.sockets.close(lives_on)

    # Datagrams

    def _receive(self, _: int) -> None:
        udp = self.sockets.udp
        receive, send, own, brief = udp.recvfrom, udp.sendto, self._own.get, self._brief.get
        for _ in range(AT_ONCE):
            try:
                query, client = receive(LARGEST_QUERY)
            except OSError:  # nothing more to read
                return
            rest = query[2:]
            ready = own(rest) or brief(rest)
            if ready is None:
                self._handle(query, False, functools.partial(self._send, client))
                continue
            try:
                send(query[:2] + ready(), client)
            except OSError:
                pass  # the client's own firewall, or no memory: it will ask again

    def _send(self, client: Any, answer: bytes) -> None:
        if self._closed:
            return
        try:
            self.sockets.udp.sendto(answer, client)
        except OSError:
            pass

    # Connections

    def _accept(self, _: int) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, _ = self.sockets.tcp.accept()
            except OSError:
                return
            if len(self._connections) >= MOST_CONNECTIONS:
                accepted.close()
                continue
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.add(
                Connection(self._loop, accepted, self._handle_stream, self._connections.discard)
            )

    def _handle_stream(self, query: bytes, send: Send) -> None:
        self._handle(query, True, send)

    # Questions

    def _handle(self, query: bytes, stream: bool, send: Send) -> None:
        """Answer, or have somebody else asked; nothing is sent to who sends answers."""
        if len(query) < wire.HEADER or query[2] & 0x80:
            return
        if query[2] & 0x78:
            self._complain(query, wire.NOTIMP, send)
            return
        try:
            question = wire.read_question(query)
        except Malformed:
            self._complain(query, wire.FORMERR, send)
            return
        limit = _LARGEST_STREAM if stream else question.limit
        found = answers.answer_own(self._directory, self.resolver, question, limit, self._port_of)
        if found is not None:
            self._keep(self._own, query, stream, found)
            send(query[:2] + found[0])
            return
        self._look_outside(question, stream, limit, send)

    def _complain(self, query: bytes, code: int, send: Send) -> None:
        if self._complaints < COMPLAINTS_A_SECOND:
            self._complaints += 1
            self._awake.add(self)
            send(wire.compose_bare(query, code))

    def _look_outside(self, question: Question, stream: bool, limit: int, send: Send) -> None:
        servers = self._find_servers(self.resolver)
        id = question.wire[:2]
        if not servers:
            refusal = answers.refuse_outside(question, limit)
            self._keep(self._own, question.wire, stream, [refusal])
            send(id + refusal)
            return
        known = self._outside.recall(question, servers, stream)
        if known is not None:
            known = _fit(known, question, limit)
            self._keep(self._brief, question.wire, stream, [known])
            send(id + known)
            return
        if self._waiting >= MOST_OUTSIDE:
            send(id + answers.fail(question, limit))
            return
        self._waiting += 1

        def deliver(answer: bytes | None) -> None:
            self._waiting -= 1
            body = answers.fail(question, limit) if answer is None else answer[2:]
            send(id + _fit(body, question, limit))

        self._outside.ask(question, servers, stream, deliver)

    def _keep(
        self,
        kept: dict[bytes, Callable[[], bytes]],
        query: bytes,
        stream: bool,
        found: list[bytes],
    ) -> None:
        """Answer a datagram the same way when it comes again, in the next order."""
        # A stream has room for more than a datagram.
        if stream or len(query) > LARGEST_KEPT_QUERY or sum(map(len, found)) > LARGEST_KEPT:
            return
        self._awake.add(self)
        if len(kept) >= MOST_KEPT:
            kept.clear()
        if len(found) == 1:
            kept[query[2:]] = itertools.repeat(found[0]).__next__
        else:
            kept[query[2:]] = itertools.cycle([*found[1:], found[0]]).__next__


def _fit(body: bytes, question: Question, limit: int) -> bytes:
    """An answer from outside, or only its beginning where the server sent more than was asked."""
    if len(body) + 2 <= limit:
        return body
    flags = struct.unpack(">H", body[:2])[0] | 0x0200
    return struct.pack(">HHHHH", flags, 1, 0, 0, 0) + question.wire[wire.HEADER : question.end]
