"""Random topologies: a host with bridges and containers, cables, a neighbour, routes, settings."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from linkspan.dataplane import (
    Address,
    Bridge,
    BridgePort,
    Link,
    Namespace,
    NextHop,
    Object,
    Route,
    Rule,
    Sysctl,
    Veth,
)

HOST = "host"


@dataclass
class Topology:
    """What a world is made of, and the words that its rules and flows can use."""

    version: int
    objects: list[Object] = field(default_factory=list)
    namespaces: list[str] = field(default_factory=list)
    links: dict[str, list[str]] = field(default_factory=dict)
    bridges: list[str] = field(default_factory=list)
    addresses: dict[str, list[str]] = field(default_factory=dict)
    subnets: list[str] = field(default_factory=list)

    def own(self, namespace: str) -> list[str]:
        return self.addresses.setdefault(namespace, [])

    def everything(self) -> list[str]:
        return [address for held in self.addresses.values() for address in held]


def make_topology(rng: random.Random, version: int) -> Topology:
    world = Topology(version)
    world.namespaces = [HOST, *(f"c{n}" for n in range(1, rng.randint(3, 5) + 1)), "far"]
    for name in world.namespaces:
        if name != HOST:
            world.objects.append(Namespace(namespace=name))
        world.objects.append(Link(namespace=name, name="lo", up=True))
        world.links[name] = ["lo"]
        world.own(name).append("127.0.0.1" if version == 4 else "::1")
    containers = world.namespaces[1:-1]
    for number in range(rng.randint(1, 2)):
        _make_bridge(rng, world, number, containers[number::2] if number else containers)
    _make_cable(rng, world, HOST, "up0", "far", "eth0", 90)
    if rng.random() < 0.5 and len(containers) > 2:
        one, other = rng.sample(containers, 2)
        _make_cable(rng, world, one, "x0", other, "x0", 70)
    _make_routes(rng, world)
    _make_settings(rng, world)
    return world


def subnet(world: Topology, number: int) -> str:
    return f"10.{number}.0.0/24" if world.version == 4 else f"fd00:{number}::/64"


def in_subnet(world: Topology, number: int, host: int) -> str:
    return f"10.{number}.0.{host}" if world.version == 4 else f"fd00:{number}::{host:x}"


def _length(world: Topology) -> int:
    return 24 if world.version == 4 else 64


def add_address(world: Topology, namespace: str, link: str, number: int, host: int) -> None:
    text = in_subnet(world, number, host)
    world.objects.append(
        Address(
            namespace=namespace,
            link=link,
            address=f"{text}/{_length(world)}",
            nodad=True if world.version == 6 else None,
        )
    )
    world.own(namespace).append(text)


def _make_bridge(rng: random.Random, world: Topology, number: int, members: list[str]) -> None:
    name, net = f"br{number}", 20 + number
    world.bridges.append(name)
    world.subnets.append(subnet(world, net))
    world.links[HOST].append(name)
    world.objects.append(
        Link(
            name=name,
            up=True,
            mac=f"02:00:00:00:{net:02x}:01",
            kind=Bridge(stp=False, forward_delay=0, multicast_snooping=False),
        )
    )
    if rng.random() < 0.9:
        add_address(world, HOST, name, net, 1)
    for place, member in enumerate(members, 2):
        port, inner = f"p{number}{member}", f"eth{number}"
        flags = BridgePort(hairpin=rng.random() < 0.4 or None, isolated=rng.random() < 0.25 or None)
        world.objects.append(
            Link(
                name=port,
                up=True,
                master=name,
                mac=f"02:00:00:01:{net:02x}:{place:02x}",
                port=flags,
                kind=Veth(
                    peer_name=inner,
                    peer_namespace=member,
                    peer_mac=f"02:00:00:00:{net:02x}:{place:02x}",
                    peer_up=True,
                ),
            )
        )
        world.links[HOST].append(port)
        world.links[member].append(inner)
        add_address(world, member, inner, net, place)
        if rng.random() < 0.15:
            add_address(world, member, inner, net, place + 100)


def _make_cable(
    rng: random.Random, world: Topology, one: str, first: str, other: str, second: str, net: int
) -> None:
    world.subnets.append(subnet(world, net))
    world.objects.append(
        Link(
            namespace=one,
            name=first,
            up=True,
            mac=f"02:00:00:02:{net:02x}:01",
            kind=Veth(
                peer_name=second,
                peer_namespace=other,
                peer_mac=f"02:00:00:02:{net:02x}:02",
                peer_up=True,
            ),
        )
    )
    for place, (namespace, link) in enumerate(((one, first), (other, second)), 1):
        world.links[namespace].append(link)
        add_address(world, namespace, link, net, place)


def _default(world: Topology) -> str:
    return "0.0.0.0/0" if world.version == 4 else "::/0"


def _make_routes(rng: random.Random, world: Topology) -> None:
    for name in world.namespaces[1:-1]:
        ways = [link for link in world.links[name] if link.startswith("eth")]
        if not ways or rng.random() < 0.1:
            continue
        gateways = [in_subnet(world, 20 + int(link[3:]), 1) for link in ways]
        if len(ways) > 1 and rng.random() < 0.2:
            hops = tuple(NextHop(gateway=g, link=w) for g, w in zip(gateways, ways, strict=True))
            world.objects.append(Route(namespace=name, destination=_default(world), hops=hops))
        else:
            world.objects.append(
                Route(
                    namespace=name, destination=_default(world), gateway=gateways[0], link=ways[0]
                )
            )
        if rng.random() < 0.15:
            kind = rng.choice(("blackhole", "unreachable", "prohibit"))
            world.objects.append(
                Route(
                    namespace=name,
                    destination=rng.choice(world.subnets),
                    type=kind,
                    metric=50,
                    link="lo" if world.version == 6 else None,
                )
            )
        if len(ways) > 1 and rng.random() < 0.4:
            _make_policy(rng, world, name, gateways[1], ways[1])
    # The neighbour knows some of the host's networks, as one who was told.
    host = in_subnet(world, 90, 1)
    for net in world.subnets:
        if rng.random() < 0.6 and "90" not in net:
            world.objects.append(Route(namespace="far", destination=net, gateway=host, link="eth0"))
    if rng.random() < 0.7:
        world.objects.append(
            Route(destination=_default(world), gateway=in_subnet(world, 90, 2), link="up0")
        )


def _make_policy(rng: random.Random, world: Topology, name: str, gateway: str, link: str) -> None:
    family = "ip" if world.version == 4 else "ip6"
    world.objects.append(
        Route(namespace=name, destination=_default(world), gateway=gateway, link=link, table=100)
    )
    rule = rng.choice(
        (
            Rule(namespace=name, family=family, priority=100, table=100, source=subnet(world, 21)),
            Rule(namespace=name, family=family, priority=100, table=100, mark=1),
            Rule(
                namespace=name,
                family=family,
                priority=100,
                table=100,
                destination=rng.choice(world.subnets),
            ),
        )
    )
    world.objects.append(rule)


def _make_settings(rng: random.Random, world: Topology) -> None:
    def put(namespace: str, path: str, value: int) -> None:
        world.objects.append(Sysctl(namespace=namespace, path=path, value=str(value)))

    for name in world.namespaces:
        forwards = rng.random() < (0.9 if name == HOST else 0.2)
        if world.version == 4:
            put(name, "ipv4/ip_forward", int(forwards))
            put(name, "ipv4/conf/all/rp_filter", rng.choice((0, 0, 0, 1, 2)))
            for path, chance in (
                ("accept_local", 0.1),
                ("route_localnet", 0.25),
                ("arp_filter", 0.05),
                ("send_redirects", 0.5),
            ):
                put(name, f"ipv4/conf/all/{path}", int(rng.random() < chance))
            if rng.random() < 0.15:
                put(name, "ipv4/conf/all/arp_ignore", rng.choice((1, 2)))
            if rng.random() < 0.1:
                put(name, f"ipv4/conf/{rng.choice(world.links[name])}/proxy_arp", 1)
        else:
            put(name, "ipv6/conf/all/forwarding", int(forwards))
        for family in ("ip", "ip6"):
            put(name, f"bridge/bridge-nf-call-{family}tables", int(rng.random() < 0.5))
        put(name, "bridge/bridge-nf-call-arptables", 0)
