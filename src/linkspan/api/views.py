"""What the API shows: networks, sandboxes, endpoints, ports. Made from the engine's records.

Times are RFC 3339 in UTC. Names stand where the records hold ids, because people read them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec

from linkspan.drivers.records import DhcpLease, Endpoint, Network, PublishedPort, Sandbox


class SubnetView(msgspec.Struct, frozen=True, kw_only=True):
    """One subnet of a network; `ip_range` is the part that addresses are given from."""

    subnet: str
    gateway: str | None
    ip_range: str | None
    reserved: dict[str, str]


class MemberView(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox on a network, with its addresses there."""

    sandbox: str
    interface: str
    ipv4: str | None
    ipv6: str | None
    mac: str | None


class NetworkView(msgspec.Struct, frozen=True, kw_only=True):
    """A network and who is on it. `interface` is its bridge on the host, "" for none.

    `state` is "up", or why no packet passes there ("parent eth1 is down").
    """

    id: str
    name: str
    driver: str
    state: str
    subnets: list[SubnetView]
    options: dict[str, str]
    labels: dict[str, str]
    internal: bool
    interface: str
    mtu: int
    ipam: str
    """default, or dhcp: IPv4 addresses are leased from a server on the segment."""
    created: datetime
    endpoints: list[MemberView]


class LeaseView(msgspec.Struct, frozen=True, kw_only=True):
    """What a DHCP server gave an endpoint. `expires` and `renews` are null for a lease without
    end.
    """

    address: str
    server: str
    acquired: datetime
    renews: datetime | None
    expires: datetime | None
    router: str | None
    dns: list[str]
    domain: str | None


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox's place on one network. Addresses carry their prefix length, gateways do not."""

    id: str
    network: str
    interface: str
    host_interface: str
    ipv4: str | None
    ipv6: str | None
    mac: str | None
    gateway: str | None
    gateway_ipv6: str | None
    gateway_priority: int
    aliases: list[str]
    lease: LeaseView | None = None
    """Where `ipv4` is from, on a network with ipam dhcp; null while it has none."""


class PortView(msgspec.Struct, frozen=True, kw_only=True):
    """Host ports `host_port` to `host_port_end` lead to `port` and the ones after it."""

    host_ip: str
    host_port: int
    host_port_end: int
    port: int
    protocol: str


class ContainerView(msgspec.Struct, frozen=True, kw_only=True):
    """The program in a sandbox that linkspan runs.

    `status` is creating, created (it waits for start), running, restarting, exited or removing.
    `exit_code` is 128 + the signal when it was killed. `error` is why it could not begin the last
    time. `attach` is the folder of its attach socket while it lives (root only).
    """

    command: list[str]
    status: str
    exit_code: int | None
    error: str
    restart: str
    restart_count: int
    started: datetime | None
    finished: datetime | None
    tty: bool
    interactive: bool
    privileged: bool
    user: str
    workdir: str
    env: list[str]
    rootfs: str | None
    remove: bool
    log: str
    attach: str | None


class SandboxView(msgspec.Struct, frozen=True, kw_only=True):
    """A network namespace with its endpoints and published ports.

    `state` is allocated, up, gone (its namespace vanished) or exited (its container ended).
    `netns` is "" in host mode. `pid` is the first process of a container while it has one, or the
    process that a namespace was named by. `container` is null for a namespace that linkspan runs
    nothing in.
    """

    id: str
    name: str
    state: str
    netns: str
    pid: int | None
    hostname: str
    endpoints: list[EndpointView]
    ports: list[PortView]
    labels: dict[str, str]
    created: datetime
    container: ContainerView | None = None


class ExitView(msgspec.Struct, frozen=True):
    """How a program ended: 128 + the signal if it was killed, 255 if nobody saw the end."""

    exit_code: int


def show_time(seconds: float) -> datetime:
    """Unix seconds as a moment in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def show_port(port: PublishedPort) -> PortView:
    """A published port as shown."""
    return PortView(
        host_ip=port.host_ip,
        host_port=port.host_port,
        host_port_end=port.host_port_end,
        port=port.port,
        protocol=port.protocol,
    )


def show_endpoint(endpoint: Endpoint, network_name: str) -> EndpointView:
    """An endpoint as shown."""
    return EndpointView(
        id=endpoint.id,
        network=network_name,
        interface=endpoint.interface,
        host_interface=endpoint.host_interface,
        ipv4=endpoint.ipv4,
        ipv6=endpoint.ipv6,
        mac=endpoint.mac,
        gateway=endpoint.gateway,
        gateway_ipv6=endpoint.gateway_ipv6,
        gateway_priority=endpoint.gateway_priority,
        aliases=list(endpoint.aliases),
        lease=show_lease(endpoint.lease) if endpoint.lease is not None else None,
    )


def show_lease(lease: DhcpLease) -> LeaseView:
    """A lease as shown."""
    return LeaseView(
        address=lease.address,
        server=lease.server,
        acquired=show_time(lease.acquired),
        renews=show_time(lease.renew_at) if lease.renew_at is not None else None,
        expires=show_time(lease.expires) if lease.expires is not None else None,
        router=lease.router,
        dns=list(lease.dns),
        domain=lease.domain,
    )


def show_sandbox(
    sandbox: Sandbox, name_network: Callable[[str], str], container: ContainerView | None = None
) -> SandboxView:
    """A sandbox as shown; `name_network` gives a network's name for its id."""
    return SandboxView(
        id=sandbox.id,
        name=sandbox.name,
        state=sandbox.state,
        netns=sandbox.netns,
        pid=sandbox.pid,
        hostname=sandbox.hostname,
        endpoints=[show_endpoint(e, name_network(e.network)) for e in sandbox.endpoints],
        ports=[show_port(port) for port in sandbox.ports],
        labels=dict(sandbox.labels),
        created=show_time(sandbox.created),
        container=container,
    )


def show_network(
    network: Network, members: Iterable[MemberView] = (), state: str = "up"
) -> NetworkView:
    """A network as shown."""
    return NetworkView(
        id=network.id,
        name=network.name,
        driver=network.driver,
        state=state,
        subnets=[
            SubnetView(
                subnet=s.subnet, gateway=s.gateway, ip_range=s.ip_range, reserved=dict(s.reserved)
            )
            for s in network.subnets
        ],
        options=dict(network.options),
        labels=dict(network.labels),
        internal=network.internal,
        interface=network.interface,
        mtu=network.mtu,
        ipam=network.ipam,
        created=show_time(network.created),
        endpoints=list(members),
    )


def members_by_network(sandboxes: Iterable[Sandbox]) -> dict[str, list[MemberView]]:
    """Who is on each network, by the network's id."""
    found: dict[str, list[MemberView]] = {}
    for sandbox in sandboxes:
        for endpoint in sandbox.endpoints:
            member = MemberView(
                sandbox=sandbox.name,
                interface=endpoint.interface,
                ipv4=endpoint.ipv4,
                ipv6=endpoint.ipv6,
                mac=endpoint.mac,
            )
            found.setdefault(endpoint.network, []).append(member)
    return found
