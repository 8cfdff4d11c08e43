"""Starting the names process so that it outlives whoever started it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Mapping

from linkspan.errors import RuntimeFailed
from linkspan.names import control

PATIENCE = 15.0
"""Seconds that it may take until it listens."""


def command(run_dir: str, host_file: str) -> list[str]:
    """The arguments of the process."""
    return [
        *(sys.executable, "-m", control.MODULE),
        *("--run-dir", run_dir, "--resolv-conf", host_file),
    ]


def environment() -> Mapping[str, str]:
    """The variables of the process: this one's, for Python finds its modules by them."""
    found = dict(os.environ)
    if paths := found.get("PYTHONPATH"):
        found["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))
    return found


def start(run_dir: str, host_file: str) -> subprocess.Popen[bytes]:
    """Start it, in a session of its own; it listens when this returns.

    Blocks. Raises RuntimeFailed with what it said.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    log = os.open(
        os.path.join(run_dir, control.LOG), os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC,
        0o600,
    )  # fmt: skip
    try:
        process = subprocess.Popen(
            [*command(run_dir, host_file), "--ready", str(writing)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment(),
            pass_fds=(writing,), start_new_session=True,
        )  # fmt: skip
        os.close(writing)
        writing = -1
        ready, _, _ = select.select([reading], [], [], PATIENCE)
        if ready and os.read(reading, 16):
            return process
        process.kill()
        process.wait()
    finally:
        for descriptor in (reading, writing, log):
            if descriptor >= 0:
                os.close(descriptor)
    raise RuntimeFailed(
        f"the names process did not start (exit status {process.returncode}); "
        f"see {os.path.join(run_dir, control.LOG)}"
    )
