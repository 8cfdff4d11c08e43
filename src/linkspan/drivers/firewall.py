"""The constant firewall layout: two tables whose rules never grow.

`inet linkspan` decides what is routed, translated and refused; `bridge linkspan` drops
frames whose MAC or address is not their port's own. The bridge table knows ports, not
bridges: a kernel may lack the bridge family's own metadata (NFT_BRIDGE_META). What differs
from host to host is in the sets and maps; drivers state those as elements.
docs/firewall.md explains each chain.
frames.py has the second one, loopback6.py what publishes on ::1.

The rules are right whether bridged packets pass the IP hooks (bridge-nf-call-iptables 1)
or not. With 1, a packet that one member of a network sends to the host and that is
translated to another member never leaves the bridge: it is turned around below the IP
layer. That is why translated flows of isolated networks carry a mark, and why a port may
send a frame back to where it came from (hairpin) only when it was translated to itself.
"""

from __future__ import annotations

from linkspan.dataplane.objects import Element, Part
from linkspan.dataplane.rules import (
    Chain,
    Concat,
    Counter,
    Ct,
    Expression,
    Fib,
    FirewallRule,
    Flags,
    Lookup,
    Masked,
    Match,
    Meta,
    Named,
    Nat,
    Payload,
    Reject,
    SetDefinition,
    SetField,
    Statement,
    Table,
    Verdict,
)
from linkspan.drivers import loopback6
from linkspan.drivers.frames import BRIDGE_TABLE
from linkspan.drivers.marks import CUT_MARK, NAME, TRANSLATED_MARK

__all__ = ["BRIDGE_TABLE", "INET_TABLE", "NAME", "TABLES", "bridge", "inet"]

_ACCEPT, _DROP, _RETURN = Verdict("accept"), Verdict("drop"), Verdict("return")
_IN, _OUT = Meta("iifname"), Meta("oifname")
_BRIDGES, _INTERNAL = Named("bridges"), Named("internal")
_PROTOCOL_PORT = (Meta("l4proto"), Payload("th", "dport"))
_NEW_FLOWS_FROM_LOOPBACK = Match(Payload("ip", "saddr"), "127.0.0.0/8")
_PORT = ("inet_proto", "inet_service")
_DIRECT = "published without translation"
_CUT_OFF = Match(Masked(Ct("mark"), CUT_MARK), 0, "!=")


def _rule(*statements: Statement, comment: str | None = None) -> FirewallRule:
    return FirewallRule(statements, comment)


def _concat(*parts: Expression) -> Concat:
    return Concat(parts)


def _dnat(family: str, *key: Expression, map_name: str) -> FirewallRule:
    return _rule(Nat("dnat", family=family, lookup=Lookup(Concat(key), map_name)))


def _publishing_rules(family: str, suffix: str) -> tuple[FirewallRule, ...]:
    daddr = Payload(family, "daddr")
    return (
        _dnat(family, daddr, *_PROTOCOL_PORT, map_name=f"ports_at{suffix}"),
        _dnat(family, *_PROTOCOL_PORT, map_name=f"ports{suffix}"),
        _dnat(family, daddr, *_PROTOCOL_PORT, map_name=f"ranges_at{suffix}"),
        _dnat(family, *_PROTOCOL_PORT, map_name=f"ranges{suffix}"),
    )


def _publishing_maps(address: str, suffix: str) -> tuple[SetDefinition, ...]:
    return (
        SetDefinition(name=f"ports{suffix}", key=_PORT, data=(address, "inet_service")),
        SetDefinition(
            name=f"ports_at{suffix}", key=(address, *_PORT), data=(address, "inet_service")
        ),
        SetDefinition(name=f"ranges{suffix}", key=_PORT, data=(address,), interval=True),
        SetDefinition(
            name=f"ranges_at{suffix}", key=(address, *_PORT), data=(address,), interval=True
        ),
    )


def _direct(family: str, suffix: str) -> FirewallRule:
    return _rule(
        Match(_concat(Payload(family, "daddr"), *_PROTOCOL_PORT), Named(f"direct{suffix}")),
        _ACCEPT,
        comment="gateway mode routed: by the container's own address",
    )


