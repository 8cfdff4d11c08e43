"""What nft and iptables print is read as it was meant: load, read, print, load again, compare."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import Lab, Namespace
from linkspan.dataplane import Add, Element, Table
from linkspan.dataplane.rules import (
    Copy,
    Counter,
    Ct,
    Fib,
    Flags,
    Limit,
    Log,
    Masked,
    Match,
    Meta,
    Nat,
    Notrack,
    Numgen,
    Opaque,
    Payload,
    Range,
    Reject,
    SetField,
    SetOf,
    Statement,
    Verdict,
)
from linkspan.dataplane.ruletext import ruleset_text
from linkspan.drivers import firewall as layout
from linkspan.kernel.netfilter.firewall import Firewall
from linkspan.kernel.netfilter.foreign import read_firewall
from linkspan.kernel.netfilter.printed import Printed
from linkspan.names.redirect import describe_redirect

RULES = """
table inet older { }
table ip t {
    map ranges {
        type ipv4_addr . inet_service : ipv4_addr . inet_service
        flags interval
        elements = { 10.0.0.0/24 . 80-90 : 192.0.2.4 . 80 }
    }
    map verdicts { type ifname : verdict; flags interval; elements = { "e*" : jump called } }
    map addresses { type mark : ipv4_addr; elements = { 0x00000010 : 10.0.0.1 } }
    set nets {
        type ipv4_addr
        flags interval
        elements = { 192.0.2.4, 10.0.0.0/8, 11.0.0.1-11.0.0.9 }
    }
    set pairs { type ipv4_addr . inet_service; elements = { 192.0.2.1 . 80 } }
    set links { type ifname; elements = { "a", "b" } }
    set empty { type ether_addr; }
    chain called {
        ct original ip saddr 192.0.2.4 accept
        ct state established,related accept
        ct state ! new drop
        ct state != new accept
        ct state { invalid, new } accept
        ct status dnat accept
        ct status dnat,snat accept
        ct direction reply accept
        tcp flags & (fin | syn | rst | ack) == syn accept
        fib saddr . iif oif missing drop
        fib daddr type local accept
        fib daddr . iif type != { local, broadcast } drop
        socket transparent 1 accept
        meta mark & 0x000000f0 == 0x00000010 accept
        meta mark 5 accept
        meta mark != 5-9 accept
        meta mark > 7 accept
        meta mark set meta mark & 0x000000ff | 0x00000100
        meta mark set meta mark ^ 0x00000005
        meta mark set 0x00000010
        meta mark set ct mark
        ct mark set meta mark
        ct mark set meta mark & 0x000000ff
        counter
        limit rate 10/second burst 5 packets accept
        limit rate over 1/minute burst 5 packets drop
        log prefix "a b" accept
        ip dscp set cs1
        meta skuid 0 accept
        numgen inc mod 2 0 accept
        numgen random mod 100 < 50 accept
        ether saddr 02:00:00:00:00:01 accept
        icmp type echo-request accept
        ip protocol { icmp, tcp } accept
        pkttype broadcast drop
        return
    }
    chain input {
        type filter hook input priority -5; policy drop;
        iif "lo" accept
        iifname "br-*" accept
        iifname != "a" accept
        iifname @links accept
        ip saddr @nets accept
        ip saddr != @nets accept
        ip saddr . tcp dport @pairs drop
        ip saddr . tcp dport { 192.0.2.0/24 . 80, 198.51.100.2 . 1-9 } drop
        iifname . oifname { "a" . "b" } accept
        iifname vmap { "lo" : accept, "a*" : jump called }
        iifname vmap @verdicts
        tcp dport vmap { 1-5 : drop, 7 : goto called }
        tcp dport 80 accept comment "the web"
        udp dport { 53, 1000-2000 } accept
        th dport 7 accept
        ip saddr != 10.0.0.0/8 goto called
        ip saddr 10.0.0.1-10.0.0.9 jump called
        ip saddr 10.0.0.0/24 ip daddr 10.1.0.0/16 reject
        meta l4proto tcp reject with tcp reset
        reject with icmp host-unreachable
        notrack
    }
    chain before {
        type nat hook prerouting priority dstnat; policy accept;
        ip daddr 192.0.2.1 tcp dport 80 dnat to 10.0.0.1:8080
        ip daddr 192.0.2.2 dnat to 10.0.0.1
        tcp dport 1 dnat to 10.0.0.1-10.0.0.4:80-90 random,persistent
        dnat to numgen random mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }
        dnat to meta mark map @addresses
        dnat ip to ip daddr . tcp dport map @ranges
        tcp dport 9 dnat to 10.0.0.1:tcp dport map { 9 : 10 }
        dnat ip prefix to ip daddr map { 192.0.2.0/24 : 198.51.100.0/24 }
        meta l4proto tcp redirect to :80
        tcp dport 81 redirect
    }
    chain after {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "eth0" masquerade
        meta l4proto tcp masquerade to :1024-2048 random
        ip saddr 10.0.0.0/24 snat to 192.0.2.1
    }
}
table ip6 t {
    chain c {
        ip6 saddr fd00::/64 ip6 daddr fd01::1 accept
        ip6 nexthdr tcp accept
        icmpv6 type { nd-neighbor-solicit, echo-request } accept
        reject with icmpv6 admin-prohibited
        tcp dport 80 dnat to [fd00::2]:8080
    }
}
table inet t {
    chain f {
        type filter hook forward priority filter; policy accept;
        meta nfproto ipv4 accept
        meta l4proto { tcp, udp } accept
        reject
        reject with icmpx admin-prohibited
        reject with icmp port-unreachable
        reject with tcp reset
    }
    chain n {
        type nat hook prerouting priority dstnat; policy accept;
        ip daddr 192.0.2.1 tcp dport 80 dnat ip to 10.0.0.1:8080
        ip6 daddr fd00::1 dnat ip6 to fd00::2
    }
}
table bridge t {
    chain f {
        type filter hook forward priority 0; policy accept;
        ether type arp accept
        arp operation request arp saddr ip 10.0.0.1 accept
        vlan id 7 drop
    }
}
table arp t {
    chain i {
        type filter hook input priority 0; policy accept;
        arp daddr ip 10.0.0.1 drop
    }
}
table netdev t {
    chain i {
        type filter hook ingress device "lo" priority 0; policy accept;
        ip saddr 10.0.0.1 drop
    }
}
"""


@pytest.fixture
def host(netns: Callable[[str], Namespace]) -> Namespace:
    return netns("host")


@pytest.fixture
def read(host: Namespace) -> Iterator[Callable[[], tuple[list[Table], list[Element]]]]:
    """Reads the namespace's tables and elements."""
    descriptor = os.open(host.path, os.O_RDONLY)

    def run() -> tuple[list[Table], list[Element]]:
        found = list(read_firewall("host", descriptor))
        return (
            [one for one in found if isinstance(one, Table)],
            [one for one in found if isinstance(one, Element)],
        )

    yield run
    os.close(descriptor)


