"""The containers of one daemon: made, started, signalled, awaited, found again, removed.

Nothing is remembered here: what a container is doing is read from its files and from the
kernel, so a new daemon knows as much as the one that was killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from linkspan.engine.runtime.cgroups import find_members
from linkspan.engine.runtime.conmon import read_exit, simplify
from linkspan.engine.runtime.creation import create_container
from linkspan.engine.runtime.deletion import remove_container, run_runtime
from linkspan.engine.runtime.exec import ExecSession, prepare_exec
from linkspan.engine.runtime.log import LogEntry, follow_log, read_log
from linkspan.engine.runtime.paths import ContainerPaths
from linkspan.engine.runtime.processes import (
    is_alive,
    is_conmon_of,
    is_process_of,
    open_process,
    read_number,
    send_signal,
    wait_for_end,
)
from linkspan.engine.runtime.programs import Programs, find_programs
from linkspan.engine.runtime.spec import (
    ID,
    UNKNOWN_EXIT,
    ContainerSpec,
    ContainerState,
    Started,
    check_id,
    check_spec,
)
from linkspan.engine.runtime.threads import run_in_new_thread
from linkspan.errors import Conflict, NotFound, RuntimeFailed

log = logging.getLogger(__name__)


class Runtime:
    """Containers by runc or crun under conmon, with their files below two directories.

    `state_dir` lasts over a reboot, `run_dir` need not; `runtime` names another program than
    LINKSPAN_RUNTIME, runc or crun. Two daemons must not share directories.
    """

    def __init__(self, state_dir: Path, run_dir: Path, runtime: str | None = None) -> None:
        self.state_dir = state_dir.absolute()
        self.run_dir = run_dir.absolute()
        self.wanted = runtime

    @property
    def programs(self) -> Programs:
        """The programs in use.

        Raises:
            Unsupported: one is not installed.
        """
        return find_programs(self.wanted)

    def paths(self, id: str) -> ContainerPaths:
        """Where the files of a container are.

        Raises:
            InvalidRequest: this is no id.
        """
        check_id(id)
        return ContainerPaths(
            state=self.state_dir / "containers" / id,
            bundle=self.run_dir / "containers" / id,
            oci=self.run_dir / "oci" / id,
        )

    async def create(self, spec: ContainerSpec) -> Started:
        """Make a container; its program waits for `start`. Clients can attach already.

        An exited container whose files were kept goes on with them.

        Raises:
            Conflict: it runs already.
            InvalidRequest: the spec is wrong, or its root file system lacks what it names.
            RuntimeFailed, StorageFailed, KernelRefused, Unsupported: see `create_container`.
        """
        check_spec(spec)
        programs, paths = self.programs, self.paths(spec.id)
        if self.state(spec.id).status in ("created", "running"):
            raise Conflict(f"container {spec.name} runs already")
        hidden = (self.state_dir, self.run_dir)
        kept = paths.state.exists()
        await asyncio.to_thread(remove_container, programs, spec.id, paths, keep_files=kept)
        try:
            return await run_in_new_thread(lambda: create_container(programs, spec, paths, hidden))
        except BaseException as error:
            try:
                await self.delete(spec.id, keep_files=kept)
            except RuntimeFailed as left:
                log.warning("after a failed start: %s", left)
                error.add_note(str(left))
            raise

    async def start(self, id: str) -> None:
        """Let the program of a created container run.

        Raises:
            RuntimeFailed: holds the runtime's reason.
        """
        paths = self.paths(id)
        complaint = await asyncio.to_thread(run_runtime, self.programs, paths, "start", id)
        if complaint:
            raise RuntimeFailed(f"container {id[:12]} could not be started: {simplify(complaint)}")

    async def kill(self, id: str, number: int, all: bool = False) -> None:
        """Send a signal to the first process, or to `all` processes of the container.

        The kernel drops what the first process has no handler for, except SIGKILL and SIGSTOP
        (pid_namespaces(7)).

        Raises:
            Conflict: the container does not run.
        """
        paths, state = self.paths(id), self.state(id)
        recognise = is_process_of(id, state.conmon_pid)
        pidfd = open_process(read_number(paths.pid), recognise)
        if pidfd is None or state.pid is None:
            raise Conflict(f"container {id[:12]} does not run")
        try:
            members = find_members(id) if all else set()
            send_signal(pidfd, number)
        finally:
            os.close(pidfd)
        for pid in members:
            member = open_process(pid, is_process_of(id, None)) if pid != state.pid else None
            if member is not None:
                send_signal(member, number)
                os.close(member)

    async def delete(self, id: str, *, keep_files: bool = False, keep_log: bool = False) -> None:
        """Remove a container and every trace of it, killing what runs.

        `keep_files` keeps what it wrote, its log and its exit status for the next `create`;
        `keep_log` the log alone. Deleting what does not exist is no error.

        Raises:
            RuntimeFailed: says what is left and why.
        """
        programs, paths = self.programs, self.paths(id)
        await asyncio.to_thread(
            remove_container, programs, id, paths, keep_files=keep_files, keep_log=keep_log
        )

    async def wait(self, id: str) -> int:
        """The exit status, when the container has ended: 128 + signal if it was killed.

        255 if nobody saw the end. Needs no memory of the start, and does not poll.

        Raises:
            NotFound: there is no such container, or it was deleted meanwhile.
        """
        paths = self.paths(id)
        while True:
            state = self.state(id)
            if state.status == "missing":
                raise NotFound(f"container {id[:12]} does not exist")
            recognise = is_conmon_of(paths.bundle)
            watched = open_process(state.conmon_pid, recognise)
            if watched is None:
                recognise = is_process_of(id, None)
                watched = open_process(state.pid, recognise)
            if watched is None:
                # Both were there when the state was read, or neither: look again, or answer.
                state = self.state(id)
                if state.status == "exited":
                    return UNKNOWN_EXIT if state.exit_code is None else state.exit_code
                await asyncio.sleep(0)
                continue
            await wait_for_end(watched)

    def state(self, id: str) -> ContainerState:
        """What a container is doing now."""
        paths = self.paths(id)
        if not paths.state.exists() and not paths.bundle.exists() and not paths.oci.exists():
            return ContainerState(status="missing")
        conmon_pid = read_number(paths.conmon_pid)
        if not is_alive(conmon_pid, is_conmon_of(paths.bundle)):
            conmon_pid = None
        pid = read_number(paths.pid)
        if not is_alive(pid, is_process_of(id, conmon_pid)):
            pid = None
        ended = read_exit(paths)
        if ended is not None:
            code, at = ended
            return ContainerState(
                status="exited", conmon_pid=conmon_pid, exit_code=code, exited_at=at
            )
        if pid is None and conmon_pid is None:
            return ContainerState(status="exited")
        waits = pid is None or paths.start_fifo.exists()
        status = "created" if waits and not self._was_running(paths) else "running"
        return ContainerState(status=status, pid=pid, conmon_pid=conmon_pid)

    def _was_running(self, paths: ContainerPaths) -> bool:
        """Whether a container without a first process is at its end, not at its beginning."""
        return paths.pid.exists() and not paths.start_fifo.exists()

    def found(self) -> list[str]:
        """The ids of all containers of which there is a trace, whatever became of them."""
        places = (
            self.state_dir / "containers",
            self.run_dir / "containers",
            self.run_dir / "oci",
        )
        names = {entry.name for place in places if place.is_dir() for entry in place.iterdir()}
        return sorted(name for name in names if ID.fullmatch(name))

    async def exec(
        self,
        id: str,
        command: tuple[str, ...],
        *,
        env: tuple[str, ...] = (),
        user: str | None = None,
        workdir: str | None = None,
        tty: bool = False,
        interactive: bool = False,
    ) -> ExecSession:
        """Prepare one more process in a running container; its `start` lets it run.

        User, working directory and environment are the container's unless given; `env` adds to
        it.

        Raises:
            Conflict: the container does not run.
            InvalidRequest: the container lacks the command, the user or the directory.
            RuntimeFailed: conmon could not be started.
        """
        state, paths = self.state(id), self.paths(id)
        if state.status != "running" or state.pid is None:
            raise Conflict(f"container {id[:12]} does not run")
        session = ExecSession(secrets.token_hex(32), id, self.programs, paths)
        await asyncio.to_thread(
            prepare_exec,
            session,
            root=Path(f"/proc/{state.pid}/root"),
            command=command,
            env=env,
            user=user,
            workdir=workdir,
            tty=tty,
            interactive=interactive,
        )
        return session

    def find_exec(self, id: str, session: str) -> ExecSession:
        """An exec session by its id, also one that an earlier daemon began.

        Raises:
            NotFound: there is none, or it has ended and was read.
        """
        found = ExecSession(check_id(session), id, self.programs, self.paths(id))
        if not found.paths.bundle.is_dir():
            raise NotFound(f"exec session {session[:12]} does not exist")
        return found

    async def update_hosts(self, id: str, text: str) -> None:
        """Give the container another /etc/hosts.

        Raises:
            NotFound: the container has none of ours.
        """
        await asyncio.to_thread(rewrite, self.paths(id).bundle / "hosts", text)

    async def update_resolv_conf(self, id: str, text: str) -> None:
        """Give the container another /etc/resolv.conf.

        Raises:
            NotFound: the container has none of ours.
        """
        await asyncio.to_thread(rewrite, self.paths(id).bundle / "resolv.conf", text)

    def log_entries(
        self, id: str, *, since: int | None = None, tail: int | None = None
    ) -> Iterator[LogEntry]:
        """What the container wrote, oldest first: after `since` (Unix nanoseconds), and of that
        the last `tail` lines. Reads a file; call it in a thread.

        Raises:
            NotFound: there is no such container.
        """
        return iter(read_log(self.log_path(id), since=since, tail=tail))

    def follow(
        self, id: str, *, since: int | None = None, tail: int | None = None
    ) -> AsyncIterator[LogEntry]:
        """The same, and what comes after it until the container ends.

        Raises:
            NotFound: there is no such container.
        """
        return follow_log(
            self.log_path(id), lambda: self.state(id), self.paths(id), since=since, tail=tail
        )

    def log_path(self, id: str) -> Path:
        """The log file of a container.

        Raises:
            NotFound: there is no such container.
        """
        paths = self.paths(id)
        if not paths.state.is_dir():
            raise NotFound(f"container {id[:12]} does not exist")
        return paths.log


def rewrite(path: Path, text: str) -> None:
    """Replace the text of a file that is bind-mounted: the same inode must stay.

    Raises:
        NotFound: there is no such file.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        raise NotFound(f"{path.name} of container {path.parent.name[:12]} does not exist") from None
    try:
        content = text.encode()
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)
