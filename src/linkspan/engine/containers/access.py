"""Looking at containers, and reaching into those that run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from linkspan.engine.containers.files import compose_hosts, read_resolv_conf
from linkspan.engine.containers.networking import Networking
from linkspan.engine.containers.records import ContainerRecord, Records
from linkspan.engine.runtime.runtime import Runtime
from linkspan.errors import Conflict, NotFound

if TYPE_CHECKING:
    from linkspan.engine.runtime.exec import ExecSession
    from linkspan.engine.runtime.log import LogEntry


class Access:
    """What changes no container's state."""

    def __init__(self, engine: Networking, runtime: Runtime, records: Records) -> None:
        self._engine = engine
        self._runtime = runtime
        self._records = records
        self._sessions: dict[str, ExecSession] = {}

    def owns(self, sandbox_id: str) -> bool:
        """Whether a sandbox is a container's, and not about to go with it."""
        record = self._records.by_id.get(sandbox_id)
        return record is not None and record.status != "removing"

    def record(self, sandbox_id: str) -> ContainerRecord | None:
        """What is known of the container in a sandbox; None if linkspan runs nothing there."""
        return self._records.by_id.get(sandbox_id)

    def log_path(self, sandbox_id: str) -> Path:
        """The file that has the container's output, in the Kubernetes log format."""
        return self._runtime.paths(sandbox_id).log

    def attach_directory(self, sandbox_id: str) -> Path | None:
        """What an AttachClient connects to; None while nothing runs."""
        directory = self._runtime.paths(sandbox_id).bundle
        return directory if (directory / "attach").exists() else None

    async def exec(
        self,
        ref: str,
        command: tuple[str, ...],
        *,
        env: tuple[str, ...] = (),
        user: str | None = None,
        workdir: str | None = None,
        tty: bool = False,
        interactive: bool = False,
    ) -> ExecSession:
        """Prepare one more process in a running container; see Runtime.exec."""
        for known in list(self._sessions.values()):
            if not known.attach_directory.exists():  # it went with its container
                await self.end_session(known)
        session = await self._runtime.exec(
            self._find(ref).id,
            command,
            env=env,
            user=user,
            workdir=workdir,
            tty=tty,
            interactive=interactive,
        )
        self._sessions[session.id] = session
        return session

    def exec_session(self, ref: str, session: str) -> ExecSession:
        """A session of exec by its id. Raises NotFound."""
        id = self._find(ref).id
        known = self._sessions.get(session)
        if known is not None and known.container_id == id:
            return known
        return self._runtime.find_exec(id, session)

    async def end_session(self, session: ExecSession) -> None:
        """Kill what runs of a session, and forget it."""
        self._sessions.pop(session.id, None)
        await session.close()

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        """Tell its terminal the size, in characters. Raises Conflict when nothing runs."""
        record = self._find(ref)
        directory = self.attach_directory(record.id)
        if directory is None or not record.tty:
            why = "has no terminal" if not record.tty else "does not run"
            raise Conflict(f"container {self._engine.sandbox(record.id).name} {why}")
        from linkspan.engine.runtime.attach import AttachClient

        with AttachClient(directory) as client:
            client.resize(rows, columns)

    async def logs(
        self,
        ref: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: int | None = None,
    ) -> AsyncIterator[LogEntry]:
        """What it wrote, oldest first: after `since` (Unix nanoseconds), of that the last `tail`
        lines; with `follow` also what it writes from now until it ends.
        """
        id = self._find(ref).id
        if follow:
            async for entry in self._runtime.follow(id, since=since, tail=tail):
                yield entry
            return
        for entry in await asyncio.to_thread(
            lambda: list(self._runtime.log_entries(id, since=since, tail=tail))
        ):
            yield entry

    async def network_changed(self, sandbox_id: str) -> None:
        """Tell a container that runs of its present network: /etc/hosts, /etc/resolv.conf."""
        record = self._records.by_id.get(sandbox_id)
        if record is not None and record.status in ("created", "running"):
            sandbox = self._engine.sandbox(sandbox_id)
            resolvers = self._engine.resolv_conf(sandbox) or read_resolv_conf(
                host_mode=sandbox.host_mode
            )
            with contextlib.suppress(NotFound):  # it ended just now
                await self._runtime.update_hosts(sandbox_id, compose_hosts(sandbox))
                await self._runtime.update_resolv_conf(sandbox_id, resolvers)

    def _find(self, ref: str) -> ContainerRecord:
        if ref in self._records.by_id:
            return self._records.by_id[ref]
        sandbox = self._engine.sandbox(ref)
        record = self._records.by_id.get(sandbox.id)
        if record is None:
            raise Conflict(
                f"sandbox {sandbox.name} is a namespace that others run programs in; "
                "only a container made by run can be started, stopped or looked into"
            )
        return record
