"""Between the kernel's bytes and the text of a data plane: addresses, prefixes, MACs."""

from __future__ import annotations

from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from linkspan.errors import InvalidRequest

FAMILIES = (AF_INET, AF_INET6)


@lru_cache(maxsize=4096)
def address_bytes(address: str) -> bytes:
    """The 4 or 16 bytes of an IPv4 or IPv6 address. Raises InvalidRequest."""
    try:
        return inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    except (OSError, ValueError):
        raise InvalidRequest(f'"{address}" is not an IP address') from None


@lru_cache(maxsize=4096)
def address_text(data: bytes) -> str:
    """The canonical text (RFC 5952 for IPv6) of 4 or 16 bytes."""
    return inet_ntop(AF_INET if len(data) == 4 else AF_INET6, data)


def family_of(address: str) -> int:
    """AF_INET or AF_INET6 for an address or prefix in text."""
    return int(AF_INET6) if ":" in address else int(AF_INET)


def split_prefix(prefix: str) -> tuple[bytes, int]:
    """The bytes and the length of a prefix; without a slash it is one whole address."""
    address, slash, length = prefix.partition("/")
    data = address_bytes(address)
    if not slash:
        return data, len(data) * 8
    if not length.isdecimal() or int(length) > len(data) * 8:
        raise InvalidRequest(f'"{prefix}" has no valid prefix length')
    return data, int(length)


def prefix_text(data: bytes | None, length: int, family: int) -> str:
    """A prefix as text; no bytes mean the unspecified address."""
    if data is None:
        data = bytes(4 if family == AF_INET else 16)
    return f"{address_text(data)}/{length}"


@lru_cache(maxsize=4096)
def mac_bytes(mac: str) -> bytes:
    """The bytes of a hardware address "02:42:0a:14:00:02". Raises InvalidRequest."""
    try:
        data = bytes.fromhex(mac.replace(":", ""))
    except ValueError:
        data = b""
    if not data:
        raise InvalidRequest(f'"{mac}" is not a hardware address')
    return data


def mac_text(data: bytes) -> str:
    """A hardware address as text."""
    return data.hex(":")
