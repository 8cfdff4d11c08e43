"""One real attempt from inside a namespace: a connection, a datagram, or an echo request.

Nothing is said on a connection: it is reset as soon as it stands. A datagram carries one zero
byte. What routers and rules answer is read from the socket's error queue (ip(7), IP_RECVERR).
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import struct
import time
from typing import NamedTuple

from linkspan.dataplane.sightings import Headers, Outcome
from linkspan.errors import Conflict, InvalidRequest, KernelRefused
from linkspan.kernel.arp import checksum
from linkspan.kernel.livepackets import describe_error
from linkspan.kernel.namespaces import entered

PROTOCOLS = ("tcp", "udp", "icmp")
"""What can be sent."""
_SO_MARK, _SO_TIMESTAMPNS = 36, 35
_RECVERR = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_BY_ICMP = {2: 4, 3: 6}
"""Origins of errors that came in a packet (linux/errqueue.h), with the IP version."""
_extended = struct.Struct("=IBBBBII")
_RESET_ON_CLOSE = struct.pack("@ii", 1, 0)
_DATAGRAM = b"\0"
_ECHO = {4: (8, 0), 6: (128, 129)}


class Attempt(NamedTuple):
    """What is to be sent. `port` is the sender's (of an echo: the identifier), 0 for any."""

    version: int
    protocol: str
    destination: str
    destination_port: int = 0
    source: str | None = None
    port: int = 0
    mark: int = 0


