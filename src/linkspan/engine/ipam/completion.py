"""All subnets of a network: those that were asked for, and one from the pools for the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from linkspan.drivers.records import Subnet
from linkspan.engine.ipam.pools import choose_subnet, parse_pool
from linkspan.engine.ipam.subnets import Occupied, complete_subnet, refuse_overlap
from linkspan.errors import InvalidRequest


class SubnetWish(Protocol):
    """A subnet as a request has it; what is None is chosen."""

    @property
    def subnet(self) -> str | None: ...
    @property
    def gateway(self) -> str | None: ...
    @property
    def ip_range(self) -> str | None: ...
    @property
    def reserved(self) -> Mapping[str, str]: ...


class _Wish(msgspec.Struct, frozen=True):
    subnet: str | None = None
    gateway: str | None = None
    ip_range: str | None = None
    reserved: dict[str, str] = {}
    version: int = 4
    """The IP version of a subnet that is chosen."""


def complete_subnets(
    wishes: Sequence[SubnetWish | str],
    pools: Iterable[str],
    occupied: Iterable[Occupied],
    *,
    gateway: bool = True,
    versions: Collection[int] = (),
) -> tuple[Subnet, ...]:
    """All subnets of a network, in the order of the request; one from the pools if it has none.

    `versions` are the IP versions (4, 6) that it must have; what is not stated of them comes
    from the pools, after the others. Else a subnet that is not stated is IPv4. `gateway` False
    leaves a gateway out where none was asked for.

    Raises:
        InvalidRequest: a value is wrong; says which, and what would be right.
        AddressInUse: a subnet overlaps another of the request, or one that is occupied.
        Exhausted: the default pools are used up.
    """
    taken = list(occupied)
    asked = [_Wish(subnet=w) if isinstance(w, str) else w for w in wishes]
    stated = {_version(wish) for wish in asked}
    asked += [_Wish(version=version) for version in sorted(versions) if version not in stated]
    asked = asked or [_Wish()]
    found: dict[int, Subnet] = {}
    # What was chosen goes first, so that a subnet from a pool keeps clear of it.
    for index in sorted(range(len(asked)), key=lambda i: asked[i].subnet is None):
        wish = asked[index]
        subnet = wish.subnet
        if subnet is None:
            if wish.gateway or wish.ip_range or wish.reserved:
                raise InvalidRequest(
                    "a gateway, an address range or reserved addresses need a subnet: "
                    "state it with --subnet"
                )
            subnet = choose_subnet([parse_pool(text) for text in pools], taken, _version(wish))
        found[index] = complete_subnet(
            subnet,
            gateway=wish.gateway,
            ip_range=wish.ip_range,
            reserved=wish.reserved,
            choose_gateway=gateway,
        )
        refuse_overlap(found[index].subnet, taken)
        taken.append(Occupied(found[index].subnet, "another subnet of this request"))
    return tuple(found[index] for index in range(len(asked)))


def _version(wish: SubnetWish) -> int:
    if wish.subnet is None:
        return wish.version if isinstance(wish, _Wish) else 4
    return 6 if ":" in wish.subnet else 4
