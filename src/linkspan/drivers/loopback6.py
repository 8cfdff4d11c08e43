"""Ports that answer on ::1, without a process in between.

The kernel drops packets for ::1 that arrive by anything but loopback (ip6_rcv_core in
net/ipv6/ip6_input.c), and IPv6 has no route_localnet. What a container answers to a
translated connection from ::1 would be such a packet: where bridged packets pass the IP hooks
it is translated back to ::1 before that check. So a connection to a published port gets
another source before it is tracked: the stand-in, an address of the host that nothing else
uses. Just before an answer is delivered, the stand-in becomes ::1 again. In between the
connection is translated and masqueraded as any other one of the host. Both changes are made
packet by packet, so they need no state of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

from linkspan.dataplane.objects import Element, Route
from linkspan.dataplane.rules import (
    Chain,
    Concat,
    Counter,
    FirewallRule,
    Match,
    Meta,
    Named,
    Nat,
    Payload,
    SetDefinition,
    SetField,
    Verdict,
)
from linkspan.drivers.marks import NAME, ROUTE_PROTOCOL
from linkspan.drivers.records import PublishedPort

STAND_IN = "100::6c"
"""The address in place of ::1, from the discard-only prefix (RFC 6666): a packet with it that
escaped would be dropped on the way."""
ANSWERING = ("::", "::1")
"""Host addresses whose published ports answer on ::1."""

_FROM, _TO = Payload("ip6", "saddr"), Payload("ip6", "daddr")
_PORT = Concat((Meta("l4proto"), Payload("th", "dport")))
_AWAY = Match(Meta("iifname"), "lo", "!=")


def _begin(set_name: str) -> FirewallRule:
    return FirewallRule(
        (
            Match(_FROM, "::1"),
            Match(_TO, "::1"),
            Match(_PORT, Named(set_name)),
            SetField(_FROM, STAND_IN),
        )
    )


SETS = (
    SetDefinition(name="loopback6", key=("inet_proto", "inet_service"), comment="ports of ::1"),
    SetDefinition(name="loopback_ranges6", key=("inet_proto", "inet_service"), interval=True),
)

CHAINS = (
    Chain(
        name="leave_loopback6",
        hook="output",
        type="filter",
        priority=-300,
        rules=(_begin("loopback6"), _begin("loopback_ranges6")),
    ),
    Chain(
        name="return_to_loopback6",
        hook="input",
        type="filter",
        priority=110,
        rules=(
            FirewallRule(
                (Match(_FROM, "::1"), Match(_TO, STAND_IN), SetField(_TO, "::1")),
                "an answer whose translation was undone",
            ),
        ),
    ),
)

GUARDS = tuple(
    FirewallRule((_AWAY, Match(end, STAND_IN), Counter(), Verdict("drop"))) for end in (_FROM, _TO)
)
"""Rules for what arrives: nobody else has this address."""

MASQUERADE = FirewallRule(
    (Match(_FROM, STAND_IN), Nat("masquerade")), "the host by ::1: as by 127.0.0.1"
)


def stand_in_route(network_id: str, interface: str) -> Route:
    """The route by which answers to the stand-in are the host's own.

    One a bridge, so that it goes with it. Any of them will do; the kernel wants each to have
    a metric of its own.
    """
    return Route(
        destination=f"{STAND_IN}/128",
        link=interface,
        table=255,
        type="local",
        metric=1024 + int(network_id[:7], 16),
        protocol=ROUTE_PROTOCOL,
    )


def describe_answering(port: PublishedPort) -> Iterator[Element]:
    """The element by which a published port answers on ::1, if it does."""
    if port.host_ip not in ANSWERING:
        return
    first, last = (port.protocol, port.host_port), (port.protocol, port.host_port_end)
    if first == last:
        yield Element(family="inet", table=NAME, set="loopback6", first=first)
    else:
        yield Element(family="inet", table=NAME, set="loopback_ranges6", first=first, last=last)
