"""A new daemon takes over: what runs goes on, what ended is noted, what was half done is undone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine.containers.stage import World, play, request
from linkspan.engine.runtime.spec import ContainerState
from linkspan.kernel import failpoints


async def crash(world: World) -> None:
    """The daemon is gone; containers, kernel and store stay as they are."""
    await world.containers.close()


async def reboot(world: World) -> None:
    """Everything but the store and the files on disk is gone."""
    await crash(world)
    for id, state in world.runtime.states.items():
        if state.status != "exited":
            world.runtime.states[id] = ContainerState(status="exited")


def test_what_runs_is_watched_again():
    async def scene(world: World) -> None:
        id = await world.run()
        await crash(world)
        containers = await world.reborn()
        assert world.status(id) == ("running", None)
        assert world.engine.log == ["create"]
        waiting = asyncio.create_task(containers.wait("shop"))
        await asyncio.sleep(0.01)
        await world.runtime.end(id, 4)
        assert await waiting == 4
        assert world.engine.sandbox(id).state == "exited"

    play(scene)


def test_what_waits_for_its_start_still_can():
    async def scene(world: World) -> None:
        sandbox = await world.containers.create(request())
        await crash(world)
        containers = await world.reborn()
        assert world.status(sandbox.id) == ("created", None)
        await containers.start("shop")
        assert world.status(sandbox.id) == ("running", None)

    play(scene)


@pytest.mark.parametrize(("remove", "left"), [(False, 1), (True, 0)])
def test_what_ended_meanwhile_is_noted_as_conmon_says(remove: bool, left: int):
    async def scene(world: World) -> None:
        id = await world.run(remove=remove)
        await crash(world)
        await world.runtime.end(id, 42, at=2000.0)
        containers = await world.reborn()
        assert await world.stored() == left
        if left:
            record = containers.record(id)
            assert record is not None
            assert (record.status, record.exit_code, record.finished) == ("exited", 42, 2000.0)
            assert world.engine.sandbox(id).state == "exited"
        else:
            assert (world.engine.by_id, world.runtime.states) == ({}, {})

    play(scene)


@pytest.mark.parametrize(
    ("policy", "stopped", "comes_back"),
    [
        ("no", False, False),
        ("always", False, True),
        ("always", True, True),
        ("unless-stopped", False, True),
        ("unless-stopped", True, False),
        ("on-failure", False, True),
        ("on-failure", True, False),
    ],
)
def test_after_a_reboot_those_with_a_policy_come_back(policy: str, stopped: bool, comes_back: bool):
    async def scene(world: World) -> None:
        id = await world.run(restart=policy)
        if stopped:
            await world.containers.stop("shop", 0)
        await reboot(world)
        await world.reborn()
        if comes_back:
            await world.until(lambda: world.status(id)[0] == "running")
            assert world.engine.sandbox(id).state == "up"
        else:
            assert world.status(id) == ("exited", 137 if stopped else 255)
            assert world.engine.sandbox(id).state == "exited"
        assert world.runtime.starts == 1 + comes_back

    play(scene)


def test_one_that_never_ran_gives_its_network_back_at_a_reboot_and_still_starts():
    async def scene(world: World) -> None:
        sandbox = await world.containers.create(request())
        await reboot(world)
        containers = await world.reborn()
        assert world.engine.sandbox(sandbox.id).state == "exited"
        await containers.start("shop")
        assert world.status(sandbox.id) == ("running", None)

    play(scene)


def test_what_waited_to_begin_again_still_does(monkeypatch: pytest.MonkeyPatch):
    async def scene(world: World) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("linkspan.engine.containers.restarts.FIRST_DELAY", 3600.0)
            id = await world.run(restart="always")
            await world.runtime.end(id, 0)
            await world.until(lambda: world.status(id)[0] == "restarting")
            await crash(world)
        await world.reborn()
        await world.until(lambda: world.status(id)[0] == "running")

    play(scene)


def test_a_container_without_a_record_is_taken_away():
    async def scene(world: World) -> None:
        world.runtime.states["7" * 64] = ContainerState(status="running", pid=1)
        await world.reborn()
        assert world.runtime.states == {}

    play(scene)


def test_a_record_without_a_sandbox_is_dropped():
    async def scene(world: World) -> None:
        id = await world.run()
        await crash(world)
        del world.engine.by_id[id]
        await world.reborn()
        assert await world.stored() == 0
        assert world.runtime.states == {}

    play(scene)


@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("container.drafted", "nothing"),
        ("container.networked", "nothing"),
        ("container.prepared", "nothing"),
        ("container.created", "created"),
    ],
)
def test_a_crash_while_it_is_made_leaves_all_or_nothing(
    monkeypatch: pytest.MonkeyPatch, point: str, left: str
):
    async def scene(world: World) -> None:
        await crash_at(world, monkeypatch, point, world.containers.create(request()))
        await world.reborn()
        if left == "nothing":
            assert (world.engine.by_id, world.runtime.states) == ({}, {})
            assert await world.stored() == 0
        else:
            assert world.status(world.engine.sandbox("shop").id) == ("created", None)
        for name in list(world.engine.by_id):
            await world.containers.remove(name)
        await world.containers.create(request())

    play(scene)


@pytest.mark.parametrize(
    ("point", "again", "status"),
    [
        ("container.started", False, "running"),
        ("container.restored", True, "exited"),
        ("container.prepared", True, "exited"),
        ("container.started", True, "running"),
    ],
)
def test_a_crash_while_it_starts_leaves_it_running_or_down(
    monkeypatch: pytest.MonkeyPatch, point: str, again: bool, status: str
):
    async def scene(world: World) -> None:
        id = (await world.containers.create(request())).id
        if again:
            await world.containers.stop(id)
        await crash_at(world, monkeypatch, point, world.containers.start(id))
        await world.reborn()
        assert world.status(id)[0] == status
        assert world.engine.sandbox(id).state == ("up" if status == "running" else "exited")
        await world.containers.start(id)
        assert world.status(id)[0] == "running"

    play(scene)


@pytest.mark.parametrize("point", ["container.ended", "container.released"])
def test_a_crash_while_it_ends_leaves_it_ended(monkeypatch: pytest.MonkeyPatch, point: str):
    async def scene(world: World) -> None:
        id = await world.run()
        world.runtime.on_signal = lambda *_: None
        await crash_at(world, monkeypatch, point, world.runtime.end(id, 5))
        await world.reborn()
        assert world.status(id) == ("exited", 5)
        assert world.engine.sandbox(id).state == "exited"

    play(scene)


@pytest.mark.parametrize("point", ["container.deleted", "container.sandbox_removed"])
def test_a_crash_while_it_is_removed_leaves_nothing(monkeypatch: pytest.MonkeyPatch, point: str):
    async def scene(world: World) -> None:
        id = await world.run()
        await crash_at(world, monkeypatch, point, world.containers.remove(id, force=True))
        await world.reborn()
        assert (world.engine.by_id, world.runtime.states) == ({}, {})
        assert await world.stored() == 0

    play(scene)


async def crash_at(world: World, monkeypatch: pytest.MonkeyPatch, point: str, doing: Any) -> None:
    """Let the daemon die at a point: from there on it changes nothing any more."""
    reached = asyncio.Event()
    left: list[Any] = []

    def die(name: str) -> None:
        if name == point:
            reached.set()
            left.append((world.engine.by_id.copy(), world.runtime.states.copy(), dump(world)))
            raise asyncio.CancelledError

    for module in ("containers", "lifecycle"):
        monkeypatch.setattr(f"linkspan.engine.containers.{module}.reach", die)
    task = asyncio.ensure_future(doing)
    await asyncio.wait_for(reached.wait(), 10)
    await asyncio.gather(task, return_exceptions=True)
    await crash(world)
    world.engine.by_id, world.runtime.states, rows = left[0]
    world.store._connection.execute("DELETE FROM entry")
    world.store._connection.executemany("INSERT INTO entry VALUES (?, ?, ?)", rows)
    for module in ("containers", "lifecycle"):
        monkeypatch.setattr(f"linkspan.engine.containers.{module}.reach", failpoints.reach)


def dump(world: World) -> list[tuple[str, bytes, int]]:
    return world.store._connection.execute("SELECT * FROM entry").fetchall()
