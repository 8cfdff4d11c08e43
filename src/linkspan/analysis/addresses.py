"""Addresses as numbers: quick to compare, with their IP version beside them."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache
from typing import NamedTuple

from linkspan.analysis.traced import Traced

WIDTH = {4: 32, 6: 128}
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class Prefix(NamedTuple):
    """A network by its first address and length."""

    version: int
    network: int
    length: int

    @property
    def last(self) -> int:
        """The last address in it."""
        return self.network | ((1 << WIDTH[self.version] - self.length) - 1)

    @property
    def edges(self) -> tuple[int, int]:
        """Its first address, and the number behind its last one."""
        return self.network, self.last + 1

    def holds(self, number: int) -> bool:
        """Whether an address of the same version lies in it."""
        if isinstance(number, Traced):
            return number.between(self.network, self.last)
        return number >> WIDTH[self.version] - self.length == self.network >> (
            WIDTH[self.version] - self.length
        )


def version_of(text: str) -> int:
    """4 or 6, by how an address or prefix is written."""
    return 6 if ":" in text else 4


@lru_cache(maxsize=65536)
def to_number(text: str) -> int:
    """An address as a number. Raises ValueError for what is none."""
    return int(ipaddress.ip_address(text.partition("%")[0]))


def to_text(number: int, version: int) -> str:
    """An address as people write it."""
    return _to_text(int(number), version)


@lru_cache(maxsize=65536)
def _to_text(number: int, version: int) -> str:
    return socket.inet_ntop(_FAMILY[version], number.to_bytes(WIDTH[version] // 8, "big"))


@lru_cache(maxsize=65536)
def to_prefix(text: str) -> Prefix:
    """A prefix; an address alone is the prefix of itself. Host bits are dropped.

    Raises ValueError for what is none.
    """
    version = version_of(text)
    address, _, bits = text.partition("/")
    length = int(bits) if bits else WIDTH[version]
    free = WIDTH[version] - length
    if free < 0:
        raise ValueError(f"{text!r} is no prefix")
    return Prefix(version, to_number(address) >> free << free, length)


_LOOPBACK = {4: to_prefix("127.0.0.0/8"), 6: to_prefix("::1/128")}
_MULTICAST = {4: to_prefix("224.0.0.0/4"), 6: to_prefix("ff00::/8")}
_THIS_NETWORK = to_prefix("0.0.0.0/8")
_LINK_LOCAL = {4: to_prefix("169.254.0.0/16"), 6: to_prefix("fe80::/10")}


def is_loopback(number: int, version: int) -> bool:
    """127.0.0.0/8 or ::1."""
    return _LOOPBACK[version].holds(number)


def is_multicast(number: int, version: int) -> bool:
    """224.0.0.0/4 or ff00::/8; the limited broadcast address too."""
    return _MULTICAST[version].holds(number) or (version == 4 and number == 0xFFFFFFFF)


def is_this_network(number: int) -> bool:
    """0.0.0.0/8 of IPv4 ("this host on this network", RFC 1122)."""
    return _THIS_NETWORK.holds(number)


def is_link_local(number: int, version: int) -> bool:
    """fe80::/10 (in IPv4 the kernel makes no difference)."""
    return _LINK_LOCAL[version].holds(number)