_INET_SETS = (
    SetDefinition(name="bridges", key=("ifname",), comment="bridges of our networks"),
    SetDefinition(name="internal", key=("ifname",), comment="bridges without a way out"),
    SetDefinition(name="isolated", key=("ifname",), comment="bridges whose members are apart"),
    SetDefinition(name="open", key=("ifname", "ifname"), comment="bridges whose members may talk"),
    SetDefinition(name="members", key=("ipv4_addr", "ifname"), interval=True),
    SetDefinition(name="members6", key=("ipv6_addr", "ifname"), interval=True),
    SetDefinition(name="masquerade4", key=("ipv4_addr",), interval=True),
    SetDefinition(name="masquerade6", key=("ipv6_addr",), interval=True),
    SetDefinition(name="direct", key=("ipv4_addr", *_PORT), interval=True, comment=_DIRECT),
    SetDefinition(name="direct6", key=("ipv6_addr", *_PORT), interval=True, comment=_DIRECT),
    SetDefinition(name="uplinks", key=("ifname",), comment="forward IPv4 for us only"),
    SetDefinition(name="uplinks6", key=("ifname",), comment="forward IPv6 for us only"),
    SetDefinition(name="host_only", key=("nf_proto",), comment="forwarded for us only"),
    *_publishing_maps("ipv4_addr", ""),
    *_publishing_maps("ipv6_addr", "6"),
    *loopback6.SETS,
)

