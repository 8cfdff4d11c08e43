"""Made-up hosts with many containers that are alike and some that are odd."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from linkspan.dataplane import (
    Address,
    Bridge,
    BridgePort,
    Chain,
    FdbEntry,
    FirewallRule,
    Link,
    Listener,
    Namespace,
    Neighbour,
    Object,
    Physical,
    Process,
    Route,
    Rule,
    Sysctl,
    Table,
    Veth,
)
from linkspan.dataplane.rules import (
    Ct,
    Fib,
    Flags,
    Match,
    Meta,
    Nat,
    Payload,
    Range,
    SetOf,
    Statement,
    Verdict,
    VerdictMap,
)
from linkspan.drivers import firewall
from walks.hosts import loopback

HOST = "host"
STYLES = ("none", "linkspan", "docker", "cni")
GROUPED = "docker-28"
"""Docker's rules since version 28: sorted by what they do, where those before it were by bridge."""


@dataclass
class Member:
    """A container on one or more bridges."""

    name: str
    bridges: list[int] = field(default_factory=list)
    published: list[tuple[int, int]] = field(default_factory=list)

    def port(self, bridge: int) -> str:
        return f"v{bridge}{self.name}"


@dataclass
class Crowd:
    """A host, and the words that rules can use."""

    style: str
    members: list[Member] = field(default_factory=list)
    bridges: int = 1
    oddness: float = 1.0
    objects: dict[object, Object] = field(default_factory=dict)

    def put(self, *objects: Object) -> None:
        for item in objects:
            self.objects[item.key] = item


def address(member: Member, bridge: int) -> str:
    number = int(member.name[1:])
    return f"10.{20 + bridge}.{number // 200}.{10 + number % 200}"


def address6(member: Member, bridge: int) -> str:
    return f"fd00:{20 + bridge}::{10 + int(member.name[1:]):x}"


def mac(member: Member, bridge: int, side: int = 0) -> str:
    number = int(member.name[1:])
    return f"02:00:0{side}:{bridge:02x}:{number // 256:02x}:{number % 256:02x}"


def make_crowd(
    rng: random.Random, style: str | None = None, bridges: int | None = None,
    size: int | None = None, odd: bool = True, services: int = 2,
) -> Crowd:  # fmt: skip
    """A host with bridges of containers. `size` is that of each bridge."""
    crowd = Crowd(
        style or rng.choice(STYLES),
        bridges=bridges or rng.randint(1, 3),
        oddness=rng.choice((0.15, 0.4, 1.0)) if odd else 0.0,
    )
    _make_host(rng, crowd, odd)
    number = 0
    for bridge in range(crowd.bridges):
        for _ in range(size or rng.randint(2, 6)):
            number += 1
            member = Member(f"c{number}", [bridge])
            if odd and rng.random() < 0.15 * crowd.oddness and crowd.bridges > 1:
                member.bridges.append((bridge + 1) % crowd.bridges)
            crowd.members.append(member)
            _make_member(rng, crowd, member, odd, services)
    _publish(rng, crowd, odd)
    rules = {"linkspan": _linkspan, "docker": _docker, GROUPED: _docker, "cni": _cni}
    if crowd.style in rules:
        rules[crowd.style](rng, crowd)
    if odd:
        _add_entries(rng, crowd)
        for _ in range(rng.choice((0, 1, 1, 2))):
            _add_odd_thing(rng, crowd)
    return crowd


def _make_host(rng: random.Random, crowd: Crowd, odd: bool) -> None:
    crowd.put(
        Namespace(namespace=HOST), loopback(HOST),
        Link(name="up0", kind=Physical(), up=True, mac="02:00:09:00:00:01"),
        Address(link="lo", address="127.0.0.1/8"), Address(link="up0", address="192.0.2.10/24"),
        Address(link="up0", address="2001:db8:1::10/64"),
        Address(link="up0", address="fe80::10/64"),
        Route(destination="0.0.0.0/0", gateway="192.0.2.1", link="up0"),
        Route(destination="::/0", gateway="2001:db8:1::1", link="up0"),
        Sysctl(path="ipv4/ip_forward", value="1"),
        Sysctl(path="ipv6/conf/all/forwarding", value="1"),
        Listener(protocol="tcp", address="0.0.0.0", port=22),
    )  # fmt: skip
    called = "1" if rng.random() < 0.5 else "0"
    crowd.put(
        Sysctl(path="bridge/bridge-nf-call-iptables", value=called),
        Sysctl(path="bridge/bridge-nf-call-ip6tables", value=called),
    )
    if odd and rng.random() < 0.3:
        crowd.put(Listener(protocol="udp", address="10.20.0.1", port=53))
    if odd and rng.random() < 0.2:
        crowd.put(Sysctl(path="ipv4/conf/all/rp_filter", value=rng.choice("12")))
    for bridge in range(crowd.bridges):
        crowd.put(
            Link(name=f"br{bridge}", kind=Bridge(), up=True, mac=f"02:00:08:00:00:{bridge:02x}"),
            Address(link=f"br{bridge}", address=f"10.{20 + bridge}.0.1/16"),
            Address(link=f"br{bridge}", address=f"fd00:{20 + bridge}::1/64"),
            Address(link=f"br{bridge}", address=f"fe80::{bridge + 1}/64"),
        )  # fmt: skip


