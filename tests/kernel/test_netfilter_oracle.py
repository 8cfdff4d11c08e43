"""What we load is what `nft` loads from the printed text: its own listing is the judge."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from lab import Lab, Namespace
from linkspan.dataplane import Add, Chain, Element, FirewallRule, SetDefinition, Table
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
from linkspan.dataplane.ruletext import ruleset_text, statement_text
from linkspan.drivers import firewall as layout
from linkspan.kernel.netfilter.firewall import Firewall

ACCEPT, DROP = Verdict("accept"), Verdict("drop")
IN, OUT = Meta("iifname"), Meta("oifname")
PROTOCOL_PORT = (Meta("l4proto"), Payload("th", "dport"))

SETS = (
    SetDefinition(name="ports", key=("inet_proto", "inet_service"),
                  data=("ipv4_addr", "inet_service"), comment="single ports"),
    SetDefinition(name="ports6", key=("inet_proto", "inet_service"),
                  data=("ipv6_addr", "inet_service")),
    SetDefinition(name="ranges", key=("inet_proto", "inet_service"), data=("ipv4_addr",),
                  interval=True),
    SetDefinition(name="sources", key=("ipv4_addr", "ifname"), interval=True),
    SetDefinition(name="nets", key=("ipv4_addr",), interval=True),
    SetDefinition(name="nets6", key=("ipv6_addr",), interval=True),
    SetDefinition(name="links", key=("ifname",)),
    SetDefinition(name="verdicts", key=("ifname",), data=("verdict",)),
    SetDefinition(name="marks", key=("mark",), data=("ipv4_addr",)),
    SetDefinition(name="mark_ranges", key=("mark",), interval=True),
    SetDefinition(name="recent", key=("ipv4_addr",), timeout=60, size=1000, dynamic=True),
    SetDefinition(name="macs", key=("ifname", "ether_addr")),
    SetDefinition(name="backends", key=("inet_service",), data=("ipv4_addr",)),
)  # fmt: skip

ELEMENTS: tuple[
    tuple[str, tuple[Any, ...], tuple[Any, ...] | None, tuple[Any, ...] | None], ...
] = (
    ("ports", ("tcp", 8080), None, ("10.20.0.2", 80)),
    ("ports", ("udp", 53), None, ("10.20.0.3", 5353)),
    ("ports", ("sctp", 9), None, ("10.20.0.3", 9)),
    ("ports6", ("tcp", 8080), None, ("fd00::2", 80)),
    ("ranges", ("tcp", 8000), ("tcp", 8999), ("10.20.0.2",)),
    ("ranges", ("udp", 7), None, ("10.20.0.2",)),
    ("sources", ("10.20.0.0/24", "br-web"), None, None),
    ("sources", ("10.30.0.4", "br-web"), None, None),
    ("nets", ("10.20.0.0/24",), None, None),
    ("nets", ("10.20.1.0",), ("10.20.1.5",), None),
    ("nets", ("10.20.1.6",), None, None),
    ("nets", ("255.255.255.0/24",), None, None),
    ("nets6", ("fd00:1::/64",), None, None),
    ("nets6", ("fe80::1",), None, None),
    ("links", ("br-web",), None, None),
    ("verdicts", ("br-web",), None, ("jump other",)),
    ("verdicts", ("br-api",), None, ("drop",)),
    ("marks", (0x10,), None, ("10.0.0.1",)),
    ("mark_ranges", (0x100,), (0x1FF,), None),
    ("mark_ranges", (7,), None, None),
    ("macs", ("veth1", "02:42:0a:14:00:02"), None, None),
    ("backends", (8080,), None, ("10.20.0.2",)),
)

FILTER: tuple[tuple[Statement, ...], ...] = (
    (Match(IN, "lo"), ACCEPT),
    (Match(IN, "br-*"), ACCEPT),
    (Match(OUT, "br-web", "!="), DROP),
    (Match(IN, SetOf(("a", "b"))), DROP),
    (Match(IN, Named("links")), ACCEPT),
    (Match(IN, Named("links"), "!="), ACCEPT),
    (Match(Meta("iif"), 1), ACCEPT),
    (Match(Meta("l4proto"), "tcp"), ACCEPT),
    (Match(Meta("l4proto"), SetOf(("tcp", "udp"))), ACCEPT),
    (Match(Meta("nfproto"), "ipv6"), ACCEPT),
    (Match(Meta("protocol"), "ip"), ACCEPT),
    (Match(Meta("pkttype"), "broadcast"), DROP),
    (Match(Meta("mark"), 7), ACCEPT),
    (Match(Meta("mark"), Range(0x100, 0x1FF)), ACCEPT),
    (Match(Meta("mark"), Range(0x100, 0x1FF), "!="), ACCEPT),
    (Match(Meta("mark"), 5, ">"), ACCEPT),
    (Match(Meta("mark"), Named("mark_ranges")), ACCEPT),
    (Match(Meta("mark"), SetOf((1, Range(5, 9)))), ACCEPT),
    (Match(Masked(Meta("mark"), 0x10), 0x10), ACCEPT),
    (Match(Masked(Meta("mark"), 0x08000000), 0, "!="), ACCEPT),
    (Match(Masked(Ct("mark"), 0xF0), 0x20), ACCEPT),
    (Match(Payload("ip", "saddr"), "10.0.0.1"), ACCEPT),
    (Match(Payload("ip", "daddr"), "127.0.0.0/8"), DROP),
    (Match(Payload("ip", "daddr"), "10.0.0.0/9", "!="), DROP),
    (Match(Payload("ip", "saddr"), "10.0.0.0/24"), DROP),
    (Match(Payload("ip", "saddr"), Range("10.0.0.1", "10.0.0.9")), DROP),
    (Match(Payload("ip", "saddr"), SetOf(("10.0.0.0/8", "192.168.0.1"))), DROP),
    (Match(Payload("ip", "saddr"), Named("nets")), DROP),
    (Match(Payload("ip", "protocol"), "udp"), DROP),
    (Match(Payload("ip6", "saddr"), "fe80::/10"), DROP),
    (Match(Payload("ip6", "daddr"), "::1"), DROP),
    (Match(Payload("ip6", "saddr"), Named("nets6"), "!="), DROP),
    (Match(Payload("tcp", "dport"), 80), ACCEPT),
    (Match(Payload("tcp", "dport"), Range(80, 90)), ACCEPT),
    (Match(Payload("tcp", "sport"), Range(80, 90), "!="), ACCEPT),
    (Match(Payload("tcp", "dport"), 1024, ">="), ACCEPT),
    (Match(Payload("udp", "dport"), SetOf((53, Range(100, 200)))), ACCEPT),
    (Match(Payload("udp", "dport"), SetOf((53, 67))), ACCEPT),
    (Match(Payload("th", "dport"), 53), ACCEPT),
    (Match(Payload("sctp", "dport"), 9), ACCEPT),
    (Match(Payload("ip", "saddr"), "10.0.0.1"), Match(Payload("ip", "daddr"), "10.0.0.2"), DROP),
    (Match(Payload("tcp", "dport"), 80), Match(Payload("tcp", "sport"), 1024, ">"), DROP),
    (Match(Payload("tcp", "flags"), "syn"), ACCEPT),
    (Match(Masked(Payload("tcp", "flags"), 0x12), 2), ACCEPT),
    (Match(Payload("icmp", "type"), "echo-request"), ACCEPT),
    (Match(Payload("icmpv6", "type"), SetOf(("nd-neighbor-solicit", "nd-router-advert"))), ACCEPT),
    (Match(Payload("ether", "saddr"), "02:42:0a:14:00:02"), ACCEPT),
    (Match(Fib("type", ("daddr",)), "local"), ACCEPT),
    (Match(Fib("type", ("daddr", "iif")), "local", "!="), DROP),
    (Flags(Ct("state"), ("established", "related")), ACCEPT),
    (Flags(Ct("state"), ("new",)), ACCEPT),
    (Flags(Ct("state"), ("established", "new"), invert=True), ACCEPT),
    (Flags(Ct("status"), ("dnat",)), ACCEPT),
    (Match(Ct("state"), "established"), ACCEPT),
    (Match(Ct("state"), SetOf(("new", "established"))), ACCEPT),
    (Match(Ct("direction"), "original"), ACCEPT),
    (Match(Ct("mark"), 3), ACCEPT),
    (Match(Ct("ip daddr", "original"), "10.0.0.1"), ACCEPT),
    (Match(Ct("ip6 saddr", "reply"), "fd00::1"), ACCEPT),
    (Match(Meta("l4proto"), "tcp"), Match(Ct("proto-dst", "original"), 80), ACCEPT),
    (Match(Concat((Payload("ip", "daddr"), IN)), Named("sources"), "!="), DROP),
    (Match(Concat((IN, OUT)), SetOf((("a", "b"), ("c", "d")))), ACCEPT),
    (Match(Concat(PROTOCOL_PORT), SetOf((("tcp", Range(80, 90)), ("udp", 53)))), ACCEPT),
    (VerdictMap(IN, "verdicts"),),
    (VerdictMap(Ct("state"), (("established", ACCEPT), ("invalid", DROP))),),
    (VerdictMap(Payload("tcp", "dport"), ((Range(1, 9), ACCEPT), (22, Verdict("jump", "other")))),),
    (VerdictMap(Concat((IN, *PROTOCOL_PORT)), ((("a", "tcp", 80), ACCEPT),)),),
    (SetField(Meta("mark"), 5),),
    (SetField(Meta("mark"), 0x100, mask=0xFFFF00FF),),
    (SetField(Meta("mark"), 0x08000000, mask=0xF7FFFFFF),),
    (SetField(Ct("mark"), 1),),
    (SetField(Ct("mark"), 1, mask=0xFFFFFFFE),),
    (SetField(Payload("udp", "dport"), 5353),),
    (Match(Payload("tcp", "sport"), 80), Notrack(), SetField(Payload("tcp", "sport"), 81)),
    (Copy(Ct("mark"), Meta("mark")),),
    (Copy(Meta("mark"), Ct("mark"), 0xFF),),
    (Counter(), ACCEPT),
    (Counter(5, 700), ACCEPT),
    (Log("seen "), DROP),
    (Log(), DROP),
    (Limit("10/second"), ACCEPT),
    (Limit("10/minute burst 7 packets", over=True), DROP),
    (Reject(),),
    (Reject("admin-prohibited"),),
    (Reject("icmp host-unreachable"),),
    (Reject("icmpv6 addr-unreachable"),),
    (Reject("tcp reset"),),
    (Notrack(),),
    (Verdict("goto", "other"),),
    (Verdict("jump", "other"),),
    (Verdict("return"),),
    (Verdict("continue"),),
)

DNAT: tuple[tuple[Statement, ...], ...] = (
    (Nat("dnat", "ip", lookup=Lookup(Concat(PROTOCOL_PORT), "ports")),),
    (Nat("dnat", "ip6", lookup=Lookup(Concat(PROTOCOL_PORT), "ports6")),),
    (Nat("dnat", "ip", lookup=Lookup(Concat(PROTOCOL_PORT), "ranges")),),
    (Nat("dnat", "ip", lookup=Lookup(Meta("mark"), "marks")),),
    (Nat("dnat", "ip", lookup=Lookup(Payload("tcp", "dport"), "backends")),),
    (Nat("dnat", "ip", lookup=Lookup(Payload("tcp", "dport"), ((80, "10.0.0.1"),
                                                              (81, "10.0.0.2")))),),
    (Nat("dnat", "ip", lookup=Lookup(Payload("tcp", "dport"), ((80, ("10.0.0.1", 8080)),))),),
    (Nat("dnat", "ip", address="10.0.0.1"),),
    (Match(Meta("l4proto"), "tcp"), Nat("dnat", "ip", address="10.0.0.1", port=80)),
    (Match(Meta("l4proto"), "tcp"), Nat("dnat", "ip6", address="fd00::1", port=80)),
    (Match(Meta("l4proto"), "udp"), Nat("dnat", "ip", address=Range("10.0.0.1", "10.0.0.9"),
                                        port=Range(80, 90), flags=("random",))),
    (Match(Meta("l4proto"), "tcp"), Nat("redirect", port=3000)),
    (Nat("redirect"),),
)  # fmt: skip

SNAT: tuple[tuple[Statement, ...], ...] = (
    (Match(Payload("ip", "saddr"), "10.0.0.0/24"), Nat("masquerade")),
    (Nat("masquerade", flags=("random", "persistent")),),
    (Match(Meta("l4proto"), "tcp"), Nat("masquerade", port=Range(1024, 2048))),
    (Nat("snat", "ip", address="192.0.2.1"),),
    (Nat("snat", "ip6", address="fd00::1", flags=("fully-random",)),),
)

BRIDGE: tuple[tuple[Statement, ...], ...] = (
    (Match(Payload("ether", "type"), "arp"), ACCEPT),
    (Match(Payload("ether", "daddr"), "01:00:5e:00:00:fb"), ACCEPT),
    (Match(Concat((IN, Payload("ether", "saddr"))), Named("macs"), "!="), DROP),
    (Match(Payload("arp", "saddr ip"), "0.0.0.0"), ACCEPT),
    (Match(Payload("arp", "operation"), "request"), ACCEPT),
    (Match(Concat((IN, Payload("arp", "saddr ether"))), Named("macs")), ACCEPT),
    (Match(Payload("ether", "type"), "ip"),
     Match(Concat((Payload("ip", "saddr"), IN)), Named("sources")), ACCEPT),
    (Match(Concat((Payload("ip", "saddr"), IN)), Named("sources")), ACCEPT),
    (Match(Payload("ether", "type"), "ip6"), Match(Payload("icmpv6", "type"), "nd-redirect"), DROP),
    (Match(Payload("ip6", "saddr"), "::"), ACCEPT),
    (Match(Payload("udp", "dport"), 67), ACCEPT),
    (Match(Masked(Meta("mark"), 0x08000000), 0), DROP),
)  # fmt: skip


def table_of(family: str, type: str, hook: str, *rules: tuple[Statement, ...]) -> Table:
    """A table with the sets above and one base chain."""
    chain = Chain(
        name="tested", type=type, hook=hook, priority=-7,
        rules=tuple(FirewallRule(rule, f"rule {n}") for n, rule in enumerate(rules)),
    )  # fmt: skip
    return Table(family=family, name="oracle", chains=(Chain(name="other"), chain), sets=SETS)


def elements_of(table: Table) -> list[Element]:
    return [
        Element(family=table.family, table=table.name, set=name, first=first, last=last, data=data)
        for name, first, last, data in ELEMENTS
    ]


@pytest.fixture
def host(netns: Callable[[str], Namespace]) -> Namespace:
    return netns("host")


@pytest.fixture
def firewall(host: Namespace) -> Iterator[Firewall]:
    descriptor = os.open(host.path, os.O_RDONLY)
    try:
        with Firewall(descriptor, own=False) as made:
            yield made
    finally:
        os.close(descriptor)


def listing(lab: Lab, host: Namespace) -> list[Any]:
    """The ruleset as nft's JSON, without what differs from load to load."""
    text = lab.run(host, ["nft", "-j", "list", "ruleset"]).stdout

    def cleaned(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: cleaned(v) for k, v in value.items() if k != "handle"}
        if isinstance(value, list):
            return [cleaned(item) for item in value]
        return value

    rows = cleaned(json.loads(text)["nftables"][1:])
    for row in rows:
        for kind in ("set", "map"):
            if kind in row and "elem" in row[kind]:
                row[kind]["elem"].sort(key=json.dumps)
    return rows