_INET_CHAINS = (
    Chain(
        name="guard_loopback",
        hook="prerouting",
        type="filter",
        priority=-300,
        rules=(
            _rule(
                Match(_IN, _BRIDGES),
                Match(Payload("ip", "daddr"), "127.0.0.0/8"),
                Counter(),
                _DROP,
                comment="the host's loopback is not for containers",
            ),
            _rule(Match(_IN, _BRIDGES), _NEW_FLOWS_FROM_LOOPBACK, Counter(), _DROP),
            *loopback6.GUARDS,
        ),
    ),
    Chain(
        name="publish",
        hook="prerouting",
        type="nat",
        priority=-100,
        rules=(
            _rule(
                Match(Payload("ip", "daddr"), "127.0.0.0/8"),
                _RETURN,
                comment="loopback ports are for the host itself",
            ),
            _rule(
                Match(Fib("type", ("daddr",)), "local"),
                Verdict("jump", "published"),
            ),
        ),
    ),
    Chain(
        name="publish_to_host",
        hook="output",
        type="nat",
        priority=-100,
        rules=(
            _rule(Match(Payload("ip6", "saddr"), "::1"), _RETURN),
            _rule(
                Match(Fib("type", ("daddr",)), "local"),
                Verdict("jump", "published"),
            ),
        ),
    ),
    Chain(
        name="published",
        rules=(*_publishing_rules("ip", ""), *_publishing_rules("ip6", "6")),
    ),
    Chain(
        name="mark_translated",
        hook="prerouting",
        type="filter",
        priority=-90,
        rules=(
            _rule(
                Match(_IN, Named("isolated")),
                Flags(Ct("status"), ("dnat",)),
                SetField(Meta("mark"), TRANSLATED_MARK, mask=0xFFFFFFFF ^ TRANSLATED_MARK),
                comment="lets a published port through between isolated members",
            ),
        ),
    ),
    Chain(
        name="forward",
        hook="forward",
        type="filter",
        priority=0,
        rules=(
            _rule(Match(_OUT, _BRIDGES), Verdict("goto", "into_network")),
            _rule(Match(_IN, _BRIDGES), Verdict("goto", "out_of_network")),
            *(
                _rule(
                    Match(Meta("nfproto"), protocol),
                    Match(_IN, Named(uplinks)),
                    Counter(),
                    _DROP,
                    comment="this host forwards for its containers only",
                )
                for protocol, uplinks in (("ipv4", "uplinks"), ("ipv6", "uplinks6"))
            ),
            _rule(Match(Meta("nfproto"), Named("host_only")), Counter(), _DROP),
        ),
    ),
    Chain(
        name="into_network",
        rules=(
            _rule(_CUT_OFF, Verdict("goto", "cut")),
            _rule(Match(_concat(_IN, _OUT), Named("open")), _ACCEPT),
            _rule(Match(_IN, _INTERNAL), Verdict("goto", "refuse")),
            _rule(Match(_OUT, _INTERNAL), Verdict("goto", "refuse")),
            _rule(Flags(Ct("state"), ("established", "related")), _ACCEPT),
            _rule(Flags(Ct("status"), ("dnat",)), _ACCEPT, comment="published ports"),
            _direct("ip", ""),
            _direct("ip6", "6"),
            _rule(Verdict("goto", "refuse")),
        ),
    ),
    Chain(
        name="out_of_network",
        rules=(
            _rule(_CUT_OFF, Verdict("goto", "cut")),
            _rule(Match(_IN, _INTERNAL), Verdict("goto", "refuse")),
            _rule(
                Flags(Ct("state"), ("invalid",)),
                Counter(),
                _DROP,
                comment="would leave with an untranslated address",
            ),
            _rule(_ACCEPT),
        ),
    ),
    Chain(
        name="cut_from_host",
        hook="output",
        type="filter",
        priority=0,
        rules=(_rule(_CUT_OFF, Flags(Ct("status"), ("dnat",)), Verdict("goto", "cut")),),
    ),
    Chain(
        name="cut_to_host",
        hook="input",
        type="filter",
        priority=0,
        rules=(_rule(Match(_IN, _BRIDGES), _CUT_OFF, Verdict("goto", "cut")),),
    ),
    Chain(
        name="cut",
        rules=(
            _rule(
                Match(Meta("l4proto"), "tcp"),
                Flags(Payload("tcp", "flags"), ("rst",)),
                _ACCEPT,
                comment="both ends may learn of it",
            ),
            _rule(Match(Meta("l4proto"), "tcp"), Counter(), Reject("tcp reset")),
            _rule(Counter(), _DROP),
        ),
    ),
    Chain(
        name="refuse",
        rules=(
            _rule(
                Match(_IN, _BRIDGES),
                Counter(),
                Reject("admin-prohibited"),
                comment="containers learn at once",
            ),
            _rule(Counter(), _DROP, comment="strangers learn nothing"),
        ),
    ),
    Chain(
        name="translate_sources",
        hook="postrouting",
        type="nat",
        priority=100,
        rules=(
            _rule(Match(_OUT, _BRIDGES), Verdict("goto", "into_bridge")),
            _rule(Match(Payload("ip", "saddr"), Named("masquerade4")), Nat("masquerade")),
            _rule(Match(Payload("ip6", "saddr"), Named("masquerade6")), Nat("masquerade")),
        ),
    ),
    Chain(
        name="into_bridge",
        rules=(
            _rule(
                _NEW_FLOWS_FROM_LOOPBACK,
                Nat("masquerade"),
                comment="the host by 127.0.0.1: no container could answer that",
            ),
            loopback6.MASQUERADE,
            _rule(
                Flags(Ct("status"), ("dnat",)),
                Match(_concat(Payload("ip", "saddr"), _OUT), Named("members")),
                Nat("masquerade"),
                comment="a member to its own network: the answer must come back this way",
            ),
            _rule(
                Flags(Ct("status"), ("dnat",)),
                Match(_concat(Payload("ip6", "saddr"), _OUT), Named("members6")),
                Nat("masquerade"),
            ),
        ),
    ),
)

INET_TABLE = Table(
    family="inet", name=NAME, chains=(*_INET_CHAINS, *loopback6.CHAINS), sets=_INET_SETS
)
TABLES = (INET_TABLE, BRIDGE_TABLE)


def inet(
    set_name: str,
    *first: Part,
    last: tuple[Part, ...] | None = None,
    data: tuple[Part, ...] | None = None,
) -> Element:
    """An element of the inet table."""
    return Element(family="inet", table=NAME, set=set_name, first=first, last=last, data=data)


def bridge(set_name: str, *first: Part) -> Element:
    """An element of the bridge table."""
    return Element(family="bridge", table=NAME, set=set_name, first=first)
