"""Running something in a thread of its own, which then ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def run_in_new_thread(function: Callable[[], Result]) -> Result:
    """Await `function` in a fresh thread that no pool takes back.

    For work that changes its thread for good, such as leaving a namespace. The thread starts
    with the namespaces of the event loop's thread. It runs to its end even if the caller is
    cancelled; the cancellation is raised after that.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Result] = loop.create_future()

    def work() -> None:
        try:
            result = function()
        except BaseException as error:
            loop.call_soon_threadsafe(outcome.set_exception, error)
        else:
            loop.call_soon_threadsafe(outcome.set_result, result)

    threading.Thread(target=work, name="linkspan-runtime", daemon=True).start()
    try:
        return await asyncio.shield(outcome)
    except asyncio.CancelledError:
        await asyncio.wait([outcome])
        outcome.exception()  # it was looked at; the cancellation goes first
        raise
