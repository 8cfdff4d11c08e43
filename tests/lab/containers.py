"""A runtime with directories and a network namespace of its own, for tests of containers."""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import subprocess
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from lab.places import CLONE_NEWNET, Namespace
from linkspan.engine.runtime import ContainerSpec, Runtime

Result = TypeVar("Result")
PATIENCE = 60.0


class Containers:
    """Runs a Runtime on an event loop whose thread is inside `home`, as a daemon's would be."""

    def __init__(self, directory: Path, home: Namespace, own: Namespace) -> None:
        self.state_dir = directory / "state"
        self.run_dir = directory / ("run-" + "x" * 150)  # longer than a socket address may be
        self.home = home
        self.own = own
        self.runtime = Runtime(self.state_dir, self.run_dir)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run_loop, daemon=True)
        self.thread.start()

    def _run_loop(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(self.home.path, os.O_RDONLY)
        entered = libc.setns(descriptor, CLONE_NEWNET)
        os.close(descriptor)
        if entered == 0:
            self.loop.run_forever()

    def do(self, work: Coroutine[Any, Any, Result], seconds: float = PATIENCE) -> Result:
        """Await something on the daemon's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def spec(self, *command: str, **fields: Any) -> ContainerSpec:
        """A spec with a fresh id, in a network namespace of its own unless told otherwise."""
        fields = {"hostname": "crate", "netns": self.own.path, "name": "crate"} | fields
        return ContainerSpec(id=secrets.token_hex(32), command=command, **fields)

    def create(self, *command: str, **fields: Any) -> str:
        """Create a container and answer its id."""
        spec = self.spec(*command, **fields)
        self.do(self.runtime.create(spec))
        return spec.id

    def start(self, *command: str, **fields: Any) -> str:
        """Create and start a container and answer its id."""
        id = self.create(*command, **fields)
        self.do(self.runtime.start(id))
        return id

    def wait(self, id: str) -> int:
        """The exit status of a container, when it has ended."""
        return self.do(self.runtime.wait(id))

    def output(self, id: str) -> str:
        """Everything a container wrote so far."""
        return b"".join(entry.data for entry in self.runtime.log_entries(id)).decode()

    def run(self, *command: str, **fields: Any) -> tuple[int, str]:
        """Run a container to its end: exit status and output. It is deleted afterwards."""
        id = self.start(*command, **fields)
        status, text = self.wait(id), self.output(id)
        self.do(self.runtime.delete(id))
        return status, text

    def read_until(self, id: str, wanted: str) -> str:
        """Follow a container's output until it holds a text, and answer it as far as that."""

        async def follow() -> str:
            text = ""
            async for entry in self.runtime.follow(id):
                text += entry.data.decode()
                if wanted in text:
                    return text
            raise AssertionError(f"{wanted!r} was never written, only {text!r}")

        return self.do(follow())

    def close(self) -> None:
        """Delete what is left, and stop the loop."""
        for id in self.runtime.found():
            self.do(self.runtime.delete(id))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        self.loop.close()

    def leftovers(self, id: str) -> list[str]:
        """Every trace of a container that is still on this machine."""
        places = (self.state_dir, self.run_dir)
        found = [str(path) for place in places for path in place.rglob("*") if id in str(path)]
        # Not rglob: cgroups of other programs come and go while it looks.
        found += [place for place, _, _ in os.walk("/sys/fs/cgroup") if id in place]
        found += [
            line for line in Path("/proc/self/mountinfo").read_text().splitlines() if id in line
        ]
        processes = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True)
        return found + [line for line in processes.stdout.splitlines() if id in line]
