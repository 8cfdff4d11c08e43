"""What is heard of others' changes, and what is done about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.stage import ModelHost, Talk, play, until
from linkspan.dataplane import Element, Link, Sysctl, Table
from linkspan.engine import drift
from linkspan.engine.engine import Engine
from linkspan.engine.requests import NetworkRequest, SandboxRequest
from linkspan.kernel.monitor import AddressChanged, LinkChanged, Lost, RouteChanged, SettingsChanged
from linkspan.kernel.netfilter.monitor import TableChanged


class Script:
    """A subscription that tells what a test says."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[Any] = asyncio.Queue()

    async def events(self) -> AsyncIterator[Any]:
        while True:
            yield await self.lines.get()

    def close(self) -> None:
        pass


class TalkativeHost(ModelHost):
    def open_monitors(self) -> Any:
        self.routes, self.tables = Script(), Script()
        return self.routes, self.tables


def play_with(directory: Path, talk: Talk) -> None:
    async def prepared(engine: Engine, host: ModelHost) -> None:
        await engine.create_network(NetworkRequest(name="web", subnets=["10.20.0.0/24"]))
        await engine.create_sandbox(SandboxRequest(name="shop", networks=["web"], ports=["80:80"]))
        await talk(engine, host)

    play(directory, prepared, TalkativeHost())


def link(name: str, **more: Any) -> LinkChanged:
    fields = {"index": 1, "alias": "", "up": True, "mtu": 1500, "removed": False, **more}
    return LinkChanged(name=name, **fields)


async def was_repaired(engine: Engine) -> None:
    events = engine.events.subscribe(0)
    async for event in events:
        if event.action == "repaired":
            events.close()
            return


def test_a_deleted_link_is_made_again(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: Any) -> None:
        whole = host.plane
        for name in (engine.sandbox("shop").endpoints[0].host_interface, "linkspan0"):
            host.plane = host.plane.without(("link", "host", name))
            assert host.plane != whole
            host.routes.lines.put_nowait(link(name, removed=True))
            await until(lambda: host.plane == whole)
        await was_repaired(engine)

    play_with(tmp_path, talk)


def test_a_link_set_down_is_set_up(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: Any) -> None:
        whole = host.plane
        endpoint = engine.sandbox("shop").endpoints[0]
        held = host.plane.get(("link", "host", endpoint.host_interface))
        down = Link(**{f: getattr(held, f) for f in held.__struct_fields__} | {"up": False})
        host.plane = host.plane.with_object(down)
        host.routes.lines.put_nowait(link(down.name, up=False, alias=down.alias))
        await until(lambda: host.plane == whole)

    play_with(tmp_path, talk)


def test_a_flushed_table_is_loaded_again_and_the_culprit_named(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: Any) -> None:
        whole = host.plane
        for table in list(host.plane.of(Table)):
            host.plane = host.plane.without(table.key)
        assert not list(host.plane.of(Element))
        host.tables.lines.put_nowait(TableChanged("inet", "linkspan", ("table removed",), "nft"))
        await until(lambda: host.plane == whole)
        events = engine.events.subscribe(0)
        async for event in events:
            if (event.type, event.action) == ("firewall", "repaired"):
                assert event.attributes["process"] == "nft"
                break
        events.close()

    play_with(tmp_path, talk)


@pytest.mark.parametrize(
    "event",
    [
        SettingsChanged(link="all"),
        RouteChanged(destination="0.0.0.0/0", table=254, link="eth0", gateway=None, protocol=4,
                     removed=False),
        AddressChanged(link="eth0", address="192.0.2.11/24", removed=False),
        Lost(),
    ],
    ids=lambda event: type(event).__name__,
)  # fmt: skip
def test_forwarding_is_kept_current(tmp_path: Path, event: Any) -> None:
    path = "ipv4/conf/eth0/forwarding"

    async def talk(engine: Engine, host: Any) -> None:
        host.plane = host.plane.with_object(Sysctl(path=path, value="0"))
        host.routes.lines.put_nowait(event)
        await until(lambda: host.read_settings([path]) == {path: "1"})

    play_with(tmp_path, talk)


def test_a_bridges_own_settings_come_back(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: Any) -> None:
        bridge = engine.network("web").interface
        path = f"ipv4/conf/{bridge}/forwarding"
        host.plane = host.plane.with_object(Sysctl(path=path, value="0"))
        host.routes.lines.put_nowait(SettingsChanged(link=bridge))
        await until(lambda: host.read_settings([path]) == {path: "1"})

    play_with(tmp_path, talk)


def test_links_in_the_making_are_no_news(tmp_path: Path) -> None:
    async def talk(engine: Engine, host: Any) -> None:
        name = engine.sandbox("shop").endpoints[0].host_interface
        before = len(host.batches)
        for event in (
            link(name, up=False),
            link(name, alias="linkspan:endpoint:1"),
            link("linkspan0", alias="linkspan:network:1"),
            SettingsChanged(link=name),
        ):
            host.routes.lines.put_nowait(event)
        await asyncio.sleep(3 * drift.SETTLE)
        assert len(host.batches) == before
        assert not engine._drift._news.is_set()

    play_with(tmp_path, talk)


def test_a_namespace_without_a_link_of_ours_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "LOOK_AROUND", 0.02)
    path = "/run/netns/ctr7"

    async def talk(engine: Engine, host: Any) -> None:
        host.foreign[path] = 77
        await engine.create_sandbox(SandboxRequest(name="ctr7", netns=path, networks=["none"]))
        del host.foreign[path]
        await until(lambda: engine.sandbox("ctr7").state == "gone")

    play_with(tmp_path, talk)


def test_a_repair_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drift, "FIRST_PATIENCE", 0.01)

    async def talk(engine: Engine, host: Any) -> None:
        whole, tries = host.plane, 0
        observe = host.observe_firewall

        def fail_twice() -> Any:
            nonlocal tries
            tries += 1
            if tries <= 2:
                raise OSError("not now")
            return observe()

        host.observe_firewall = fail_twice
        host.plane = host.plane.without(("link", "host", "linkspan0"))
        host.routes.lines.put_nowait(link("linkspan0", removed=True))
        await until(lambda: host.plane == whole)
        assert tries > 2

    play_with(tmp_path, talk)
    assert "trying again" in caplog.text