class Sender:
    """A socket in a namespace (an open descriptor), with its port, before anything is sent.

    Use `begin`, then `poll` whenever `fileno` has news, then `close`. Raises Conflict for a
    port that is taken, InvalidRequest for a source that the namespace does not have,
    KernelRefused.
    """

    def __init__(self, namespace: int, attempt: Attempt) -> None:
        self._attempt = attempt
        self._done: Outcome | None = None
        family = _FAMILIES[attempt.version]
        with entered(namespace):
            self._socket = _open(family, attempt)
        try:
            self._socket.setblocking(False)
            # The kernel begins to stamp packets a moment after the first socket wants it: by
            # these stamps captures are put in order.
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self.opened = time.monotonic()
            if attempt.protocol == "tcp":
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            level, option = _RECVERR[attempt.version]
            self._socket.setsockopt(level, option, 1)
            if attempt.mark:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_MARK, attempt.mark)
            self.port = self._bind()
        except BaseException:
            self._socket.close()
            raise

    def _bind(self) -> int:
        attempt = self._attempt
        anything = "0.0.0.0" if attempt.version == 4 else "::"
        echo = attempt.protocol == "icmp"
        try:
            if not echo or attempt.source:
                self._socket.bind((attempt.source or anything, 0 if echo else attempt.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Conflict(f"source port {attempt.port} is in use there") from error
            if error.errno == errno.EADDRNOTAVAIL:
                raise InvalidRequest(f"{attempt.source} is no address of the sender") from error
            raise KernelRefused("binding the sender's port", error.errno or 0) from error
        if echo:
            return attempt.port or random.randint(1024, 65535)
        return int(self._socket.getsockname()[1])

    def fileno(self) -> int:
        """Readable, or for a connection writable, when there is news."""
        return self._socket.fileno()

    def close(self) -> None:
        """End it: a connection with a reset."""
        self._socket.close()

    def begin(self) -> Headers:
        """Send; the headers that the sender's kernel gave the packet."""
        attempt = self._attempt
        number = self._socket.connect_ex((attempt.destination, attempt.destination_port))
        if number not in (0, errno.EINPROGRESS):
            self._done = self._fail(number)
        source = attempt.source or ""
        with contextlib.suppress(OSError):
            source = str(self._socket.getsockname()[0])
        if attempt.protocol != "tcp" and self._done is None:
            data = _DATAGRAM if attempt.protocol == "udp" else self._echo()
            try:
                self._socket.send(data)
            except OSError as error:
                self._done = self._fail(error.errno or 0)
        echo = attempt.protocol == "icmp"
        return Headers(
            source=source,
            destination=attempt.destination,
            protocol="ipv6-icmp" if echo and attempt.version == 6 else attempt.protocol,
            source_port=self.port,
            destination_port=self.port if echo else attempt.destination_port,
        )

    def _echo(self) -> bytes:
        kind = _ECHO[self._attempt.version][0]
        message = struct.pack("!BBHHH", kind, 0, 0, self.port, 1) + b"linkspan"
        # The kernel sums ICMPv6 itself, with the addresses.
        return message[:2] + struct.pack("!H", checksum(message)) + message[4:]

    def poll(self) -> Outcome | None:
        """How it ended, None while nothing is known."""
        if self._done is None:
            self._done = self._from_errors() or self._from_socket()
        return self._done

    def _from_socket(self) -> Outcome | None:
        protocol = self._attempt.protocol
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            return self._from_errors() or self._fail(number)
        if protocol == "tcp":
            try:
                self._socket.getpeername()
            except OSError:
                return None
            return Outcome(kind="connected", detail="the connection stands")
        while True:
            try:
                data, peer = self._socket.recvfrom(2048)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                return self._from_errors() or self._fail(error.errno or 0)
            if protocol == "udp":
                return Outcome(
                    kind="answered", detail=f"a datagram of {len(data)} bytes came back",
                    by=str(peer[0]),
                )  # fmt: skip
            if self._is_echo_reply(data):
                return Outcome(kind="answered", detail="the echo came back", by=str(peer[0]))

    def _is_echo_reply(self, data: bytes) -> bool:
        if self._attempt.version == 4:
            data = data[(data[0] & 15) * 4 :]  # a raw IPv4 socket shows the IP header
        kind, number = data[:1], data[4:6]
        return kind == bytes((_ECHO[self._attempt.version][1],)) and number == self.port.to_bytes(2)

    def _from_errors(self) -> Outcome | None:
        """What routers, rules or the far end said."""
        while True:
            try:
                data, extra, _, _ = self._socket.recvmsg(512, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return None
            for level, kind, body in extra:
                if (level, kind) != _RECVERR[self._attempt.version] or len(body) < _extended.size:
                    continue
                number, origin, type, code, *_ = _extended.unpack_from(body)
                if self._attempt.protocol == "icmp" and not self._is_own_echo(data):
                    continue
                version = _BY_ICMP.get(origin)
                if version is None:
                    return self._fail(number)
                closed = (4, 3, 3), (6, 1, 4)
                refused = self._attempt.protocol == "udp" and (version, type, code) in closed
                by = _offender(body[_extended.size :])
                text = describe_error(version, type, code)
                return Outcome(kind="refused" if refused else "icmp-error", detail=text, by=by)

    def _is_own_echo(self, data: bytes) -> bool:
        return self.port.to_bytes(2) in (data[4:6], data[24:26])

    def _fail(self, number: int) -> Outcome:
        if number == errno.ECONNREFUSED and self._attempt.protocol == "tcp":
            return Outcome(kind="refused", detail="reset by the other side")
        if number == errno.ECONNREFUSED:
            return Outcome(kind="refused", detail="the port is closed")
        if number in (errno.ETIMEDOUT, errno.ECONNRESET):
            return Outcome(kind="no-answer", detail=os.strerror(number))
        return Outcome(kind="not-sent", detail=f"the sender's kernel says: {os.strerror(number)}")


def _open(family: int, attempt: Attempt) -> socket.socket:
    try:
        if attempt.protocol == "tcp":
            return socket.socket(family, socket.SOCK_STREAM)
        if attempt.protocol == "udp":
            return socket.socket(family, socket.SOCK_DGRAM)
        number = socket.IPPROTO_ICMP if attempt.version == 4 else socket.IPPROTO_ICMPV6
        return socket.socket(family, socket.SOCK_RAW, number)
    except OSError as error:
        raise KernelRefused(f"opening a {attempt.protocol} socket", error.errno or 0) from error


def _offender(data: bytes) -> str | None:
    """The address in a struct sockaddr: who sent the error."""
    if len(data) < 8:
        return None
    family = struct.unpack_from("=H", data)[0]
    if family == socket.AF_INET:
        return socket.inet_ntoa(data[4:8])
    if family == socket.AF_INET6 and len(data) >= 24:
        return socket.inet_ntop(socket.AF_INET6, data[8:24])
    return None
