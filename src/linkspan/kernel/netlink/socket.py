"""A blocking netlink socket in one network namespace.

A socket belongs to the namespace it was opened in for as long as it lives, whatever thread
uses it later. One thread at a time may use it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from linkspan.errors import KernelRefused
from linkspan.kernel.netlink import wire

ROUTE = 0
SOCK_DIAG = 4
NETFILTER = 12

_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_CAP_ACK = 10
_EXT_ACK = 11
_GET_STRICT_CHK = 12
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 4 << 20
_DATAGRAM = 64 << 10
"""The kernel sends at most 32 KiB at a time (netlink_dump in af_netlink.c)."""
_LARGEST_SEND = 96 << 10
_QUERY_TRIES = 4
_DUMP_TRIES = 12
_SEND_TRIES = 3

_flags = struct.Struct("=H")
_flags_and_sequence = struct.Struct("=HI")
_error_number = struct.Struct("=i")
_MESSAGE_TEXT = 1
_MISSING_ATTRIBUTE = 5


class _Buffers(threading.local):
    """Where a thread's datagrams arrive, whichever socket they come from."""

    def __init__(self) -> None:
        self.bytes = bytearray(_DATAGRAM)


_buffers = _Buffers()


class Refusal(NamedTuple):
    """The kernel's answer to a message that it did not carry out."""

    errno: int
    """Positive."""
    detail: str
    """The kernel's own words (extended acknowledgement), or ""."""

    def as_error(self, what: str) -> KernelRefused:
        """The exception to raise; `what` says in words which object or step was refused."""
        return KernelRefused(what, self.errno, self.detail)


class Overrun(Exception):
    """Messages from the kernel were lost because they were not read in time (ENOBUFS)."""


