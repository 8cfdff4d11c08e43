"""Operations on containers: create, start, stop, kill, wait, resize. As sandboxes they are listed
and removed with the others.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from linkspan.api.operation import DRY_RUN, Answer, Call, Operation, Parameter
from linkspan.api.plans import PlanView, StepView, answer_or_plan
from linkspan.api.sessions import OPERATIONS as SESSIONS
from linkspan.api.shown import show_one
from linkspan.api.views import ExitView, SandboxView
from linkspan.engine.events import EventLog
from linkspan.engine.requests import ContainerRequest
from linkspan.errors import NotFound

SIGNAL = Parameter("signal", str, "Name or number of the signal.", "KILL")
TIMEOUT = Parameter("timeout", float, "Seconds from SIGTERM to SIGKILL.", 10.0, 0, 86400)
RECENT = 2000
"""Events among which the end of a container that was removed is looked for."""
Cells = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class SizeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The size of a terminal, in characters."""

    rows: Cells
    columns: Cells


def plan_step(operation: str, name: str, how: str = "") -> Answer:
    """The plan of what happens to a container alone, and to nothing of the network."""
    thing = f"container {name}"
    return Answer(200, PlanView([StepView(operation, thing, f"{operation} {thing}{how}")]))


async def create_container(call: Call) -> Answer:
    """Make a container with its network; its program waits for start."""
    made = await call.engine.containers.create(call.body, dry_run=call.dry_run)
    return answer_or_plan(made, lambda sandbox: Answer(201, show_one(call.engine, sandbox)))


async def start_container(call: Call) -> Answer:
    """Let its program run; one that ended gets its network again and runs once more."""
    name = call.path["name"]
    if call.dry_run:
        return plan_step("start", call.engine.sandbox(name).name)
    sandbox = await call.engine.containers.start(name)
    return Answer(200, show_one(call.engine, sandbox))


async def stop_container(call: Call) -> Answer:
    """SIGTERM, and SIGKILL when it is not gone in time; it does not start again by itself."""
    name, timeout = call.path["name"], call.query["timeout"]
    if call.dry_run:
        return plan_step("stop", call.engine.sandbox(name).name, f", killed after {timeout:g} s")
    sandbox = await call.engine.containers.stop(name, timeout)
    # One that was to be removed at its end is no more.
    return Answer(204) if sandbox is None else Answer(200, show_one(call.engine, sandbox))


async def kill_container(call: Call) -> Answer:
    """Send its first process a signal."""
    name, signal = call.path["name"], call.query["signal"]
    if call.dry_run:
        return plan_step("kill", call.engine.sandbox(name).name, f" with {signal}")
    await call.engine.containers.kill(name, signal)
    return Answer(204)


async def wait_for_container(call: Call) -> Answer:
    """Answer when it has ended, with its exit status.

    One that was removed at its end while nobody could ask, because the daemon was restarted, is
    found by its id in what happened.
    """
    name = call.path["name"]
    try:
        return Answer(200, ExitView(await call.engine.containers.wait(name)))
    except NotFound:
        code = await find_exit(call.engine.events, name)
        if code is None:
            raise
        return Answer(200, ExitView(code))


async def find_exit(log: EventLog, identity: str) -> int | None:
    """The last exit status of a container that is no more, if its end is not long ago."""
    newest, found = log.last, None
    subscription = log.subscribe(max(0, newest - RECENT))
    try:
        if newest == 0:
            return None
        async for event in subscription:
            if event.object_id == identity and "exit_code" in event.attributes:
                found = int(event.attributes["exit_code"])
            if event.id >= newest:
                break
    finally:
        subscription.close()
    return found


async def resize_container(call: Call) -> Answer:
    """Tell its terminal how large it is."""
    await call.engine.containers.resize(call.path["name"], call.body.rows, call.body.columns)
    return Answer(204)


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/containers",
        name="createContainer",
        summary="Create a container with its network; start lets its program run",
        handler=create_container,
        takes=ContainerRequest,
        answers={201: SandboxView, 200: PlanView},
        query=(DRY_RUN,),
        errors=(400, 403, 404, 409, 501),
    ),
    Operation(
        method="POST",
        path="/v1/containers/{name}/start",
        name="startContainer",
        summary="Let the program of a created or ended container run",
        handler=start_container,
        answers={200: (SandboxView, PlanView)},
        query=(DRY_RUN,),
        errors=(403, 404, 409, 501),
    ),
    Operation(
        method="POST",
        path="/v1/containers/{name}/stop",
        name="stopContainer",
        summary="End a container: SIGTERM, then SIGKILL",
        handler=stop_container,
        answers={200: (SandboxView, PlanView), 204: None},
        query=(TIMEOUT, DRY_RUN),
        errors=(404, 409),
    ),
    Operation(
        method="POST",
        path="/v1/containers/{name}/kill",
        name="killContainer",
        summary="Send a container's first process a signal",
        handler=kill_container,
        answers={204: None, 200: PlanView},
        query=(SIGNAL, DRY_RUN),
        errors=(404, 409),
    ),
    Operation(
        method="POST",
        path="/v1/containers/{name}/wait",
        name="waitForContainer",
        summary="Answer when a container has ended",
        handler=wait_for_container,
        answers={200: ExitView},
        errors=(404, 409),
        waits=True,
    ),
    Operation(
        method="POST",
        path="/v1/containers/{name}/resize",
        name="resizeContainer",
        summary="Tell a container's terminal its size",
        handler=resize_container,
        takes=SizeRequest,
        answers={204: None},
        errors=(404, 409),
    ),
    *SESSIONS,
)
