"""The store on a disk that is full, or can only be read: real mounts."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from linkspan.engine.store import SqliteStore
from linkspan.errors import StorageFailed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 512 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "small", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(ballast: Path) -> None:
    """Write until there is no room left."""
    with ballast.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


def test_a_full_disk_is_said_and_rolled_back_and_room_helps(small_disk: Path):
    async def write_until_refused(store: SqliteStore) -> tuple[int, StorageFailed]:
        for number in range(1000):
            try:
                await store.transaction({"last": b"%d" % number, f"big/{number}": bytes(8000)})
            except StorageFailed as error:
                return number, error
        raise AssertionError("the disk never was full")

    async def talk() -> None:
        store = SqliteStore(small_disk / "state.db")
        await store.transaction({"kept": b"1"})
        watch = store.watch("")
        fill(small_disk / "ballast")
        written, refusal = await write_until_refused(store)
        assert "the disk is full" in refusal.message
        assert str(small_disk) in refusal.message
        assert store.revision == written + 1
        assert len(await store.list("big/")) == written
        (small_disk / "ballast").unlink()
        assert await store.transaction({"after": b"2"}) == written + 2
        for _ in range(2 * written):
            assert (await anext(watch)).revision <= written + 1
        assert (await anext(watch)).key == "after"
        await store.close()
        again = SqliteStore(small_disk / "state.db")
        assert again.revision == written + 2
        assert await again.get("kept") is not None
        assert len(await again.list("big/")) == written
        await again.close()

    asyncio.run(talk())


def test_a_disk_that_is_full_from_the_start_says_so(small_disk: Path):
    fill(small_disk / "ballast")
    with pytest.raises(StorageFailed, match="space"):
        SqliteStore(small_disk / "state.db")


def test_a_disk_that_can_only_be_read_is_said(small_disk: Path):
    asyncio.run(SqliteStore(small_disk / "state.db").close())
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageFailed, match="mount options"):
        SqliteStore(small_disk / "state.db")
