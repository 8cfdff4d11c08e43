"""More of what hosts have: macvlan, vxlan, static entries, settings of single links, policy."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from linkspan.dataplane import (
    Address,
    BridgePort,
    FdbEntry,
    Link,
    Macvlan,
    Namespace,
    Neighbour,
    Route,
    Rule,
    Sysctl,
    Veth,
    Vxlan,
)
from walks.topology import HOST, Topology, add_address, in_subnet

_TUNNEL = 60
_UPLINK = 90


def widen(rng: random.Random, world: Topology) -> None:
    """Add some of everything to a topology."""
    for chance, add in _PARTS:
        if rng.random() < chance:
            add(rng, world)


def _add_macvlans(rng: random.Random, world: Topology) -> None:
    """Containers with links on the host's uplink, or on the neighbour's."""
    place, parent = rng.choice(((HOST, "up0"), (HOST, "up0"), ("far", "eth0")))
    modes = rng.choice((("bridge",), ("private",), ("vepa",), ("bridge", "private")))
    for number in range(1, rng.randint(1, 3) + 1):
        name = f"m{number}"
        world.namespaces.append(name)
        world.objects.append(Namespace(namespace=name))
        world.objects.append(Link(namespace=name, name="lo", up=True))
        world.objects.append(
            Link(
                namespace=name, name="mac0", up=True, mac=f"02:00:00:03:00:{number:02x}",
                kind=Macvlan(parent=parent, parent_namespace=place, mode=rng.choice(modes)),
            )
        )  # fmt: skip
        world.own(name).append("127.0.0.1" if world.version == 4 else "::1")
        world.links[name] = ["lo", "mac0"]
        add_address(world, name, "mac0", _UPLINK, 10 + number)
        if rng.random() < 0.5:
            _route(world, name, _default(world), rng.choice((1, 2)), "mac0", _UPLINK)


def _add_tunnel(rng: random.Random, world: Topology) -> None:
    """A vxlan between host and neighbour: routed, or as a port of a bridge."""
    bridged = rng.random() < 0.5
    port = rng.choice((4789, 4789, 8472))
    for number, (name, other) in enumerate(((HOST, "far"), ("far", HOST)), 1):
        remote = in_subnet(world, _UPLINK, 3 - number)
        known = rng.random() < 0.7
        link = Link(
            namespace=name, name="vx0", up=True, mac=f"02:00:00:04:00:{number:02x}",
            kind=Vxlan(
                vni=rng.choice((42, 42, 42, 43)), port=port, parent="up0" if name == HOST else None,
                local=in_subnet(world, _UPLINK, number), remote=remote if known else None,
                learning=rng.random() < 0.5,
            ),
        )  # fmt: skip
        if name == HOST and bridged:
            link = msgspec.structs.replace(link, master=world.bridges[0])
        world.objects.append(link)
        world.links[name].append("vx0")
        if not known:
            world.objects.append(
                FdbEntry(namespace=name, link="vx0", mac="00:00:00:00:00:00", remote=remote,
                         own=True)
            )  # fmt: skip
        if not bridged:
            add_address(world, name, "vx0", _TUNNEL, number)
        elif name == "far":
            add_address(world, name, "vx0", 20, 200)
        del other


def _add_static_entries(rng: random.Random, world: Topology) -> None:
    """Neighbours and forwarding entries that somebody wrote down: rightly, or not."""
    cables = [o for o in world.objects if isinstance(o, Link) and isinstance(o.kind, Veth)]
    ports = [link for link in cables if link.master]
    for link in rng.sample(ports, min(len(ports), 2)):
        assert isinstance(link.kind, Veth)
        assert link.kind.peer_mac
        right = rng.random() < 0.7
        wrong = [one for one in ports if one.master == link.master and one is not link]
        if not right and not wrong:
            continue
        port = link if right else rng.choice(wrong)
        world.objects.append(FdbEntry(link=port.name, mac=link.kind.peer_mac))
    macs = [link.kind.peer_mac for link in cables if isinstance(link.kind, Veth)]
    for link in rng.sample(cables, min(len(cables), 2)):
        assert isinstance(link.kind, Veth)
        name, peer = link.kind.peer_namespace or "", link.kind.peer_name or ""
        owned = [
            o.address.partition("/")[0] for o in world.objects
            if isinstance(o, Address) and o.link == (link.master or link.name)
        ]  # fmt: skip
        if not owned:
            continue
        gate = next(
            (o.mac for o in world.objects if isinstance(o, Link) and o.name == link.master),
            link.mac,
        )
        mac = gate if rng.random() < 0.7 else rng.choice(macs)
        world.objects.append(
            Neighbour(namespace=name, link=peer, address=owned[0], mac=mac, state="permanent")
        )


def _set_links(rng: random.Random, world: Topology) -> None:
    """Settings of single links, where those of all links leave room."""
    paths = (
        ("rp_filter", (0, 1, 2)), ("accept_local", (0, 1)), ("route_localnet", (0, 1)),
        ("arp_ignore", (0, 1, 2)), ("arp_filter", (0, 1)), ("forwarding", (0, 1)),
        ("arp_announce", (0, 1, 2)), ("proxy_arp", (0, 1)),
    )  # fmt: skip
    if world.version == 6:
        paths = (("forwarding", (0, 1)),)
    for name in world.namespaces:
        links = [link for link in world.links[name] if not link.startswith("p")]
        for _ in range(rng.randint(0, 2)):
            path, values = rng.choice(paths)
            family = "ipv4" if world.version == 4 else "ipv6"
            setting = Sysctl(
                namespace=name, path=f"{family}/conf/{rng.choice(links)}/{path}",
                value=str(rng.choice(values)),
            )  # fmt: skip
            if setting.key not in {one.key for one in world.objects}:
                world.objects.append(setting)


def _set_ports(rng: random.Random, world: Topology) -> None:
    """Ports that do not learn or flood, or that are down."""
    for place, item in enumerate(world.objects):
        if isinstance(item, Link) and item.master and rng.random() < 0.25:
            old = item.port or BridgePort()
            port = rng.choice((
                msgspec.structs.replace(old, learning=False),
                msgspec.structs.replace(old, flood=False),
            ))  # fmt: skip
            world.objects[place] = msgspec.structs.replace(item, port=port)


def _add_policy(rng: random.Random, world: Topology) -> None:
    """Policy rules of many kinds, in the host and in containers."""
    family = "ip" if world.version == 4 else "ip6"
    for name in rng.sample(world.namespaces, 2):
        links = [link for link in world.links[name] if link != "lo" and link[0] != "p"]
        if not links:
            continue
        for priority in rng.sample(range(50, 200), rng.randint(1, 2)):
            extra = rng.choice((
                {"source": rng.choice(world.subnets)}, {"destination": rng.choice(world.subnets)},
                {"mark": 1}, {"mark": 2, "mark_mask": 2}, {"input_link": rng.choice(links)},
                {"input_link": "lo"}, {"ip_protocol": rng.choice((6, 17))},
                {"destination_ports": rng.choice(((80, 80), (8000, 9000)))},
                {"source": rng.choice(world.subnets), "invert": True},
                {"output_link": rng.choice(links)},
            ))  # fmt: skip
            end = rng.choice((
                {"table": 100}, {"table": 100}, {"table": 100}, {"table": 254},
                {"action": rng.choice(("unreachable", "prohibit", "blackhole"))},
                {"table": 254, "suppress_prefix_length": 0},
            ))  # fmt: skip
            world.objects.append(
                Rule(namespace=name, family=family, priority=priority, **extra, **end)  # type: ignore[arg-type]
            )
        kind = rng.choice(("way", "way", "throw", "unreachable"))
        there = [o for o in world.objects if isinstance(o, Route) and o.namespace == name]
        if any(route.table == 100 for route in there):
            continue
        nets = [
            (link, o.address) for o in world.objects for link in links
            if isinstance(o, Address) and (o.namespace, o.link) == (name, link)
        ]  # fmt: skip
        if kind == "way" and nets:
            link, address = rng.choice(nets)
            number = int(address.split("." if world.version == 4 else ":")[1])
            _route(world, name, _default(world), rng.choice((1, 2)), link, number, table=100)
        elif kind != "way":
            world.objects.append(
                Route(namespace=name, destination=rng.choice(world.subnets), type=kind, table=100,
                      link="lo" if world.version == 6 else None)
            )  # fmt: skip


def _add_floating(rng: random.Random, world: Topology) -> None:
    """An address on lo of a container, and the host's route to it."""
    name = rng.choice([n for n in world.namespaces if n.startswith("c")])
    text = "10.99.0.9" if world.version == 4 else "fd00:99::9"
    length = 32 if world.version == 4 else 128
    link = rng.choice(("lo", *world.links[name][1:]))
    world.objects.append(
        Address(namespace=name, link=link, address=f"{text}/{length}",
                nodad=True if world.version == 6 else None)
    )  # fmt: skip
    world.own(name).append(text)
    ways = [
        o.address.partition("/")[0] for o in world.objects
        if isinstance(o, Address) and o.namespace == name and o.link.startswith("eth")
        and o.address != f"{text}/{length}"
    ]  # fmt: skip
    numbers = {way: int(way.split("." if world.version == 4 else ":")[1]) for way in ways}
    ways = [way for way in ways if in_subnet(world, numbers[way], 1) in world.own(HOST)]
    if ways:
        way = rng.choice(ways)
        number = numbers[way]
        world.objects.append(
            Route(destination=f"{text}/{length}", gateway=way, link=f"br{number - 20}")
        )


