"""Tracked flows are read as they are, and forgotten one by one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

import pytest

from lab import Lab, Namespace
from linkspan.errors import KernelRefused
from linkspan.kernel.netfilter.conntrack import Conntrack
from linkspan.kernel.netfilter.flows import ConntrackEntry, ConntrackFilter, FlowTuple


@pytest.fixture
def host(lab: Lab, netns: Callable[[str], Namespace]) -> Namespace:
    """A host that tracks flows, and leads UDP port 5353 of 127.0.0.9 to port 53."""
    made = netns("host")
    rules = """
        table inet t {
            chain track { type filter hook input priority 0; ct state new accept; }
            chain nat {
                type nat hook output priority -100;
                ip daddr 127.0.0.9 udp dport 5353 dnat ip to 127.0.0.1:53
            }
        }"""
    lab.run(made, ["nft", "-f", "-"], stdin=rules)
    for address in ("127.0.0.1", "::1"):
        lab.listener_udp(made, address, 53)
    lab.listener_tcp(made, "127.0.0.1", 80)
    return made


@pytest.fixture
def conntrack(host: Namespace) -> Iterator[Conntrack]:
    descriptor = os.open(host.path, os.O_RDONLY)
    with Conntrack(descriptor) as made:
        yield made
    os.close(descriptor)


def test_an_empty_table_has_no_entries(conntrack: Conntrack) -> None:
    assert conntrack.count() == 0
    assert conntrack.dump() == ()


def test_a_translated_flow_shows_both_directions(
    lab: Lab, host: Namespace, conntrack: Conntrack
) -> None:
    assert lab.fetch(host, "127.0.0.9", 5353, "udp").ok
    (entry,) = conntrack.dump(ConntrackFilter(protocol="udp"))
    assert entry.family == "ip"
    assert (entry.original.destination, entry.original.destination_port) == ("127.0.0.9", 5353)
    assert (entry.reply.source, entry.reply.source_port) == ("127.0.0.1", 53)
    assert entry.reply.destination_port == entry.original.source_port
    assert {"dnat", "confirmed", "seen-reply"} <= set(entry.status)
    assert entry.timeout is not None
    assert 0 < entry.timeout <= 180


def test_the_kernel_and_the_record_agree_on_what_a_filter_means(
    lab: Lab, host: Namespace, conntrack: Conntrack
) -> None:
    for address, port, protocol in (
        ("127.0.0.9", 5353, "udp"), ("127.0.0.1", 53, "udp"), ("::1", 53, "udp"),
        ("127.0.0.1", 80, "tcp"),
    ):  # fmt: skip
        assert lab.fetch(host, address, port, protocol).ok
    everything = conntrack.dump()
    assert len(everything) == conntrack.count() == 4
    for wanted, expected in (
        (ConntrackFilter(protocol="udp"), 3),
        (ConntrackFilter(protocol="udp", original_destination_port=5353), 1),
        (ConntrackFilter(original_destination_port=53), 2),
        (ConntrackFilter(reply_source="127.0.0.1"), 3),
        (ConntrackFilter(protocol="udp", reply_source="127.0.0.1", reply_source_port=53), 2),
        (ConntrackFilter(original_destination="::1"), 1),
        (ConntrackFilter(family="ip6"), 1),
        (ConntrackFilter(status=("dnat",)), 1),
        (ConntrackFilter(original_source="127.0.0.77"), 0),
        (ConntrackFilter(protocol="sctp"), 0),
    ):
        found = conntrack.dump(wanted)
        assert {e.original for e in found} == {
            e.original for e in everything if wanted.matches(e)
        }, wanted
        assert len(found) == expected, wanted
        unselected = list(conntrack._dump(wanted, select=False))
        assert {e.original for e in unselected} == {e.original for e in found}


def test_only_the_flows_that_are_meant_are_forgotten(
    lab: Lab, host: Namespace, conntrack: Conntrack
) -> None:
    for address, port in (("127.0.0.9", 5353), ("127.0.0.1", 53), ("::1", 53)):
        assert lab.fetch(host, address, port, "udp").ok
    assert conntrack.delete_matching(ConntrackFilter(original_destination_port=5353)) == 1
    assert conntrack.count() == 2
    left = conntrack.dump()
    assert conntrack.delete_matching(ConntrackFilter(protocol="udp", family="ip6")) == 1
    assert conntrack.delete(left) == 1
    assert conntrack.delete(left) == 0
    assert conntrack.delete(()) == 0
    assert conntrack.count() == 0


def test_our_reading_is_that_of_the_conntrack_program(
    lab: Lab, host: Namespace, conntrack: Conntrack, require: Callable[..., None]
) -> None:
    require("conntrack", "ping")
    lab.run(host, ["ping", "-c1", "-W1", "127.0.0.1"])
    lab.run(host, ["ping", "-c1", "-W1", "::1"])
    lab.fetch(host, "127.0.0.9", 5353, "udp")
    lab.fetch(host, "127.0.0.1", 80)
    theirs = set()
    for family in ("ipv4", "ipv6"):
        text = lab.run(host, ["conntrack", "-L", "-f", family]).stdout
        for line in text.splitlines():
            pairs = re.findall(r"(src|dst|sport|dport|type|code|id)=(\S+)", line)
            theirs.add((line.split()[0], tuple(pairs)))
    ours = {
        (e.original.protocol, (*pairs_of(e.original), *pairs_of(e.reply))) for e in conntrack.dump()
    }
    assert ours == theirs
    assert len(ours) == 4
    assert conntrack.delete(conntrack.dump()) == 4


def pairs_of(flow: FlowTuple) -> list[tuple[str, str]]:
    pairs = [("src", flow.source), ("dst", flow.destination)]
    if flow.icmp is not None:
        identifier, type, code = map(str, flow.icmp)
        return [*pairs, ("type", type), ("code", code), ("id", identifier)]
    return [*pairs, ("sport", str(flow.source_port)), ("dport", str(flow.destination_port))]


def test_a_flow_that_cannot_be_is_refused_by_name(conntrack: Conntrack) -> None:
    flow = FlowTuple(source="10.0.0.1", destination="10.0.0.2", protocol="udp")
    entry = ConntrackEntry(family="ip", original=flow, reply=flow)
    with pytest.raises(KernelRefused, match=r"forgetting the flow udp 10\.0\.0\.1 to 10\.0\.0\.2"):
        conntrack.delete([entry])
