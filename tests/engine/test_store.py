"""The store: all or nothing, in order, watched, and there again after a kill."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import stat
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkspan.engine.store import Change, SqliteStore
from linkspan.engine.store import watch as watching
from linkspan.errors import Conflict, InvalidRequest, Outdated, StorageFailed


def run_in_memory(talk: Callable[[SqliteStore], Awaitable[None]]) -> None:
    """Run `talk` with a fresh store, in an event loop of its own."""

    async def with_store() -> None:
        store = SqliteStore(":memory:")
        try:
            await talk(store)
        finally:
            await store.close()

    asyncio.run(with_store())


def test_what_is_written_is_read_back_with_its_revision():
    async def talk(store: SqliteStore) -> None:
        first = await store.transaction({"networks/a": b"1", "names/network/web": b"a"})
        second = await store.transaction({"networks/a": b"2"})
        assert (first, second) == (1, 2)
        entry = await store.get("networks/a")
        assert entry is not None
        assert (entry.value, entry.revision) == (b"2", 2)
        name = await store.get("names/network/web")
        assert name is not None
        assert name.revision == 1
        assert await store.get("networks/b") is None

    run_in_memory(talk)


def test_a_list_has_its_prefix_alone_in_order():
    async def talk(store: SqliteStore) -> None:
        keys = ["leases/a/10.0.0.10", "leases/a/10.0.0.2", "leases/ab/x", "leases/b/y", "lease"]
        await store.transaction(dict.fromkeys(keys, b""))
        found = [entry.key for entry in await store.list("leases/a/")]
        assert found == ["leases/a/10.0.0.10", "leases/a/10.0.0.2"]
        assert [e.key for e in await store.list("", after="leases/a/10.0.0.2", limit=1)] == [
            "leases/ab/x"
        ]
        last = await store.list("leases/", reverse=True, limit=2)
        assert [entry.key for entry in last] == ["leases/b/y", "leases/ab/x"]

    run_in_memory(talk)


@pytest.mark.parametrize("expected", [None, 99])
def test_nothing_changes_when_a_key_is_not_as_expected(expected: int | None):
    async def talk(store: SqliteStore) -> None:
        await store.transaction({"a": b"1"})
        with pytest.raises(Outdated, match="a "):
            await store.transaction({"b": b"2"}, ["a"], {"a": expected})
        assert [entry.key for entry in await store.list("")] == ["a"]
        assert store.revision == 1
        await store.transaction({"b": b"2"}, ["a"], {"a": 1, "b": None})
        assert [entry.key for entry in await store.list("")] == ["b"]

    run_in_memory(talk)


def test_a_transaction_that_contradicts_itself_is_refused():
    async def talk(store: SqliteStore) -> None:
        with pytest.raises(InvalidRequest, match="both written and deleted"):
            await store.transaction({"a": b"1"}, ["a"])

    run_in_memory(talk)


def test_deleting_what_is_not_there_is_no_change():
    async def talk(store: SqliteStore) -> None:
        await store.transaction({"a": b"1"})
        watch = store.watch("")
        assert await store.transaction(deletes=["b"]) == 1
        await store.transaction(deletes=["a"])
        assert await anext(watch) == Change("a", None, 2)

    run_in_memory(talk)


def test_a_watch_sees_what_happens_below_its_prefix_from_now_on():
    async def talk(store: SqliteStore) -> None:
        await store.transaction({"networks/a": b"0"})
        watch = store.watch("networks/")

        async def read() -> list[Change]:
            return [await anext(watch) for _ in range(3)]

        reader = asyncio.create_task(read())
        await asyncio.sleep(0)
        await store.transaction({"networks/a": b"1", "sandboxes/x": b""})
        await store.transaction({"networks/b": b"2"}, ["networks/a"])
        with pytest.raises(Outdated):
            await store.transaction({"networks/c": b""}, expect={"networks/c": 7})
        assert await asyncio.wait_for(reader, 10) == [
            Change("networks/a", b"1", 2),
            Change("networks/a", None, 3),
            Change("networks/b", b"2", 3),
        ]

        async def read_to_the_end() -> list[Change]:
            return [change async for change in watch]

        waiting = asyncio.create_task(read_to_the_end())
        await asyncio.sleep(0)
        watch.close()
        assert await asyncio.wait_for(waiting, 10) == []

    run_in_memory(talk)


def test_a_watch_that_falls_behind_is_told_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watching, "LONGEST_QUEUE", 5)

    async def talk(store: SqliteStore) -> None:
        watch = store.watch("")
        for number in range(6):
            await store.transaction({f"{number}": b""})
        with pytest.raises(Outdated, match="list the keys again"):
            await anext(watch)
        with pytest.raises(StopAsyncIteration):
            await anext(watch)

    run_in_memory(talk)


KEYS = st.sampled_from(["a", "a/b", "a/c", "b", "ä/z"])
STEPS = st.lists(
    st.tuples(st.dictionaries(KEYS, st.binary(max_size=3)), st.sets(KEYS), st.booleans())
)


@given(STEPS)
def test_it_behaves_like_a_dictionary_with_revisions(
    steps: list[tuple[dict[str, bytes], set[str], bool]],
):
    async def talk(store: SqliteStore) -> None:
        model: dict[str, tuple[bytes, int]] = {}
        for puts, deletes, wrong in steps:
            deletes = deletes - puts.keys()
            expect = {key: model[key][1] if key in model else None for key in puts}
            if wrong and expect:
                expect[next(iter(expect))] = 10**6
                with pytest.raises(Outdated):
                    await store.transaction(puts, deletes, expect)
            else:
                before = store.revision
                revision = await store.transaction(puts, deletes, expect)
                assert (revision > before) == bool(puts or deletes & model.keys())
                for key in deletes:
                    model.pop(key, None)
                model.update({key: (value, revision) for key, value in puts.items()})
            entries = await store.list("")
            assert [e.key for e in entries] == sorted(model)
            assert {e.key: (e.value, e.revision) for e in entries} == model

    run_in_memory(talk)


def test_revisions_go_on_after_a_restart_also_when_the_last_key_is_gone(tmp_path: Path):
    async def talk() -> None:
        store = SqliteStore(tmp_path / "deep" / "state.db")
        await store.transaction({"a": b"1"})
        await store.transaction(deletes=["a"])
        await store.close()
        again = SqliteStore(tmp_path / "deep" / "state.db")
        assert await again.transaction({"b": b""}) == 3
        await again.close()

    asyncio.run(talk())


def test_the_file_is_private_and_has_one_owner(tmp_path: Path):
    async def talk() -> None:
        path = tmp_path / "state.db"
        store = SqliteStore(path)
        await store.transaction({"containers/x": b"SECRET=1"})
        modes = {
            name: stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in os.listdir(tmp_path)
        }
        assert set(modes.values()) == {0o600}, modes
        with pytest.raises(Conflict, match="--state-dir"):
            SqliteStore(path)
        await store.close()
        with pytest.raises(StorageFailed, match="closed"):
            await store.get("a")
        await SqliteStore(path).close()

    asyncio.run(talk())


def test_the_log_is_moved_into_the_file_by_and_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("linkspan.engine.store.sqlite.CHECKPOINT_DELAY", 0.0)

    async def talk() -> None:
        store = SqliteStore(tmp_path / "state.db")
        await store.transaction({"a": b"found-in-the-file"})
        deadline = time.monotonic() + 10
        while b"found-in-the-file" not in (tmp_path / "state.db").read_bytes():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        await store.transaction({"b": b""})
        await store.close()
        assert not (tmp_path / "state.db-wal").exists()

    asyncio.run(talk())


def test_a_busy_log_does_not_grow_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("linkspan.engine.store.sqlite.CHECKPOINT_TRANSACTIONS", 50)
    monkeypatch.setattr("linkspan.engine.store.sqlite.LONGEST_LOG", 500)

    async def talk() -> int:
        store = SqliteStore(tmp_path / "state.db")
        for number in range(3000):
            await store.transaction({f"leases/{number % 10}": bytes(3000)})
            await asyncio.sleep(0.0002 if number % 50 == 0 else 0)
        size = os.stat(tmp_path / "state.db-wal").st_size
        await store.close()
        return size

    # Each transaction writes two pages at least; without bound that were 24 MB.
    assert asyncio.run(talk()) < 12_000_000


def write_foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title)")
    connection.commit()
    connection.close()


def write_newer(path: Path) -> None:
    asyncio.run(SqliteStore(path).close())
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()


def write_damaged(path: Path) -> None:
    async def fill() -> None:
        store = SqliteStore(path)
        for number in range(2000):
            await store.transaction({f"networks/{number:064}": b"x" * 200})
        await store.close()

    asyncio.run(fill())
    with path.open("r+b") as file:
        for page in range(4, 40):
            file.seek(page * 4096)
            file.write(os.urandom(4096))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: path.write_bytes(b"not a database, but long enough to look at" * 50), "move"),
        (write_foreign, "another program"),
        (write_newer, "newer linkspan"),
        (write_damaged, "damaged"),
        (lambda path: path.mkdir(), "check the folder"),
    ],
)
def test_a_file_that_is_not_ours_to_use_is_refused_by_name(
    tmp_path: Path, write: Callable[[Path], object], said: str
):
    path = tmp_path / "state.db"
    write(path)
    with pytest.raises(StorageFailed, match=said) as caught:
        SqliteStore(path)
    assert str(path) in caught.value.message


def test_a_file_that_another_program_has_locked_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("linkspan.engine.store.sqlite.BUSY_SECONDS", 0.01)

    async def talk() -> None:
        store = SqliteStore(tmp_path / "state.db")
        other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageFailed, match="another process has it locked"):
            await store.transaction({"a": b""})
        other.execute("ROLLBACK")
        other.close()
        await store.transaction({"a": b""})
        await store.close()

    asyncio.run(talk())


async def read_everything(path: Path) -> tuple[int, dict[str, bytes]]:
    """The revision of a store that nobody has open, and all that is in it."""
    store = SqliteStore(path)
    entries = {entry.key: entry.value for entry in await store.list("")}
    await store.close()
    return store.revision, entries


WRITER = """
import asyncio, sys
from linkspan.engine.store import SqliteStore, sqlite

