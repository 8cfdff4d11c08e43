"""Changes of links, addresses and routes are heard of, and lost news is no secret."""

from __future__ import annotations

import asyncio
import select
import subprocess
import time
from collections.abc import Iterator

import msgspec
import pytest

from lab import Namespace as Place
from linkspan.dataplane import Address, Bridge, Link, Remove
from linkspan.dataplane.diff import Add
from linkspan.kernel.apply import Kernel
from linkspan.kernel.monitor import (
    AddressChanged,
    Event,
    LinkChanged,
    Lost,
    RouteChanged,
    RouteMonitor,
    SettingsChanged,
)


@pytest.fixture
def monitor(home: Place) -> Iterator[RouteMonitor]:
    opened = RouteMonitor()
    yield opened
    opened.close()


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def wait_for(monitor: RouteMonitor, wanted: Event) -> list[Event]:
    heard: list[Event] = []
    deadline = time.monotonic() + 5
    while wanted not in heard:
        left = deadline - time.monotonic()
        assert left > 0, f"not heard: {wanted} among {heard}"
        select.select([monitor.fileno()], [], [], left)
        heard += map(without_carrier, monitor.read())
    return heard


def link(name: str, index: int, up: bool = False, alias: str = "", removed: bool = False) -> Event:
    return LinkChanged(name=name, index=index, alias=alias, up=up, mtu=1500, removed=removed)


def without_carrier(event: Event) -> Event:
    """A link's carrier follows when the kernel comes round to it."""
    if isinstance(event, LinkChanged):
        return msgspec.structs.replace(event, carrier=None)
    return event


def test_a_carrier_is_lost_with_the_other_end(monitor: RouteMonitor) -> None:
    ip("link add cable type veth peer name far")
    ip("link set cable up")
    ip("link set far up")
    deadline = time.monotonic() + 5
    states: list[bool | None] = []

    def hear(wanted: bool) -> None:
        while not states or states[-1] is not wanted:
            assert time.monotonic() < deadline, f"heard {states}"
            select.select([monitor.fileno()], [], [], 1)
            news = [e for e in monitor.read() if isinstance(e, LinkChanged) and e.name == "cable"]
            states.extend(event.carrier for event in news)

    hear(True)
    ip("link set far down")
    hear(False)


def test_a_link_comes_changes_and_goes(monitor: RouteMonitor) -> None:
    ip("link add br0 index 7 type bridge")
    wait_for(monitor, link("br0", 7))
    ip("link set br0 up alias linkspan:network:1")
    wait_for(monitor, link("br0", 7, True, "linkspan:network:1"))
    ip("link del br0")
    wait_for(monitor, link("br0", 7, False, "linkspan:network:1", removed=True))


def test_an_address_and_its_route_come_and_go(monitor: RouteMonitor) -> None:
    ip("link add br0 type bridge")
    ip("link set br0 up")
    ip("addr add 10.1.0.1/24 dev br0")
    added = AddressChanged(link="br0", address="10.1.0.1/24", removed=False)
    route = RouteChanged(
        destination="10.1.0.0/24", table=254, link="br0", gateway=None, protocol=2, removed=False
    )
    heard = wait_for(monitor, route)
    assert added in heard
    assert not [e for e in heard if isinstance(e, RouteChanged) and e.table == 255]
    ip("addr del 10.1.0.1/24 dev br0")
    wait_for(monitor, AddressChanged(link="br0", address="10.1.0.1/24", removed=True))


def test_forwarding_is_heard_of(monitor: RouteMonitor) -> None:
    subprocess.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)
    wait_for(monitor, SettingsChanged(link="all"))


def test_our_own_changes_are_left_out(kernel: Kernel) -> None:
    ours = RouteMonitor({kernel.portid})
    all_of_them = RouteMonitor()
    try:
        bridge = Link(name="br0", kind=Bridge(), up=True, alias="linkspan:network:1")
        kernel.apply((Add(bridge), Add(Address(link="br0", address="10.1.0.1/24"))))
        kernel.apply((Remove(bridge),))
        ip("link add last type bridge")
        deadline = time.monotonic() + 5
        heard: list[Event] = []
        while not any(isinstance(e, LinkChanged) and e.name == "last" for e in heard):
            assert time.monotonic() < deadline
            select.select([ours.fileno()], [], [], 1)
            heard += ours.read()
        assert not [e for e in heard if isinstance(e, AddressChanged) and not e.removed]
        assert [e for e in all_of_them.read() if isinstance(e, AddressChanged) and not e.removed]
    finally:
        ours.close()
        all_of_them.close()


def test_news_that_nobody_read_in_time_is_lost_aloud(
    home: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linkspan.kernel.netlink.socket._RECEIVE_BUFFER", 4096)
    monitor = RouteMonitor()
    try:
        for number in range(30):
            ip(f"link add br{number} type bridge")
        assert Lost() in monitor.read()
        ip("link add last index 77 type bridge")
        wait_for(monitor, link("last", 77))
    finally:
        monitor.close()


def test_a_loop_can_listen(monitor: RouteMonitor) -> None:
    async def first_link() -> Event:
        async for event in monitor.events():
            if isinstance(event, LinkChanged):
                return event
        raise AssertionError("the stream ended")

    ip("link add br0 index 9 type bridge")
    assert without_carrier(asyncio.run(asyncio.wait_for(first_link(), 5))) == link("br0", 9)
