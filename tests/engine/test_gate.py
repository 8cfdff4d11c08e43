"""Requests beside each other, a reconciliation alone, one request at a time for one sandbox."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from linkspan.engine.gate import Gate


def run(talk: Callable[[Gate], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(talk(Gate()), 10)

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_inside_with_one_who_is_alone(seed: int) -> None:
    chance = random.Random(seed)
    inside: list[str] = []
    entered = 0

    async def enter(gate: Gate, kind: str) -> None:
        nonlocal entered
        await asyncio.sleep(chance.random() / 100)
        way = {"alone": gate.alone, "shared": gate.shared}.get(kind) or (lambda: gate.on(kind))
        async with way():
            assert "alone" not in inside
            assert kind != "alone" or not inside
            assert kind not in ("a", "b") or kind not in inside
            inside.append(kind)
            try:
                await asyncio.sleep(chance.random() / 300)
            finally:
                inside.remove(kind)
            entered += 1

    async def talk(gate: Gate) -> None:
        kinds = chance.choices(["alone", "shared", "a", "b"], [1, 4, 4, 4], k=100)
        tasks = [asyncio.ensure_future(enter(gate, kind)) for kind in kinds]
        await asyncio.sleep(0.004)
        for task in chance.sample(tasks, 20):
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(o is None or isinstance(o, asyncio.CancelledError) for o in outcomes)
        assert entered >= 80
        assert gate._locks == {}

    run(talk)


def test_one_who_waits_to_be_alone_goes_before_those_who_come_later() -> None:
    async def talk(gate: Gate) -> None:
        order: list[str] = []

        async def alone() -> None:
            async with gate.alone():
                order.append("alone")

        async def later() -> None:
            async with gate.shared():
                order.append("later")

        async with gate.shared():
            waiting = asyncio.ensure_future(alone())
            await asyncio.sleep(0)
            after = asyncio.ensure_future(later())
            await asyncio.sleep(0)
            order.append("first")
        await asyncio.gather(waiting, after)
        assert order == ["first", "alone", "later"]

    run(talk)
