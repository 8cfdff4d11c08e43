"""From the engine's networks and sandboxes to names. Pure.

A sandbox is called by its name, its aliases and the first 12 digits of its id on every
network but the default one. Whoever shares a network with it may ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.names.records import Change, Host, Names, Resolver, Service, Zone

DEFAULT_NETWORK = "bridge"
"""The network that everybody is on who asked for nothing: being on it says nothing about
knowing each other, so it has no names."""
SERVICE_LABEL = "linkspan.service."
"""A label linkspan.service.NAME=PORT[/PROTOCOL] declares a service for SRV."""
LIVING = ("allocated", "up")
SHORT_ID = 12


def zone_of(network: Network) -> Zone:
    """The zone of a network; also the default network's addresses are ours."""
    return Zone(id=network.id, name=network.name, subnets=tuple(s.subnet for s in network.subnets))


def hosts_of(sandbox: Sandbox, networks: Mapping[str, Network]) -> tuple[Host, ...]:
    """What a sandbox is called, network by network; nothing unless it lives."""
    if sandbox.state not in LIVING or sandbox.host_mode:
        return ()
    return tuple(
        Host(
            network=endpoint.network,
            sandbox=sandbox.id,
            names=_names(sandbox, endpoint),
            ipv4=endpoint.address,
            ipv6=endpoint.address_ipv6,
            services=_services(sandbox),
        )
        for endpoint in sandbox.endpoints
        if _has_names(networks[endpoint.network])
    )


def resolver_of(sandbox: Sandbox, networks: Mapping[str, Network]) -> Resolver | None:
    """How a sandbox asks; None when it is on no network with names.

    Names are looked up first on the network that carries its default route, then in the
    order in which it joined.
    """
    if sandbox.state not in LIVING or sandbox.host_mode:
        return None
    ordered = sorted(sandbox.endpoints, key=lambda endpoint: -endpoint.gateway_priority)
    named = tuple(e.network for e in ordered if _has_names(networks[e.network]))
    if not named:
        return None
    return Resolver(
        id=sandbox.id,
        netns=sandbox.netns,
        inode=sandbox.inode,
        networks=named,
        external=any(not networks[e.network].internal for e in sandbox.endpoints),
        servers=sandbox.dns,
    )


def describe_names(networks: Iterable[Network], sandboxes: Iterable[Sandbox]) -> Names:
    """Everything that the resolver needs to know of one host."""
    by_id = {network.id: network for network in networks}
    hosts: list[Host] = []
    resolvers: list[Resolver] = []
    for sandbox in sandboxes:
        hosts += hosts_of(sandbox, by_id)
        resolver = resolver_of(sandbox, by_id)
        if resolver is not None:
            resolvers.append(resolver)
    return Names(
        zones=tuple(zone_of(network) for network in by_id.values()),
        hosts=tuple(hosts),
        resolvers=tuple(resolvers),
    )


def change_of(
    before: Sandbox | None, after: Sandbox | None, networks: Mapping[str, Network]
) -> Change:
    """What changes about names when a sandbox does; None is a sandbox that is not there.

    The zones that it needs come with it, so a change can be understood alone.
    """
    old_hosts = {host.key: host for host in hosts_of(before, networks)} if before else {}
    new_hosts = {host.key: host for host in hosts_of(after, networks)} if after else {}
    old = resolver_of(before, networks) if before else None
    new = resolver_of(after, networks) if after else None
    put_hosts = tuple(host for key, host in new_hosts.items() if old_hosts.get(key) != host)
    resolvers = (new,) if new is not None and new != old else ()
    needed = dict.fromkeys(
        [host.network for host in put_hosts] + [n for r in resolvers for n in r.networks]
    )
    dropped = (old.id,) if old is not None and new is None else ()
    ends = before is not None and before.made and (after is None or after.state not in LIVING)
    return Change(
        put=Names(
            zones=tuple(zone_of(networks[id]) for id in needed),
            hosts=put_hosts,
            resolvers=resolvers,
        ),
        hosts_dropped=tuple(key for key in old_hosts if key not in new_hosts),
        resolvers_dropped=() if ends else dropped,
        resolvers_gone=dropped if ends else (),
    )


def _has_names(network: Network) -> bool:
    return network.name != DEFAULT_NETWORK and bool(network.subnets)


def _names(sandbox: Sandbox, endpoint: Endpoint) -> tuple[str, ...]:
    return tuple(dict.fromkeys((sandbox.name, *endpoint.aliases, sandbox.id[:SHORT_ID])))


def _services(sandbox: Sandbox) -> tuple[Service, ...]:
    """Declared ones by name, and every published port by its number."""
    found: dict[Service, None] = {}
    for label, value in sandbox.labels.items():
        port, _, protocol = value.partition("/")
        if label.startswith(SERVICE_LABEL) and port.isdecimal() and 0 < int(port) < 65536:
            name = label.removeprefix(SERVICE_LABEL).lower()
            service = Service(name, protocol.lower() or "tcp", int(port))
            found[service] = None
            found[Service(port, service.protocol, service.port)] = None
    for published in sandbox.ports:
        # A range answers by its first port only: nobody asks for the service on port 10417.
        found[Service(str(published.port), published.protocol, published.port)] = None
    return tuple(found)
