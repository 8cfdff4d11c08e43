"""The lives of containers: what is asked, what ends, what begins again, what is given back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine.containers.stage import World, play, request
from linkspan.engine.containers import lifecycle, restarts
from linkspan.engine.containers.containers import parse_signal
from linkspan.errors import (
    Conflict,
    Exhausted,
    InvalidRequest,
    NotFound,
    RuntimeFailed,
    StorageFailed,
)


def test_a_container_is_made_with_its_network_then_runs_then_ends():
    async def scene(world: World) -> None:
        sandbox = await world.containers.create(request(hostname="till", env=["A=1"]))
        spec = world.runtime.specs[sandbox.id]
        assert (spec.netns, spec.hostname, spec.env) == (sandbox.netns, "till", ("A=1",))
        assert "10.20.0.2\ttill" in spec.hosts
        assert spec.resolv_conf is not None
        assert world.status(sandbox.id) == ("created", None)
        assert world.containers.owns(sandbox.id)
        await world.containers.start("shop")
        assert world.status(sandbox.id) == ("running", None)
        waiting = asyncio.create_task(world.containers.wait("shop"))
        await asyncio.sleep(0.01)
        await world.runtime.end(sandbox.id, 3, at=1000.0)
        assert await waiting == 3
        assert world.status(sandbox.id) == ("exited", 3)
        record = world.containers.record(sandbox.id)
        assert record is not None
        assert (record.finished, record.pid) == (1000.0, None)
        assert world.engine.log == ["create", "release"]
        assert await world.containers.wait(sandbox.id) == 3
        assert await world.actions() == ["shop create", "shop start", "shop die"]

    play(scene)


def test_one_that_ended_starts_again_with_its_network_anew():
    async def scene(world: World) -> None:
        id = await world.run()
        await world.runtime.end(id, 0)
        await world.containers.wait(id)
        sandbox = await world.containers.start("shop")
        assert sandbox.state == "up"
        assert "10.20.0.3" in world.runtime.specs[id].hosts
        assert world.status(id) == ("running", None)
        assert world.engine.log == ["create", "release", "restore"]
        await world.containers.start("shop")
        assert world.runtime.starts == 2

    play(scene)


def test_with_rm_it_is_gone_when_the_wait_answers():
    async def scene(world: World) -> None:
        id = await world.run(remove=True)
        waiting = asyncio.create_task(world.containers.wait(id))
        await asyncio.sleep(0.01)
        await world.runtime.end(id, 7)
        assert await waiting == 7
        assert world.containers.record(id) is None
        assert world.engine.by_id == {}
        assert world.runtime.states == {}
        assert await world.stored() == 0
        assert (await world.actions())[-2:] == ["shop die", "shop remove"]

    play(scene)


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("engine.create", Exhausted("no address")),
        ("runtime.create", InvalidRequest("no such user")),
    ],
)
def test_a_failed_create_leaves_nothing(where: str, error: Exception):
    async def scene(world: World) -> None:
        place, step = where.split(".")
        getattr(world, place).failing[step] = error
        with pytest.raises(type(error)):
            await world.containers.create(request())
        assert world.engine.by_id == {}
        assert world.runtime.states == {}
        assert await world.stored() == 0
        assert world.containers.record("shop") is None
        await world.containers.create(request())

    play(scene)


def test_a_create_that_is_cancelled_leaves_nothing():
    async def scene(world: World) -> None:
        for turns in range(1, 8):
            task = asyncio.create_task(world.containers.create(request()))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (world.engine.by_id, world.runtime.states) == ({}, {})
            assert await world.stored() == 0
        else:
            raise AssertionError("no create was ever done")

    play(scene)


def test_a_full_disk_at_create_leaves_nothing(monkeypatch: pytest.MonkeyPatch):
    async def scene(world: World) -> None:
        real = world.store.transaction
        for failing_at in (1, 2):
            count = 0

            async def transaction(*arguments: Any, **named: Any) -> int:
                nonlocal count
                count += 1
                if count == failing_at:  # noqa: B023
                    raise StorageFailed("the disk is full")
                return await real(*arguments, **named)

            monkeypatch.setattr(world.store, "transaction", transaction)
            with pytest.raises(StorageFailed):
                await world.containers.create(request())
            assert (world.engine.by_id, world.runtime.states) == ({}, {})
            assert await world.stored() == 0

    play(scene)


def test_a_start_that_fails_says_why_and_gives_the_network_back():
    async def scene(world: World) -> None:
        sandbox = await world.containers.create(request())
        for failing in ("start", "create"):
            world.runtime.failing[failing] = RuntimeFailed("exec: not found")
            with pytest.raises(RuntimeFailed, match="not found"):
                await world.containers.start("shop")
            record = world.containers.record(sandbox.id)
            assert record is not None
            assert (record.status, record.exit_code) == ("exited", 255)
            assert record.error == "exec: not found"
            assert world.engine.sandbox("shop").state == "exited"
        await world.containers.start("shop")
        assert world.status(sandbox.id) == ("running", None)
        record = world.containers.record(sandbox.id)
        assert record is not None
        assert record.error == ""

    play(scene)


def test_stop_asks_first_and_kills_in_the_end():
    async def scene(world: World) -> None:
        id = await world.run()
        stopped = await world.containers.stop("shop", 0.01)
        assert world.runtime.signals == [(15, False), (9, True)]
        assert stopped.state == "exited"
        assert world.status(id) == ("exited", 137)
        assert (await world.containers.stop("shop")).state == "exited"

    play(scene)


def test_stop_is_content_with_an_end_on_request():
    async def scene(world: World) -> None:
        id = await world.run(restart="always")
        ends: list[asyncio.Task[None]] = []
        world.runtime.on_signal = lambda i, _: ends.append(
            asyncio.ensure_future(world.runtime.end(i, 0))
        )
        await world.containers.stop("shop", 10)
        assert world.runtime.signals == [(15, False)]
        assert world.status(id) == ("exited", 0)

    play(scene)


def test_stop_of_one_with_rm_answers_although_it_is_gone():
    async def scene(world: World) -> None:
        await world.run(remove=True)
        assert (await world.containers.stop("shop", 0)).state == "exited"
        assert world.engine.by_id == {}

    play(scene)


def test_one_that_never_started_is_stopped_too():
    async def scene(world: World) -> None:
        sandbox = await world.containers.create(request())
        waiting = asyncio.create_task(world.containers.wait("shop"))
        await asyncio.sleep(0)
        await world.containers.stop("shop")
        assert await waiting == 137
        assert world.status(sandbox.id) == ("exited", 137)

    play(scene)


def test_it_begins_again_on_failure_as_often_as_allowed_and_keeps_its_network():
    async def scene(world: World) -> None:
        id = await world.run(restart="on-failure:2")
        waiting = asyncio.create_task(world.containers.wait(id))
        for turn in (1, 2, 3):
            await world.until_started(id, turn)
            await world.runtime.end(id, turn)
        assert await waiting == 3
        record = world.containers.record(id)
        assert record is not None
        assert record.restart_count == 2
        assert world.engine.log == ["create", "release"]
        assert (await world.actions()).count("shop restart") == 2

    play(scene)


def test_while_it_waits_to_begin_again_it_can_be_stopped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(restarts, "FIRST_DELAY", 3600.0)

    async def scene(world: World) -> None:
        id = await world.run(restart="always")
        await world.runtime.end(id, 0)
        await world.until(lambda: world.status(id)[0] == "restarting")
        assert world.engine.sandbox(id).state == "up"
        await world.containers.stop("shop")
        assert world.status(id) == ("exited", 0)
        assert world.engine.sandbox(id).state == "exited"

    play(scene)


def test_a_restart_that_fails_is_tried_again():
    async def scene(world: World) -> None:
        id = await world.run(restart="always")
        world.runtime.failing["create"] = RuntimeFailed("its file system is away")
        await world.runtime.end(id, 1)
        await world.until_started(id, 2)
        record = world.containers.record(id)
        assert record is not None
        assert record.restart_count == 2

    play(scene)


def test_what_could_not_be_given_back_is_when_the_disk_has_room_again(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(lifecycle, "TIDY_DELAY", 0.001)

    async def scene(world: World) -> None:
        id = await world.run()
        waiting = asyncio.create_task(world.containers.wait(id))
        await asyncio.sleep(0.01)
        real, refused = world.store.transaction, []

        async def transaction(*arguments: Any, **named: Any) -> int:
            if len(refused) < 3:
                refused.append(arguments)
                raise StorageFailed("the disk is full")
            return await real(*arguments, **named)

        monkeypatch.setattr(world.store, "transaction", transaction)
        world.engine.failing["release"] = StorageFailed("the disk is full")
        await world.runtime.end(id, 6)
        assert await waiting == 6
        await world.until(lambda: world.engine.log.count("release") == 2)
        assert world.status(id) == ("exited", 6)
        assert world.engine.sandbox(id).state == "exited"
        assert len(refused) == 3
        await world.containers.close()
        await world.reborn()
        assert world.status(id) == ("exited", 6)

    play(scene)


def test_kill_with_a_signal():
    async def scene(world: World) -> None:
        id = await world.run(restart="always")
        await world.containers.kill("shop", "hup")
        assert world.runtime.signals == [(1, False)]
        await world.containers.kill("shop")
        await world.until(lambda: world.status(id) == ("exited", 137))
        with pytest.raises(Conflict, match="does not run"):
            await world.containers.kill("shop", "TERM")

    play(scene)


def test_remove_refuses_what_runs_unless_forced():
    async def scene(world: World) -> None:
        id = await world.run(restart="always")
        waiting = asyncio.create_task(world.containers.wait(id))
        await asyncio.sleep(0.01)
        with pytest.raises(Conflict, match="container shop runs; stop it first"):
            await world.containers.remove("shop")
        await world.containers.remove("shop", force=True)
        assert await waiting == 137
        assert (world.engine.by_id, world.runtime.states) == ({}, {})
        assert await world.stored() == 0
        with pytest.raises(NotFound):
            await world.containers.remove("shop")

    play(scene)


def test_what_cannot_be_removed_is_said_and_the_rest_goes():
    async def scene(world: World) -> None:
        await world.run()
        world.runtime.failing["delete"] = RuntimeFailed("not removed entirely")
        with pytest.raises(RuntimeFailed):
            await world.containers.remove("shop", force=True)
        assert world.engine.by_id == {}
        assert await world.stored() == 0
        await world.reborn()
        assert world.runtime.states == {}

    play(scene)


def test_purge_takes_all():
    async def scene(world: World) -> None:
        await world.run("one"), await world.run("two", restart="always")
        await world.containers.create(request("three"))
        world.runtime.failing["delete"] = RuntimeFailed("one is stuck")
        assert await world.containers.purge() == ("one is stuck",)
        await world.reborn()
        assert (world.engine.by_id, world.runtime.states) == ({}, {})

    play(scene)


def test_a_sandbox_of_others_is_no_container():
    async def scene(world: World) -> None:
        from linkspan.engine.requests import SandboxRequest

        await world.engine.create_sandbox(SandboxRequest(name="ctr7"), identity="7" * 64)
        assert not world.containers.owns("7" * 64)
        with pytest.raises(Conflict, match="ctr7 is a namespace that others run programs in"):
            await world.containers.start("ctr7")

    play(scene)


def test_a_changed_network_is_told_inside():
    async def scene(world: World) -> None:
        id = await world.run(hostname="till")
        sandbox = world.engine.by_id[id]
        world.engine.by_id[id] = world.engine._addressed(sandbox)
        await world.containers.network_changed(id)
        assert "10.20.0.3\ttill" in world.runtime.specs[id].hosts
        await world.containers.network_changed("7" * 64)

    play(scene)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"command": []}, "no command"),
        ({"env": ["A"]}, "KEY=value"),
        ({"restart": "sometimes"}, "restart policy 'sometimes'"),
        ({"restart": "always", "remove": True}, "exclude each other"),
        ({"workdir": "here"}, "absolute path"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_made(fields: dict[str, Any], said: str):
    async def scene(world: World) -> None:
        with pytest.raises(InvalidRequest, match=said):
            await world.containers.create(request(**fields))
        assert world.engine.log == []
        assert await world.stored() == 0

    play(scene)


@pytest.mark.parametrize(
    ("text", "number"), [("KILL", 9), ("sigterm", 15), ("Hup", 1), ("9", 9), (15, 15), ("64", 64)]
)
def test_signals_by_name_and_number(text: str | int, number: int):
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "99", "NOSUCH", "-9", "1000"])
def test_other_signals_are_refused(text: str):
    with pytest.raises(InvalidRequest, match="there is no signal"):
        parse_signal(text)
