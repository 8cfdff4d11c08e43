"""Networks: created, removed, pruned, and the three that exist from the start."""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections.abc import Iterable

import msgspec

from linkspan.dataplane import HOST, Add, Address, DataPlane, Link, Remove, Route
from linkspan.drivers.records import Network
from linkspan.drivers.registry import driver
from linkspan.drivers.underlay import is_underlay, leads_nowhere, parent_of
from linkspan.engine.actors import acting
from linkspan.engine.changes import creation, removal
from linkspan.engine.core import Core
from linkspan.engine.dhcp.drafting import check_ipam
from linkspan.engine.entries import Write, delete_network, write_network
from linkspan.engine.events import Happening
from linkspan.engine.host import HOST_PLACE
from linkspan.engine.ipam import Occupied, complete_subnets
from linkspan.engine.names import check_name
from linkspan.engine.plans import Plan
from linkspan.engine.requests import NetworkRequest
from linkspan.engine.underlay.drafting import draft_underlay
from linkspan.engine.underlay.trials import is_beside_the_point, refusal_of, trials
from linkspan.engine.uplinks import is_ours
from linkspan.errors import Conflict, InvalidRequest, KernelRefused, NetworkInUse, Unsupported
from linkspan.kernel.failpoints import reach

PREDEFINED = {
    "bridge": NetworkRequest(name="bridge", driver="bridge", options={"bridge": "linkspan0"}),
    "host": NetworkRequest(name="host", driver="host"),
    "none": NetworkRequest(name="none", driver="null"),
}
"""Networks that always exist; by name."""
DEFAULT_MTU = 1500
IPV6_SWITCHES = ("ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6")


