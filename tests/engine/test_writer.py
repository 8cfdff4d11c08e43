"""The one writer: what waits goes together, in order, and each gets its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from linkspan.dataplane import Add, Change, Link
from linkspan.engine.writer import LARGEST_BATCH, Writer


def change(name: str) -> Change:
    return (Add(Link(name=name)),)


class Kernel:
    """Carries out changes when it is let; refuses those of a link called bad."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_go = threading.Event()

    def apply_many(self, changes: Sequence[Change]) -> list[BaseException | None]:
        self.may_go.wait(5)
        names = [op.object.name for c in changes for op in c]  # type: ignore[union-attr]
        self.batches.append(names)
        return [ValueError(n) if n == "bad" else None for n in names]


def test_what_waits_shares_a_call_and_keeps_its_order() -> None:
    async def talk() -> None:
        kernel = Kernel()
        writer = Writer(kernel.apply_many)
        first = asyncio.ensure_future(writer.apply(change("first")))
        await asyncio.sleep(0.02)
        names = ["a", "bad", *map(str, range(LARGEST_BATCH))]
        rest = [asyncio.ensure_future(writer.apply(change(name))) for name in names]
        alone = asyncio.ensure_future(writer.run(lambda: len(kernel.batches)))
        await asyncio.sleep(0.02)
        kernel.may_go.set()
        outcomes = await asyncio.gather(first, *rest, return_exceptions=True)
        assert [type(o).__name__ for o in outcomes].count("ValueError") == 1
        assert isinstance(outcomes[2], ValueError)
        assert await alone == len(kernel.batches)
        assert [name for batch in kernel.batches for name in batch] == ["first", *names]
        assert len(kernel.batches) == 3
        await writer.close()

    asyncio.run(asyncio.wait_for(talk(), 10))


def test_nothing_to_change_asks_nobody() -> None:
    async def talk() -> None:
        kernel = Kernel()
        writer = Writer(kernel.apply_many)
        await writer.apply(())
        assert kernel.batches == []
        await writer.close()

    asyncio.run(asyncio.wait_for(talk(), 10))


def test_a_call_that_fails_altogether_fails_for_all() -> None:
    def explode(changes: Sequence[Change]) -> list[BaseException | None]:
        raise OSError("no socket")

    async def talk() -> None:
        writer = Writer(explode)
        outcomes = await asyncio.gather(
            writer.apply(change("a")), writer.apply(change("b")), return_exceptions=True
        )
        assert all(isinstance(o, OSError) for o in outcomes)
        with pytest.raises(ZeroDivisionError):
            await writer.run(lambda: 1 // 0)
        await writer.close()

    asyncio.run(asyncio.wait_for(talk(), 10))


def test_closing_finishes_what_waits() -> None:
    async def talk() -> None:
        kernel = Kernel()
        writer = Writer(kernel.apply_many)
        waiting = [asyncio.ensure_future(writer.apply(change(str(n)))) for n in range(5)]
        await asyncio.sleep(0)
        kernel.may_go.set()
        await writer.close()
        await asyncio.gather(*waiting)
        assert sum(map(len, kernel.batches)) == 5

    asyncio.run(asyncio.wait_for(talk(), 10))
