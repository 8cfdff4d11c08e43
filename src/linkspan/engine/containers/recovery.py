"""What a new daemon finds of containers, and makes of it.

The containers outlive the daemon, so each record may be behind what is true. The kernel and
conmon's files say what is; the record says what was wanted.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from linkspan.drivers.records import Sandbox
from linkspan.engine.containers.lifecycle import Lifecycle
from linkspan.engine.containers.records import ContainerRecord
from linkspan.engine.containers.restarts import parse_restart
from linkspan.engine.runtime.spec import UNKNOWN_EXIT
from linkspan.errors import LinkspanError, NotFound

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Containers that are looked after at the same time."""


async def recover(lives: Lifecycle) -> None:
    """Take over every container that is stored, and remove those that are not.

    Call it when the sandboxes are as the store says. What fails for one container is logged,
    and the others go on.
    """
    await lives.records.load()
    turns = asyncio.Semaphore(AT_ONCE)

    async def take_turn(id: str) -> None:
        async with turns, lives.lock(id):
            try:
                await recover_one(lives, id)
            except LinkspanError as error:
                log.error("container %s could not be taken over: %s", lives.name(id), error)

    found = await asyncio.to_thread(lives.runtime.found)
    await asyncio.gather(*map(take_turn, {*lives.records.by_id, *found}))


async def recover_one(lives: Lifecycle, id: str) -> None:
    """Take over one container, by its id. The caller holds its lock."""
    record = lives.records.by_id.get(id)
    if record is None:
        log.warning("container %s is not in the store; removing what is left of it", id[:12])
        await lives.runtime.delete(id)
        return
    sandbox = find_sandbox(lives, id)
    if sandbox is None or record.status in ("creating", "removing"):
        await lives.remove(record)
        return
    state = await asyncio.to_thread(lives.runtime.state, id)
    # Begun, but not as far as to run: its request never returned, so it did not begin.
    half_begun = state.status == "created" and record.status != "created"
    if state.status in ("created", "running") and not half_begun:
        await adopt(lives, record, state.status, state.pid)
    elif record.status == "exited":
        await recover_exited(lives, record, sandbox)
    else:
        code = UNKNOWN_EXIT if state.exit_code is None else state.exit_code
        await lives.finish(record, code)


def find_sandbox(lives: Lifecycle, id: str) -> Sandbox | None:
    """The container's sandbox, None when it is gone."""
    try:
        return lives.engine.sandbox(id)
    except NotFound:
        return None


async def adopt(lives: Lifecycle, record: ContainerRecord, status: str, pid: int | None) -> None:
    """Watch over a container that outlived the daemon that made it."""
    lives.watch(record.id)
    if (record.status, record.pid) != (status, pid):
        await lives.records.save(msgspec.structs.replace(record, status=status, pid=pid))


async def recover_exited(lives: Lifecycle, record: ContainerRecord, sandbox: Sandbox) -> None:
    """Give back what a container still holds that was down; one with the policy `always` begins
    again even if it was stopped, as with Docker.
    """
    await lives.unprepare(record.id)
    if parse_restart(record.restart).name == "always":
        waiting = msgspec.structs.replace(record, status="restarting", stopped=False)
        await lives.records.save(waiting)
        lives.restart_later(record.id, 0.0)
    elif sandbox.state != "exited" or record.remove:
        await lives.settle(record)