sqlite.CHECKPOINT_DELAY = 0.002
async def write():
    store = SqliteStore(sys.argv[1])
    while True:
        number = str(store.revision + 1)
        both = dict.fromkeys(("left", "right"), number.encode())
        await store.transaction({**both, f"events/{number}": b"x" * 300})
        print(store.revision, flush=True)
        await asyncio.sleep(0)
asyncio.run(write())
"""


def test_a_kill_at_any_moment_loses_nothing_and_halves_nothing(tmp_path: Path):
    path = tmp_path / "state.db"
    chance = random.Random(7)
    promised = 0
    for _ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        enough = promised + chance.randrange(1, 200)
        for line in writer.stdout:
            promised = int(line)
            if promised >= enough:
                break
        writer.send_signal(signal.SIGKILL)
        promised = max([promised, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        writer.wait()
        writer.stdout.close()

        revision, entries = asyncio.run(read_everything(path))
        assert revision >= promised
        assert entries["left"] == entries["right"] == str(revision).encode()
        assert len(entries) == revision + 2


def test_a_transaction_is_quick(tmp_path: Path):
    async def talk() -> float:
        store = SqliteStore(tmp_path / "state.db")
        took = []
        for number in range(1000):
            before = time.perf_counter()
            await store.transaction({f"leases/n/{number}": b"{}", "cursors/n": b"x"})
            took.append(time.perf_counter() - before)
        await store.close()
        return statistics.median(took)

    # The aim is 150 us; ten times that still tells a disk wait or a thread hop from none.
    assert asyncio.run(talk()) < 1.5e-3
