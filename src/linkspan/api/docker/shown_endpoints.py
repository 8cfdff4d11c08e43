"""A sandbox's places on its networks as Docker shows them: EndpointSettings."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from linkspan.api.docker.shown_networks import implied_network
from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.names.table import SHORT_ID


class EndpointIPAM(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The addresses that were asked for by value."""

    ipv4: str | None = msgspec.field(name="IPv4Address", default=None)
    ipv6: str | None = msgspec.field(name="IPv6Address", default=None)


class EndpointSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A place on one network; addresses without prefix length, "" for none."""

    ipam: EndpointIPAM | None = msgspec.field(name="IPAMConfig", default=None)
    links: list[str] | None = msgspec.field(name="Links", default=None)
    aliases: list[str] | None = msgspec.field(name="Aliases", default=None)
    driver_options: dict[str, str] | None = msgspec.field(name="DriverOpts", default=None)
    gateway_priority: int = msgspec.field(name="GwPriority", default=0)
    network_id: str = msgspec.field(name="NetworkID", default="")
    endpoint_id: str = msgspec.field(name="EndpointID", default="")
    gateway: str = msgspec.field(name="Gateway", default="")
    address: str = msgspec.field(name="IPAddress", default="")
    mac: str = msgspec.field(name="MacAddress", default="")
    prefix_length: int = msgspec.field(name="IPPrefixLen", default=0)
    gateway_ipv6: str = msgspec.field(name="IPv6Gateway", default="")
    address_ipv6: str = msgspec.field(name="GlobalIPv6Address", default="")
    prefix_length_ipv6: int = msgspec.field(name="GlobalIPv6PrefixLen", default=0)
    names: list[str] | None = msgspec.field(name="DNSNames", default=None)


def show_endpoint(
    sandbox: Sandbox, endpoint: Endpoint, network: Network | None
) -> EndpointSettings:
    """An endpoint as shown; `network` is None when it was removed in the moment between."""
    wished = EndpointIPAM(
        ipv4=endpoint.address if "ipv4" in endpoint.fixed else None,
        ipv6=endpoint.address_ipv6 if "ipv6" in endpoint.fixed else None,
    )
    # The network `bridge` has no names, as in Docker.
    named = network is not None and network.name != "bridge"
    return EndpointSettings(
        ipam=wished if endpoint.fixed else None,
        aliases=list(endpoint.aliases) or None,
        gateway_priority=endpoint.gateway_priority,
        network_id=endpoint.network,
        endpoint_id=endpoint.id,
        gateway=endpoint.gateway or "",
        address=endpoint.address or "",
        mac=endpoint.mac or "",
        prefix_length=_length(endpoint.ipv4),
        gateway_ipv6=endpoint.gateway_ipv6 or "",
        address_ipv6=endpoint.address_ipv6 or "",
        prefix_length_ipv6=_length(endpoint.ipv6),
        names=_names(sandbox, endpoint) if named else None,
    )


def show_endpoints(
    sandbox: Sandbox, networks: Mapping[str, Network], by_name: Mapping[str, Network]
) -> dict[str, EndpointSettings]:
    """All networks of a sandbox by name, "host" and "none" among them. `networks` are by id."""
    shown: dict[str, EndpointSettings] = {}
    implied = implied_network(sandbox)
    if implied is not None:
        known = by_name.get(implied)
        shown[implied] = EndpointSettings(network_id=known.id if known else "")
    for endpoint in sandbox.endpoints:
        network = networks.get(endpoint.network)
        name = network.name if network is not None else endpoint.network
        shown[name] = show_endpoint(sandbox, endpoint, network)
    return shown


def network_mode(sandbox: Sandbox, networks: Mapping[str, Network]) -> str:
    """HostConfig.NetworkMode: the name of the first network, "host" or "none"."""
    implied = implied_network(sandbox)
    if implied is not None:
        return implied
    first = sandbox.endpoints[0].network
    return networks[first].name if first in networks else first


def _names(sandbox: Sandbox, endpoint: Endpoint) -> list[str]:
    return list(dict.fromkeys((sandbox.name, *endpoint.aliases, sandbox.id[:SHORT_ID])))


def _length(with_length: str | None) -> int:
    return int(with_length.split("/")[1]) if with_length else 0