def load(place: Namespace, text: str, command: tuple[str, ...] = ("nft", "-f", "-")) -> None:
    done = subprocess.run(
        ["nsenter", f"--net={place.path}", *command],
        input=text, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stderr}\n{text}"


def listing(lab: Lab, place: Namespace) -> list[Any]:
    """What nft says is there, without handles and numbers of packets."""
    rows = json.loads(lab.run(place, ["nft", "-s", "-j", "list", "ruleset"]).stdout)["nftables"]
    for row in rows[1:]:
        for item in row.values():
            item.pop("handle", None)
    return list(rows[1:])


def statements_of(tables: list[Table]) -> list[Statement]:
    return [s for t in tables for c in t.chains for r in c.rules for s in r.statements]


def test_what_is_read_and_printed_is_what_was_loaded(
    lab: Lab,
    host: Namespace,
    netns: Callable[[str], Namespace],
    read: Callable[[], tuple[list[Table], list[Element]]],
) -> None:
    load(host, RULES)
    tables, elements = read()
    assert [one for one in statements_of(tables) if isinstance(one, Opaque)] == []
    assert [(t.family, t.name) for t in tables][:2] == [("inet", "older"), ("ip", "t")]
    again = netns("again")
    for table in tables:
        load(again, ruleset_text(table, elements))
    assert listing(lab, again) == listing(lab, host)