def loaded_by_nft(lab: Lab, host: Namespace, text: str) -> list[Any]:
    lab.run(host, ["nft", "-f", "-"], stdin=text)
    found = listing(lab, host)
    lab.run(host, ["nft", "flush", "ruleset"])
    return found


def check(lab: Lab, host: Namespace, firewall: Firewall, table: Table,
          elements: list[Element]) -> None:  # fmt: skip
    wanted = loaded_by_nft(lab, host, ruleset_text(table, elements))
    firewall.transaction([Add(table), *(Add(element) for element in elements)])
    assert listing(lab, host) == wanted
    assert firewall.differences(table) == ()
    assert set(firewall.read(table.family, table.name)[1]) == set(elements)


CASES = [
    *(("inet", "filter", "prerouting", rule) for rule in FILTER),
    *(("inet", "nat", "prerouting", rule) for rule in DNAT),
    *(("inet", "nat", "postrouting", rule) for rule in SNAT),
    *(("bridge", "filter", "prerouting", rule) for rule in BRIDGE),
    ("ip", "filter", "input", (Match(Payload("ip", "saddr"), "10.0.0.1"), Reject())),
    ("ip6", "filter", "input", (Match(Payload("ip6", "saddr"), "fd00::1"), Reject("no-route"))),
    ("ip", "nat", "prerouting", (Nat("dnat", lookup=Lookup(Concat(PROTOCOL_PORT), "ports")),)),
]