def _make_member(
    rng: random.Random, crowd: Crowd, member: Member, odd: bool, services: int
) -> None:
    name = member.name
    crowd.put(
        Namespace(namespace=name), loopback(name),
        Address(namespace=name, link="lo", address="127.0.0.1/8"),
    )  # fmt: skip
    for place, bridge in enumerate(member.bridges):
        link, port = f"eth{place}", member.port(bridge)
        flags = BridgePort(hairpin=True) if crowd.style == "linkspan" else None
        if odd and rng.random() < 0.1 * crowd.oddness:
            flags = BridgePort(
                hairpin=rng.random() < 0.5, isolated=True, state=rng.choice((3, 3, 4))
            )
        crowd.put(
            Link(
                name=port, up=True, master=f"br{bridge}", mac=mac(member, bridge, 1), port=flags,
                kind=Veth(peer_name=link, peer_namespace=name),
            ),
            Link(
                namespace=name, name=link, mac=mac(member, bridge), master="",
                up=not odd or rng.random() > 0.03 * crowd.oddness,
                kind=Veth(peer_name=port, peer_namespace=HOST),
            ),
            Address(namespace=name, link=link, address=f"{address(member, bridge)}/16"),
            Address(namespace=name, link=link, address=f"{address6(member, bridge)}/64"),
        )  # fmt: skip
        number = int(member.name[1:])
        crowd.put(
            Address(namespace=name, link=link, address=f"fe80::{bridge + 1}:{number:x}/64"),
            Sysctl(path=f"ipv4/conf/{port}/forwarding", value="1"),
        )
    first = member.bridges[0]
    crowd.put(
        Route(namespace=name, destination="0.0.0.0/0", gateway=f"10.{20 + first}.0.1"),
        Route(namespace=name, destination="::/0", gateway=f"fd00:{20 + first}::1", link="eth0"),
    )
    ports = (
        [80, 8080]
        if not odd or rng.random() > 0.2 * crowd.oddness
        else rng.sample([80, 443, 5432], 2)
    )
    for service in ports[:services]:
        crowd.put(_listener(member, "tcp", service))
    if odd and rng.random() < 0.3 * crowd.oddness:
        crowd.put(_listener(member, "udp", 53))
    if odd and (int(member.name[1:]) % 7 == 0) != (rng.random() < 0.1 * crowd.oddness):
        number = rng.randint(30000, 40000)
        crowd.put(
            Listener(namespace=name, protocol="udp", address="127.0.0.11", port=number),
            Table(
                namespace=name, family="ip", name="nat", origin="iptables-nft",
                chains=(
                    Chain(
                        name="OUTPUT", hook="output", type="nat", priority=-100,
                        rules=(
                            rule(
                                Match(Payload("ip", "daddr"), "127.0.0.11"),
                                Match(Meta("l4proto"), "udp"), Match(Payload("udp", "dport"), 53),
                                Nat("dnat", address="127.0.0.11", port=number),
                            ),
                        ),
                    ),
                ),
            ),
        )  # fmt: skip


def _listener(member: Member, protocol: str, port: int) -> Listener:
    number = 1000 + int(member.name[1:])
    return Listener(
        namespace=member.name, protocol=protocol, address="::", port=port, dual_stack=True,
        processes=(Process(number, "web"),),
    )  # fmt: skip


def rule(*statements: Statement) -> FirewallRule:
    return FirewallRule(statements)


def _publish(rng: random.Random, crowd: Crowd, odd: bool) -> None:
    for number, member in enumerate(crowd.members):
        chance = rng.random()
        if odd and chance > 1 - 0.3 * crowd.oddness:
            continue
        member.published.append((20000 + number, 80))
        if odd and chance < 0.1 * crowd.oddness:
            member.published.append((rng.choice((80, 443, 31000 + number)), 8080))


