"""The table `bridge linkspan`: which frames a port may send, and which it is handed.

It knows ports, not bridges. docs/firewall.md explains each chain.
"""

from __future__ import annotations

from linkspan.dataplane.rules import (
    Chain,
    Concat,
    Counter,
    Expression,
    FirewallRule,
    Masked,
    Match,
    Meta,
    Named,
    Payload,
    SetDefinition,
    SetOf,
    Statement,
    Table,
    Verdict,
)
from linkspan.drivers.marks import NAME, TRANSLATED_MARK

_ACCEPT, _DROP = Verdict("accept"), Verdict("drop")
_IN, _OUT = Meta("iifname"), Meta("oifname")


def _rule(*statements: Statement, comment: str | None = None) -> FirewallRule:
    return FirewallRule(statements, comment)


def _concat(*parts: Expression) -> Concat:
    return Concat(parts)


_SETS = (
    SetDefinition(name="checked", key=("ifname",), comment="ports whose sources are checked"),
    SetDefinition(name="isolated", key=("ifname",), comment="ports kept apart from the others"),
    SetDefinition(name="own_only", key=("ifname",), comment="ports that get their own packets"),
    SetDefinition(name="macs", key=("ifname", "ether_addr")),
    SetDefinition(name="sources", key=("ifname", "ether_addr", "ipv4_addr")),
    SetDefinition(name="sources6", key=("ifname", "ether_addr", "ipv6_addr")),
)

_FRAME = (_IN, Payload("ether", "saddr"))
_BACK = (_OUT, Payload("ether", "saddr"))
_TO = (_OUT, Payload("ether", "daddr"))
_ND_TYPE = Payload("icmpv6", "type")
_ND_TARGET = Payload("icmpv6", "taddr")


def _ether_type(name: str) -> Match:
    return Match(Payload("ether", "type"), name)


_CHAINS = (
    Chain(
        name="check_sources",
        hook="prerouting",
        type="filter",
        priority=-300,
        rules=(
            _rule(Match(_IN, Named("checked"), "!="), _ACCEPT),
            _rule(
                Match(_concat(*_FRAME), Named("macs"), "!="),
                Counter(),
                _DROP,
                comment="a MAC that is not this port's own",
            ),
            _rule(
                _ether_type("ip"),
                Match(_concat(*_FRAME, Payload("ip", "saddr")), Named("sources")),
                _ACCEPT,
            ),
            _rule(
                _ether_type("arp"),
                Match(
                    _concat(_IN, Payload("arp", "saddr ether"), Payload("arp", "saddr ip")),
                    Named("sources"),
                ),
                _ACCEPT,
            ),
            _rule(
                _ether_type("arp"),
                Match(_concat(_IN, Payload("arp", "saddr ether")), Named("macs")),
                Match(Payload("arp", "saddr ip"), "0.0.0.0"),
                _ACCEPT,
                comment="an address probe (RFC 5227) claims nothing",
            ),
            _rule(_ether_type("ip6"), Verdict("goto", "check_sources6")),
            _rule(Counter(), _DROP, comment="an address that is not this port's own"),
        ),
    ),
    Chain(
        name="check_sources6",
        rules=(
            _rule(
                _ether_type("ip6"),
                Match(_ND_TYPE, SetOf(("nd-router-advert", "nd-redirect"))),
                Counter(),
                _DROP,
                comment="no container routes for the others",
            ),
            _rule(
                _ether_type("ip6"),
                Match(_ND_TYPE, "nd-neighbor-advert"),
                Match(_concat(*_FRAME, _ND_TARGET), Named("sources6"), "!="),
                Counter(),
                _DROP,
                comment="claims another's address",
            ),
            _rule(
                _ether_type("ip6"),
                Match(Payload("ip6", "saddr"), "::"),
                Verdict("goto", "check_unspecified"),
            ),
            _rule(
                _ether_type("ip6"),
                Match(_concat(*_FRAME, Payload("ip6", "saddr")), Named("sources6")),
                _ACCEPT,
            ),
            _rule(Counter(), _DROP, comment="an address that is not this port's own"),
        ),
    ),
    Chain(
        name="check_unspecified",
        rules=(
            _rule(
                _ether_type("ip6"),
                Match(_ND_TYPE, "nd-neighbor-solicit"),
                Match(_concat(*_FRAME, _ND_TARGET), Named("sources6")),
                _ACCEPT,
                comment="detects duplicates of its own addresses (RFC 4862)",
            ),
            _rule(
                _ether_type("ip6"),
                Match(_ND_TYPE, SetOf(("mld-listener-report", "mld2-listener-report"))),
                Match(_concat(*_FRAME, Payload("ip6", "saddr")), Named("sources6")),
                _ACCEPT,
                comment="joins a group before it has an address (RFC 3590)",
            ),
            _rule(Counter(), _DROP),
        ),
    ),
    Chain(
        name="between_ports",
        hook="forward",
        type="filter",
        priority=-200,
        rules=(
            _rule(
                Match(_IN, Named("isolated")),
                Match(Masked(Meta("mark"), TRANSLATED_MARK), 0),
                Counter(),
                _DROP,
                comment="members are apart; what was translated may pass",
            ),
            _rule(
                _ether_type("ip"),
                Match(_concat(*_BACK, Payload("ip", "daddr")), Named("sources")),
                _ACCEPT,
                comment="back to its sender: a container asked for its own published port",
            ),
            _rule(
                _ether_type("ip6"),
                Match(_concat(*_BACK, Payload("ip6", "daddr")), Named("sources6")),
                _ACCEPT,
            ),
            _rule(
                Match(_concat(*_BACK), Named("macs")),
                _DROP,
                comment="hairpin ports send nothing else back",
            ),
        ),
    ),
    Chain(
        name="to_ports",
        hook="postrouting",
        type="filter",
        priority=-300,
        rules=(
            _rule(Match(_OUT, Named("own_only"), "!="), _ACCEPT),
            _rule(
                _ether_type("ip"),
                Match(_concat(*_TO, Payload("ip", "daddr")), Named("sources")),
                _ACCEPT,
            ),
            _rule(
                _ether_type("ip6"),
                Match(_concat(*_TO, Payload("ip6", "daddr")), Named("sources6")),
                _ACCEPT,
            ),
            _rule(_ether_type("arp"), _ACCEPT),
            _rule(Match(Payload("ether", "daddr"), "ff:ff:ff:ff:ff:ff"), _ACCEPT),
            _rule(_ether_type("ip"), Match(Payload("ip", "daddr"), "224.0.0.0/4"), _ACCEPT),
            _rule(_ether_type("ip6"), Match(Payload("ip6", "daddr"), "ff00::/8"), _ACCEPT),
            _rule(Counter(), _DROP, comment="nobody hands it packets to pass on"),
        ),
    ),
)

BRIDGE_TABLE = Table(family="bridge", name=NAME, chains=_CHAINS, sets=_SETS)