GROUPS: dict[tuple[str, str, str], list[tuple[Statement, ...]]] = {}
for _family, _type, _hook, _rule in CASES:
    _place = "input" if any(isinstance(s, Reject) for s in _rule) else _hook
    GROUPS.setdefault((_family, _type, _place), []).append(_rule)


@pytest.mark.parametrize("group", GROUPS, ids=" ".join)
def test_each_rule_lists_as_if_nft_had_loaded_it(
    lab: Lab, host: Namespace, firewall: Firewall, group: tuple[str, str, str]
) -> None:
    table = table_of(*group, *GROUPS[group])
    wanted = loaded_by_nft(lab, host, ruleset_text(table))
    firewall.transaction([Add(table)])
    found = listing(lab, host)
    wrong = [
        " ".join(statement_text(statement, group[0]) for statement in rule)
        for rule, ours, theirs in zip(GROUPS[group], rules_of(found), rules_of(wanted), strict=True)
        if ours != theirs
    ]
    assert wrong == []
    assert found == wanted
    assert firewall.differences(table) == ()


def rules_of(rows: list[Any]) -> list[Any]:
    return [row["rule"]["expr"] for row in rows if "rule" in row]


@pytest.mark.parametrize("family", ["inet", "bridge"])
def test_sets_and_their_elements_list_as_if_nft_had_loaded_them(
    lab: Lab, host: Namespace, firewall: Firewall, family: str
) -> None:
    table = table_of(family, "filter", "prerouting")
    check(lab, host, firewall, table, elements_of(table))