class NetlinkSocket:
    """A netlink socket of one protocol (ROUTE, SOCK_DIAG, NETFILTER).

    `namespace` is an open file descriptor of the network namespace to work in; None is the
    calling thread's own. The thread enters that namespace for the moment of opening.
    `timeout` in seconds bounds every wait for an answer; None waits for ever. `groups` is a
    mask of multicast groups whose notifications `overtaken` looks for. A socket for `only_dumps`
    is opened sooner; the kernel tells it no reasons in words.
    Raises KernelRefused when the socket cannot be opened.
    """

    __slots__ = ("_large", "_noticed", "_portid", "_sequence", "_socket", "_subscribed")

    def __init__(
        self,
        protocol: int = ROUTE,
        namespace: int | None = None,
        timeout: float | None = 10.0,
        groups: int = 0,
        only_dumps: bool = False,
    ) -> None:
        try:
            if namespace is None:
                self._socket = _open(protocol, only_dumps)
            else:
                from linkspan.kernel.namespaces import entered

                with entered(namespace):
                    self._socket = _open(protocol, only_dumps)
        except OSError as error:
            raise KernelRefused("opening a netlink socket", error.errno or 0) from error
        self._sequence = 0
        self._portid: int | None = None
        self._large = False
        self._noticed = False
        self._subscribed = bool(groups)
        if groups:
            self._socket.bind((0, groups))
        if timeout is not None:
            seconds = int(timeout)
            limit = struct.pack("@ll", seconds, int((timeout - seconds) * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; closing twice is fine."""
        self._socket.close()

    def fileno(self) -> int:
        """The file descriptor, for ioctl and for waiting."""
        return self._socket.fileno()

    @property
    def portid(self) -> int:
        """The port id that the kernel gave this socket (it binds it when asked the first time)."""
        if self._portid is None:
            with contextlib.suppress(OSError):
                self._socket.bind((0, 0))
            self._portid = int(self._socket.getsockname()[0])
        return self._portid

    def join(self, group: int) -> None:
        """Receive the notifications of a multicast group (RTNLGRP_*, NFNLGRP_*)."""
        self._make_room()
        # A socket without a port id is passed by (do_one_broadcast in af_netlink.c).
        if not self.portid:
            raise KernelRefused("binding a netlink socket", errno.EADDRINUSE)
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def set_send_buffer(self, size: int) -> None:
        """Allow datagrams of up to `size` bytes to be sent at once."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def _make_room(self) -> None:
        """Let much wait to be read; answers to requests are small."""
        if self._large:
            return
        self._large = True
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)

    def next_sequence(self, count: int = 1) -> int:
        """Reserve `count` sequence numbers and return the first."""
        first = self._sequence + 1
        if first + count > 0xFFFFFFFF:
            first = 1
        self._sequence = first + count - 1
        return first

    def send(self, data: bytes | bytearray) -> None:
        """Send finished messages in one datagram. Raises OSError."""
        for _ in range(_SEND_TRIES):
            try:
                self._socket.send(data)
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
        self._socket.send(data)

    def receive(self) -> bytes:
        """One datagram from the kernel: `wire.parse_messages` takes it apart.

        Raises Overrun when earlier ones were lost, TimeoutError when nothing came in time.
        """
        buffer = _buffers.bytes
        try:
            size = self._socket.recv_into(buffer, 0, socket.MSG_TRUNC)
        except BlockingIOError:
            raise TimeoutError("no answer from the kernel's netlink in time") from None
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise Overrun from None
            raise
        if size > _DATAGRAM:
            raise Overrun
        return bytes(memoryview(buffer)[:size])

    def request(self, messages: Sequence[bytes]) -> list[Refusal | None]:
        """Have the kernel carry out messages, in order; one result each, None for done.

        All go out in one datagram (several when they are very large). A refused message
        does not stop the ones behind it. Only the last is acknowledged when all is well:
        the kernel always answers a message that fails.
        """
        results: list[Refusal | None] = []
        batch: list[bytes] = []
        size = 0
        for message in messages:
            if size + len(message) > _LARGEST_SEND and batch:
                results += self._request(batch)
                batch, size = [], 0
            batch.append(message)
            size += len(message)
        if batch:
            results += self._request(batch)
        return results

    def _request(self, messages: list[bytes]) -> list[Refusal | None]:
        first = self.next_sequence(len(messages))
        last = first + len(messages) - 1
        data = bytearray(b"".join(messages))
        offset = 0
        for number, message in enumerate(messages, first):
            flags = _flags.unpack_from(message, 6)[0] | wire.REQUEST
            if number == last:
                flags |= wire.ACK
            _flags_and_sequence.pack_into(data, offset + 6, flags, number)
            offset += len(message)
        self.send(data)
        results: list[Refusal | None] = [None] * len(messages)
        while True:
            for type, flags, number, payload in wire.parse_messages(self.receive()):
                if type != wire.ERROR or not first <= number <= last:
                    continue  # an answer to a request that timed out
                results[number - first] = read_refusal(flags, payload, type)
                if number == last:
                    return results

    def query(self, message: bytes) -> tuple[int, bytes] | Refusal:
        """Ask for one object: the (type, payload) of the answer, or why there is none.

        Raises KernelRefused when notifications drown every answer.
        """
        for _ in range(_QUERY_TRIES):
            if self._subscribed:
                # Into a socket that notifications have filled the kernel puts no answers.
                self._forget_waiting()
            number = self.next_sequence()
            self.send(_numbered(message, wire.REQUEST, number))
            try:
                return self._answer(number)
            except Overrun:
                self._noticed = True
                self._make_room()
            except TimeoutError:
                if not self._subscribed:
                    raise
        raise KernelRefused("reading", errno.ENOBUFS, "too much else changes meanwhile")

    def _answer(self, number: int) -> tuple[int, bytes] | Refusal:
        while True:
            for type, flags, answered, payload in wire.parse_messages(self.receive()):
                if answered != number:
                    self._noticed = self._noticed or self._subscribed
                    continue
                if type == wire.ERROR:
                    refusal = read_refusal(flags, payload, type)
                    if refusal is not None:
                        return refusal
                    continue
                return type, payload

    def _forget_waiting(self) -> None:
        """Read what waits, and remember only that there was something."""
        self._noticed = self.overtaken()

    def dump(self, message: bytes, what: str = "reading") -> Iterator[tuple[int, bytes]]:
        """Every object that `message` asks for: (type, payload) each.

        A dump that was overtaken by a change, or lost, is read again from the start, so
        what comes out is one consistent state. `what` names the thing read in errors.
        Raises KernelRefused.
        """
        found, consistent = self.read(message, what)
        if not consistent:
            raise KernelRefused(what, errno.EINTR, "it kept changing while it was read")
        return iter(found)

    def read(
        self, message: bytes, what: str = "reading", tries: int = _DUMP_TRIES
    ) -> tuple[list[tuple[int, bytes]], bool]:
        """What `dump` gives, and whether it is one consistent state: if not after some tries,
        the last of them. Raises KernelRefused.
        """
        for _ in range(tries):
            found, consistent = self._dump(message, what)
            if consistent:
                break
        return found, consistent

    def overtaken(self) -> bool:
        """Whether anything of `groups` was heard of since the last call, also what was lost."""
        noticed = self._noticed
        self._noticed = False
        while True:
            try:
                if not self._socket.recv(1, socket.MSG_DONTWAIT):
                    return noticed
            except BlockingIOError:
                return noticed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            noticed = True

    def _dump(self, message: bytes, what: str) -> tuple[list[tuple[int, bytes]], bool]:
        """One try, and whether it was consistent."""
        number = self.next_sequence()
        found: list[tuple[int, bytes]] = []
        interrupted = False
        self.send(_numbered(message, wire.REQUEST | wire.DUMP, number))
        while True:
            try:
                data = self.receive()
            except Overrun:
                interrupted = self._noticed = True
                self._make_room()
                continue
            for type, flags, answered, payload in wire.parse_messages(data):
                if answered != number:
                    self._noticed = True
                    continue
                if flags & wire.DUMP_INTERRUPTED:
                    interrupted = True
                if type == wire.DONE or type == wire.ERROR:
                    refusal = read_refusal(flags, payload, type) if payload else None
                    if refusal is not None:
                        raise refusal.as_error(what)
                    return found, not interrupted
                found.append((type, payload))


def read_refusal(flags: int, payload: bytes, type: int = wire.ERROR) -> Refusal | None:
    """What an ERROR or DONE message says; None when it says that all is well."""
    number = -_error_number.unpack_from(payload)[0]
    if number == 0:
        return None
    detail = ""
    if flags & wire.ACK_ATTRIBUTES:
        # An error is followed by the request's header, and by all of it unless capped.
        start = 4
        if type == wire.ERROR:
            size = wire.HEADER_SIZE if flags & wire.CAPPED else wire.read_u32(payload[4:8])
            start += (size + 3) & ~3
        attributes = wire.parse_attributes(payload, start)
        if _MESSAGE_TEXT in attributes:
            detail = wire.read_text(attributes[_MESSAGE_TEXT])
        elif _MISSING_ATTRIBUTE in attributes:
            detail = f"attribute {wire.read_u32(attributes[_MISSING_ATTRIBUTE])} is missing"
    return Refusal(number, detail)


def _numbered(message: bytes, flags: int, sequence: int) -> bytearray:
    data = bytearray(message)
    _flags_and_sequence.pack_into(data, 6, flags | _flags.unpack_from(message, 6)[0], sequence)
    return data


def _open(protocol: int, only_dumps: bool) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    if only_dumps:
        return opened
    option = opened.setsockopt
    option(_SOL_NETLINK, _EXT_ACK, 1)
    option(_SOL_NETLINK, _CAP_ACK, 1)
    with contextlib.suppress(OSError):  # since Linux 4.20
        option(_SOL_NETLINK, _GET_STRICT_CHK, 1)
    return opened
