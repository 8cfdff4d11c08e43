"""Networks as Docker shows them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from linkspan.api.docker.times import show_moment
from linkspan.api.docker.written import is_attachable, visible_labels, written_options
from linkspan.drivers.records import Network, Sandbox, Subnet
from linkspan.drivers.registry import driver
from linkspan.engine.dhcp.drafting import is_leased

LARGEST = 2**64 - 1
"""Numbers of addresses are shown up to this one."""


class IPAMConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One subnet; what it does not have is left out."""

    subnet: str = msgspec.field(name="Subnet")
    ip_range: str | None = msgspec.field(name="IPRange", default=None)
    gateway: str | None = msgspec.field(name="Gateway", default=None)
    reserved: dict[str, str] = msgspec.field(name="AuxiliaryAddresses", default_factory=dict)


class IPAM(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The subnets of a network."""

    driver: str
    options: dict[str, str] | None
    config: list[IPAMConfig]


class ConfigFrom(msgspec.Struct, frozen=True, rename="pascal"):
    """The network that another one takes its configuration from: none of ours does."""

    network: str = ""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox on a network. Addresses carry their prefix length, "" for none."""

    name: str = msgspec.field(name="Name")
    endpoint_id: str = msgspec.field(name="EndpointID", default="")
    mac: str = msgspec.field(name="MacAddress", default="")
    ipv4: str = msgspec.field(name="IPv4Address", default="")
    ipv6: str = msgspec.field(name="IPv6Address", default="")


class SubnetStatus(msgspec.Struct, frozen=True):
    """How many addresses of a subnet cannot be leased, and how many can."""

    in_use: int = msgspec.field(name="IPsInUse")
    available: int = msgspec.field(name="DynamicIPsAvailable")


class IPAMStatus(msgspec.Struct, frozen=True, rename="pascal"):
    """The subnets of a network, by prefix."""

    subnets: dict[str, SubnetStatus]


class NetworkStatus(msgspec.Struct, frozen=True):
    """How a network is used."""

    ipam: IPAMStatus = msgspec.field(name="IPAM")


class DockerNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """A network. `containers` are there when one is inspected, `status` from version 1.52 on."""

    name: str = msgspec.field(name="Name")
    id: str = msgspec.field(name="Id")
    created: str = msgspec.field(name="Created")
    scope: str = msgspec.field(name="Scope", default="local")
    driver: str = msgspec.field(name="Driver")
    ipv4: bool = msgspec.field(name="EnableIPv4")
    ipv6: bool = msgspec.field(name="EnableIPv6")
    ipam: IPAM = msgspec.field(name="IPAM")
    internal: bool = msgspec.field(name="Internal")
    attachable: bool = msgspec.field(name="Attachable")
    ingress: bool = msgspec.field(name="Ingress", default=False)
    config_from: ConfigFrom = msgspec.field(name="ConfigFrom", default=ConfigFrom())
    config_only: bool = msgspec.field(name="ConfigOnly", default=False)
    options: dict[str, str] = msgspec.field(name="Options")
    labels: dict[str, str] = msgspec.field(name="Labels")
    containers: dict[str, Member] | msgspec.UnsetType = msgspec.field(
        name="Containers", default=msgspec.UNSET
    )
    status: NetworkStatus | msgspec.UnsetType = msgspec.field(name="Status", default=msgspec.UNSET)


def show_network(
    network: Network, sandboxes: Iterable[Sandbox] | None = None, status: bool = False
) -> DockerNetwork:
    """A network as shown: with its members when all sandboxes are given."""
    members = None if sandboxes is None else find_members(network, sandboxes)
    return DockerNetwork(
        name=network.name,
        id=network.id,
        created=show_moment(network.created),
        driver=network.driver,
        # Docker calls IPv4 enabled on the networks without addresses, host and none.
        ipv4=is_leased(network)
        or not network.subnets
        or any(":" not in s.subnet for s in network.subnets),
        ipv6=network.has_ipv6,
        ipam=IPAM(
            driver=network.ipam,
            options=None,
            config=[show_subnet(subnet) for subnet in network.subnets],
        ),
        internal=network.internal,
        attachable=is_attachable(network),
        options=written_options(network),
        labels=visible_labels(network),
        containers=msgspec.UNSET if members is None else members,
        status=count_addresses(network, members or {}) if status else msgspec.UNSET,
    )


def show_subnet(subnet: Subnet) -> IPAMConfig:
    """A subnet as shown."""
    return IPAMConfig(
        subnet=subnet.subnet,
        ip_range=subnet.ip_range,
        gateway=subnet.gateway,
        reserved=dict(subnet.reserved),
    )


def find_members(network: Network, sandboxes: Iterable[Sandbox]) -> dict[str, Member]:
    """Who is on a network, by the sandbox's id."""
    members: dict[str, Member] = {}
    for sandbox in sandboxes:
        if sandbox.state not in ("allocated", "up"):
            continue
        if network.name == implied_network(sandbox) and not driver(network.driver).makes_endpoints:
            members[sandbox.id] = Member(name=sandbox.name)
        for endpoint in sandbox.endpoints:
            if endpoint.network == network.id:
                members[sandbox.id] = Member(
                    name=sandbox.name,
                    endpoint_id=endpoint.id,
                    mac=endpoint.mac or "",
                    ipv4=endpoint.ipv4 or "",
                    ipv6=endpoint.ipv6 or "",
                )
    return members


def implied_network(sandbox: Sandbox) -> str | None:
    """The network that a sandbox is on without an endpoint: "host", "none", or None."""
    if sandbox.host_mode:
        return "host"
    return None if sandbox.endpoints else "none"


def count_addresses(network: Network, members: dict[str, Member]) -> NetworkStatus:
    """How many addresses of each subnet are leased or reserved, and how many are left."""
    held = [
        ipaddress.ip_interface(address).ip
        for member in members.values()
        for address in (member.ipv4, member.ipv6)
        if address
    ]
    counted: dict[str, SubnetStatus] = {}
    for subnet in network.subnets:
        whole = ipaddress.ip_network(subnet.subnet)
        part = ipaddress.ip_network(subnet.ip_range or subnet.subnet)
        taken = {address for address in held if address in whole}
        taken |= {ipaddress.ip_address(text) for text in subnet.reserved.values()}
        if subnet.gateway is not None:
            taken.add(ipaddress.ip_address(subnet.gateway))
        if whole.prefixlen < whole.max_prefixlen - 1:
            taken.add(whole.network_address)
            if whole.version == 4:
                taken.add(whole.broadcast_address)
        free = part.num_addresses - sum(address in part for address in taken)
        counted[subnet.subnet] = SubnetStatus(min(len(taken), LARGEST), min(free, LARGEST))
    return NetworkStatus(IPAMStatus(counted))