# Styles -------------------------------------------------------------------------------


def _linkspan(rng: random.Random, crowd: Crowd) -> None:
    crowd.put(*firewall.TABLES)
    for bridge in range(crowd.bridges):
        name = f"br{bridge}"
        crowd.put(
            firewall.inet("bridges", name), firewall.inet("open", name, name),
            firewall.inet("members", f"10.{20 + bridge}.0.0/16", name),
            firewall.inet("members6", f"fd00:{20 + bridge}::/64", name),
            firewall.inet("masquerade4", f"10.{20 + bridge}.0.0/16"),
            firewall.inet("masquerade6", f"fd00:{20 + bridge}::/64"),
            Sysctl(path=f"ipv4/conf/{name}/route_localnet", value="1"),
        )  # fmt: skip
    for member in crowd.members:
        for bridge in member.bridges:
            port, own = member.port(bridge), mac(member, bridge)
            link_local = f"fe80::{bridge + 1}:{int(member.name[1:]):x}"
            crowd.put(
                firewall.bridge("macs", port, own), firewall.bridge("checked", port),
                firewall.bridge("sources", port, own, address(member, bridge)),
                firewall.bridge("sources6", port, own, address6(member, bridge)),
                firewall.bridge("sources6", port, own, link_local),
                firewall.bridge("sources6", port, own, "::"),
            )  # fmt: skip
        first = member.bridges[0]
        for outer, inner in member.published:
            crowd.put(
                firewall.inet("ports", "tcp", outer, data=(address(member, first), inner)),
                firewall.inet("ports6", "tcp", outer, data=(address6(member, first), inner)),
            )


def _to_local() -> Statement:
    return Match(Fib("type", ("daddr",)), "local")


def _docker(rng: random.Random, crowd: Crowd) -> None:
    translations, accepted, raw, hairpins = [], [], [], []
    members = list(crowd.members)
    if rng.random() < 0.5:
        rng.shuffle(members)
    for member in members:
        first = member.bridges[0]
        bridge, own = f"br{first}", address(member, first)
        for outer, inner in member.published:
            tcp = Match(Meta("l4proto"), "tcp")
            translations.append(
                rule(
                    Match(Meta("iifname"), bridge, "!="), tcp,
                    Match(Payload("tcp", "dport"), outer), Nat("dnat", address=own, port=inner),
                )
            )  # fmt: skip
            accepted.append(
                rule(
                    Match(Payload("ip", "daddr"), own), Match(Meta("iifname"), bridge, "!="),
                    Match(Meta("oifname"), bridge), tcp, Match(Payload("tcp", "dport"), inner),
                    Verdict("accept"),
                )
            )  # fmt: skip
            relay = Process(
                1, "docker-proxy",
                ("docker-proxy", "-proto", "tcp", "-container-ip", own, "-container-port",
                 str(inner)),
            )  # fmt: skip
            if rng.random() > 0.1 * crowd.oddness:
                crowd.put(
                    Listener(protocol="tcp", address="0.0.0.0", port=outer, processes=(relay,))
                )
        raw.append(
            rule(
                Match(Payload("ip", "daddr"), own), Match(Meta("iifname"), bridge, "!="),
                Verdict("drop"),
            )
        )  # fmt: skip
        hairpins.append(
            rule(
                Match(Payload("ip", "saddr"), own), Match(Payload("ip", "daddr"), own),
                Nat("masquerade"),
            )
        )  # fmt: skip
    per_bridge = [
        one
        for number in range(crowd.bridges)
        for one in (
            rule(Match(Meta("oifname"), f"br{number}"),
                 Flags(Ct("state"), ("established", "related")), Verdict("accept")),
            rule(Match(Meta("oifname"), f"br{number}"), Verdict("jump", "DOCKER")),
            rule(Match(Meta("iifname"), f"br{number}"), Verdict("accept")),
        )
    ]  # fmt: skip
    if crowd.style == GROUPED:
        per_bridge = [*per_bridge[0::3], *per_bridge[1::3], *per_bridge[2::3]]
    masquerades = [
        rule(
            Match(Payload("ip", "saddr"), f"10.{20 + number}.0.0/16"),
            Match(Meta("oifname"), f"br{number}", "!="), Nat("masquerade"),
        )
        for number in range(crowd.bridges)
    ]  # fmt: skip
    closed = [
        rule(
            Match(Meta("iifname"), f"br{number}", "!="), Match(Meta("oifname"), f"br{number}"),
            Verdict("drop"),
        )
        for number in range(crowd.bridges)
    ]  # fmt: skip
    crowd.put(
        _table(
            "nat",
            Chain(name="PREROUTING", hook="prerouting", type="nat", priority=-100,
                  rules=(rule(_to_local(), Verdict("jump", "DOCKER")),)),
            Chain(name="OUTPUT", hook="output", type="nat", priority=-100,
                  rules=(rule(Match(Payload("ip", "daddr"), "127.0.0.0/8", "!="), _to_local(),
                              Verdict("jump", "DOCKER")),)),
            Chain(name="POSTROUTING", hook="postrouting", type="nat", priority=100,
                  rules=(*masquerades, *hairpins)),
            Chain(name="DOCKER", rules=tuple(translations)),
        ),
        _table(
            "filter",
            Chain(name="FORWARD", hook="forward", priority=0, policy="drop",
                  rules=tuple(per_bridge)),
            Chain(name="DOCKER", rules=(*accepted, *closed)),
        ),
        _table("raw", Chain(name="PREROUTING", hook="prerouting", priority=-300,
                            rules=tuple(raw) if rng.random() < 0.5 else ())),
    )  # fmt: skip


