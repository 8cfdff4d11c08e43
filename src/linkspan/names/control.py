"""What the daemon and the names server say to each other on the control socket.

Each message is a length of four bytes and JSON. Every request has one reply; replies come in
the order of the requests.
"""

from __future__ import annotations

import os

import msgspec

import linkspan
from linkspan.names.records import Change, Names

MODULE = "linkspan.names.server"
SOCKET, LOCK, LOG = "names.sock", "names.lock", "names.log"
PROTOCOL = 1
"""Raised when a server could not understand a request of another version."""
_LENGTH = 4
LARGEST = 1 << 28


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The first request: who are you?"""


class Welcome(msgspec.Struct, frozen=True, tag=True):
    """The server's reply to Hello."""

    version: str
    protocol: int
    pid: int


class Replace(msgspec.Struct, frozen=True, tag=True):
    """This is everything; what else was there is gone. Redirects are looked after, too."""

    names: Names


class Update(msgspec.Struct, frozen=True, tag=True):
    """Something has changed."""

    change: Change


class Inspect(msgspec.Struct, frozen=True, tag=True):
    """What do you answer?"""


class Upgrade(msgspec.Struct, frozen=True, tag=True):
    """Become this program and go on with the same sockets."""

    command: list[str]
    environment: dict[str, str]


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End, and leave nothing in any namespace."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """It is in force. `problems` has the sandboxes, by id, that cannot be answered, and why."""

    problems: dict[str, str] = {}


class State(msgspec.Struct, frozen=True, tag=True):
    """The reply to Inspect. `cached` counts answers from outside."""

    names: Names
    servers: tuple[str, ...]
    cached: int
    problems: dict[str, str] = {}


Request = Hello | Replace | Update | Inspect | Upgrade | Stop
Reply = Welcome | Done | State

_encoder = msgspec.json.Encoder()
_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def socket_path(run_dir: str) -> str:
    """Where the control socket of a daemon with this run folder is."""
    return os.path.join(run_dir, SOCKET)


def version() -> str:
    """The version of this code."""
    return linkspan.__version__


def pack(message: Request | Reply) -> bytes:
    """A message with its length."""
    data = _encoder.encode(message)
    return len(data).to_bytes(_LENGTH, "big") + data


def take_requests(received: bytearray) -> list[Request]:
    """The complete requests at the beginning, which are removed. Raises msgspec.DecodeError."""
    found = []
    while (data := _take(received)) is not None:
        found.append(_requests.decode(data))
    return found


def take_replies(received: bytearray) -> list[Reply]:
    """The complete replies at the beginning, which are removed. Raises msgspec.DecodeError."""
    found = []
    while (data := _take(received)) is not None:
        found.append(_replies.decode(data))
    return found


def _take(received: bytearray) -> bytes | None:
    size = int.from_bytes(received[:_LENGTH], "big")
    if size > LARGEST:
        raise msgspec.DecodeError(f"a message of {size} bytes")
    if len(received) < _LENGTH + size or len(received) < _LENGTH:
        return None
    data = bytes(received[_LENGTH : _LENGTH + size])
    del received[: _LENGTH + size]
    return data