def test_what_is_not_understood_keeps_its_place_and_its_words(
    host: Namespace, read: Callable[[], tuple[list[Table], list[Element]]]
) -> None:
    load(host, """
        table ip t {
            set seen { type ipv4_addr; flags dynamic, timeout; timeout 1m; }
            counter hits { }
            chain c {
                iifname "a" ct count over 5 drop comment "many"
                update @seen { ip saddr } accept
                add @seen { ip saddr limit rate 5/second } accept
                counter name "hits" accept
                tcp option maxseg size set rt mtu
            }
        }
    """)  # fmt: skip
    (table,), _ = read()
    counted, updated, limited, named, sized = (r.statements for r in table.chains[0].rules)
    assert counted[0] == Match(Meta("iifname"), "a")
    assert counted[1] == Opaque("ct count over 5", test=True)
    assert updated[0] == Opaque("update @seen { ip saddr }", test=False)
    assert isinstance(limited[0], Opaque)
    assert limited[0].test
    assert named[0] == Counter()
    assert not isinstance(sized[0], Opaque)


def test_a_test_that_nft_does_not_print_is_read_with_its_statement(
    host: Namespace, read: Callable[[], tuple[list[Table], list[Element]]]
) -> None:
    load(
        host,
        "table inet t { chain c { reject with tcp reset; reject with icmp host-unreachable; }; }",
    )
    (table,), _ = read()
    resets, answers = table.chains[0].rules
    assert resets.statements[0] == Match(Meta("l4proto"), "tcp")
    assert answers.statements[0] == Match(Meta("nfproto"), "ipv4")


OWN = (*layout.TABLES, describe_redirect(5353, "host"))


def test_our_own_tables_are_read_as_they_are_stated(
    host: Namespace, read: Callable[[], tuple[list[Table], list[Element]]]
) -> None:
    with open(host.path) as place, Firewall(place.fileno(), own=False) as firewall:
        firewall.transaction([Add(table) for table in OWN])
    tables, _ = read()
    for mine, theirs in zip(OWN, tables, strict=True):
        assert (mine.family, mine.name) == (theirs.family, theirs.name)
        for stated, seen in zip(mine.chains, theirs.chains, strict=True):
            assert (stated.name, stated.hook, stated.priority, stated.policy) == (
                seen.name, seen.hook, seen.priority, seen.policy,
            )  # fmt: skip
            for one, other in zip(stated.rules, seen.rules, strict=True):
                assert one.comment == other.comment
                assert [x for x in one.statements if not is_implied(x)] == [
                    x for x in other.statements if not is_implied(x)
                ]


def is_implied(statement: Statement) -> bool:
    """Tests of protocols that others need: nft leaves out those that it can tell from them."""
    return isinstance(statement, Match) and statement.left in (
        Payload("ether", "type"), Meta("l4proto"), Meta("nfproto"),
    )  # fmt: skip


RAW: tuple[tuple[str, str, tuple[Statement, ...]], ...] = (
    ("ip", "@nh,128,32 0x0a000001", (Match(Payload("ip", "daddr"), "10.0.0.1"),)),
    ("ip", "meta l4proto udp @th,16,16 53", (Match(Meta("l4proto"), "udp"),
     Match(Payload("udp", "dport"), 53))),
    ("inet", "meta nfproto ipv6 @nh,64,128 != 0xfd000000000000000000000000000001",
     (Match(Meta("nfproto"), "ipv6"), Match(Payload("ip6", "saddr"), "fd00::1", "!="))),
    ("inet", "meta l4proto tcp @th,16,16 { 80, 443 }", (Match(Meta("l4proto"), "tcp"),
     Match(Payload("tcp", "dport"), SetOf((80, 443))))),
    ("ip6", "icmpv6 type nd-neighbor-solicit @th,64,128 0xfd000000000000000000000000000001",
     (Match(Payload("icmpv6", "type"), "nd-neighbor-solicit"),
      Match(Payload("icmpv6", "taddr"), "fd00::1"))),
)  # fmt: skip