def _cni(rng: random.Random, crowd: Crowd) -> None:
    chains, jumps, sources, forwards = [], [], [], []
    for member in crowd.members:
        own = address(member, member.bridges[0])
        name = f"CNI-{rng.randrange(1 << 32):08x}"
        sources.append(rule(Match(Payload("ip", "saddr"), own), Verdict("jump", name)))
        chains.append(
            Chain(
                name=name,
                rules=(
                    rule(Match(Payload("ip", "daddr"), f"10.{20 + member.bridges[0]}.0.0/16"),
                         Verdict("accept")),
                    rule(Match(Payload("ip", "daddr"), "224.0.0.0/4", "!="), Nat("masquerade")),
                ),
            )
        )  # fmt: skip
        forwards.append(rule(Match(Payload("ip", "daddr"), own), Verdict("accept")))
        forwards.append(rule(Match(Payload("ip", "saddr"), own), Verdict("accept")))
        for outer, inner in member.published:
            target = f"CNI-DN-{rng.randrange(1 << 32):08x}"
            dport = Match(Payload("tcp", "dport"), SetOf((outer,)) if inner == 80 else outer)
            tcp = Match(Meta("l4proto"), "tcp")
            jumps.append(rule(tcp, dport, Verdict("jump", target)))
            chains.append(
                Chain(
                    name=target,
                    rules=(
                        rule(Match(Payload("ip", "saddr"), "127.0.0.1"), tcp, dport,
                             Verdict("return")),
                        rule(tcp, dport, Nat("dnat", address=own, port=inner)),
                    ),
                )
            )  # fmt: skip
    crowd.put(
        _table(
            "nat",
            Chain(name="PREROUTING", hook="prerouting", type="nat", priority=-100,
                  rules=(rule(_to_local(), Verdict("jump", "PORTS")),)),
            Chain(name="OUTPUT", hook="output", type="nat", priority=-100,
                  rules=(rule(_to_local(), Verdict("jump", "PORTS")),)),
            Chain(name="PORTS", rules=tuple(jumps)),
            Chain(name="POSTROUTING", hook="postrouting", type="nat", priority=100,
                  rules=tuple(sources)),
            *chains,
        ),
        _table("filter", Chain(name="FORWARD", hook="forward", priority=0, policy="drop",
                               rules=tuple(forwards))),
    )  # fmt: skip


def _table(name: str, *chains: Chain) -> Table:
    return Table(family="ip", name=name, origin="iptables-nft", chains=chains)


# Odd things ---------------------------------------------------------------------------


