"""An engine and a runtime that only pretend, so that lives can be watched without root."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from linkspan.drivers.records import Endpoint, Sandbox
from linkspan.engine.requests import SandboxRequest
from linkspan.engine.runtime.spec import ContainerSpec, ContainerState, Started
from linkspan.errors import Conflict, NotFound


class FakeEngine:
    """Sandboxes with one address each; `log` has what was asked for, in order."""

    def __init__(self) -> None:
        self.by_id: dict[str, Sandbox] = {}
        self.log: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.owner: Any = None
        self._next = 2

    def sandbox(self, ref: str) -> Sandbox:
        for sandbox in self.by_id.values():
            if ref in (sandbox.id, sandbox.name):
                return sandbox
        raise NotFound(f"there is no sandbox {ref!r}")

    async def create_sandbox(
        self, request: SandboxRequest, *, identity: str | None = None, dry_run: bool = False
    ) -> object:
        await self._step("create")
        assert identity is not None
        sandbox = Sandbox(
            id=identity, name=request.name or "made_up", netns=f"/run/netns/{identity}", state="up",
            hostname=request.hostname or "",
        )  # fmt: skip
        self.by_id[identity] = self._addressed(sandbox)
        return self.by_id[identity]

    def check_policies(self, sandbox_ref: str, doing: str) -> None:
        pass

    async def release_sandbox(self, ref: str) -> object:
        await self._step("release")
        sandbox = self.sandbox(ref)
        self.by_id[sandbox.id] = msgspec.structs.replace(sandbox, state="exited", endpoints=())
        return None

    def resolv_conf(self, sandbox: Sandbox) -> str | None:
        return None

    async def restore_sandbox(self, ref: str) -> Sandbox:
        await self._step("restore")
        sandbox = self.sandbox(ref)
        assert sandbox.state == "exited"
        self.by_id[sandbox.id] = self._addressed(msgspec.structs.replace(sandbox, state="up"))
        return self.by_id[sandbox.id]

    async def remove_sandbox(self, ref: str, *, force: bool = False) -> object:
        await self._step("remove")
        assert not (self.owner and self.owner.owns(ref)), "would come back to the container"
        del self.by_id[self.sandbox(ref).id]
        return None

    async def _step(self, name: str) -> None:
        await asyncio.sleep(0)
        self.log.append(name)
        if name in self.failing:
            raise self.failing.pop(name)

    def _addressed(self, sandbox: Sandbox) -> Sandbox:
        endpoint = Endpoint(id="e", network="n", ipv4=f"10.20.0.{self._next}/24")
        self._next += 1
        return msgspec.structs.replace(sandbox, endpoints=(endpoint,))


class FakeRuntime:
    """Containers whose ends the test decides. What is here survives a fake daemon."""

    def __init__(self) -> None:
        self.specs: dict[str, ContainerSpec] = {}
        self.states: dict[str, ContainerState] = {}
        self.signals: list[tuple[int, bool]] = []
        self.failing: dict[str, Exception] = {}
        self.on_signal: Callable[[str, int], None] = lambda id, number: None
        self.starts = 0
        self._changed = asyncio.Condition()

    async def create(self, spec: ContainerSpec) -> Started:
        await self._step("create")
        if self.state(spec.id).status in ("created", "running"):
            raise Conflict("runs already")
        self.specs[spec.id] = spec
        self.states[spec.id] = ContainerState(status="created", pid=77, conmon_pid=76)
        return Started(77, 76)

    async def start(self, id: str) -> None:
        await self._step("start")
        assert self.state(id).status == "created"
        self.starts += 1
        self.states[id] = ContainerState(status="running", pid=77, conmon_pid=76)

    async def kill(self, id: str, number: int, all: bool = False) -> None:
        if self.state(id).status not in ("created", "running"):
            raise Conflict("does not run")
        self.signals.append((number, all))
        self.on_signal(id, number)
        if number == 9:
            await self.end(id, 137)

    async def delete(self, id: str, *, keep_files: bool = False, keep_log: bool = False) -> None:
        await self._step("delete")
        if id not in self.states:
            return
        state = self.states[id]
        if not keep_files:
            del self.states[id]
        elif state.status != "exited":
            self.states[id] = ContainerState(status="exited")
        async with self._changed:
            self._changed.notify_all()

    async def wait(self, id: str) -> int:
        async with self._changed:
            await self._changed.wait_for(
                lambda: self.state(id).status not in ("created", "running")
            )
        if self.state(id).status == "missing":
            raise NotFound("missing")
        code = self.state(id).exit_code
        return 255 if code is None else code

    def state(self, id: str) -> ContainerState:
        return self.states.get(id, ContainerState(status="missing"))

    def found(self) -> list[str]:
        return sorted(self.states)

    async def update_resolv_conf(self, id: str, text: str) -> None:
        self.specs[id] = msgspec.structs.replace(self.specs[id], resolv_conf=text)

    async def update_hosts(self, id: str, text: str) -> None:
        self.specs[id] = msgspec.structs.replace(self.specs[id], hosts=text)

    async def end(self, id: str, code: int, at: float | None = None) -> None:
        """The program of a container ends."""
        self.states[id] = ContainerState(status="exited", exit_code=code, exited_at=at)
        async with self._changed:
            self._changed.notify_all()

    async def _step(self, name: str) -> None:
        await asyncio.sleep(0)
        if name in self.failing:
            raise self.failing.pop(name)
