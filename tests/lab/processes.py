"""Programs started by a lab: their output kept in files, ended by their own id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
SLOWER = 8 if os.environ.get("LINKSPAN_VM_GUEST") else 1
"""How much longer things may take where every instruction is emulated."""


def wait_until(
    condition: Callable[[], T], what: str, timeout: float = 10.0, interval: float = 0.01
) -> T:
    """Call until it returns something true and return that; fail by name at the deadline."""
    timeout *= SLOWER
    deadline = time.monotonic() + timeout
    while True:
        if result := condition():
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what}")
        time.sleep(interval)


def end_process(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal one process; that it has already ended is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Process:
    """A program in the background, in a session of its own, with its output in a file."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = tuple(command)
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment) if environment is not None else None,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, which is also its session and process group."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._popen.poll() is None

    @property
    def output(self) -> str:
        """Everything that it has written so far, standard error included."""
        return self.log.read_text(errors="replace")

    def wait(self, timeout: float = 10.0) -> int:
        """Wait for its end; returns the exit status (minus the signal's number, if killed)."""
        return self._popen.wait(timeout)

    def wait_for_output(self, text: str, timeout: float = 10.0) -> str:
        """Wait until it has written this text, and return all output."""
        wait_until(
            lambda: text in self.output or not self.running, f"{text!r} from {self}", timeout
        )
        if text not in self.output:
            raise AssertionError(f"{self} ended without writing {text!r}:\n{self.output}")
        return self.output

    def send_signal(self, number: int) -> None:
        """Signal this process alone."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL for this process alone, not for its children; waits for the end."""
        self._popen.kill()
        self._popen.wait()

    def terminate(self, timeout: float = 10.0) -> int:
        """SIGTERM, and wait for the end; returns the exit status."""
        self._popen.terminate()
        return self.wait(timeout)

    def end(self) -> None:
        """SIGKILL for the whole group that it leads; used when the lab closes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def __str__(self) -> str:
        return f"process {self.pid} ({' '.join(self.command)})"