@pytest.mark.parametrize("table", layout.TABLES, ids=lambda table: table.family)
def test_our_own_layout_lists_as_if_nft_had_loaded_it(
    lab: Lab, host: Namespace, firewall: Firewall, table: Table
) -> None:
    check(lab, host, firewall, readable(table), [])


def readable(table: Table) -> Table:
    """A table without what nft 1.0.6 has no word for: the target of a neighbour message."""
    chains = tuple(
        msgspec.structs.replace(
            chain,
            rules=tuple(
                rule
                for rule in chain.rules
                if not any(
                    isinstance(part, Match)
                    and isinstance(part.left, Concat)
                    and Payload("icmpv6", "taddr") in part.left.parts
                    for part in rule.statements
                )
            ),
        )
        for chain in table.chains
    )
    return msgspec.structs.replace(table, chains=chains)


def test_the_target_of_a_neighbour_message_is_read_where_rfc_4861_has_it(
    lab: Lab, host: Namespace, firewall: Firewall
) -> None:
    firewall.transaction([Add(layout.BRIDGE_TABLE)])
    listed = lab.run(host, "nft list chain bridge linkspan check_sources6").stdout
    # 64 bits into the message, 128 bits long.
    assert (
        "icmpv6 type nd-neighbor-advert iifname . ether saddr . @th,64,128 != @sources6" in listed
    )
