"""Random firewalls in the rule language: tables of all families, sets, maps, translations."""

from __future__ import annotations

import random

from linkspan.dataplane import (
    Chain,
    Element,
    FirewallRule,
    Object,
    SetDefinition,
    Table,
    creation_order,
)
from linkspan.dataplane.rules import (
    Concat,
    Copy,
    Counter,
    Ct,
    Expression,
    Fib,
    Flags,
    Lookup,
    Masked,
    Match,
    Meta,
    Named,
    Nat,
    Notrack,
    Payload,
    Range,
    Reject,
    SetField,
    SetOf,
    Statement,
    Verdict,
    VerdictMap,
)
from walks.topology import HOST, Topology

PORTS = (80, 81, 8080, 8081)
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
_WITH_INPUT = {"prerouting", "input", "forward"}
_WITH_OUTPUT = {"forward", "output", "postrouting"}


class Writer:
    """Writes the tables of one namespace."""

    def __init__(self, rng: random.Random, world: Topology, namespace: str) -> None:
        self.rng = rng
        self.world = world
        self.namespace = namespace
        self.network = "ip" if world.version == 4 else "ip6"
        self.type = "ipv4_addr" if world.version == 4 else "ipv6_addr"

    def tables(self) -> list[Object]:
        found: list[Object] = []
        for number in range(self.rng.choice((0, 1, 1, 2))):
            family = self.rng.choice(("inet", "inet", self.network))
            found += self._ip_table(f"t{number}", family)
        if self.namespace == HOST and self.rng.random() < 0.4:
            found.append(self._bridge_table())
        if self.rng.random() < 0.1 and self.world.version == 4:
            found.append(self._arp_table())
        return found

    # Values ---------------------------------------------------------------------------

    def address(self) -> str:
        return self.rng.choice([a for a in self.world.everything() if a not in ("::1",)])

    def net(self) -> str:
        return self.rng.choice([*self.world.subnets, self.address()])

    def link(self) -> str:
        return self.rng.choice(self.world.links[self.namespace])

    def test(self, hook: str) -> Statement:
        rng = self.rng
        ports = "th" if self.world.version == 4 else rng.choice(("tcp", "udp"))
        choices: list[Statement] = [
            Match(Meta("l4proto"), rng.choice(("tcp", "udp")), rng.choice(("==", "!="))),
            Match(Payload(rng.choice(("tcp", "udp", ports)), "dport"), rng.choice(PORTS),
                  rng.choice(("==", "==", "!=", "<", ">="))),
            # Where others have a port neighbour discovery has a checksum: ranges could hold.
            Match(Payload(ports, "dport"), Range(80, rng.choice((80, 100, 9000)))),
            Match(Payload(ports, "dport"), SetOf((80, Range(8000, 8080)))),
            Match(Payload(self.network, rng.choice(("saddr", "daddr"))), self.net(),
                  rng.choice(("==", "==", "!="))),
            Match(Payload(self.network, "daddr"), Named("nets"), rng.choice(("==", "!="))),
            Match(Concat((Payload(self.network, "saddr"), Payload("th", "dport"))),
                  Named("pairs"), rng.choice(("==", "!="))),
            Match(Concat((Payload(self.network, "daddr"), Meta("l4proto"))), Named("wide")),
            Match(Masked(Meta("mark"), 3), rng.choice((0, 1, 2))),
            Match(Meta("mark"), rng.choice((0, 1)), rng.choice(("==", "!="))),
            Flags(Ct("state"), rng.choice((("new",), ("established", "related"), ("invalid",)))),
            Match(Ct("direction"), rng.choice(("original", "reply"))),
            Flags(Ct("status"), rng.choice((("dnat",), ("snat",)))),
            Match(Ct("mark"), rng.choice((0, 5)), rng.choice(("==", "!="))),
            Match(Fib("type", ("daddr",)), "local"),
            Match(Fib("type", ("saddr",)), "local"),
            Flags(Payload("tcp", "flags"), ("syn",)),
        ]  # fmt: skip
        if hook in _WITH_INPUT:
            choices += [
                Match(Meta("iifname"), self.link(), rng.choice(("==", "!="))),
                Match(Concat((Meta("iifname"), Payload(self.network, "saddr"))), Named("from")),
            ]
        if hook in _WITH_OUTPUT:
            choices += [
                Match(Meta("oifname"), self.link(), rng.choice(("==", "!="))),
                Match(Meta("oifname"), rng.choice(("br*", "p*", "lo"))),
            ]
        if hook == "prerouting" and self.world.version == 4:
            choices.append(Match(Fib("oifname", ("saddr", "iif")), "lo", "!="))
        return rng.choice(choices)

    def tests(self, hook: str) -> tuple[Statement, ...]:
        found = [self.test(hook) for _ in range(self.rng.choice((1, 1, 2, 2, 3)))]
        # One rule speaks of one transport protocol only, or it could never hold.
        named = {
            str(getattr(left, "protocol", right))
            for one in found
            if (left := getattr(one, "left", None)) is not None
            and ((right := getattr(one, "right", None)) in ("tcp", "udp")
                 or getattr(left, "protocol", "") in ("tcp", "udp"))
        }  # fmt: skip
        return tuple(found) if len(named) < 2 else self.tests(hook)

    def effect(self, hook: str, priority: int, jumps: list[str]) -> tuple[Statement, ...]:
        rng = self.rng
        roll = rng.random()
        if roll < 0.35:
            return (Counter(), Verdict("accept"))
        if roll < 0.55:
            return (Verdict("drop"),)
        if roll < 0.62 and hook in ("input", "forward", "output"):
            return (Reject(),)
        if roll < 0.72:
            return (
                SetField(Meta("mark"), rng.choice((1, 2, 3)), mask=rng.choice((0, 0xFFFFFFFC))),
            )
        if roll < 0.78:
            return (SetField(Ct("mark"), 5),)
        if roll < 0.82:
            return (Copy(Meta("mark"), Ct("mark")),)
        if roll < 0.85 and hook in ("prerouting", "output") and priority < -200:
            return (Notrack(),)
        if roll < 0.95 and jumps:
            return (Verdict(rng.choice(("jump", "goto")), rng.choice(jumps)),)
        return (Verdict("return"),)

    # Tables ---------------------------------------------------------------------------

    def _ip_table(self, name: str, family: str) -> list[Object]:
        rng = self.rng
        chains: list[Chain] = []
        for number in range(rng.randint(1, 3)):
            hook = rng.choice(_HOOKS)
            jumps = []
            for inner in range(rng.choice((0, 1))):
                jumps.append(f"j{number}{inner}")
                chains.append(
                    Chain(name=jumps[-1], rules=self._rules(hook, 0, [], rng.randint(1, 3)))
                )
            priority = rng.choice((-300, -150, 0, 0, 10))
            chains.append(
                Chain(
                    name=f"f{number}",
                    hook=hook,
                    priority=priority,
                    policy=rng.choice(("accept",) * 6 + ("drop",)),
                    rules=self._rules(hook, priority, jumps, rng.randint(1, 4)),
                )
            )
        chains += self._nat_chains(family)
        table = Table(
            namespace=self.namespace,
            family=family,
            name=name,
            chains=tuple(chains),
            sets=self._sets(),
        )
        return [table, *self._elements(family, name)]

    def _rules(
        self, hook: str, priority: int, jumps: list[str], count: int
    ) -> tuple[FirewallRule, ...]:
        rules = []
        for _ in range(count):
            statements = (*self.tests(hook), *self.effect(hook, priority, jumps))
            if jumps and self.rng.random() < 0.2:
                statements = (
                    VerdictMap(
                        Payload("th", "dport"),
                        tuple(
                            (
                                port,
                                self.rng.choice(
                                    (Verdict("drop"), Verdict("accept"), Verdict("jump", jumps[0]))
                                ),
                            )
                            for port in self.rng.sample(PORTS, 2)
                        ),
                    ),
                )
            rules.append(FirewallRule(statements))
        return tuple(rules)

    def _nat_chains(self, family: str) -> list[Chain]:
        rng = self.rng
        chains: list[Chain] = []
        kinds = [("prerouting", -100), ("output", -100), ("postrouting", 100), ("input", 100)]
        for hook, priority in kinds:
            if rng.random() < (0.15 if hook == "input" else 0.45):
                rules = [self._nat_rule(hook) for _ in range(rng.randint(1, 3))]
                chains.append(
                    Chain(name=f"nat_{hook}", hook=hook, type="nat", priority=priority,
                          rules=tuple(rules))
                )  # fmt: skip
        return chains

    def _nat_rule(self, hook: str) -> FirewallRule:
        rng = self.rng
        key: Expression
        if hook in ("prerouting", "output"):
            roll = rng.random()
            head: tuple[Statement, ...] = (Match(Payload("th", "dport"), rng.choice(PORTS)),)
            if rng.random() < 0.5:
                head = (Match(Fib("type", ("daddr",)), "local"), *head)
            if roll < 0.25:
                key = Concat((Meta("l4proto"), Payload("th", "dport")))
                return FirewallRule(
                    (*head[:-1], Nat("dnat", family=self.network, lookup=Lookup(key, "ports")))
                )
            if roll < 0.4:
                guard = Match(Meta("l4proto"), rng.choice(("tcp", "udp")))
                return FirewallRule((guard, *head, Nat("redirect", port=rng.choice(PORTS))))
            to = rng.choice([a for a in self.world.everything() if a not in ("127.0.0.1", "::1")])
            guard = Match(Meta("l4proto"), rng.choice(("tcp", "udp")))
            port = rng.choice((None, rng.choice(PORTS)))
            return FirewallRule(
                (guard, *head, Nat("dnat", family=self.network, address=to, port=port))
            )
        test = self.test(hook)
        if hook == "postrouting" and rng.random() < 0.7:
            test = Match(Payload(self.network, "saddr"), rng.choice(self.world.subnets))
            if rng.random() < 0.5:
                return FirewallRule(
                    (Match(Payload(self.network, "saddr"), rng.choice(self.world.subnets)),
                     Nat("masquerade"))
                )  # fmt: skip
        own = [a for a in self.world.own(self.namespace) if a not in ("127.0.0.1", "::1")]
        if not own or (hook == "postrouting" and rng.random() < 0.4):
            if hook != "postrouting":
                return FirewallRule((test, Verdict("return")))
            return FirewallRule((test, Nat("masquerade")))
        return FirewallRule((test, Nat("snat", family=self.network, address=rng.choice(own))))

    def _sets(self) -> tuple[SetDefinition, ...]:
        return (
            SetDefinition(name="nets", key=(self.type,), interval=True),
            SetDefinition(name="pairs", key=(self.type, "inet_service")),
            SetDefinition(name="wide", key=(self.type, "inet_proto"), interval=True),
            SetDefinition(name="from", key=("ifname", self.type), interval=True),
            SetDefinition(name="ports", key=("inet_proto", "inet_service"),
                          data=(self.type, "inet_service")),
        )  # fmt: skip

    def _elements(self, family: str, table: str) -> list[Element]:
        rng = self.rng

        def element(name: str, *first: str | int, last: tuple[str | int, ...] | None = None,
                    data: tuple[str | int, ...] | None = None) -> Element:  # fmt: skip
            return Element(namespace=self.namespace, family=family, table=table, set=name,
                           first=first, last=last, data=data)  # fmt: skip

        def ends(net: str) -> tuple[str, str]:
            first = net.partition("/")[0]
            if "/" not in net:
                return first, first
            if self.world.version == 4:
                return first, first.rpartition(".")[0] + ".255"
            return first, first.rpartition("::")[0] + "::ffff:ffff:ffff:ffff"

        found = [
            element("pairs", self.address(), rng.choice(PORTS)),
            *(element("ports", rng.choice(("tcp", "udp")), port,
                      data=(self.address(), rng.choice(PORTS)))
              for port in rng.sample(PORTS, 2)),
        ]  # fmt: skip
        for net in rng.sample(self.world.subnets, 1):
            first, last = ends(net)
            found.append(element("nets", net))
            found.append(element("wide", first, "tcp", last=(last, "tcp")))
            found.append(element("from", self.link(), first, last=(self.link(), last)))
        return [one for one in found if one.set != "from" or one.first[0] == (one.last or "?")[0]]

    def _bridge_table(self) -> Table:
        rng = self.rng
        ports = [link for link in self.world.links[HOST] if link.startswith("p")]
        chains = []
        for hook in rng.sample(("prerouting", "input", "forward", "output", "postrouting"), 2):
            rules = []
            for _ in range(rng.randint(1, 3)):
                tests: list[Statement] = [
                    Match(Payload("ether", "type"), self.network),
                    rng.choice(
                        (
                            Match(Payload(self.network, rng.choice(("saddr", "daddr"))),
                                  self.net()),
                            Match(Payload("tcp", "dport"), rng.choice(PORTS)),
                            Match(Masked(Meta("mark"), 3), rng.choice((0, 1))),
                        )
                    ),
                ]  # fmt: skip
                if ports and rng.random() < 0.5:
                    if hook in _WITH_INPUT:
                        tests.append(Match(Meta("iifname"), rng.choice(ports)))
                    else:
                        tests.append(Match(Meta("oifname"), rng.choice(ports)))
                effect = rng.choice((Verdict("drop"), Verdict("accept"), SetField(Meta("mark"), 1)))
                rules.append(FirewallRule((*tests, effect)))
            if rng.random() < 0.2:
                kind = Match(Payload("ether", "type"), "arp")
                rules.append(
                    FirewallRule(
                        (kind, Match(Payload("arp", "daddr ip"), self.address()), Verdict("drop"))
                    )
                )
            chains.append(
                Chain(name=hook, hook=hook, priority=rng.choice((-300, -200, 0, 100)),
                      rules=tuple(rules))
            )  # fmt: skip
        if self.world.version == 6:
            chains = [
                Chain(name=c.name, hook=c.hook, priority=c.priority,
                      rules=tuple(r for r in c.rules if "arp" not in repr(r)))
                for c in chains
            ]  # fmt: skip
        return Table(namespace=HOST, family="bridge", name="frames", chains=tuple(chains))

    def _arp_table(self) -> Table:
        hook = self.rng.choice(("input", "output"))
        rule = FirewallRule((Match(Payload("arp", "daddr ip"), self.address()), Verdict("drop")))
        return Table(
            namespace=self.namespace,
            family="arp",
            name="asks",
            chains=(Chain(name=hook, hook=hook, rules=(rule,)),),
        )


def make_rulesets(rng: random.Random, world: Topology) -> list[Object]:
    found: list[Object] = []
    for name in world.namespaces:
        if name == HOST or rng.random() < 0.25:
            found += Writer(rng, world, name).tables()
    # Of two chains with one priority the younger runs first: keep the order of creation.
    return creation_order(found)
