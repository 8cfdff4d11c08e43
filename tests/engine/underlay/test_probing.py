"""Addresses of a segment are tried before they are used, many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.stage import ModelHost, ModelProber, play
from linkspan.dataplane import Address, Link, Macvlan
from linkspan.engine.engine import Engine
from linkspan.engine.requests import (
    NetworkAttachment,
    NetworkRequest,
    SandboxRequest,
    SubnetRequest,
)
from linkspan.engine.underlay.probing import waits
from linkspan.errors import AddressInUse, Conflict

MAC = "52:54:00:00:00:09"


def segment_host() -> ModelHost:
    host = ModelHost()
    link = host.link("eth0")
    assert link is not None
    host.plane = host.plane.with_object(
        Link(name="eth0", kind=link.kind, mtu=1500, up=True, mac=MAC)
    )
    return host


def lan(**options: str) -> NetworkRequest:
    wish = SubnetRequest(subnet="192.0.2.0/24", gateway="192.0.2.1", ip_range="192.0.2.64/26")
    return NetworkRequest(
        name="lan", driver="macvlan", options={"parent": "eth0", **options}, subnets=[wish]
    )


def box(name: str = "box", ip: str | None = None) -> SandboxRequest:
    return SandboxRequest(name=name, networks=[NetworkAttachment(network="lan", ip=ip)])


def test_a_taken_address_is_passed_over(tmp_path: Path) -> None:
    macs: list[str | None] = []

    async def talk(engine: Engine, host: ModelHost) -> None:
        host.claims = {"192.0.2.64": MAC, "192.0.2.65": MAC}
        await engine.create_network(lan())
        made = await engine.create_sandbox(box())
        assert made.endpoints[0].address == "192.0.2.66"
        macs.append(made.endpoints[0].mac)

    host = play(tmp_path, talk, segment_host())
    assert host.probed == ["192.0.2.64", "192.0.2.65", "192.0.2.66"]
    assert [(mac, address) for _, mac, address in host.announced] == [(macs[0], "192.0.2.66")]
    assert [a.address for a in host.plane.of(Address) if a.namespace != "host"] == ["192.0.2.66/24"]


def test_one_that_was_asked_for_is_refused_and_nothing_stays(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        host.claims = {"192.0.2.70": MAC}
        await engine.create_network(lan())
        with pytest.raises(AddressInUse, match=MAC):
            await engine.create_sandbox(box(ip="192.0.2.70"))
        assert engine.sandboxes() == []
        assert not [link for link in host.plane.of(Link) if isinstance(link.kind, Macvlan)]
        assert host.held_namespaces() == {}
        host.claims = {}
        await engine.create_sandbox(box(ip="192.0.2.70"))

    play(tmp_path, talk, segment_host())


def test_a_segment_where_all_are_taken_ends_the_search(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        host.claims = {f"192.0.2.{n}": MAC for n in range(64, 128)}
        await engine.create_network(lan())
        with pytest.raises(AddressInUse, match="--ip-range"):
            await engine.create_sandbox(box())
        assert len(host.probed) == 16

    play(tmp_path, talk, segment_host())


def test_with_dad_off_nobody_is_asked(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(lan(dad="off"))
        await engine.create_sandbox(box())
        assert host.probed == []

    play(tmp_path, talk, segment_host())


def test_a_parent_that_is_down_is_said_before_anything_is_made(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        made = await engine.create_network(lan())
        link = host.link("eth0")
        assert link is not None
        host.plane = host.plane.with_object(Link(name="eth0", kind=link.kind, up=False, mac=MAC))
        with pytest.raises(Conflict, match="ip link set eth0 up"):
            await engine.create_sandbox(box())
        assert engine.network_state(made) == "parent eth0 is down"

    play(tmp_path, talk, segment_host())


class Meeting:
    """Counts how many ask at one moment."""

    def __init__(self) -> None:
        self.inside = self.most = 0


class SlowProber(ModelProber):
    def __init__(self, meeting: Meeting) -> None:
        super().__init__((), {})
        self.meeting = meeting
        meeting.inside += 1
        meeting.most = max(meeting.most, meeting.inside)

    def close(self) -> None:
        self.meeting.inside -= 1


class MeetingHost(ModelHost):
    meeting = Meeting()

    def open_prober(
        self, path: str | None, interface: str, mac: str, addresses: Sequence[str]
    ) -> Any:
        return SlowProber(self.meeting)


def test_many_ask_at_the_same_time(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(lan())
        await asyncio.gather(*(engine.create_sandbox(box(f"box{n}")) for n in range(30)))

    host = MeetingHost()
    host.plane = segment_host().plane
    play(tmp_path, talk, host)
    assert host.meeting.most > 20


@pytest.mark.parametrize(
    ("thorough", "six", "least", "most", "probes"),
    [
        (False, False, 0.1, 0.1, 2),
        (True, False, 4, 7, 3),
        (True, True, 1, 2, 1),
    ],
)
def test_times_are_those_of_the_standards(
    thorough: bool, six: bool, least: float, most: float, probes: int
) -> None:
    for _ in range(50):
        schedule = waits(thorough, {six})
        assert least <= round(sum(schedule), 6) <= most
        assert len(schedule) == probes + 1
