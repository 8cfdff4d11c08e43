"""What happens to a container: begun, ended, begun again, its network given back, removed.

Everything that changes one container's state goes through its lock. What awaits its end (a
watch on conmon's process, no polling) takes the lock only when it has ended, so a stop can
hold nothing and wait for the watch to do its work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time

import msgspec

from linkspan.drivers.records import Sandbox
from linkspan.engine.actors import as_nobody
from linkspan.engine.containers.files import choose_hostname, compose_hosts, read_resolv_conf
from linkspan.engine.containers.networking import Networking
from linkspan.engine.containers.records import ContainerRecord, Records, compose_spec
from linkspan.engine.containers.restarts import next_delay, parse_restart, wants_restart
from linkspan.engine.runtime.runtime import Runtime
from linkspan.engine.runtime.spec import UNKNOWN_EXIT
from linkspan.errors import LinkspanError, NotFound
from linkspan.kernel.failpoints import reach

log = logging.getLogger(__name__)

KILLED = 128 + signal.SIGKILL
TIDY_DELAY = 5.0
"""Seconds after which an end is noted again that could not be, on a full disk for example."""


class Lifecycle:
    """The lives of all containers of one daemon."""

    def __init__(self, engine: Networking, runtime: Runtime, records: Records) -> None:
        self.engine = engine
        self.runtime = runtime
        self.records = records
        self._locks: dict[str, asyncio.Lock] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._restarts: dict[str, asyncio.Task[None]] = {}
        self._delays: dict[str, float] = {}
        self._ends: dict[str, asyncio.Future[int]] = {}

    def lock(self, id: str) -> asyncio.Lock:
        """Held while the state of this container changes."""
        return self._locks.setdefault(id, asyncio.Lock())

    def end(self, id: str) -> asyncio.Future[int]:
        """The exit status, when the container stays down and has given back what it held."""
        return self._ends.setdefault(id, asyncio.get_running_loop().create_future())

    def name(self, id: str) -> str:
        """The name of a container's sandbox; the beginning of its id when that is gone."""
        try:
            return self.engine.sandbox(id).name
        except NotFound:
            return id[:12]

    # Beginning. The caller holds the lock.

    async def prepare(self, record: ContainerRecord, sandbox: Sandbox) -> int:
        """Make the container, so that its program waits for start; gives its process id.

        Raises:
            InvalidRequest, RuntimeFailed, StorageFailed, KernelRefused, Unsupported: nothing
                is left of the attempt.
        """
        spec = compose_spec(
            record,
            name=sandbox.name,
            hostname=choose_hostname(sandbox),
            netns=None if sandbox.host_mode else sandbox.netns,
            hosts=compose_hosts(sandbox),
            resolv_conf=self.engine.resolv_conf(sandbox)
            or read_resolv_conf(host_mode=sandbox.host_mode),
        )
        started = await self.runtime.create(spec)
        reach("container.prepared")
        self.watch(record.id)
        return started.pid

    async def let_run(self, record: ContainerRecord, action: str) -> ContainerRecord:
        """Let the program of a prepared container run, and store that it does.

        Raises:
            RuntimeFailed, StorageFailed: the container is not prepared any more.
        """
        try:
            await self.runtime.start(record.id)
            reach("container.started")
            running = msgspec.structs.replace(
                record, status="running", started=time.time(), finished=None, exit_code=None,
                error="", stopped=False,
            )  # fmt: skip
            return await self.records.save(running, action, self.name(record.id))
        except BaseException:
            await asyncio.shield(self.unprepare(record.id))
            raise

    async def unprepare(self, id: str) -> None:
        """End what runs of a container, and keep its files. Errors are logged."""
        self.unwatch(id)
        try:
            await self.runtime.delete(id, keep_files=True)
        except LinkspanError as error:
            log.warning("%s", error)

    # Ending

    def watch(self, id: str) -> None:
        """Act when the container ends."""
        self.unwatch(id)
        self._watches[id] = asyncio.get_running_loop().create_task(
            self._await_end(id), context=as_nobody()
        )

    def unwatch(self, id: str) -> None:
        """Do not act when the container ends: whoever ends it does."""
        watch = self._watches.pop(id, None)
        if watch is not None:
            watch.cancel()

    async def _await_end(self, id: str) -> None:
        try:
            code = await self.runtime.wait(id)
        except NotFound:
            return
        async with self.lock(id):
            record = self.records.by_id.get(id)
            if record is None or self._watches.get(id) is not asyncio.current_task():
                return
            # From here on nobody ends this task: it is the one who finishes what has begun.
            del self._watches[id]
            try:
                await self.finish(record, code)
            except LinkspanError as error:
                log.error("container %s ended, and: %s", self.name(id), error)
                self._tidy_later(id)

    def _tidy_later(self, id: str) -> None:
        """Note an end, and give back what was held, when the disk or the kernel lets us."""
        self._restarts[id] = asyncio.get_running_loop().create_task(
            self._tidy(id), context=as_nobody()
        )

    async def _tidy(self, id: str) -> None:
        await asyncio.sleep(TIDY_DELAY)
        async with self.lock(id):
            record = self.records.by_id.get(id)
            if record is None or self._restarts.get(id) is not asyncio.current_task():
                return
            del self._restarts[id]
            if record.status != "exited":
                return
            try:
                await self.records.save(record)
                await self.settle(record)
            except LinkspanError as error:
                log.debug("container %s still cannot be tidied up: %s", self.name(id), error)
                self._tidy_later(id)

    async def finish(
        self, record: ContainerRecord, code: int, *, failed: bool = False
    ) -> ContainerRecord:
        """Act on the end of a container: begin again, or give back what it held.

        `failed`: it did not even begin. The caller holds the lock.

        Raises:
            StorageFailed, KernelRefused: it is noted as far as it could be.
        """
        ended_at = time.time()
        if not failed:
            ended_at = self.runtime.state(record.id).exited_at or ended_at
        began_at = ended_at if failed or record.started is None else record.started
        again = record.status in ("running", "restarting") and wants_restart(
            parse_restart(record.restart), code, record.restart_count, stopped=record.stopped
        )
        await self.unprepare(record.id)
        reach("container.ended")
        ended = msgspec.structs.replace(
            record, status="restarting" if again else "exited", pid=None, exit_code=code,
            finished=ended_at,
        )  # fmt: skip
        try:
            await self.records.save(ended, "die", self.name(record.id), exit_code=str(code))
        finally:
            # Also with a full disk: whoever waits must hear of it, and the addresses go back.
            self.records.by_id[record.id] = ended
            if again:
                self.restart_later(record.id, max(0.0, ended_at - began_at))
            else:
                await self.settle(ended)
        return ended

    async def settle(self, record: ContainerRecord) -> None:
        """Give back what a container held that stays down; with --rm, remove it.

        The caller holds the lock. Raises what the engine raises, after all else was done.
        """
        self._delays.pop(record.id, None)
        try:
            if record.remove:
                await self.remove(record)
            elif self.engine.sandbox(record.id).state != "exited":
                await self.engine.release_sandbox(record.id)
                reach("container.released")
        finally:
            self.tell_end(record)

    def tell_end(self, record: ContainerRecord) -> None:
        """Answer those who wait for the end."""
        end = self._ends.pop(record.id, None)
        if end is not None and not end.done():
            end.set_result(UNKNOWN_EXIT if record.exit_code is None else record.exit_code)

    # Beginning again

    def restart_later(self, id: str, uptime: float) -> None:
        """Begin again after a while that grows with each time."""
        self._delays[id] = next_delay(self._delays.get(id), uptime)
        task = asyncio.get_running_loop().create_task(
            self._restart(id, self._delays[id]), context=as_nobody()
        )
        self._restarts[id] = task

    def cancel_restart(self, id: str) -> None:
        """Do not begin again."""
        task = self._restarts.pop(id, None)
        if task is not None:
            task.cancel()

    async def _restart(self, id: str, delay: float) -> None:
        await asyncio.sleep(delay)
        async with self.lock(id):
            record = self.records.by_id.get(id)
            if record is None or self._restarts.get(id) is not asyncio.current_task():
                return
            del self._restarts[id]
            again = msgspec.structs.replace(record, restart_count=record.restart_count + 1)
            try:
                await self.begin(again, "restart")
            except LinkspanError as error:
                log.warning("container %s could not begin again: %s", self.name(id), error)
                failed = msgspec.structs.replace(again, error=error.message)
                with contextlib.suppress(LinkspanError):  # logged there; the next try may do
                    await self.finish(failed, UNKNOWN_EXIT, failed=True)

    async def begin(self, record: ContainerRecord, action: str) -> ContainerRecord:
        """Make a container that is down, and let it run; its network first, if it has none.

        The caller holds the lock. Raises what the engine and the runtime raise; the network
        stays, for the caller to release.
        """
        sandbox = self.engine.sandbox(record.id)
        if sandbox.state == "exited":
            sandbox = await self.engine.restore_sandbox(record.id)
            reach("container.restored")
        pid = await self.prepare(record, sandbox)
        return await self.let_run(msgspec.structs.replace(record, pid=pid), action)

    # Removing

    async def remove(self, record: ContainerRecord) -> None:
        """Take away everything of a container. The caller holds the lock.

        Goes on past errors of the runtime, and raises them at the end.
        """
        name = self.name(record.id)
        self.cancel_restart(record.id)
        self.unwatch(record.id)
        await self.records.save(msgspec.structs.replace(record, status="removing"))
        failure: LinkspanError | None = None
        try:
            await self.runtime.delete(record.id)
        except LinkspanError as error:
            failure = error
        reach("container.deleted")
        with contextlib.suppress(NotFound):
            await self.engine.remove_sandbox(record.id, force=True)
        reach("container.sandbox_removed")
        await self.records.drop(record.id, "remove", name)
        self.forget(record.id)
        if record.is_live or record.exit_code is None:
            record = msgspec.structs.replace(record, exit_code=KILLED)
        self.tell_end(record)
        if failure is not None:
            raise failure

    def forget(self, id: str) -> None:
        """Drop what is remembered of a container that is no more."""
        self._delays.pop(id, None)
        self._locks.pop(id, None)

    async def close(self) -> None:
        """Stop watching. The containers go on."""
        tasks = [*self._watches.values(), *self._restarts.values()]
        self._watches.clear()
        self._restarts.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in self._ends.values():
            end.cancel()