class Networks:
    """The operations on networks."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def create(self, request: NetworkRequest, *, dry_run: bool = False) -> Network | Plan:
        """Make a network. Raises InvalidRequest, NameInUse, AddressInUse, Exhausted, Conflict."""
        core = self._core
        check_name("network", request.name)
        async with core.gate.shared():
            core.register.check_network_name(request.name)
            made = driver(request.driver)
            host = DataPlane()
            if made.makes_endpoints:
                host = await core.observe(HOST_PLACE)
                core.register.check_network_name(request.name)
            pools = (*core.settings.default_pools, core.unique_local)
            network = draft_network(request, core.register.all_networks(), host, pools)
            if network.has_ipv6:
                check_ipv6(core.host.read_settings(IPV6_SWITCHES))
            plane = self._own_plane(network)
            if dry_run:
                return Plan(creation(plane))
            core.register.reserve_network(network)
            try:
                # The kernel first: what is there and not stored is removed at the next start,
                # and nobody can have joined it.
                try:
                    await self._apply_new(network, plane)
                    reach("network.applied")
                    await core.save(write_network(network), about("created", network))
                    reach("network.stored")
                except BaseException:
                    await core.writer.apply(removal(plane))
                    raise
            except BaseException:
                core.register.drop_network(network)
                raise
            core.addresses.open(network)
            core.parents.open(network, host)
            core.register.put_network(network)
            await core.naming.put_network(network)
            if network.interface and is_underlay(network):
                core.parents.learn(await core.observe(HOST_PLACE))
            return network

    async def _apply_new(self, network: Network, plane: DataPlane) -> None:
        """Make what a network needs; on a parent, after the kernel let that carry a link."""
        if not is_underlay(network):
            await self._core.writer.apply(creation(plane))
            return
        parent = [item for item in plane if item.key == ("link", HOST, parent_of(network))]
        try:
            await self._core.writer.apply(creation(DataPlane(parent)))
            if not leads_nowhere(network):
                await self._try_parent(network)
            rest = DataPlane(item for item in plane if item not in parent)
            await self._core.writer.apply(creation(rest))
        except KernelRefused as error:
            raise refusal_of(network, error) from error

    async def _try_parent(self, network: Network) -> None:
        """Find out whether the kernel lets a parent carry links of containers."""
        core = self._core
        for link in trials(network, alone=not core.parents.networks_on(parent_of(network))):
            try:
                await core.writer.apply((Add(link),))
                await core.writer.apply((Remove(link),))
            except KernelRefused as error:
                if not is_beside_the_point(network, link, error):
                    raise

    def _own_plane(self, network: Network) -> DataPlane:
        """What a network needs on the host that no other one needs as well (a VLAN's link)."""
        plane = driver(network.driver).describe_network(network)
        others = [
            driver(other.driver).describe_network(other)
            for other in self._core.parents.networks_on(parent_of(network))
            if other.id != network.id
        ]
        return DataPlane(item for item in plane if not any(item.key in one for one in others))

    async def remove(self, ref: str, *, dry_run: bool = False) -> Plan | None:
        """Remove a network. Raises NotFound, NetworkInUse naming the sandboxes on it."""
        core = self._core
        async with core.gate.shared():
            network = core.register.network(ref)
            self._check_unused(network)
            plane = self._own_plane(network)
            if dry_run:
                return Plan(removal(plane))
            # Out of reach first: nobody can join any more.
            core.register.reserve_network(network)
            try:
                await core.writer.apply(removal(plane))
                reach("network.removed")
                write = delete_network(network)
                keys = (*write.deletes, *core.addresses.keys(network))
                await core.save(Write({}, keys), about("removed", network))
            except BaseException:
                core.register.put_network(network)
                raise
            core.register.drop_network(network)
            core.addresses.close(network)
            core.parents.close(network)
            await core.naming.drop_network(network.id)
        return None

    async def prune(self, *, dry_run: bool = False) -> list[Network] | Plan:
        """Remove every network that no sandbox is on, but those that always exist."""
        core = self._core
        unused = [
            network
            for network in core.register.networks.values()
            if network.name not in PREDEFINED and not core.register.is_used(network.id)
        ]
        if dry_run:
            planes = (driver(n.driver).describe_network(n) for n in unused)
            return Plan(tuple(operation for plane in planes for operation in removal(plane)))
        removed = []
        for network in unused:
            if network.id in core.register.networks and not core.register.is_used(network.id):
                await self.remove(network.id)
                removed.append(network)
        return removed

    async def create_predefined(self) -> None:
        """Make those of the networks that always exist which are not stored yet."""
        for name, request in PREDEFINED.items():
            if name not in self._core.register.network_ids:
                await self.create(request)

    def _check_unused(self, network: Network) -> None:
        if network.name in PREDEFINED:
            raise NetworkInUse(f"network {network.name} always exists and cannot be removed")
        members = self._core.register.members(network.id)
        if members:
            names = ", ".join(sorted(member.name for member in members[:10]))
            more = f" and {len(members) - 10} more" if len(members) > 10 else ""
            raise NetworkInUse(
                f"network {network.name} is in use by {names}{more}; "
                "disconnect or remove them first"
            )


def check_ipv6(settings: dict[str, str]) -> None:
    """Raise Unsupported unless this host's IPv6 is on; `settings` are IPV6_SWITCHES as read."""
    if not settings:
        raise Unsupported(
            "this host's kernel has no IPv6 (it was started with ipv6.disable=1, or built "
            "without); leave out the IPv6 subnet, or start the host with IPv6"
        )
    off = [path for path in IPV6_SWITCHES if settings.get(path) == "1"]
    if off:
        name = ".".join(("net", *off[0].split("/")))
        raise Unsupported(
            f"IPv6 is switched off on this host: {name} is 1; leave out the IPv6 subnet, or "
            f"switch it on with `sysctl -w {name}=0`"
        )


def about(action: str, network: Network) -> Happening:
    """What happened to a network."""
    return Happening(
        type="network",
        action=action,
        name=network.name,
        object_id=network.id,
        attributes={"driver": network.driver},
    )


def draft_network(
    request: NetworkRequest, networks: Iterable[Network], host: DataPlane, pools: tuple[str, ...]
) -> Network:
    """The network that a request asks for, complete; nothing is made.

    `networks` are those that exist, `host` what was observed of the host's namespace.
    """
    made = driver(request.driver)
    existing = list(networks)
    draft = Network(
        id=secrets.token_hex(32),
        name=request.name,
        driver=request.driver,
        options=request.options,
        labels=request.labels,
        internal=request.internal,
        mtu=underlay_mtu(host),
        created=time.time(),
        created_by=acting(),
    )
    check_ipam(request, draft)
    if not made.makes_endpoints:
        if request.name not in PREDEFINED and request.driver == "host":
            raise Conflict("there is one network of driver host, and it is called host; use that")
        if request.internal:
            raise InvalidRequest(
                f"a network of driver {request.driver} has no way out to close; leave out internal"
            )
        if request.ipv6:
            raise InvalidRequest(
                f"a network of driver {request.driver} has no addresses of its own; leave out ipv6"
            )
        # The driver refuses subnets that mean nothing to it.
        stated = [s if isinstance(s, str) else s.subnet or "" for s in request.subnets]
        if stated:
            draft = msgspec.structs.replace(
                draft, subnets=complete_subnets(request.subnets, pools, ())
            )
        return made.validate(draft)
    occupied, versions = find_occupied(request, existing, host), find_versions(request)
    if is_underlay(draft):
        return draft_underlay(
            request, draft, existing, host, versions=versions, pools=pools, occupied=occupied
        )
    subnets = complete_subnets(request.subnets, pools, occupied, versions=versions)
    network = made.validate(msgspec.structs.replace(draft, subnets=subnets))
    _check_interface(network, existing, host)
    return network


def find_versions(request: NetworkRequest) -> set[int]:
    """The IP versions (4, 6) that a request asks for. Raises InvalidRequest if none is left."""
    texts = [s if isinstance(s, str) else s.subnet for s in request.subnets]
    stated = {6 if text and ":" in text else 4 for text in texts}
    wanted = {4: request.ipv4, 6: request.ipv6}
    for version, wish in wanted.items():
        if wish is False and version in stated:
            subnet = next(t or "" for t in texts if (":" in (t or "")) == (version == 6))
            raise InvalidRequest(
                f"subnet {subnet} is IPv{version}, which is switched off for this network; "
                f"leave out the subnet, or ask for IPv{version}"
            )
    versions = stated | {version for version, wish in wanted.items() if wish}
    # Only a request that states nothing else has IPv4 by itself.
    if request.ipv4 is None and not stated:
        versions.add(4)
    if not versions:
        raise InvalidRequest(
            "a network without IPv4 and IPv6 has no addresses; ask for one of them"
        )
    return versions


def find_occupied(
    request: NetworkRequest, networks: Iterable[Network], host: DataPlane
) -> list[Occupied]:
    """The prefixes that a new subnet must not overlap: those of networks, and the host's own.

    A route through a gateway to a wider prefix than a subnet that was asked for by name
    does not stand in its way: the more specific route is what the user wants.
    """
    found = [
        Occupied(subnet.subnet, f"network {network.name}")
        for network in networks
        for subnet in network.subnets
    ]
    ours = {link.name for link in host.of(Link) if link.namespace == HOST and is_ours(link)}
    for address in host.of(Address):
        if address.namespace == HOST and address.link not in ours:
            prefix = str(ipaddress.ip_interface(address.address).network)
            found.append(Occupied(prefix, f"address {address.address} of {address.link}"))
    wanted = [s if isinstance(s, str) else s.subnet for s in request.subnets]
    stated = [ipaddress.ip_network(s, strict=False) for s in wanted if s and _is_prefix(s)]
    for route in host.of(Route):
        if route.namespace != HOST or route.link in ours or route.type != "unicast":
            continue
        prefix_ = ipaddress.ip_network(route.destination)
        if prefix_.prefixlen == 0 or prefix_.is_multicast or prefix_.is_link_local:
            continue
        wider = any(
            prefix_.version == one.version
            and prefix_.prefixlen < one.prefixlen
            and prefix_.overlaps(one)
            for one in stated
        )
        if wider and route.gateway is not None:
            continue
        found.append(Occupied(str(prefix_), f"a route by {route.link or route.gateway}"))
    return found


def _is_prefix(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def underlay_mtu(host: DataPlane) -> int:
    """The MTU of the interface with the host's default route, 1500 when there is none."""
    defaults = sorted(
        (route for route in host.of(Route) if _is_default(route)),
        key=lambda route: (":" in route.destination, route.metric),
    )
    for route in defaults:
        name = route.link or next((hop.link for hop in route.hops or () if hop.link), None)
        link = host.get(("link", HOST, name)) if name else None
        if isinstance(link, Link) and link.mtu is not None:
            return min(link.mtu, 65535)
    return DEFAULT_MTU


def _is_default(route: Route) -> bool:
    return (
        route.namespace == HOST
        and route.destination in ("0.0.0.0/0", "::/0")
        and route.table == 254
        and route.type == "unicast"
    )


def _check_interface(network: Network, networks: Iterable[Network], host: DataPlane) -> None:
    for other in networks:
        if other.interface == network.interface:
            raise Conflict(
                f"interface {network.interface} belongs to network {other.name}; "
                "choose another with the option bridge"
            )
    held = host.get(("link", HOST, network.interface))
    if held is not None:
        raise Conflict(
            f"the host has an interface {network.interface} that is not linkspan's; "
            "choose another name with the option bridge"
        )
