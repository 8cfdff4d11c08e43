"""Default pools: prefixes from which a network without a stated subnet gets one."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

import msgspec

from linkspan.engine.ipam.intervals import Intervals
from linkspan.engine.ipam.subnets import IPNetwork, Occupied, parse_subnet
from linkspan.errors import Exhausted, InvalidRequest


class Pool(msgspec.Struct, frozen=True):
    """A prefix, and the length of the subnets that are cut from it."""

    base: str
    length: int

    def __str__(self) -> str:
        return f"{self.base}:{self.length}"


def parse_pool(text: str) -> Pool:
    """A pool from "172.20.0.0/14:24"; without the second length, the prefix is one subnet.

    Raises:
        InvalidRequest: it is none; says what would be right.
    """
    base, slash, rest = text.rpartition("/")
    length, colon, size = rest.partition(":")
    if not slash or not length.isdecimal() or (colon and not size.isdecimal()):
        raise InvalidRequest(
            f"address pool {text!r}: write a prefix and the length of its subnets, "
            "like 172.20.0.0/14:24"
        )
    network = parse_subnet(f"{base}/{length}")
    pool = Pool(str(network), int(size) if colon else network.prefixlen)
    longest = network.max_prefixlen - 2
    if not network.prefixlen <= pool.length <= longest:
        raise InvalidRequest(
            f"address pool {text!r}: the length of its subnets must be between "
            f"{network.prefixlen} and {longest}"
        )
    return pool


def choose_subnet(pools: Sequence[Pool], occupied: Iterable[Occupied], version: int = 4) -> str:
    """The first subnet of the pools of this IP version that overlaps nothing occupied.

    Time grows with the number of occupied prefixes, not with the size of a pool.

    Raises:
        Exhausted: there is none.
    """
    taken = Intervals()
    for one in occupied:
        prefix = ipaddress.ip_network(one.prefix, strict=False)
        if prefix.version == version and prefix.prefixlen:
            taken.add_run(int(prefix.network_address), int(prefix.broadcast_address))
    own = [pool for pool in pools if ipaddress.ip_network(pool.base).version == version]
    for pool in own:
        found = _first_free(pool, taken)
        if found is not None:
            return str(found)
    total = sum(1 << (pool.length - ipaddress.ip_network(pool.base).prefixlen) for pool in own)
    raise Exhausted(
        f"all {total} subnets of the default pools ({', '.join(map(str, own)) or 'none'}) overlap "
        "a network or a route of this host; remove unused networks, state a subnet, or set "
        "default_pools"
    )


def _first_free(pool: Pool, taken: Intervals) -> IPNetwork | None:
    base = ipaddress.ip_network(pool.base)
    size = 1 << (base.max_prefixlen - pool.length)
    start, end = int(base.network_address), int(base.broadcast_address)
    blocks = Intervals()  # numbers of the subnets that are touched
    for first, last in taken:
        if first <= end and last >= start:
            blocks.add_run((max(first, start) - start) // size, (min(last, end) - start) // size)
    block = blocks.first_missing(0, (end - start) // size)
    if block is None:
        return None
    kind = ipaddress.IPv4Address if base.version == 4 else ipaddress.IPv6Address
    return ipaddress.ip_network((kind(start + block * size), pool.length))


def unique_local_pool(identifier: bytes) -> Pool:
    """The /48 of unique local addresses with this global identifier, cut into /64s.

    The identifier is 40 random bits (RFC 4193, section 3.2), so that practically no two hosts
    have the same.
    """
    packed = b"\xfd" + identifier + bytes(10)
    return Pool(f"{ipaddress.IPv6Address(packed)}/48", 64)
