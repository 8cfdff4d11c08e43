"""Starting conmon, and hearing from it how the runtime fared.

conmon runs the OCI runtime, then stays as the parent of the container: it writes its output to
the log, serves the attach socket, and at the end writes the exit status. It outlives us: it has
a session of its own, is reparented at once, and talks to us through a pipe only until the
container is made.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from linkspan.engine.runtime.paths import EXIT, LOG, ContainerPaths
from linkspan.engine.runtime.programs import SEARCH_PATH, Programs
from linkspan.errors import RuntimeFailed

PATIENCE = 60.0
"""Seconds that a runtime may take to make a container, on a host that is busy or swaps."""

ENVIRONMENT = {"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
"""Its own; not the container's. TZ: conmon writes a wrong offset where it has half hours."""


class Report(msgspec.Struct, frozen=True):
    """One message of conmon on its pipe: a process id or exit status, or what went wrong."""

    data: int
    message: str = ""


def common_arguments(programs: Programs, id: str, paths: ContainerPaths) -> list[str]:
    """Arguments for a container and for an exec alike; conmon runs in the `state` directory."""
    log_format = ["--runtime-arg=--log-format=json"]
    log = f"--runtime-arg=--log={paths.runtime_log}"
    return [
        programs.conmon,
        "--api-version",
        *("-c", id, "-r", programs.runtime, "-b", str(paths.bundle)),
        *("-p", str(paths.pid), "-P", str(paths.conmon_pid)),
        *("--persist-dir", ".", "--full-attach"),
        f"--runtime-arg=--root={paths.oci.parent}",
        *([log.replace("--log=", "--log=file:")] if programs.is_crun else [log]),
        *log_format,
    ]


def container_arguments(
    programs: Programs, id: str, name: str, paths: ContainerPaths, log_size_max: int
) -> list[str]:
    """The command line that makes a container.

    The log has a relative path because conmon splits it at colons.
    """
    return [
        *common_arguments(programs, id, paths),
        *("-u", id, "-n", name, "-l", f"k8s-file:{LOG}", "--log-size-max", str(log_size_max)),
    ]


def exec_arguments(
    programs: Programs, id: str, session: str, paths: ContainerPaths, process: Path
) -> list[str]:
    """The command line that runs one more process in a container, when it is told to."""
    return [
        *common_arguments(programs, id, paths),
        *("-u", session, "-n", session, "-l", "none"),
        *("--exec", "--exec-attach", "--exec-process-spec", str(process)),
    ]


def stdio_arguments(tty: bool, interactive: bool) -> list[str]:
    """What the container's standard streams are.

    On a terminal, input stays open when a client leaves, for the next one; a pipe ends with it.
    """
    arguments = ["--terminal"] if tty else []
    if interactive:
        arguments.append("--stdin")
        if tty:
            arguments.append("--leave-stdin-open")
    return arguments


def spawn(arguments: list[str], directory: Path, pipes: Mapping[str, int]) -> None:
    """Start conmon and return once it has parted from us.

    `pipes` are file descriptors by the names of the variables that tell conmon of them. The
    process has the namespaces of the calling thread.

    Raises:
        RuntimeFailed: conmon did not like its arguments.
    """
    environment = ENVIRONMENT | {name: str(number) for name, number in pipes.items()}
    result = subprocess.run(
        arguments,
        cwd=directory,
        env=environment,
        pass_fds=tuple(pipes.values()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
    )
    if result.returncode != 0:
        said = result.stdout.decode(errors="replace").strip()
        raise RuntimeFailed(f"conmon could not start: {said or f'status {result.returncode}'}")


class ReportReader:
    """Reads conmon's messages, a line of JSON each, from the pipe it was given. Blocks."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self.received = b""

    def read(self, seconds: float = PATIENCE) -> Report | None:
        """The next message; None if conmon has gone without another.

        Raises:
            RuntimeFailed: nothing came in time.
        """
        deadline = time.monotonic() + seconds
        while b"\n" not in self.received:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self.pipe], [], [], left)[0]:
                raise RuntimeFailed(f"conmon gave no answer in {seconds:.0f} s")
            part = os.read(self.pipe, 65536)
            if not part:
                return None
            self.received += part
        line, _, self.received = self.received.partition(b"\n")
        found = json.loads(line.decode(errors="replace"))
        return Report(int(found["data"]), str(found.get("message", "")))


def explain_failure(paths: ContainerPaths, said: str, doing: str) -> RuntimeFailed:
    """An error with the runtime's own reason: from its log, else from what conmon passed on."""
    reasons = [
        entry["msg"]
        for entry in read_runtime_log(paths.runtime_log)
        if entry.get("level") in ("error", "fatal") and entry.get("msg")
    ]
    reason = simplify(reasons[-1] if reasons else said)
    return RuntimeFailed(f"{doing}: {reason or 'the runtime ended without giving a reason'}")


def read_runtime_log(path: Path) -> list[dict[str, str]]:
    """The entries of a runtime's JSON log; lines that are something else are left out."""
    entries = []
    with contextlib.suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    entries.append(entry)
    return entries


def simplify(reason: str) -> str:
    """One line, without the stack of prefixes that runc puts before what went wrong."""
    line = " ".join(reason.split())
    match = re.search(r'level=(?:error|fatal) msg="((?:[^"\\]|\\.)*)"', line)
    if match:
        line = match[1].replace('\\"', '"')
    prefixes = r"(?:(?:runc \w+ failed|unable to start container process|error during container "
    return re.sub(rf"^{prefixes}init): )+", "", line)


def read_exit(paths: ContainerPaths) -> tuple[int, float] | None:
    """Exit status and Unix time of the end, once conmon has written them."""
    path = paths.state / EXIT
    try:
        text, at = path.read_text().strip(), path.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return int(text), at
    except ValueError:
        return None
