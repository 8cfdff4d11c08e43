"""Flows of released addresses are forgotten, others stay, however many there are."""

from __future__ import annotations

import pytest

from lab import Lab, Namespace
from linkspan.engine import flows
from linkspan.kernel import namespaces

GONE = "10.20.0.7"


def insert_flow(lab: Lab, host: Namespace, source: str, destination: str, *more: str) -> None:
    flow = ["-p", "udp", "-s", source, "-d", destination, "--sport", "4000", "--dport", "53"]
    lab.run(host, ["conntrack", "-I", *flow, "-t", "60", *more])


def flush(host: Namespace, *addresses: str) -> None:
    with namespaces.opened(host.path) as descriptor:
        namespaces.inside(descriptor, lambda: flows.flush_addresses(addresses))


def tracked(lab: Lab, host: Namespace) -> str:
    listed = [
        lab.run(host, ["conntrack", "-L", "-f", family]).stdout for family in ("ipv4", "ipv6")
    ]
    return "".join(listed)


@pytest.mark.parametrize("few", [0, 1000], ids=["selected by the kernel", "read at once"])
def test_flows_of_released_addresses_are_forgotten(
    lab: Lab, require, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    require("conntrack")
    monkeypatch.setattr(flows, "FEW_FLOWS", few)
    host = lab.namespace("host")
    insert_flow(lab, host, GONE, "192.0.2.1")
    insert_flow(lab, host, "192.0.2.2", GONE)
    insert_flow(lab, host, "192.0.2.3", "192.0.2.10", "--dst-nat", GONE)
    insert_flow(lab, host, "2001:db8::7", "2001:db8:1::1")
    insert_flow(lab, host, "10.20.0.8", "192.0.2.4")
    insert_flow(lab, host, "2001:db8::8", "2001:db8:1::1")
    flush(host, GONE, "2001:db8::7")
    left = tracked(lab, host)
    assert GONE not in left
    assert "2001:db8::7" not in left
    assert "10.20.0.8" in left
    assert "2001:db8::8" in left


def test_nothing_tracked_is_no_work(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    host = lab.namespace("host")

    def refuse(*_: object) -> None:
        raise AssertionError("the table was read")

    monkeypatch.setattr(flows.Conntrack, "dump", refuse)
    flush(host, GONE)
