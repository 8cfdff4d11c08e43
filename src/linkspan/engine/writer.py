"""The one writer to the kernel: a thread that carries out everything that waits, together.

Whoever changes the kernel hands the writer a change and awaits it. While the writer works
on one batch, other requests queue up and become the next batch, so many clients at once
share system calls. Changes happen in the order in which they were handed over.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from linkspan.dataplane import Change

T = TypeVar("T")
ApplyMany = Callable[[Sequence[Change]], Sequence[BaseException | None]]
"""Carries out changes independently of each other; the error of each, None for done."""

_Work = Change | Callable[[], object]
_Job = tuple[_Work, "asyncio.Future[object]"]
LARGEST_BATCH = 64
"""Changes in one call: answers need not wait for a longer queue to be worked off."""


class Writer:
    """Belongs to the event loop that is running when it is made."""

    def __init__(self, apply_many: ApplyMany) -> None:
        self._apply_many = apply_many
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="kernel-writer", daemon=True)
        self._thread.start()

    async def apply(self, change: Change) -> None:
        """Carry out a change; raises what the kernel refused (then it was undone)."""
        if change:
            future: asyncio.Future[object] = self._loop.create_future()
            self._queue.put((change, future))
            await future

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function on the writer's thread: nothing else changes the kernel meanwhile."""
        future: asyncio.Future[object] = self._loop.create_future()
        self._queue.put((function, future))
        return await future  # type: ignore[return-value]

    async def close(self) -> None:
        """Finish what waits, then end the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # On the thread

    def _work(self) -> None:
        while True:
            jobs, last = self._take()
            batch: list[_Job] = []
            for job in jobs:
                if isinstance(job[0], tuple):
                    batch.append(job)
                    continue
                self._apply(batch)
                batch = []
                self._call(job)
            self._apply(batch)
            if last:
                return

    def _take(self) -> tuple[list[_Job], bool]:
        """Everything that waits, at least one job; and whether the queue has ended."""
        jobs: list[_Job] = []
        job = self._queue.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) == LARGEST_BATCH:
                return jobs, False
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return jobs, False
        return jobs, True

    def _apply(self, batch: list[_Job]) -> None:
        if not batch:
            return
        errors: Sequence[BaseException | None]
        try:
            errors = self._apply_many([change for change, _ in batch])  # type: ignore[misc]
        except BaseException as error:
            errors = [error] * len(batch)
        self._deliver([(job[1], None, error) for job, error in zip(batch, errors, strict=True)])

    def _call(self, job: _Job) -> None:
        function, future = job
        try:
            self._deliver([(future, function(), None)])  # type: ignore[operator]
        except BaseException as error:
            self._deliver([(future, None, error)])

    def _deliver(
        self, rows: list[tuple[asyncio.Future[object], object, BaseException | None]]
    ) -> None:
        try:
            self._loop.call_soon_threadsafe(_resolve, rows)
        except RuntimeError:
            pass  # the loop has been closed; nobody waits any more


def _resolve(rows: list[tuple[asyncio.Future[object], object, BaseException | None]]) -> None:
    for future, result, error in rows:
        if future.done():
            continue  # whoever waited was cancelled
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
