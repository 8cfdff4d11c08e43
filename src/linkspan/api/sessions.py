"""Operations around a container that runs: what it wrote, and more processes in it (exec)."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import datetime

import msgspec

from linkspan.api.operation import Answer, Call, Operation, Parameter, Stream
from linkspan.api.views import ExitView, show_time
from linkspan.engine.runtime.log import LogEntry
from linkspan.errors import Conflict

LINES = "application/x-ndjson"


class LogLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a container wrote at once; `base64` has the bytes where `text` cannot hold them."""

    time: datetime
    stream: str
    text: str
    base64: str | None = None


class ExecRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process to run in a container; what is left out is as the container has it."""

    command: list[str]
    env: list[str] = []
    user: str | None = None
    workdir: str | None = None
    tty: bool = False
    interactive: bool = False


class SessionView(msgspec.Struct, frozen=True):
    """A process that is ready to start in a container, with the folder of its attach socket."""

    id: str
    attach: str


class ProcessView(msgspec.Struct, frozen=True):
    """The process id, as the host sees it."""

    pid: int


def show_entry(entry: LogEntry) -> LogLine:
    """A log entry as shown."""
    moment = show_time(entry.time / 1e9)
    try:
        return LogLine(moment, entry.stream, entry.data.decode())
    except UnicodeDecodeError:
        text = entry.data.decode(errors="replace")
        return LogLine(moment, entry.stream, text, base64.b64encode(entry.data).decode())


async def read_logs(call: Call) -> Stream:
    """What a container wrote, oldest first, and with follow what it writes until it ends."""
    # Asked here, while the answer can still be a refusal.
    sandbox = call.engine.sandbox(call.path["name"])
    if call.engine.containers.record(sandbox.id) is None:
        raise Conflict(f"sandbox {sandbox.name} is no container of ours; it has no log here")
    entries = call.engine.containers.logs(
        call.path["name"],
        follow=call.query["follow"],
        tail=call.query["tail"],
        since=None if call.query["since"] is None else int(call.query["since"] * 1e9),
    )
    return Stream(render_entries(entries), LINES)


async def render_entries(entries: AsyncIterator[LogEntry]) -> AsyncIterator[bytes]:
    """Entries as JSON, one a line."""
    encoder = msgspec.json.Encoder()
    async for entry in entries:
        yield encoder.encode(show_entry(entry)) + b"\n"


async def create_session(call: Call) -> Answer:
    """Prepare one more process in a running container; start lets it run."""
    session = await call.engine.containers.exec(
        call.path["name"],
        tuple(call.body.command),
        env=tuple(call.body.env),
        user=call.body.user,
        workdir=call.body.workdir,
        tty=call.body.tty,
        interactive=call.body.interactive,
    )
    return Answer(201, SessionView(session.id, str(session.attach_directory)))


async def start_session(call: Call) -> Answer:
    """Let the process run."""
    session = call.engine.containers.exec_session(call.path["name"], call.path["session"])
    return Answer(200, ProcessView(await session.start()))


async def wait_for_session(call: Call) -> Answer:
    """Answer when the process has ended, with its exit status; the session ends with that."""
    containers = call.engine.containers
    session = containers.exec_session(call.path["name"], call.path["session"])
    code = await session.wait()
    await containers.end_session(session)
    return Answer(200, ExitView(code))


async def remove_session(call: Call) -> Answer:
    """Kill what runs of it, and forget it."""
    containers = call.engine.containers
    session = containers.exec_session(call.path["name"], call.path["session"])
    await containers.end_session(session)
    return Answer(204)


_SESSION = "/v1/containers/{name}/exec/{session}"

OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/containers/{name}/logs",
        name="readLogs",
        summary="What a container wrote, as newline-delimited JSON",
        handler=read_logs,
        answers={200: LogLine},
        query=(
            Parameter("follow", bool, "Go on until the container ends.", False),
            Parameter("tail", int, "The last so many lines only.", None, 0),
            Parameter(
                "since", float, "Only what was written after this, in Unix seconds.", None, 0, 2**32
            ),
        ),
        errors=(404, 409),
        streams=LINES,
    ),
    Operation(
        method="POST",
        path="/v1/containers/{name}/exec",
        name="createSession",
        summary="Prepare one more process in a running container",
        handler=create_session,
        takes=ExecRequest,
        answers={201: SessionView},
        errors=(404, 409, 501),
    ),
    Operation(
        method="POST",
        path=f"{_SESSION}/start",
        name="startSession",
        summary="Let a prepared process run",
        handler=start_session,
        answers={200: ProcessView},
        errors=(404, 409),
    ),
    Operation(
        method="POST",
        path=f"{_SESSION}/wait",
        name="waitForSession",
        summary="Answer when the process has ended, and forget the session",
        handler=wait_for_session,
        answers={200: ExitView},
        errors=(404, 409),
        waits=True,
    ),
    Operation(
        method="DELETE",
        path=_SESSION,
        name="removeSession",
        summary="Kill a process, and forget its session",
        handler=remove_session,
        answers={204: None},
        errors=(404, 409),
    ),
)
