"""Events: numbered without gaps, kept in bounds, and nobody waits for a slow reader."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkspan.engine import events as module
from linkspan.engine.events import Event, EventLog, Happening, Subscription
from linkspan.engine.store import SqliteStore
from linkspan.errors import Outdated


def run(talk: Callable[[SqliteStore, EventLog], Awaitable[None]], kept: int = 100) -> None:
    async def with_log() -> None:
        store = SqliteStore(":memory:")
        try:
            await asyncio.wait_for(talk(store, await EventLog.open(store, kept=kept)), 20)
        finally:
            await store.close()

    asyncio.run(with_log())


async def take(reader: Subscription, count: int) -> list[Event]:
    return [await anext(reader) for _ in range(count)]


def made(name: str) -> Happening:
    return Happening(type="network", action="create", name=name, object_id="0" * 64)


def test_an_event_is_a_flat_record_with_number_and_time():
    async def talk(store: SqliteStore, log: EventLog) -> None:
        reader = log.subscribe()
        await log.append("port", "publish", "shop", "ab", port="8080:80/tcp")
        event = await anext(reader)
        shown = msgspec.to_builtins(event)
        assert shown.pop("time") > 1.7e9
        assert shown == {
            "id": 1,
            "type": "port",
            "action": "publish",
            "name": "shop",
            "object_id": "ab",
            "attributes": {"port": "8080:80/tcp"},
            "by": None,
        }

    run(talk)


def test_a_change_and_its_event_are_one_transaction():
    async def talk(store: SqliteStore, log: EventLog) -> None:
        reader = log.subscribe()
        revision = await log.commit([made("web")], puts={"networks/a": b"1"})
        change, event = await store.get("networks/a"), (await store.list("events/"))[0]
        assert change is not None
        assert change.revision == event.revision == revision
        with pytest.raises(Outdated):
            await log.commit([made("web")], puts={"networks/a": b"2"}, expect={"networks/a": None})
        await log.commit([], deletes=["networks/a"])
        await log.commit([made("b"), made("c")])
        assert [(event.id, event.name) for event in await take(reader, 3)] == [
            (1, "web"),
            (2, "b"),
            (3, "c"),
        ]

    run(talk)


def test_what_is_recorded_in_one_turn_is_one_transaction():
    async def talk(store: SqliteStore, log: EventLog) -> None:
        reader = log.subscribe()
        log.record("network", "create", "web")
        log.record("network", "remove", "web", "ab", driver="bridge")
        assert store.revision == 0
        await log.flush()
        assert store.revision == 1
        assert [(e.id, e.action) for e in await take(reader, 2)] == [(1, "create"), (2, "remove")]
        log.record("network", "create", "again")
        assert (await anext(reader)).attributes == {}

    run(talk)


def test_an_event_that_cannot_be_stored_is_logged(caplog: pytest.LogCaptureFixture):
    async def talk(store: SqliteStore, log: EventLog) -> None:
        await store.close()
        log.record("network", "create", "web")
        await log.flush()
        assert "1 events were not stored" in caplog.text

    run(talk)


def test_numbers_and_readers_go_on_after_a_restart(tmp_path: Path):
    async def talk() -> None:
        for start in (0, 3):
            store = SqliteStore(tmp_path / "state.db")
            log = await EventLog.open(store)
            assert log.last == start
            for number in range(3):
                await log.append("daemon", "tick", str(number))
            reader = log.subscribe(since=1)
            seen = await take(reader, start + 2)
            assert [event.id for event in seen] == list(range(2, start + 4))
            await store.close()

    asyncio.run(talk())


def test_only_the_last_events_are_kept_and_a_late_reader_is_told():
    async def talk(store: SqliteStore, log: EventLog) -> None:
        for number in range(25):
            await log.append("daemon", "tick", str(number))
        assert len(await store.list("events/")) == 10
        first, *rest = await take(log.subscribe(since=3), 11)
        assert (first.type, first.action, first.id) == ("daemon", "forgotten", 15)
        assert first.attributes["reason"] == "events 4 to 15 are no longer kept"
        assert [event.id for event in rest] == list(range(16, 26))
        assert [e.id for e in await take(log.subscribe(since=15), 10)] == list(range(16, 26))

    run(talk, kept=10)


def test_keeping_fewer_deletes_the_rest():
    async def talk(store: SqliteStore, log: EventLog) -> None:
        for number in range(25):
            await log.append("daemon", "tick", str(number))
        again = await EventLog.open(store, kept=5)
        assert again.last == 25
        assert [e.key for e in await store.list("events/")] == [
            module.event_key(number) for number in range(21, 26)
        ]

    run(talk)


def test_a_slow_reader_is_dropped_with_a_last_word_and_the_engine_goes_on(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(module, "LONGEST_QUEUE", 5)

    async def talk(store: SqliteStore, log: EventLog) -> None:
        slow, quick = log.subscribe(), log.subscribe()
        await log.append("daemon", "tick")
        assert (await anext(slow)).id == 1
        for _ in range(6):
            await log.append("daemon", "tick")
            assert (await anext(quick)).id <= log.last
        last = await anext(slow)
        assert (last.action, last.id, last.attributes["resume"]) == ("dropped", 1, "1")
        with pytest.raises(StopAsyncIteration):
            await anext(slow)
        resumed = log.subscribe(since=int(last.attributes["resume"]))
        assert [event.id for event in await take(resumed, 6)] == [2, 3, 4, 5, 6, 7]

    run(talk)


def test_a_closed_reader_ends_also_while_it_waits():
    async def talk(store: SqliteStore, log: EventLog) -> None:
        reader = log.subscribe()

        async def read() -> list[Event]:
            return [event async for event in reader]

        waiting = asyncio.create_task(read())
        await asyncio.sleep(0)
        reader.close()
        assert await waiting == []
        await log.append("daemon", "tick")

    run(talk)


@settings(max_examples=50)
@given(
    st.integers(0, 12),
    st.lists(st.sampled_from(["write", "read", "pause"]), max_size=40),
    st.integers(0, 12),
)
def test_every_event_is_seen_once_and_in_order(before: int, steps: list[str], since: int):
    async def talk(store: SqliteStore, log: EventLog) -> None:
        for _ in range(before):
            await log.append("daemon", "tick")
        reader = log.subscribe(since=min(since, before))
        seen: list[int] = []
        for step in steps:
            if step == "write":
                await log.append("daemon", "tick")
            elif step == "read" and (seen or [min(since, before)])[-1] < log.last:
                seen.append((await anext(reader)).id)
            else:
                await asyncio.sleep(0)
        start = min(since, before)
        assert seen == list(range(start + 1, start + 1 + len(seen)))

    run(talk)
