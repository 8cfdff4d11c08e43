"""The text that asks for a published port.

[[HOST_IP:]HOST_PORT[-END]:]PORT[-END][/tcp|udp|sctp]

80                    port 80, on a free host port
8080:80               host port 8080
127.0.0.1::80         a free port of 127.0.0.1
[::1]:8080:80/udp     an IPv6 address stands in brackets
8000-8010:9000-9010   eleven ports
8000-8010:80          the first free one of eleven host ports
"""

from __future__ import annotations

import ipaddress
import re

import msgspec

from linkspan.errors import InvalidRequest

PROTOCOLS = ("tcp", "udp", "sctp")
FORM = "[[HOST_IP:]HOST_PORT[-END]:]PORT[-END][/tcp|udp|sctp]"
_BRACKETED = re.compile(r"\[([^\]]*)\]:(.*)")


class PortSpecification(msgspec.Struct, frozen=True, kw_only=True):
    """What one text asks for. `host_ip` None means every address, `host_port` None a free one.

    Where the host's range is longer than the container's, any part of it will do.
    """

    text: str
    host_ip: str | None = None
    host_port: int | None = None
    host_port_end: int | None = None
    port: int
    port_end: int
    protocol: str = "tcp"

    @property
    def length(self) -> int:
        """How many ports are published."""
        return self.port_end - self.port + 1

    @property
    def is_fixed(self) -> bool:
        """Whether the host ports are already known."""
        return (
            self.host_port is not None
            and self.host_port_end is not None
            and self.host_port_end - self.host_port + 1 == self.length
        )


def parse_port(text: str) -> PortSpecification:
    """What `text` asks for.

    Raises:
        InvalidRequest: says which part of which text is wrong.
    """
    rest, slash, protocol = text.partition("/")
    if slash and protocol.lower() not in PROTOCOLS:
        raise _wrong(text, f"there is no protocol {protocol!r}; write tcp, udp or sctp")
    host_ip, host, inside = _split(text, rest)
    if not inside:
        raise _wrong(text, f"the container's port is missing; the form is {FORM}")
    port, port_end = _parse_range(text, inside, "container port")
    found = PortSpecification(
        text=text,
        host_ip=_parse_host_ip(text, host_ip) if host_ip is not None else None,
        port=port,
        port_end=port_end,
        protocol=protocol.lower() if slash else "tcp",
    )
    if not host:
        return found
    host_port, host_port_end = _parse_range(text, host, "host port")
    length = host_port_end - host_port + 1
    if length != found.length and found.length != 1:
        raise _wrong(
            text,
            f"{length} host port{'s' if length > 1 else ''} cannot lead to {found.length} "
            "container ports; make both ranges equally long",
        )
    return msgspec.structs.replace(found, host_port=host_port, host_port_end=host_port_end)


def _split(text: str, rest: str) -> tuple[str | None, str, str]:
    bracketed = _BRACKETED.fullmatch(rest)
    if bracketed:
        host_ip, rest = bracketed[1], bracketed[2]
        parts = [host_ip, *rest.split(":")]
        if len(parts) == 2:
            raise _wrong(
                text, f"the host port is missing; write [{host_ip}]::{rest} for a free one"
            )
    else:
        parts = rest.split(":")
    match parts:
        case [inside]:
            return None, "", inside
        case [host, inside]:
            if "." in host:
                raise _wrong(
                    text, f"the host port is missing; write {host}::{inside} for a free one"
                )
            return None, host, inside
        case [host_ip, host, inside]:
            return host_ip or None, host, inside
    if "[" in text:
        raise _wrong(text, f"the form is {FORM}")
    raise _wrong(text, "write an IPv6 address in brackets, like [::1]:8080:80")


def _parse_range(text: str, part: str, what: str) -> tuple[int, int]:
    first, dash, last = part.partition("-")
    numbers = (first, last if dash else first)
    for number in numbers:
        if not (number.isascii() and number.isdecimal()):
            raise _wrong(text, f"{what} {part!r} is no number or range; the form is {FORM}")
        if not 1 <= int(number) <= 65535:
            free = "; leave it out for a free one" if what == "host port" else ""
            raise _wrong(text, f"{what} {number} is not between 1 and 65535{free}")
    start, end = int(numbers[0]), int(numbers[1])
    if start > end:
        raise _wrong(text, f"the range {part} ends before it begins; write {end}-{start}")
    return start, end


def _parse_host_ip(text: str, host_ip: str) -> str:
    try:
        address = ipaddress.ip_address(host_ip)
    except ValueError:
        hint = "use 127.0.0.1" if host_ip == "localhost" else "names are not looked up"
        raise _wrong(text, f"host address {host_ip!r} is no IP address; {hint}") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            raise _wrong(text, f"write {address.ipv4_mapped} instead of {host_ip}")
        if address.is_link_local:
            raise _wrong(text, f"host address {host_ip} is link-local, which is no one host's own")
    return str(address)


def _wrong(text: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"port {text!r}: {why}")
