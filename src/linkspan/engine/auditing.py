"""Every hole that configuration opened, with who opened it and when. Pure: records in.

A hole is what makes a container reach, or be reached by, more than a container of an isolated
network does that publishes nothing. Some are what was wanted; the list says what there is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from linkspan.drivers.options import parse_boolean
from linkspan.drivers.records import Network, Opening, PublishedPort, Sandbox
from linkspan.drivers.underlay import (
    has_host_access,
    is_underlay,
    leads_nowhere,
    mode_of,
    parent_of,
    shim_name,
)
from linkspan.engine.policies import NO_ROUTING, Policy

EVERY_ADDRESS = ("0.0.0.0", "::")


class Hole(msgspec.Struct, frozen=True, kw_only=True):
    """One hole. `kind` is stable, for programs; `open_to` is in words who gets in, or where what
    is inside gets out to; `name` the sandbox, network or interface that has it.
    """

    kind: str
    name: str
    what: str
    open_to: str
    opening: Opening | None = None
    """None where that is not known: what linkspan did not open."""


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked at. `networks` by id, `privileged` ids of sandboxes whose container is,
    `settings` the kernel's, by path.
    """

    networks: Mapping[str, Network]
    sandboxes: Iterable[Sandbox]
    policies: Mapping[str, Policy] = {}
    privileged: frozenset[str] = frozenset()
    settings: Mapping[str, str] = {}


def find_holes(configuration: Configuration) -> list[Hole]:
    """Every hole, sandboxes first, each kind in the order in which things were made."""
    sandboxes = [s for s in configuration.sandboxes if s.state in ("allocated", "up")]
    found: list[Hole] = []
    for sandbox in sandboxes:
        found += _holes_of_sandbox(sandbox, configuration)
    members: dict[str, int] = {}
    for sandbox in sandboxes:
        for endpoint in sandbox.endpoints:
            members[endpoint.network] = members.get(endpoint.network, 0) + 1
    for network in configuration.networks.values():
        found += _holes_of_network(network, members.get(network.id, 0))
    found += _holes_of_host(configuration)
    return found


# Sandboxes ----------------------------------------------------------------------------


def _holes_of_sandbox(sandbox: Sandbox, configuration: Configuration) -> Iterator[Hole]:
    made = Opening(at=sandbox.created, by=sandbox.created_by)
    for port in sandbox.ports:
        yield Hole(
            kind="published_port",
            name=sandbox.name,
            what=f"port {port}",
            open_to=_reach(port),
            opening=sandbox.opening(port),
        )
    if sandbox.host_mode:
        yield Hole(
            kind="host_mode",
            name=sandbox.name,
            what="uses the host's own network, loopback included",
            open_to="whoever reaches the host's ports",
            opening=made,
        )
    if sandbox.id in configuration.privileged:
        yield Hole(
            kind="privileged",
            name=sandbox.name,
            what="its container has all rights",
            open_to="the whole host, from inside",
            opening=made,
        )
    if len(sandbox.endpoints) > 1:
        yield _several_networks(sandbox, configuration)


def _reach(port: PublishedPort) -> str:
    if port.host_ip in EVERY_ADDRESS:
        return "whoever reaches any address of this host"
    if ipaddress.ip_address(port.host_ip).is_loopback:
        return "programs of this host"
    return f"whoever reaches {port.host_ip}"


def _several_networks(sandbox: Sandbox, configuration: Configuration) -> Hole:
    networks = [configuration.networks[endpoint.network] for endpoint in sandbox.endpoints]
    unchecked = [network.name for network in networks if not _is_on(network, "source_check")]
    if NO_ROUTING in configuration.policies:
        how = "a program in it that relays, not by routing (policy no-routing)"
    elif unchecked:
        how = f"routing: {', '.join(unchecked)} checks no sources"
    else:
        how = "a program in it that relays, or one way by translation; routing is dropped"
    last = max(map(sandbox.opening, sandbox.endpoints), key=_when)
    return Hole(
        kind="several_networks",
        name=sandbox.name,
        what=f"is on {' and '.join(network.name for network in networks)}",
        open_to=f"each of these networks from the other, by {how}",
        opening=last,
    )


def _when(opening: Opening) -> float:
    return opening.at


# Networks -----------------------------------------------------------------------------


def _holes_of_network(network: Network, members: int) -> Iterator[Hole]:
    made = Opening(at=network.created, by=network.created_by)

    def hole(kind: str, what: str, open_to: str) -> Hole:
        return Hole(kind=kind, name=network.name, what=what, open_to=open_to, opening=made)

    if is_underlay(network):
        if not leads_nowhere(network):
            yield hole(
                "underlay",
                f"its members are on the segment of {parent_of(network)} themselves "
                f"({network.driver}, {mode_of(network)})",
                "every neighbour there, on every port: no firewall of this host sees the frames",
            )
        if has_host_access(network):
            yield hole(
                "host_access",
                f"the host is on it by {shim_name(network)}",
                "programs of this host; members reach the host's ports by it",
            )
        return
    if not network.interface:
        return
    routed = sorted(
        name
        for name, value in network.options.items()
        if name.startswith("gateway_mode") and value == "routed"
    )
    if routed:
        yield hole(
            "routed",
            f"its gateway mode is routed ({', '.join(routed)})",
            "whoever routes to its subnets, at the published ports of its members",
        )
    if not _is_on(network, "source_check"):
        yield hole(
            "source_check_off",
            "sources are not checked",
            "members who send with the addresses of others",
        )
    if not _is_on(network, "masquerade") and not network.internal:
        yield hole(
            "masquerade_off",
            "what leaves keeps the containers' addresses",
            "answers from whoever routes to its subnets",
        )
    if _is_on(network, "icc") and members > 1:
        yield hole(
            "members_open",
            f"its {members} members are not apart (icc)",
            "every member, on every port of the others",
        )


def _is_on(network: Network, option: str) -> bool:
    return parse_boolean(network.options.get(option, "true"))


# The host -----------------------------------------------------------------------------


def route_localnet(interface: str) -> str:
    """The setting by which an interface routes 127.0.0.0/8."""
    return f"ipv4/conf/{interface}/route_localnet"


def _holes_of_host(configuration: Configuration) -> Iterator[Hole]:
    ours = {n.interface: n for n in configuration.networks.values() if n.interface}
    for path, value in sorted(configuration.settings.items()):
        parts = path.split("/")
        if value != "1" or parts[-1] != "route_localnet":
            continue
        interface = parts[-2]
        network = ours.get(interface)
        if network is not None:
            yield Hole(
                kind="route_localnet",
                name=network.name,
                what=f"{interface} routes 127.0.0.0/8, for ports published on loopback",
                open_to="nobody: what comes from containers is dropped (chain guard_loopback)",
                opening=Opening(at=network.created, by=network.created_by),
            )
        else:
            yield Hole(
                kind="route_localnet",
                name=interface,
                what=f"{interface} routes 127.0.0.0/8, which linkspan did not set",
                open_to="neighbours of this interface, who reach the host's loopback services",
            )