@pytest.mark.parametrize(("family", "text", "expected"), RAW)
def test_fields_that_nft_shows_by_place_have_names(
    host: Namespace, read: Callable[[], tuple[list[Table], list[Element]]],
    family: str, text: str, expected: tuple[Statement, ...],
) -> None:  # fmt: skip
    load(host, f"table {family} t {{ chain c {{ type filter hook input priority 0; {text}; }}; }}")
    (table,), _ = read()
    # Some of these nft can name itself; then it leaves out the test before.
    found = table.chains[0].rules[0].statements
    assert [x for x in found if not is_implied(x)] == [x for x in expected if not is_implied(x)]


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("inet", "@nh,128,32 0x0a000001"),  # of IPv4 or IPv6?
        ("ip", "@th,64,128 1"),  # of what?
        ("ip", "@nh,0,4 4"),  # no field that we know
    ],
)
def test_places_that_may_be_anything_are_not_understood(
    host: Namespace, read: Callable[[], tuple[list[Table], list[Element]]], family: str, text: str
) -> None:
    load(host, f"table {family} t {{ chain c {{ type filter hook input priority 0; {text}; }}; }}")
    (table,), _ = read()
    statement = table.chains[0].rules[0].statements[0]
    assert isinstance(statement, Opaque | Match)
    if isinstance(statement, Match):  # nft itself knew the name
        assert isinstance(statement.left, Payload)
        assert not statement.left.protocol.startswith("@")


