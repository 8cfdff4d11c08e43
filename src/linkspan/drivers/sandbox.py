"""A whole sandbox as a data plane: its endpoints, the routes across them, its ports."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from linkspan.dataplane import DataPlane, Link, Loopback, Namespace, Object, Route, Rule
from linkspan.drivers.bridge import gateway_mode
from linkspan.drivers.marks import ROUTE_PROTOCOL
from linkspan.drivers.published import describe_direct, describe_published
from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.drivers.registry import driver

TABLE_BASE = 0x6C00
"""Routing tables inside a sandbox: one an interface, numbered from here by its order."""
RULE_PRIORITY = 100
DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}


def gateway_endpoint(sandbox: Sandbox, version: int = 4) -> Endpoint | None:
    """The endpoint that carries the default route.

    The one with the highest gateway priority; among equals the one connected first.
    Endpoints without a gateway of this IP version (internal networks) do not count.
    """
    leading_out = [e for e in sandbox.endpoints if _leads_out(e, version)]
    return max(leading_out, key=lambda e: e.gateway_priority, default=None)


def publishing_endpoint(sandbox: Sandbox, version: int = 4) -> Endpoint | None:
    """The endpoint that published ports lead to: chosen as the one with the default route is,
    of those that have an end on the host. The others are on a segment of their own, where
    this host neither gets nor translates their packets.
    """
    hung = [e for e in sandbox.endpoints if _leads_out(e, version) and e.host_interface]
    return max(hung, key=lambda e: e.gateway_priority, default=None)


def describe_sandbox(sandbox: Sandbox, networks: Mapping[str, Network]) -> DataPlane:
    """Everything that a sandbox needs in the kernel; empty in host mode, gone or exited.

    `networks` by id holds at least the sandbox's own.
    """
    if sandbox.host_mode or sandbox.state in ("gone", "exited"):
        return DataPlane()
    objects: list[Object] = []
    if sandbox.made:
        objects.append(Namespace(namespace=sandbox.namespace, path=sandbox.netns))
    objects.append(Link(namespace=sandbox.namespace, name="lo", kind=Loopback(), up=True))
    for endpoint in sandbox.endpoints:
        network = networks[endpoint.network]
        objects.extend(driver(network.driver).describe_endpoint(network, sandbox, endpoint))
    for version in (4, 6):
        objects.extend(_routes(sandbox, version))
        objects.extend(_published(sandbox, networks, version))
    return DataPlane(objects)


def _routes(sandbox: Sandbox, version: int) -> list[Object]:
    chosen = gateway_endpoint(sandbox, version)
    if chosen is None:
        return []
    keeps = version in sandbox.kept_defaults
    objects: list[Object] = [] if keeps else [_default_route(sandbox, chosen, version)]
    with_gateway = [
        (index, e) for index, e in enumerate(sandbox.endpoints) if _leads_out(e, version)
    ]
    if keeps or len(with_gateway) > 1:
        # What was addressed to one of our addresses is answered from that network, by its
        # own gateway, which remembers how it translated the question.
        for _, endpoint in with_gateway:
            objects.extend(_source_routing(sandbox, endpoint, version))
    return objects


def _default_route(sandbox: Sandbox, endpoint: Endpoint, version: int, table: int = 254) -> Route:
    return Route(
        namespace=sandbox.namespace,
        destination=DEFAULT[version],
        gateway=_gateway(endpoint, version),
        link=endpoint.interface,
        table=table,
        metric=1024 if version == 6 else 0,
        scope="link" if endpoint.device_route and version == 4 else None,
        protocol=ROUTE_PROTOCOL,
    )


def _source_routing(sandbox: Sandbox, endpoint: Endpoint, version: int) -> list[Object]:
    digits = "".join(c for c in endpoint.interface if c.isdigit())
    table = TABLE_BASE + int(digits or 0)
    address = endpoint.address if version == 4 else endpoint.address_ipv6
    host_length = 32 if version == 4 else 128
    return [
        Rule(
            namespace=sandbox.namespace,
            family="ip" if version == 4 else "ip6",
            priority=RULE_PRIORITY,
            source=f"{address}/{host_length}",
            table=table,
            protocol=ROUTE_PROTOCOL,
        ),
        _default_route(sandbox, endpoint, version, table),
        *_own_subnet_route(sandbox, endpoint, version, table),
    ]


def _own_subnet_route(
    sandbox: Sandbox, endpoint: Endpoint, version: int, table: int
) -> list[Object]:
    with_length = endpoint.ipv4 if version == 4 else endpoint.ipv6
    assert with_length is not None
    return [
        Route(
            namespace=sandbox.namespace,
            destination=str(ipaddress.ip_interface(with_length).network),
            link=endpoint.interface,
            table=table,
            metric=1024 if version == 6 else 0,
            scope="link" if version == 4 else None,
            protocol=ROUTE_PROTOCOL,
        )
    ]


def _published(sandbox: Sandbox, networks: Mapping[str, Network], version: int) -> list[Object]:
    chosen = publishing_endpoint(sandbox, version)
    if chosen is None:
        return []
    address = chosen.address if version == 4 else chosen.address_ipv6
    assert address is not None
    routed = gateway_mode(networks[chosen.network].options, version) == "routed"
    ports = [port for port in sandbox.ports if (":" in port.host_ip) == (version == 6)]
    if routed:
        return list(describe_direct(ports, address))
    return [element for port in ports for element in describe_published(port, address)]


def _leads_out(endpoint: Endpoint, version: int) -> bool:
    if endpoint.device_route:
        return (endpoint.ipv4 if version == 4 else endpoint.ipv6) is not None
    return _gateway(endpoint, version) is not None


def _gateway(endpoint: Endpoint, version: int) -> str | None:
    return endpoint.gateway if version == 4 else endpoint.gateway_ipv6
