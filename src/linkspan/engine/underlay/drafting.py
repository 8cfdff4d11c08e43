"""Networks on a parent, from a request: whether the host's interface can carry them.

Pure: the host is a value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from linkspan.dataplane import HOST, DataPlane, Ipvlan, Link, Loopback, Macvlan
from linkspan.drivers.records import Network
from linkspan.drivers.registry import driver
from linkspan.drivers.underlay import (
    has_host_access,
    is_routed,
    is_underlay,
    leads_nowhere,
    made_parent_name,
    mode_of,
    parent_of,
    split_vlan,
)
from linkspan.engine.dhcp.drafting import DHCP, take_dhcp
from linkspan.engine.ipam import Occupied, complete_subnets
from linkspan.engine.requests import NetworkRequest, SubnetRequest
from linkspan.engine.underlay.subnets import (
    check_gateway,
    check_ranges,
    complete_wishes,
    find_occupied_by_others,
    settle_host_access,
)
from linkspan.engine.uplinks import is_ours
from linkspan.errors import Conflict, InvalidRequest, NotFound


def draft_underlay(
    request: NetworkRequest,
    draft: Network,
    existing: Sequence[Network],
    host: DataPlane,
    *,
    versions: Collection[int],
    pools: tuple[str, ...],
    occupied: Sequence[Occupied],
) -> Network:
    """The network that a request asks for, complete; nothing is made.

    `versions` are the IP versions asked for; `pools` and `occupied`, all that is taken of
    them, are for a network that leads nowhere and may have any subnet.

    Raises InvalidRequest, NotFound, Conflict and AddressInUse, each with what is in the way.
    """
    network = driver(draft.driver).validate(draft)
    network = _settle_parent(network, host)
    others = [other for other in existing if is_underlay(other)]
    _check_companions(network, [o for o in others if parent_of(o) == parent_of(network)])
    if request.ipam == DHCP:
        request, network = take_dhcp(request, network)
        versions = set(versions) - {4}
    wishes: Sequence[SubnetRequest | str] = request.subnets
    if not leads_nowhere(network):
        wishes = list(complete_wishes(request.subnets, network, host, versions))
        occupied = list(find_occupied_by_others(network, existing, host))
    subnets = (
        ()
        if not versions
        else complete_subnets(
            wishes,
            pools,
            occupied,
            gateway=not is_routed(network) and not network.internal,
            versions=versions,
        )
    )
    for subnet in subnets:
        check_ranges(subnet, others)
        check_gateway(network, subnet, host)
    return settle_host_access(msgspec.structs.replace(network, subnets=subnets), host)


# The parent -----------------------------------------------------------------------------


def _settle_parent(network: Network, host: DataPlane) -> Network:
    """The network with its parent named, and `interface` where we make that."""
    name = parent_of(network)
    if not name:
        if has_host_access(network):
            raise InvalidRequest(
                "host_access needs a parent; add -o parent=INTERFACE, or leave host_access out"
            )
        made = made_parent_name(network.id)
        return msgspec.structs.replace(
            network,
            options={**network.options, "parent": made},
            interface=made,
            internal=True,
        )
    link = _link(host, name)
    vlan = split_vlan(name)
    if vlan is not None and (link is None or link.alias == f"linkspan:parent:{name}"):
        base = _link(host, vlan[0])
        _check_usable(vlan[0], base, host)
        return _with_parent_mtu(msgspec.structs.replace(network, interface=name), base)
    _check_usable(name, link, host)
    return _with_parent_mtu(network, link)


def _with_parent_mtu(network: Network, link: Link | None) -> Network:
    if link is None or link.mtu is None:
        return network
    if "mtu" not in network.options:
        return msgspec.structs.replace(network, mtu=min(link.mtu, 65535))
    if network.mtu > link.mtu:
        raise InvalidRequest(
            f"MTU {network.mtu} is more than parent {link.name} has ({link.mtu}); "
            "choose a smaller one, or leave it out"
        )
    return network


def _link(host: DataPlane, name: str) -> Link | None:
    found = host.get(("link", HOST, name))
    return found if isinstance(found, Link) else None


def _check_usable(name: str, link: Link | None, host: DataPlane) -> None:
    """Raise with the reason why an interface cannot carry links of containers."""
    if link is None:
        known = sorted(
            one.name
            for one in host.of(Link)
            if one.namespace == HOST and not is_ours(one) and not isinstance(one.kind, Loopback)
        )
        raise NotFound(
            f"there is no interface {name} on this host that could be a parent; "
            f"there are {', '.join(known[:8]) or 'none'}"
        )
    if isinstance(link.kind, Loopback):
        raise InvalidRequest(f"{name} is the loopback interface and leads to no segment")
    if is_ours(link):
        raise Conflict(f"{name} is linkspan's own interface; name one that leads to a segment")
    if link.master:
        raise Conflict(
            f"{name} is a port of {link.master}, which gets all its frames; "
            f"use parent={link.master}"
        )
    if isinstance(link.kind, (Macvlan, Ipvlan)):
        below = link.kind.parent or "another interface"
        raise Conflict(f"{name} is itself a link on {below}; use that as the parent")
    if link.mac is None:
        raise InvalidRequest(f"{name} has no MAC address, so it is no Ethernet interface")
    if not link.up:
        raise Conflict(f"{name} is down; `ip link set {name} up` first")


def _check_companions(network: Network, others: Iterable[Network]) -> None:
    """Raise Conflict when networks on the same parent exclude this one."""
    name, mode = parent_of(network), mode_of(network)
    for other in others:
        if other.driver != network.driver:
            raise Conflict(
                f"parent {name} carries network {other.name} ({other.driver}), and the kernel "
                f"lets it carry macvlan or ipvlan, not both; use driver {other.driver}, or "
                "another parent"
            )
        if "passthru" in (mode, mode_of(other)):
            raise Conflict(
                f"parent {name} carries network {other.name} (mode {mode_of(other)}), and mode "
                "passthru gives a parent to one container alone; use another parent"
            )
        if network.driver == "ipvlan":
            ours, theirs = ((mode_of(one), one.options.get("flag")) for one in (network, other))
            if ours != theirs:
                raise Conflict(
                    f"parent {name} carries network {other.name} in mode {theirs[0]}, flag "
                    f"{theirs[1]}; the kernel has one mode and flag for all of a parent, so "
                    f"{ours[0]}, {ours[1]} needs another parent"
                )
