"""The subnets of networks on a parent: those of the segment, shared with others on it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from linkspan.dataplane import HOST, Address, Bridge, DataPlane, Link, Route
from linkspan.drivers.records import Network, Subnet
from linkspan.drivers.underlay import (
    has_host_access,
    is_routed,
    is_underlay,
    leads_nowhere,
    parent_of,
    parse_host_addresses,
)
from linkspan.engine.ipam import Occupied, find_overlap
from linkspan.engine.requests import SubnetRequest
from linkspan.engine.uplinks import is_ours
from linkspan.errors import AddressInUse, InvalidRequest


def find_occupied_by_others(
    network: Network, existing: Iterable[Network], host: DataPlane
) -> Iterator[Occupied]:
    """The prefixes that a subnet must not overlap.

    Those of networks behind this host, and of other bridges on it. What the host has on the
    parent, or on another interface to the same segment, is what the subnet shall be.
    """
    for other in existing:
        if not is_underlay(other):
            for subnet in other.subnets:
                yield Occupied(subnet.subnet, f"network {other.name}")
    bridges = {
        link.name
        for link in host.of(Link)
        if isinstance(link.kind, Bridge) and link.name != parent_of(network) and not is_ours(link)
    }
    for address in host.of(Address):
        if address.namespace == HOST and address.link in bridges:
            prefix = str(ipaddress.ip_interface(address.address).network)
            yield Occupied(prefix, f"address {address.address} of {address.link}")


def complete_wishes(
    wishes: Sequence[SubnetRequest | str],
    network: Network,
    host: DataPlane,
    versions: Collection[int],
) -> Iterator[SubnetRequest]:
    """Subnets as asked for, with what the parent says about those: its own subnets where none
    were asked for, and its router where no gateway was.
    """
    asked = [SubnetRequest(subnet=w) if isinstance(w, str) else w for w in wishes]
    stated = {6 if ":" in (wish.subnet or "") else 4 for wish in asked}
    asked += [
        SubnetRequest(subnet=_own_subnet(network, host, version))
        for version in sorted(set(versions) - stated)
    ]
    for wish in asked:
        if wish.subnet is None:
            wish = msgspec.structs.replace(wish, subnet=_own_subnet(network, host, 4))
        if wish.gateway is None and not network.internal and not is_routed(network):
            gateway = _router(network, str(wish.subnet), host)
            wish = msgspec.structs.replace(wish, gateway=gateway)
        yield wish


def _own_addresses(name: str, host: DataPlane) -> list[str]:
    """The host's addresses on an interface, with length, that are not link-local."""
    return [
        a.address
        for a in host.of(Address)
        if a.namespace == HOST
        and a.link == name
        and not ipaddress.ip_interface(a.address).is_link_local
    ]


def _own_subnet(network: Network, host: DataPlane, version: int) -> str:
    name = parent_of(network)
    for address in _own_addresses(name, host):
        prefix = ipaddress.ip_interface(address).network
        if prefix.version == version:
            return str(prefix)
    raise InvalidRequest(
        f"parent {name} has no IPv{version} address whose subnet could be meant; "
        "state the segment's with --subnet"
    )


def _router(network: Network, subnet: str, host: DataPlane) -> str | None:
    """The gateway of the host's own default route, where it is in a subnet by the parent."""
    try:
        prefix = ipaddress.ip_network(subnet)
    except ValueError:
        return None  # refused in words of its own later
    for route in host.of(Route):
        if (
            route.namespace == HOST
            and route.link == parent_of(network)
            and route.destination in ("0.0.0.0/0", "::/0")
            and route.gateway is not None
            and ipaddress.ip_address(route.gateway) in prefix
        ):
            return route.gateway
    return None


def check_ranges(subnet: Subnet, others: Iterable[Network]) -> None:
    """Raise AddressInUse when two networks would lease the same addresses."""
    mine = subnet.ip_range or subnet.subnet
    taken = [
        Occupied(theirs.ip_range or theirs.subnet, f"network {other.name}")
        for other in others
        for theirs in other.subnets
    ]
    found = find_overlap(mine, taken)
    if found is not None:
        raise AddressInUse(
            f"addresses would be leased from {mine} and by {found.holder} from {found.prefix}; "
            "networks share a subnet when each leases from a part of its own: add --ip-range"
        )


def check_gateway(network: Network, subnet: Subnet, host: DataPlane) -> None:
    """Raise InvalidRequest when the gateway is one that members cannot reach."""
    if subnet.gateway is None or leads_nowhere(network):
        return
    own = _own_addresses(parent_of(network), host)
    if subnet.gateway in (a.split("/")[0] for a in own) and not has_host_access(network):
        raise InvalidRequest(
            f"gateway {subnet.gateway} is this host's own address on {parent_of(network)}, which "
            f"members of a {network.driver} network cannot reach; state the segment's router "
            "with --gateway, or use a network of driver bridge"
        )


def settle_host_access(network: Network, host: DataPlane) -> Network:
    """The network with the address by which the host reaches members, where it has one."""
    if not has_host_access(network):
        return network
    stated = network.options.get("host_address")
    if stated is not None:
        return msgspec.structs.replace(
            network,
            subnets=tuple(_reserve(network.subnets, parse_host_addresses(stated))),
        )
    if "host_source" in network.options:
        return network
    for subnet in network.subnets:
        prefix = ipaddress.ip_network(subnet.subnet)
        for address in _own_addresses(parent_of(network), host):
            if prefix.version == 4 and ipaddress.ip_interface(address).ip in prefix:
                source = address.split("/")[0]
                return msgspec.structs.replace(
                    network, options={**network.options, "host_source": source}
                )
    if all(":" in subnet.subnet for subnet in network.subnets):
        return network  # the kernel chooses a source for IPv6 that is in the same prefix
    raise InvalidRequest(
        f"host_access: the host has no address on {parent_of(network)} that is in the subnet, so "
        "members could not answer it; add -o host_address=ADDRESS, one of the subnet"
    )


def _reserve(subnets: Iterable[Subnet], addresses: Sequence[str]) -> Iterator[Subnet]:
    left = set(addresses)
    for subnet in subnets:
        inside = [a for a in left if ipaddress.ip_address(a) in ipaddress.ip_network(subnet.subnet)]
        left -= set(inside)
        names = {f"host_access{6 if ':' in a else ''}": a for a in inside}
        yield msgspec.structs.replace(subnet, reserved={**subnet.reserved, **names})
    if left:
        raise InvalidRequest(
            f"host_address {', '.join(sorted(left))} is in none of the network's subnets"
        )
