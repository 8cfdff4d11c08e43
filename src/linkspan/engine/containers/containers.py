"""What can be asked of containers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import signal as signals

import msgspec

from linkspan.drivers.records import Sandbox
from linkspan.engine.containers.access import Access
from linkspan.engine.containers.files import short_id
from linkspan.engine.containers.lifecycle import KILLED, Lifecycle
from linkspan.engine.containers.networking import Networking
from linkspan.engine.containers.records import ContainerRecord, Records, draft_record
from linkspan.engine.containers.recovery import recover
from linkspan.engine.events import EventLog
from linkspan.engine.plans import Plan
from linkspan.engine.requests import ContainerRequest, SandboxRequest
from linkspan.engine.runtime.runtime import Runtime
from linkspan.engine.runtime.spec import UNKNOWN_EXIT
from linkspan.engine.store import Store
from linkspan.errors import Conflict, InvalidRequest, LinkspanError, NotFound
from linkspan.kernel.failpoints import reach

log = logging.getLogger(__name__)

STOP_SECONDS = 10.0


class Containers(Access):
    """The containers of one daemon: programs, each in a sandbox of its own.

    A container is named as its sandbox is: by name, id, or the unique beginning of an id.
    """

    def __init__(
        self, engine: Networking, runtime: Runtime, store: Store, events: EventLog
    ) -> None:
        super().__init__(engine, runtime, Records(store, events))
        self._lives = Lifecycle(engine, runtime, self._records)

    # Lives

    async def create(self, request: ContainerRequest, *, dry_run: bool = False) -> Sandbox | Plan:
        """Make a container with its network up; its program waits for start.

        Whatever fails, nothing is left of the attempt. Raises what the engine's create_sandbox
        and the runtime's create raise.
        """
        record = draft_record(secrets.token_hex(32), request)
        wanted = SandboxRequest(
            name=request.name,
            networks=request.networks,
            ports=request.ports,
            labels=request.labels,
            hostname=request.hostname or short_id(record.id),
            dns=request.dns,
            dns_search=request.dns_search,
            dns_options=request.dns_options,
        )
        if dry_run:
            return await self._engine.create_sandbox(wanted, dry_run=True)
        async with self._lives.lock(record.id):
            # First of all: after a kill, what belongs to this record is undone.
            await self._records.save(record)
            reach("container.drafted")
            try:
                sandbox = await self._engine.create_sandbox(wanted, identity=record.id)
                reach("container.networked")
                pid = await self._lives.prepare(record, sandbox)
                made = msgspec.structs.replace(record, status="created", pid=pid)
                await self._records.save(made, "create", sandbox.name)
                reach("container.created")
            except BaseException:
                await asyncio.shield(self._undo(record))
                raise
        return sandbox

    async def start(self, ref: str) -> Sandbox:
        """Let its program run. One that has ended gets its network again, with the addresses it
        asked for, and runs once more; one that runs goes on. Raises as create does.
        """
        id = self._find(ref).id
        async with self._lives.lock(id):
            record = self._get(id)
            if record.is_live:
                return self._engine.sandbox(id)
            if record.status == "exited":
                record = msgspec.structs.replace(record, restart_count=0)
            try:
                if self._runtime.state(id).status == "created":
                    self._engine.check_policies(id, "start")
                    await self._lives.let_run(record, "start")
                else:
                    await self._lives.begin(record, "start")
            except BaseException as error:
                said = error.message if isinstance(error, LinkspanError) else ""
                failed = msgspec.structs.replace(record, error=said, stopped=True)
                with contextlib.suppress(LinkspanError):
                    await asyncio.shield(self._lives.finish(failed, UNKNOWN_EXIT, failed=True))
                raise
            return self._engine.sandbox(id)

    async def stop(self, ref: str, seconds: float = STOP_SECONDS) -> Sandbox:
        """SIGTERM, and SIGKILL when it is not gone after so many seconds; answers when its
        addresses and ports are given back. It does not begin again by itself.
        """
        id = self._find(ref).id
        async with self._lives.lock(id):
            record, sandbox = self._get(id), self._engine.sandbox(id)
            if record.status == "exited":
                return sandbox
            end = self._lives.end(id)
            record = await self._records.save(
                msgspec.structs.replace(record, stopped=True), "stop", self._lives.name(id)
            )
            if record.status != "running":
                self._lives.cancel_restart(id)
                code = KILLED if record.exit_code is None else record.exit_code
                await self._lives.finish(record, code)
            elif seconds > 0:
                await self._signal(id, signals.SIGTERM)
        if not await _is_done(end, seconds):
            await self._signal(id, signals.SIGKILL, all=True)
            await _is_done(end, None)
        try:
            return self._engine.sandbox(id)
        except NotFound:  # removed at its end, as was asked for
            return msgspec.structs.replace(sandbox, state="exited")

    async def kill(self, ref: str, signal: str | int = "KILL") -> None:
        """Send its first process a signal. After SIGKILL it does not begin again by itself.

        Raises:
            InvalidRequest: there is no such signal.
            Conflict: it does not run.
        """
        number = parse_signal(signal)
        record = self._find(ref)
        async with self._lives.lock(record.id):
            record = self._get(record.id)
            name = self._lives.name(record.id)
            if record.status != "running":
                raise Conflict(f"container {name} does not run; start it first")
            if number == signals.SIGKILL:
                record = msgspec.structs.replace(record, stopped=True)
            await self._records.save(record, "kill", name, signal=signals.Signals(number).name)
            await self._runtime.kill(record.id, number)

    async def wait(self, ref: str) -> int:
        """The exit status, when it has ended, stays down, and has given back what it held; with
        --rm, when it is removed. 128 + the signal if it was killed, 255 if nobody saw the end.
        """
        record = self._find(ref)
        if record.status == "exited":
            return UNKNOWN_EXIT if record.exit_code is None else record.exit_code
        return await asyncio.shield(self._lives.end(record.id))

    async def remove(self, ref: str, *, force: bool = False) -> None:
        """Take away a container, its files and its sandbox; `force` kills it first if it runs.

        Raises:
            Conflict: it runs.
            RuntimeFailed: something is left; says what.
        """
        id = self._find(ref).id
        async with self._lives.lock(id):
            record = self._get(id)
            if record.is_live and not force:
                raise Conflict(
                    f"container {self._lives.name(id)} runs; stop it first, or remove it with force"
                )
            await self._lives.remove(record)

    # The daemon's own life

    async def recover(self) -> None:
        """Take over what an earlier daemon left: what runs goes on, what has ended is noted."""
        await recover(self._lives)

    async def close(self) -> None:
        """Stop watching. The containers go on without us."""
        await self._lives.close()

    async def purge(self) -> tuple[str, ...]:
        """Take away every container, also those that run; goes on past errors and gives them."""
        failures = []
        for id in list(self._records.by_id):
            try:
                await self.remove(id, force=True)
            except LinkspanError as error:
                failures.append(error.message)
        return tuple(failures)

    # Parts of the above

    def _get(self, id: str) -> ContainerRecord:
        record = self._records.by_id.get(id)
        if record is None:
            raise NotFound(f"container {id[:12]} was removed meanwhile")
        return record

    async def _signal(self, id: str, number: int, *, all: bool = False) -> None:
        with contextlib.suppress(Conflict):  # it has ended already
            await self._runtime.kill(id, number, all)

    async def _undo(self, record: ContainerRecord) -> None:
        self._records.by_id[record.id] = msgspec.structs.replace(record, status="removing")
        await self._lives.unprepare(record.id)
        for step in (
            self._runtime.delete(record.id),
            self._engine.remove_sandbox(record.id, force=True),
            self._records.drop(record.id),
        ):
            try:
                await step
            except NotFound:
                pass
            except LinkspanError as error:
                log.error("undoing container %s: %s", record.id[:12], error)
        self._lives.forget(record.id)


def parse_signal(text: str | int) -> int:
    """The number of a signal from "KILL", "SIGKILL", "kill" or 9.

    Raises:
        InvalidRequest: there is none of this name or number.
    """
    wanted = str(text).upper()
    if re.fullmatch(r"[0-9]{1,3}", wanted):
        if int(wanted) in signals.valid_signals():
            return int(wanted)
    else:
        name = wanted if wanted.startswith("SIG") else f"SIG{wanted}"
        if name in signals.Signals.__members__:
            return int(signals.Signals[name])
    raise InvalidRequest(f"there is no signal {text!r}; write a name like TERM or a number like 15")


async def _is_done(end: asyncio.Future[int], seconds: float | None) -> bool:
    done, _ = await asyncio.wait([end], timeout=seconds)
    return bool(done)