def test_rules_are_opaque_without_the_program_that_prints_them(
    host: Namespace,
    read: Callable[[], tuple[list[Table], list[Element]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load(host, "table ip t { chain c { type filter hook input priority 3; drop; }; }")
    monkeypatch.setattr(
        "linkspan.kernel.netfilter.rulesets.print_rulesets",
        lambda jobs, _: [Printed(name=job.name, failed=("no program nft",)) for job in jobs],
    )
    (table,), _ = read()
    assert table.chains[0].priority == 3
    assert table.chains[0].rules[0].statements == (Opaque(""),)


MATCHES: tuple[tuple[str, tuple[Statement, ...]], ...] = (
    ("-s 10.0.0.1/32", (Match(Payload("ip", "saddr"), "10.0.0.1"),)),
    ("! -d 10.0.0.0/8", (Match(Payload("ip", "daddr"), "10.0.0.0/8", "!="),)),
    ("-i eth+", (Match(Meta("iifname"), "eth*"),)),
    ("! -o br0", (Match(Meta("oifname"), "br0", "!="),)),
    ("-p tcp -m tcp --dport 80",
     (Match(Meta("l4proto"), "tcp"), Match(Payload("tcp", "dport"), 80))),
    ("-p udp -m udp ! --sport 1000:2000",
     (Match(Meta("l4proto"), "udp"), Match(Payload("udp", "sport"), Range(1000, 2000), "!="))),
    ("-p tcp -m multiport --dports 80,1000:2000",
     (Match(Meta("l4proto"), "tcp"),
      Match(Payload("tcp", "dport"), SetOf((80, Range(1000, 2000)))))),
    ("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN",
     (Match(Meta("l4proto"), "tcp"), Match(Masked(Payload("tcp", "flags"), 0x17), 2))),
    ("-m conntrack --ctstate RELATED,ESTABLISHED",
     (Flags(Ct("state"), ("related", "established")),)),
    ("-m conntrack ! --ctstate INVALID", (Flags(Ct("state"), ("invalid",), invert=True),)),
    ("-m conntrack --ctstate DNAT", (Flags(Ct("status"), ("dnat",)),)),
    ("-m conntrack --ctorigdst 10.0.0.0/24",
     (Match(Ct("ip daddr", "original"), "10.0.0.0/24"),)),
    ("-m addrtype --dst-type LOCAL", (Match(Fib("type", ("daddr",)), "local"),)),
    ("-m addrtype ! --src-type LOCAL --limit-iface-in",
     (Match(Fib("type", ("saddr", "iif")), "local", "!="),)),
    ("-m mark --mark 0x10/0xf0", (Match(Masked(Meta("mark"), 0xF0), 0x10),)),
    ("-m connmark ! --mark 0x5", (Match(Ct("mark"), 5, "!="),)),
    ("-p icmp -m icmp --icmp-type 8",
     (Match(Meta("l4proto"), "icmp"), Match(Payload("icmp", "type"), 8))),
    ("-m limit --limit 3/min", (Limit("3/minute"),)),
    ("-m statistic --mode nth --every 2 --packet 1", (Match(Numgen("inc", 2), 1),)),
    ("-m mac --mac-source 02:00:00:00:00:01",
     (Match(Payload("ether", "saddr"), "02:00:00:00:00:01"),)),
    ("-m iprange --src-range 10.0.0.1-10.0.0.9",
     (Match(Payload("ip", "saddr"), Range("10.0.0.1", "10.0.0.9")),)),
    ("-m physdev --physdev-is-bridged", (Opaque("-m physdev --physdev-is-bridged"),)),
    ("-m comment --comment \"-j it's\"", ()),
)  # fmt: skip
TARGETS: tuple[tuple[str, str, Statement], ...] = (
    ("filter FORWARD", "ACCEPT", Verdict("accept")),
    ("filter FORWARD", "RETURN", Verdict("return")),
    ("filter FORWARD", "OWN", Verdict("jump", "OWN")),
    ("filter FORWARD", "REJECT --reject-with icmp-host-prohibited", Reject("host-prohibited")),
    ("filter FORWARD", 'LOG --log-prefix "no: "', Log("no: ")),
    ("nat PREROUTING", "DNAT --to-destination 10.0.0.1",
     Nat("dnat", address="10.0.0.1")),
    ("nat PREROUTING", "DNAT --to-destination 10.0.0.1-10.0.0.4",
     Nat("dnat", address=Range("10.0.0.1", "10.0.0.4"))),
    ("nat POSTROUTING", "SNAT --to-source 10.0.0.1 --random",
     Nat("snat", address="10.0.0.1", flags=("random",))),
    ("nat POSTROUTING", "MASQUERADE", Nat("masquerade")),
    ("mangle PREROUTING", "MARK --set-xmark 0x10/0xf0",
     SetField(Meta("mark"), 0x10, 0xFFFFFF0F)),
    ("mangle PREROUTING", "CONNMARK --save-mark", Copy(Ct("mark"), Meta("mark"))),
    ("mangle PREROUTING", "CONNMARK --restore-mark", Copy(Meta("mark"), Ct("mark"))),
    ("raw PREROUTING", "CT --notrack", Notrack()),
)  # fmt: skip


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_every_match_of_iptables_is_read(
    variant: str,
    lab: Lab,
    host: Namespace,
    read: Callable[[], tuple[list[Table], list[Element]]],
    require: Callable[..., None],
) -> None:
    require(f"iptables-{variant}-restore")
    lines = [f"-A FORWARD {words} -j ACCEPT" for words, _ in MATCHES]
    text = "\n".join(["*filter", ":FORWARD DROP [0:0]", *lines, "COMMIT", ""])
    load(host, text, (f"iptables-{variant}-restore",))
    (table,), _ = read()
    assert (table.origin, table.name) == (f"iptables-{variant}", "filter")
    (chain,) = (c for c in table.chains if c.name == "FORWARD")
    assert (chain.hook, chain.priority, chain.policy) == ("forward", 0, "drop")
    for (words, wanted), rule in zip(MATCHES, chain.rules, strict=True):
        got = rule.statements[:-1]
        if wanted and isinstance(wanted[0], Limit):
            assert isinstance(got[0], Limit)
            assert got[0].text.startswith(wanted[0].text), words
        else:
            assert got == wanted, words
    assert chain.rules[-1].comment == "-j it's"


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_every_target_of_iptables_is_read(
    variant: str,
    host: Namespace,
    read: Callable[[], tuple[list[Table], list[Element]]],
    require: Callable[..., None],
) -> None:
    require(f"iptables-{variant}-restore")
    for name in ("filter", "nat", "mangle", "raw"):
        lines = [
            f"-A {where.split()[1]} -j {words}"
            for where, words, _ in TARGETS
            if where.startswith(f"{name} ")
        ]
        text = "\n".join([f"*{name}", ":OWN - [0:0]", *lines, "COMMIT", ""])
        load(host, text, (f"iptables-{variant}-restore", "--noflush"))
    tables = {table.name: table for table in read()[0]}
    for name, table in tables.items():
        wanted = [s for where, _, s in TARGETS if where.startswith(f"{name} ")]
        assert statements_of([table]) == wanted or sorted(
            map(repr, statements_of([table]))
        ) == sorted(map(repr, wanted))
    hooks = {(t.name, c.hook): c.priority for t in tables.values() for c in t.chains if c.hook}
    assert hooks["nat", "prerouting"] == -100
    assert hooks["nat", "postrouting"] == 100
    assert hooks["mangle", "prerouting"] == -150
    assert hooks["raw", "prerouting"] == -300
