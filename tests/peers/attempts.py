"""Trying flows on a host that another program made, and comparing with what is predicted."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lab import Lab, Namespace, Place
from linkspan.analysis import Flow, Verdict, View, trace_flow
from linkspan.cli.hostview import look_at_host
from linkspan.inventory.records import HostView
from linkspan.kernel import namespaces

ROOT = Path(__file__).parents[2]
UPLINK, STRANGER, FAR = "192.0.2.10", "192.0.2.20", "1.1.1.1"
"""The host's address, its neighbour's, and one of the internet that the neighbour stands for."""


class Source(NamedTuple):
    """Where flows begin: the namespace's name as it was seen, and the place itself."""

    name: str
    place: Place


class Outcome(NamedTuple):
    """A flow that was tried, and whether it was answered."""

    source: str
    target: str
    port: int
    protocol: str
    answered: bool


def wire_up(lab: Lab, host: Namespace) -> Namespace:
    """Give a host an uplink, and a stranger on its segment that routes through the host."""
    outside = lab.namespace("outside")
    lab.veth(host, "uplink", f"{UPLINK}/24", outside, "eth0", f"{STRANGER}/24")
    lab.route(host, "default", "via", STRANGER)
    lab.route(outside, "default", "via", UPLINK)
    lab.address(outside, "lo", f"{FAR}/32")
    return outside


def look_from(host: Namespace) -> HostView:
    """What linkspan sees from a namespace, and of all that cables join to it; no daemon of its
    own answers.
    """
    with namespaces.opened(host.path) as descriptor, namespaces.entered(descriptor):
        return look_at_host(None, ())


def try_all(
    lab: Lab, seen: HostView, sources: Sequence[Source], targets: Sequence[tuple[str, int, str]]
) -> list[Outcome]:
    """Try each target from each source; a difference to what is predicted fails.

    "Cannot say" is allowed only where a datagram's answer depends on the program: it was asked
    at one address of a socket that has all.
    """
    view = View(seen.plane, sockets_known=True)
    flows = [(source, *target) for source in sources for target in targets]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        fetched = list(pool.map(lambda one: lab.fetch(one[0].place, one[1], one[2], one[3]), flows))
    outcomes, differences = [], []
    for (source, target, port, protocol), real in zip(flows, fetched, strict=True):
        flow = Flow(destination=target, destination_port=port, protocol=protocol)
        answer = trace_flow(view, source.name, flow)
        outcomes.append(Outcome(source.name, target, port, protocol, real.ok))
        if answer.verdict is Verdict.CANNOT_SAY and protocol == "udp":
            legs = [leg for trace in answer.traces for leg in trace.legs]
            assert all("from which address" in one for leg in legs for one in leg.assumed), answer
            continue
        if answer.verdict is Verdict.CANNOT_SAY or (answer.verdict is Verdict.DELIVERED) != real.ok:
            differences.append((outcomes[-1], real, answer.verdict.value, answer.first.reason))
        assert answer.first.not_understood == ()
    assert not differences, "\n".join(map(str, differences))
    return outcomes


def run_path(
    enter: Sequence[str], *words: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`linkspan path` as a user runs it, entered by a command prefix; no daemon answers."""
    return subprocess.run(
        [*enter, sys.executable, "-m", "linkspan", "path", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "LINKSPAN_SOCKET": "/nonexistent/linkspan.sock",
            **(environment or {}),
        },
    )
