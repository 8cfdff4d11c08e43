"""One more process in a running container, under a conmon of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import msgspec

from linkspan.engine.runtime.conmon import (
    ReportReader,
    exec_arguments,
    explain_failure,
    read_exit,
    spawn,
    stdio_arguments,
)
from linkspan.engine.runtime.deletion import end_conmon, remove_tree
from linkspan.engine.runtime.paths import ContainerPaths
from linkspan.engine.runtime.processes import (
    is_conmon_of,
    is_process_of,
    open_process,
    read_number,
    send_signal,
    wait_for_end,
)
from linkspan.engine.runtime.programs import Programs
from linkspan.engine.runtime.rootfs import (
    DEFAULT_PATH,
    check_program,
    check_workdir,
    look_up_user,
)
from linkspan.engine.runtime.spec import UNKNOWN_EXIT, check_command, check_env
from linkspan.errors import Conflict, RuntimeFailed


class ExecSession:
    """A process in a container: prepared, then started once its client is attached.

    `attach_directory` is what `AttachClient` connects to. Close a session when its exit status
    was read, or when it is not wanted after all; what is not closed goes with the container.
    """

    def __init__(
        self, id: str, container_id: str, programs: Programs, container: ContainerPaths
    ) -> None:
        self.id = id
        self.container_id = container_id
        self.programs = programs
        self.container = container
        self.paths = container.exec_session(id)
        self.reports: ReportReader | None = None
        self.go: int | None = None

    @property
    def attach_directory(self) -> Path:
        """The directory of the attach socket and the terminal's control pipe."""
        return self.paths.bundle

    async def start(self) -> int:
        """Let the process run; answers its process id.

        Raises:
            Conflict: it was started before.
            RuntimeFailed: holds the runtime's reason. The session is closed.
        """
        if self.go is None or self.reports is None:
            raise Conflict(f"exec session {self.id[:12]} was started before")
        os.write(self.go, b"\0")
        os.close(self.go)
        self.go = None
        try:
            report = await asyncio.to_thread(self.reports.read)
        finally:
            self._forget_reports()
        if report is None or report.data <= 0:
            said = report.message if report else "conmon ended early"
            container = f"container {self.container_id[:12]}"
            error = explain_failure(self.paths, said, f"nothing was run in {container}")
            await self.close()
            raise error
        return report.data

    async def wait(self) -> int:
        """The exit status when the process has ended; 255 if nobody saw the end."""
        pid = read_number(self.paths.conmon_pid)
        watched = open_process(pid, is_conmon_of(self.paths.bundle))
        if watched is not None:
            await wait_for_end(watched)
        ended = await asyncio.to_thread(read_exit, self.paths)
        return UNKNOWN_EXIT if ended is None else ended[0]

    async def kill(self, number: int) -> None:
        """Send a signal to the process.

        Raises:
            Conflict: it does not run.
        """
        pid = read_number(self.paths.pid)
        conmon_pid = read_number(self.paths.conmon_pid)
        pidfd = open_process(pid, is_process_of(self.container_id, conmon_pid))
        if pidfd is None:
            raise Conflict(f"exec session {self.id[:12]} does not run")
        try:
            send_signal(pidfd, number)
        finally:
            os.close(pidfd)

    async def close(self) -> None:
        """Kill what still runs of it, and remove its files."""
        if read_exit(self.paths) is None:
            with contextlib.suppress(Conflict):
                await self.kill(signal.SIGKILL)
        await asyncio.to_thread(end_conmon, self.paths.bundle)
        if self.go is not None:
            os.close(self.go)  # not before: this would start the process
            self.go = None
        self._forget_reports()
        await asyncio.to_thread(remove_tree, self.paths.bundle)

    def _forget_reports(self) -> None:
        if self.reports is not None:
            os.close(self.reports.pipe)
            self.reports = None


def prepare_exec(
    session: ExecSession,
    *,
    root: Path,
    command: tuple[str, ...],
    env: tuple[str, ...],
    user: str | None,
    workdir: str | None,
    tty: bool,
    interactive: bool,
) -> None:
    """Start a conmon that waits with the process until it is told. Blocks.

    `root` shows the container's root file system.

    Raises:
        InvalidRequest: the container lacks the command, the user or the directory.
        RuntimeFailed: conmon could not be started.
    """
    check_command(command)
    check_env(env)
    config = json.loads((session.container.bundle / "config.json").read_bytes())
    process = compose_exec(
        config["process"], root, command=command, env=env, user=user, workdir=workdir, tty=tty
    )
    directory = session.paths.bundle
    directory.mkdir(mode=0o700, parents=True)
    try:
        spec = directory / "process.json"
        spec.write_bytes(msgspec.json.encode(process))
        start_conmon(session, spec, stdio_arguments(tty, interactive))
    except BaseException:
        remove_tree(directory)
        raise


def compose_exec(
    process: dict[str, Any],
    root: Path,
    *,
    command: tuple[str, ...],
    env: tuple[str, ...],
    user: str | None,
    workdir: str | None,
    tty: bool,
) -> dict[str, Any]:
    """The container's own `process` object with another command; same rights, no more.

    Raises:
        InvalidRequest: the container lacks the command, the user or the directory.
    """
    variables = dict(text.partition("=")[::2] for text in process["env"])
    composed = {**process, "args": list(command), "terminal": tty}
    if user is not None:
        identity = look_up_user(root, user)
        variables["HOME"] = identity.home
        composed["user"] = {
            "uid": identity.uid,
            "gid": identity.gid,
            "additionalGids": list(identity.groups),
        }
    if tty:
        variables.setdefault("TERM", "xterm")
    variables.update(text.partition("=")[::2] for text in env)
    composed["env"] = [f"{name}={value}" for name, value in variables.items()]
    if workdir is not None:
        composed["cwd"] = workdir
    check_workdir(root, composed["cwd"])
    check_program(root, command[0], variables.get("PATH", DEFAULT_PATH), composed["cwd"])
    return composed


def start_conmon(session: ExecSession, process: Path, stdio: list[str]) -> None:
    """Start conmon and wait until clients can attach. The session holds its pipes.

    Raises:
        RuntimeFailed: conmon could not be started.
    """
    arguments = exec_arguments(
        session.programs, session.container_id, session.id, session.paths, process
    )
    reports, report = os.pipe()
    waits, go = os.pipe()
    attached, attach = os.pipe()
    kept = False
    try:
        os.write(go, b"\0")  # the first of two: conmon may fork; the second starts the process
        try:
            pipes = {"_OCI_SYNCPIPE": report, "_OCI_STARTPIPE": waits, "_OCI_ATTACHPIPE": attach}
            spawn(arguments + stdio, session.paths.bundle, pipes)
        finally:
            for number in (report, waits, attach):
                os.close(number)
        if ReportReader(attached).read() is None:
            raise RuntimeFailed("conmon ended before a client could attach")
        session.reports, session.go, kept = ReportReader(reports), go, True
    finally:
        os.close(attached)
        if not kept:
            os.close(reports)
            os.close(go)
