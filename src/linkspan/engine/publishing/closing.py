"""Which of a sandbox's published ports a text means, and what is left when they are closed.

[HOST_IP:]HOST_PORT[-END][/tcp|udp|sctp], or the whole text that published it. A part of a range
can be closed by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from linkspan.drivers.records import PublishedPort
from linkspan.engine.publishing.specification import parse_port
from linkspan.errors import InvalidRequest, NotFound

FORM = "[HOST_IP:]HOST_PORT[-END][/tcp|udp|sctp]"


class Closing(msgspec.Struct, frozen=True):
    """What closing some ports does: `affected` become `remaining`, and `closed` are no more."""

    affected: tuple[PublishedPort, ...]
    remaining: tuple[tuple[PublishedPort, PublishedPort], ...]
    """Each with the one it is a part of."""
    closed: tuple[PublishedPort, ...]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Host ports `first` to `last` are to be closed; `host_ip` None: wherever they are published,
    `port` None: wherever they lead.
    """

    host_ip: str | None
    first: int
    last: int
    port: int | None
    protocol: str


def parse_closing(text: str) -> Wish:
    """What `text` asks to close.

    Raises:
        InvalidRequest: says what is wrong.
    """
    rest, slash, protocol = text.partition("/")
    address, bracket, ports = rest.rpartition("]:")
    if bracket:
        address += "]:"
    elif "." in rest.split(":")[0]:
        address, colon, ports = rest.partition(":")
        address += colon
    # One port alone is the host's here; where it is published, it is the container's.
    alone = ":" not in ports
    try:
        found = parse_port(f"{address}{f'{ports}:{ports}' if alone else ports}{slash}{protocol}")
    except InvalidRequest as error:
        reason = error.message.partition("': ")[2]
        raise InvalidRequest(f"port {text!r}: {reason}; to close it, write {FORM}") from None
    if found.host_port is None or found.host_port_end is None:
        raise InvalidRequest(f"port {text!r}: the host port is missing; write {FORM}")
    return Wish(
        host_ip=found.host_ip,
        first=found.host_port,
        last=found.host_port_end,
        port=None if alone else found.port,
        protocol=found.protocol,
    )


def close_ports(text: str, ports: Iterable[PublishedPort], name: str) -> Closing:
    """What closing `text` means for the ports of the sandbox that is called `name`.

    Raises:
        InvalidRequest: `text` is not well formed.
        NotFound: not all of it is published; says what is.
    """
    wish = parse_closing(text)
    affected, remaining, closed = [], [], []
    published = list(ports)
    for port in published:
        low, high = max(wish.first, port.host_port), min(wish.last, port.host_port_end)
        part = _part(port, low, high)
        if (
            low > high
            or port.protocol != wish.protocol
            or wish.host_ip not in (None, port.host_ip)
            or wish.port not in (None, part.port - low + wish.first)
        ):
            continue
        affected.append(port)
        closed.append(part)
        remaining += [
            (_part(port, start, end), port)
            for start, end in ((port.host_port, low - 1), (high + 1, port.host_port_end))
            if start <= end
        ]
    missing = _first_missing(closed, wish.first, wish.last)
    if missing is not None:
        known = ", ".join(map(str, published)) or "nothing"
        where = f" on {wish.host_ip}" if wish.host_ip else ""
        where += f" to lead to {wish.port}" if wish.port is not None else ""
        raise NotFound(
            f"port {missing}/{wish.protocol} is not published{where} by {name}; "
            f"it publishes {known}"
        )
    return Closing(tuple(affected), tuple(remaining), tuple(closed))


def _part(port: PublishedPort, first: int, last: int) -> PublishedPort:
    return msgspec.structs.replace(
        port, host_port=first, host_port_end=last, port=port.port + first - port.host_port
    )


def _first_missing(ports: Iterable[PublishedPort], first: int, last: int) -> int | None:
    for port in sorted(ports, key=lambda port: port.host_port):
        if port.host_port > first:
            return first
        first = max(first, port.host_port_end + 1)
    return first if first <= last else None