def _add_entries(rng: random.Random, crowd: Crowd) -> None:
    """What was learned: mostly true, some of it old, some of it wrong."""
    for member in crowd.members:
        for place, bridge in enumerate(member.bridges):
            states = ("reachable", "stale", "stale", "failed")
            own = mac(member, bridge)
            if rng.random() < 0.6:
                wrong = rng.random() < 0.06
                crowd.put(
                    Neighbour(
                        link=f"br{bridge}", address=address(member, bridge),
                        mac="02:00:0f:00:00:01" if wrong else own,
                        state=rng.choice(("reachable", "permanent") if wrong else states),
                    )
                )  # fmt: skip
            if rng.random() < 0.5:
                crowd.put(
                    Neighbour(
                        namespace=member.name, link=f"eth{place}",
                        address=f"10.{20 + bridge}.0.1", mac=f"02:00:08:00:00:{bridge:02x}",
                        state=rng.choice(states),
                    )
                )  # fmt: skip
            if rng.random() < 0.3:
                other = rng.choice(crowd.members)
                if bridge in other.bridges and other is not member:
                    crowd.put(
                        Neighbour(
                            namespace=member.name, link=f"eth{place}",
                            address=address(other, bridge), mac=mac(other, bridge),
                            state=rng.choice(states),
                        )
                    )  # fmt: skip
            if rng.random() < 0.2:
                crowd.put(
                    Neighbour(
                        namespace=member.name, link=f"eth{place}",
                        address=f"10.{20 + bridge}.0.{rng.randint(200, 240)}",
                        mac="02:00:0e:00:00:01", state="stale",
                    )
                )  # fmt: skip
            if rng.random() < 0.6:
                crowd.put(FdbEntry(link=member.port(bridge), mac=own))
            crowd.put(
                FdbEntry(link=member.port(bridge), mac=mac(member, bridge, 1), permanent=True),
                FdbEntry(link=member.port(bridge), mac="33:33:00:00:00:01", permanent=True,
                         own=True),
            )  # fmt: skip


def _add_odd_thing(rng: random.Random, crowd: Crowd) -> None:
    member, other = rng.choice(crowd.members), rng.choice(crowd.members)
    bridge = member.bridges[0]
    own, third = address(member, bridge), address(other, other.bridges[0])
    verdict = rng.choice((Verdict("drop"), Verdict("accept")))
    saddr, daddr = Payload("ip", "saddr"), Payload("ip", "daddr")
    first, last = sorted((int(own.rpartition(".")[2]), int(third.rpartition(".")[2])))
    span = Range(f"10.{20 + bridge}.0.{first}", f"10.{20 + bridge}.0.{last}")
    rules = [
        rule(Match(saddr, own), verdict),
        rule(Match(saddr, own), Match(daddr, third), verdict),
        rule(Match(saddr, SetOf((own, third))), Verdict("drop")),
        rule(Match(daddr, span), verdict),
        rule(Match(daddr, f"10.{20 + bridge}.0.0/28"), Verdict("drop")),
        rule(Match(daddr, own), Match(Payload("tcp", "dport"), rng.choice((80, 8080, 20001))),
             verdict),
        rule(Match(Meta("iifname"), member.port(bridge)), Verdict("drop")),
        rule(VerdictMap(saddr, ((own, Verdict("drop")), (third, Verdict("accept")))))
        if own != third else rule(Match(saddr, own, "<="), Verdict("drop")),
        rule(Match(Payload("tcp", "dport"), Range(20000, 20002)), Verdict("drop")),
        rule(Match(Payload("ether", "saddr"), mac(member, bridge)), Verdict("drop")),
    ]  # fmt: skip
    chosen = tuple(rng.sample(rules, rng.randint(1, 3)))
    hook, family = rng.choice((("forward", "ip"), ("prerouting", "ip"), ("forward", "bridge")))
    things: list[Object] = [
        Table(family=family, name="odd", chains=(
            Chain(name="odd", hook=hook, priority=-10, rules=chosen),)),
        Table(namespace=member.name, family="inet", name="own", chains=(
            Chain(name="own", hook="input", priority=0,
                  rules=(rule(Match(saddr, third), Verdict("drop")),)),)),
        Sysctl(namespace=member.name, path="ipv4/conf/eth0/rp_filter", value="1"),
        Sysctl(path=f"ipv4/conf/{member.port(bridge)}/proxy_arp", value="1"),
        Sysctl(namespace=member.name, path="ipv4/conf/all/proxy_arp", value="1"),
        Address(namespace=member.name, link="eth0", address=f"10.{20 + bridge}.0.250/24"),
        Address(namespace=member.name, link="eth0", address=f"{third}/24"),
        Route(destination=f"{own}/32", type="blackhole"),
        Route(destination=f"10.{20 + bridge}.0.0/27", type="unreachable", metric=5),
        Route(namespace=member.name, destination=f"{third}/32", type="prohibit"),
        Rule(priority=50, source=f"{own}/32", action="prohibit"),
        Rule(priority=50, destination=f"10.{20 + bridge}.0.12/30", action="unreachable"),
    ]  # fmt: skip
    crowd.put(rng.choice(things[:2] if rng.random() < 0.5 else things))
