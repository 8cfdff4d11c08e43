"""More of the rule language than `rulesets` has: what is rarer, and what may go two ways."""

from __future__ import annotations

import random

from linkspan.dataplane import Chain, Element, FirewallRule, Object, SetDefinition, Table
from linkspan.dataplane.rules import (
    Concat,
    Copy,
    Counter,
    Ct,
    Fib,
    Flags,
    Limit,
    Log,
    Lookup,
    Masked,
    Match,
    Meta,
    Nat,
    Numgen,
    Payload,
    Range,
    Reject,
    SetField,
    SetOf,
    Statement,
    Verdict,
    VerdictMap,
)
from walks.rulesets import PORTS, Writer
from walks.topology import HOST, Topology

_REJECTS = {
    "inet": ("port-unreachable", "admin-prohibited", "host-unreachable", "no-route"),
    "ip": ("port-unreachable", "admin-prohibited", "host-unreachable", "net-unreachable"),
    "ip6": ("port-unreachable", "admin-prohibited", "addr-unreachable", "no-route"),
}
_ECHO = {4: ("icmp", "echo-request", "echo-reply"), 6: ("icmpv6", "echo-request", "echo-reply")}


class WideWriter(Writer):
    """Writes the tables of one namespace, with everything that the walk understands."""

    family = "inet"
    """Of the table that is being written."""

    def tables(self) -> list[Object]:
        found = super().tables()
        if self.rng.random() < 0.25:
            found.append(self._device_table())
        return found

    # Tests ----------------------------------------------------------------------------

    def test(self, hook: str) -> Statement:
        rng = self.rng
        if rng.random() < 0.55:
            return super().test(hook)
        icmp, asked, answered = _ECHO[self.world.version]
        network, transport = self.network, rng.choice(("tcp", "udp"))
        choices: list[Statement] = [
            Match(Payload(icmp, "type"), rng.choice((asked, answered)), rng.choice(("==", "!="))),
            Match(Payload(icmp, "type"), SetOf((asked, answered))),
            Match(Payload("ether", "saddr"), rng.choice(self._macs()), rng.choice(("==", "!="))),
            Match(Payload(transport, "sport"), Range(1024, 65535), rng.choice(("==", "!="))),
            Match(Payload(transport, "sport"), rng.choice(PORTS), rng.choice(("==", "!="))),
            Match(Payload(transport, "dport"), rng.choice(PORTS), rng.choice((">", "<="))),
            Match(Payload(network, "saddr"), Range(*self._span()), rng.choice(("==", "!="))),
            Match(Payload(network, "daddr"), SetOf((self.address(), self.address_like()))),
            Match(Ct(f"{network} daddr", "original"), self.address(), rng.choice(("==", "!="))),
            Match(Ct(f"{network} saddr", "reply"), self.address(), rng.choice(("==", "!="))),
            Match(Ct("status"), 0, rng.choice(("==", "!="))),
            Flags(Ct("status"), ("dnat", "snat"), rng.random() < 0.5),
            Flags(Ct("state"), ("new", "untracked")),
            Match(Ct("state"), "established", "!="),
            Match(Fib("type", ("daddr",)), SetOf(("local", "broadcast"))),
            Match(Fib("type", ("daddr",)), "local", "!="),
            Match(Masked(Meta("mark"), 0xFF, 1), rng.choice((0, 1, 3)), rng.choice(("==", "!="))),
            Match(Masked(Payload("tcp", "flags"), 0x17), 2, rng.choice(("==", "!="))),
            Match(Meta("mark"), Range(1, 3)),
            Match(Meta("pkttype"), "host"),
            Match(Meta("protocol"), network, rng.choice(("==", "!="))),
            Match(Concat((Payload(network, "saddr"), Payload(network, "daddr"),
                          Payload("th", "dport"))),
                  SetOf(((self.net(), self.net(), Range(80, rng.choice((80, 8080)))),)),
                  rng.choice(("==", "!="))),
            Match(Numgen("random", 2), 0),
            Match(Numgen("inc", 2), 1),
            Limit(rng.choice(("1/hour burst 1 packets", "10/second", "1/hour")), False),
        ]  # fmt: skip
        if hook in ("prerouting", "input", "forward"):
            choices.append(Match(Meta("iifname"), SetOf((self.link(), self.link_like()))))
            choices.append(
                Match(Fib("type", ("daddr", "iif")), "local")
                if hook != "forward"
                else Match(Meta("iifname"), "p*", "!=")
            )
            choices.append(Match(Meta("iifname"), rng.choice(("br*", "e*", "v*"))))
        if hook in ("output", "postrouting"):
            choices.append(Match(Meta("skuid"), rng.choice((0, 1000))))
            choices.append(Match(Fib("type", ("saddr",)), "local", "!="))
        if hook == "prerouting":
            choices.append(Match(Fib("oif", ("saddr", "iif")), "missing", rng.choice(("==", "!="))))
        return rng.choice(choices)

    def address_like(self) -> str:
        """Another address than `address` could give: nobody's."""
        return (
            self.world.subnets[0].partition("/")[0][:-1] + "88"
            if (self.world.version == 4)
            else self.world.subnets[0].partition("/")[0] + "88"
        )

    def link_like(self) -> str:
        """Another link than one that is there."""
        return self.rng.choice(("lo", "nolink0", *self.world.links[self.namespace][:1]))

    def tests(self, hook: str) -> tuple[Statement, ...]:
        # nft refuses what can never hold: two protocols in one rule.
        for _ in range(200):
            found = super().tests(hook)
            if sum(_protocols(one) is not None for one in found) < 2:
                return found
        return (Counter(),)

    def _macs(self) -> list[str]:
        return [o.mac for o in self.world.objects if getattr(o, "mac", None)] or [
            "02:00:00:00:00:01"
        ]

    def _span(self) -> tuple[str, str]:
        net = self.rng.choice(self.world.subnets).partition("/")[0]
        if self.world.version == 4:
            return net[:-1] + "2", net[:-1] + self.rng.choice(("2", "9", "150"))
        return f"{net}2", f"{net}{self.rng.choice(('2', '9', '150'))}"

    # Effects --------------------------------------------------------------------------

    def effect(self, hook: str, priority: int, jumps: list[str]) -> tuple[Statement, ...]:
        rng = self.rng
        roll = rng.random()
        if roll < 0.6:
            return super().effect(hook, priority, jumps)
        if roll < 0.7 and hook in ("input", "forward", "output"):
            return (Log("seen "), Reject(rng.choice(_REJECTS[self.family])))
        if roll < 0.75:
            return (Copy(Ct("mark"), Meta("mark"), rng.choice((0xFFFFFFFF, 0xFF))),)
        if roll < 0.8:
            return (SetField(Meta("mark"), rng.choice((0x10, 0x11)), 0xFFFFFF0F),)
        if roll < 0.85:
            return (SetField(Ct("mark"), rng.choice((1, 4)), 0xFFFFFFF0),)
        if roll < 0.9:
            return (self._verdict_map(jumps),)
        if roll < 0.95:
            return (Limit("5/second"), Verdict("accept"))
        return (Counter(),)

    def _verdict_map(self, jumps: list[str]) -> VerdictMap:
        rng = self.rng
        ends = [Verdict("drop"), Verdict("accept"), Verdict("return")]
        ends += [Verdict(rng.choice(("jump", "goto")), name) for name in jumps]
        match rng.choice(("named", "ports", "pairs", "mark", "numbers", "addresses")):
            case "named":
                return VerdictMap(Payload(self.network, "saddr"), "ends")
            case "ports":
                rows = ((Range(80, 100), rng.choice(ends)), (Range(8000, 9000), rng.choice(ends)))
                return VerdictMap(Payload("th", "dport"), rows)
            case "pairs":
                key = Concat((Meta("l4proto"), Payload("th", "dport")))
                pairs = tuple(
                    ((rng.choice(("tcp", "udp")), port), rng.choice(ends)) for port in PORTS[:3]
                )
                return VerdictMap(key, pairs)
            case "mark":
                return VerdictMap(
                    Masked(Meta("mark"), 3), ((0, rng.choice(ends)), (1, rng.choice(ends)))
                )
            case "numbers":
                return VerdictMap(
                    Numgen(rng.choice(("inc", "random")), 2),
                    ((0, rng.choice(ends)), (1, rng.choice(ends))),
                )
        nets = rng.sample(self.world.subnets, min(2, len(self.world.subnets)))
        return VerdictMap(
            Payload(self.network, rng.choice(("saddr", "daddr"))),
            tuple((net, rng.choice(ends)) for net in nets),
        )

    def _nat_rule(self, hook: str) -> FirewallRule:
        rng = self.rng
        if rng.random() < 0.5:
            return super()._nat_rule(hook)
        guard = Match(Meta("l4proto"), rng.choice(("tcp", "udp")))
        if hook in ("prerouting", "output"):
            to = [a for a in self.world.everything() if a not in ("127.0.0.1", "::1")]
            one, other = rng.choice(to), rng.choice(to)
            head = Match(Payload("th", "dport"), rng.choice((*PORTS, Range(80, 90))))
            match rng.choice(("balance", "addresses", "ports", "map", "redirect", "prefix")):
                case "balance":
                    key = Numgen(rng.choice(("inc", "random")), 2)
                    lookup = Lookup(key, ((0, one), (1, other)))
                    return FirewallRule((guard, head, Nat("dnat", self.network, lookup=lookup)))
                case "addresses":
                    return FirewallRule((head, Nat("dnat", self.network, Range(*self._span()))))
                case "ports":
                    port = rng.choice((Range(80, 81), Range(8080, 8081), Range(80, 80)))
                    return FirewallRule((guard, head, Nat("dnat", self.network, one, port)))
                case "map":
                    lookup = Lookup(Payload("th", "dport"), ((80, one), (Range(8000, 9000), other)))
                    return FirewallRule((guard, Nat("dnat", self.network, lookup=lookup)))
                case "redirect":
                    return FirewallRule((guard, head, Nat("redirect", port=Range(80, 81))))
            return FirewallRule(
                (Match(Payload(self.network, "daddr"), one), guard,
                 Nat("dnat", self.network, other, rng.choice(PORTS)))
            )  # fmt: skip
        if hook == "postrouting":
            test = Match(Payload(self.network, "saddr"), rng.choice(self.world.subnets))
            if rng.random() < 0.5:
                flags = rng.choice(((), ("random",), ("fully-random",), ("persistent",)))
                ports = Range(40000, 40100) if rng.random() < 0.5 else None
                return FirewallRule((test, guard, Nat("masquerade", port=ports, flags=flags)))
            return FirewallRule((test, Nat("snat", self.network, Range(*self._span()))))
        return super()._nat_rule(hook)

    # Tables ---------------------------------------------------------------------------

    def _ip_table(self, name: str, family: str) -> list[Object]:
        self.family = family
        return super()._ip_table(name, family)

    def _sets(self) -> tuple[SetDefinition, ...]:
        more = SetDefinition(name="ends", key=(self.type,), data=("verdict",), interval=True)
        return (*super()._sets(), more)

    def _elements(self, family: str, table: str) -> list[Element]:
        rng = self.rng
        net = rng.choice(self.world.subnets)
        verdict = rng.choice(("accept", "drop", "return"))
        more = Element(namespace=self.namespace, family=family, table=table, set="ends",
                       first=(net,), data=(verdict,))  # fmt: skip
        return [*super()._elements(family, table), more]

    def _device_table(self) -> Table:
        """Rules that see a frame before everything else."""
        rng = self.rng
        links = [one for one in self.world.links[self.namespace] if one != "lo"]
        hook = rng.choice(("ingress", "ingress", "egress"))
        rules = []
        for _ in range(rng.randint(1, 2)):
            test = rng.choice((
                Match(Payload(self.network, rng.choice(("saddr", "daddr"))), self.net()),
                Match(Payload("tcp", "dport"), rng.choice(PORTS)),
                Match(Payload("udp", "dport"), rng.choice((*PORTS, 4789))),
            ))  # fmt: skip
            effect = rng.choice((Verdict("drop"), Verdict("accept"), SetField(Meta("mark"), 1)))
            rules.append(FirewallRule((Match(Meta("protocol"), self.network), test, effect)))
        chain = Chain(name=hook, hook=hook, device=rng.choice(links), rules=tuple(rules))
        return Table(namespace=self.namespace, family="netdev", name="wire", chains=(chain,))


def _protocols(statement: Statement) -> str | None:
    """The transport protocol that a test speaks of, if it does."""
    left, right = getattr(statement, "left", None), getattr(statement, "right", None)
    if isinstance(left, Masked):
        left = left.expression
    if isinstance(left, Payload) and left.protocol in ("tcp", "udp", "icmp", "icmpv6"):
        return left.protocol
    return str(right) if isinstance(left, Meta) and left.field == "l4proto" else None


def make_wide_rulesets(rng: random.Random, world: Topology) -> list[Object]:
    """Tables of all namespaces, in the order of their creation."""
    found: list[Object] = []
    for name in world.namespaces:
        if name == HOST or rng.random() < 0.25:
            found += WideWriter(rng, world, name).tables()
    return found
