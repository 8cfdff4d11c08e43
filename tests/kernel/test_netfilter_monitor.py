"""Others' changes are heard of, ours are not, and losing some is said."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable, Iterator

import pytest

from lab import Lab, Namespace
from linkspan.dataplane import Add, Remove
from linkspan.dataplane.rules import Chain
from linkspan.drivers import firewall as layout
from linkspan.kernel.netfilter.firewall import Firewall
from linkspan.kernel.netfilter.monitor import (
    Event,
    ForeignChain,
    Lost,
    RulesetMonitor,
    TableChanged,
)

TABLE = layout.INET_TABLE
OURS = {(TABLE.family, TABLE.name)}


@pytest.fixture
def host(netns: Callable[[str], Namespace]) -> Namespace:
    return netns("host")


@pytest.fixture
def firewall(host: Namespace) -> Iterator[Firewall]:
    descriptor = os.open(host.path, os.O_RDONLY)
    with Firewall(descriptor, own=False) as made:
        made.transaction([Add(TABLE)])
        yield made
    os.close(descriptor)


@pytest.fixture
def monitor(host: Namespace, firewall: Firewall) -> Iterator[RulesetMonitor]:
    descriptor = os.open(host.path, os.O_RDONLY)
    made = RulesetMonitor(OURS, {firewall.portid}, descriptor)
    yield made
    made.close()
    os.close(descriptor)


def news(monitor: RulesetMonitor) -> list[Event]:
    """What the monitor reports; the notification was sent before the change returned."""
    assert select.select([monitor.fileno()], [], [], 2)[0]
    return monitor.read()


def test_our_own_changes_are_no_news(monitor: RulesetMonitor, firewall: Firewall) -> None:
    firewall.transaction([Add(layout.inet("bridges", "br-web"))])
    firewall.transaction([Remove(layout.inet("bridges", "br-web"))])
    assert news(monitor) == []


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("add rule inet linkspan forward accept", ("rule added",)),
        ("add element inet linkspan bridges { x }", ("element added",)),
        ("flush ruleset", None),
        ("flush chain inet linkspan refuse", ("rule removed",)),
    ],
)
def test_a_change_by_another_program_is_reported_with_its_name(
    lab: Lab, host: Namespace, monitor: RulesetMonitor, command: str, what: tuple[str, ...] | None
) -> None:
    lab.run(host, ["nft", command])
    (event,) = news(monitor)
    assert isinstance(event, TableChanged)
    assert (event.family, event.table, event.process) == ("inet", "linkspan", "nft")
    assert event.what == what or (what is None and "table removed" in event.what)


def test_a_foreign_base_chain_is_reported(
    lab: Lab, host: Namespace, monitor: RulesetMonitor
) -> None:
    lab.run(host, ["nft", "add table ip other"])
    assert news(monitor) == []
    lab.run(
        host,
        ["nft", "add chain ip other fw { type filter hook forward priority 5 ; policy drop ; }"],
    )
    chain = Chain(name="fw", hook="forward", type="filter", priority=5, policy="drop")
    assert news(monitor) == [ForeignChain("ip", "other", chain, "nft")]


def test_lost_notifications_are_said_to_be_lost(
    lab: Lab, host: Namespace, monitor: RulesetMonitor
) -> None:
    small = socket.socket(fileno=os.dup(monitor.fileno()))
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    lab.run(host, ["nft", "add table ip other { set s { type mark; } ; }"])
    for start in range(0, 40_000, 4000):
        numbers = ",".join(map(str, range(start, start + 4000)))
        lab.run(host, ["nft", "-f", "-"], stdin=f"add element ip other s {{ {numbers} }}")
    assert Lost() in news(monitor)
    lab.run(host, ["nft", "add rule inet linkspan forward accept"])
    assert any(isinstance(event, TableChanged) for event in news(monitor))
    small.close()


def test_events_arrive_in_a_loop(lab: Lab, host: Namespace, monitor: RulesetMonitor) -> None:
    async def first() -> Event:
        async for event in monitor.events():
            return event
        raise AssertionError

    async def scenario() -> Event:
        waiting = asyncio.create_task(first())
        await asyncio.to_thread(lab.run, host, ["nft", "flush chain inet linkspan refuse"])
        return await asyncio.wait_for(waiting, 5)

    assert asyncio.run(scenario()) == TableChanged("inet", "linkspan", ("rule removed",), "nft")
