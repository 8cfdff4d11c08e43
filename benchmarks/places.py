"""Threads that live in a network namespace, and namespaces made as container runtimes make them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lab import Place, path_of

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


class Resident:
    """A thread that stays in one namespace; programs that it starts are there too."""

    def __init__(self, place: Place) -> None:
        self._path = path_of(place)
        self._home = -1
        self._pool = ThreadPoolExecutor(1, "resident", self._enter)

    def do(self, function: Callable[[], T]) -> T:
        """Call a function on the thread and return what it returns."""
        return self._pool.submit(function).result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()
        if self._home >= 0:
            os.close(self._home)

    def _enter(self) -> None:
        self._home = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        call("setns", self._home, CLONE_NEWNET)

    def make_namespace(self, path: str) -> None:
        """Make a namespace held by a file; on the thread, which comes back."""
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        call("unshare", CLONE_NEWNET)
        try:
            hold_own_namespace(path)
        finally:
            call("setns", self._home, CLONE_NEWNET)

    @property
    def home(self) -> int:
        """An open descriptor of its namespace."""
        return self._home


def hold_own_namespace(path: str) -> None:
    """Bind the calling thread's namespace to a file that exists."""
    call("mount", b"/proc/thread-self/ns/net", path.encode(), None, ctypes.c_ulong(_MS_BIND), None)


def delete_namespace(path: str) -> None:
    """Let go of a namespace that a file holds."""
    call("umount2", path.encode(), _MNT_DETACH)
    os.unlink(path)


def call(name: str, *arguments: object) -> None:
    """A function of libc that returns 0 or sets errno; raises OSError."""
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def run_program(
    command: Sequence[str],
    stdin: bytes | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 300.0,
) -> bytes:
    """Run a program where the calling thread is, and return its output; raises RuntimeError."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, env=environment, timeout=timeout
    )
    if done.returncode:
        told = (done.stderr + done.stdout).decode(errors="replace").strip()
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}: {told}")
    return done.stdout


def linkspan_command() -> list[str]:
    """The installed program beside this Python, or the module where it is not installed."""
    import sys

    beside = Path(sys.executable).parent / "linkspan"
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "linkspan"]


def at_once(jobs: Sequence[Callable[[], object]]) -> None:
    """Run jobs on threads that start together; raises the first failure."""
    gate = threading.Barrier(len(jobs))
    failures: list[BaseException] = []

    def work(job: Callable[[], object]) -> None:
        try:
            gate.wait()
            job()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