def _take_down(rng: random.Random, world: Topology) -> None:
    """One port of the host is down."""
    places = [
        n for n, o in enumerate(world.objects)
        if isinstance(o, Link) and isinstance(o.kind, Veth) and o.master
    ]  # fmt: skip
    # IPv6 holds addresses of links that never were up for not there, also for sockets.
    if places and world.version == 4:
        place = rng.choice(places)
        world.objects[place] = msgspec.structs.replace(world.objects[place], up=False)


def _default(world: Topology) -> str:
    return "0.0.0.0/0" if world.version == 4 else "::/0"


def _route(
    world: Topology, name: str, destination: str, host: int, link: str, net: int, table: int = 254
) -> None:
    gateway = in_subnet(world, net, host)
    route = Route(
        namespace=name, destination=destination, gateway=gateway, link=link, table=table,
        onlink=True,
    )  # fmt: skip
    if gateway not in world.own(name) and route.key not in {one.key for one in world.objects}:
        world.objects.append(route)


_Part = Callable[[random.Random, Topology], None]
_PARTS: tuple[tuple[float, _Part], ...] = (
    (0.3, _add_macvlans), (0.3, _add_tunnel), (0.3, _add_static_entries), (0.4, _set_links),
    (0.25, _set_ports), (0.4, _add_policy), (0.25, _add_floating), (0.05, _take_down),
)  # fmt: skip
