"""What the operations on networks and sandboxes share: records, store, kernel, order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from linkspan.dataplane import DataPlane
from linkspan.drivers.own_packets import describe_own_packets
from linkspan.drivers.records import Sandbox
from linkspan.drivers.sandbox import describe_sandbox
from linkspan.engine.addresses import Addresses
from linkspan.engine.dhcp.releasing import NoLeases, Releasing
from linkspan.engine.entries import FORWARDING6, UPLINKS, Write
from linkspan.engine.events import EventLog, Happening
from linkspan.engine.gate import Gate
from linkspan.engine.host import Host
from linkspan.engine.naming import Naming, NoNames
from linkspan.engine.policies import NO_ROUTING, Policy, find_violations
from linkspan.engine.ports import Ports
from linkspan.engine.register import Register
from linkspan.engine.settings import Settings
from linkspan.engine.store import Store
from linkspan.engine.underlay.parents import Parents
from linkspan.engine.writer import Writer
from linkspan.errors import PolicyRefused

log = logging.getLogger("linkspan.engine")
MAKERS = 2
"""Threads that make namespaces beside the writer; more only wait for the same kernel locks."""


class Core:
    """One engine's parts. Belongs to the event loop that is running when it is made."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        store: Store,
        events: EventLog,
        naming: Naming | None = None,
    ) -> None:
        self.settings = settings
        self.host = host
        self.store = store
        self.events = events
        self.naming = naming or NoNames()
        self.register = Register()
        self.addresses = Addresses()
        self.parents = Parents()
        self.ports = Ports(host, settings.port_range, self._host_binding)
        self.writer = Writer(host.apply_many)
        self.gate = Gate()
        self.uplinks: set[str] = set()
        """Interfaces of the host that forward only because of us."""
        self.cut: set[tuple[str, int]] = set()
        """Protocols and host ports of which the kernel may know flows that were cut off."""
        self.leasing: Releasing = NoLeases()
        self.policies: dict[str, Policy] = {}
        """Those in force, by name."""
        self.forwarding6: dict[str, str] = {}
        """Settings that were changed so that IPv6 is forwarded, with their values before."""
        self.unanswered: dict[str, str] = {}
        """Sandboxes whose questions for names nobody answers now, by id, and why."""
        self.unique_local = ""
        """The pool of this host's own IPv6 subnets."""
        self._makers = ThreadPoolExecutor(MAKERS, thread_name_prefix="namespace-maker")
        self.own_inode = host.identify("/proc/self/ns/net")
        self._later: set[asyncio.Task[None]] = set()
        self._released: set[str] = set()

    def _host_binding(self, network: str) -> str | None:
        return self.register.networks[network].options.get("host_binding")

    def describe(self, sandbox: Sandbox) -> DataPlane:
        """The sandbox's piece of the data plane."""
        plane = describe_sandbox(sandbox, self.register.networks)
        return plane | self.guard(sandbox, self.policies) if self.policies else plane

    def guard(self, sandbox: Sandbox, policies: Mapping[str, Policy]) -> DataPlane:
        """What policies need in the kernel for a sandbox."""
        return describe_own_packets(sandbox) if NO_ROUTING in policies else DataPlane()

    def check_policies(self, sandbox: Sandbox, doing: str, *, dry_run: bool = False) -> None:
        """Refuse what a policy forbids, and record who tried. `sandbox` is as it would be,
        `doing` what was asked for in a verb. Raises PolicyRefused.
        """
        found = find_violations(self.policies.values(), sandbox, self.register.networks)
        violation = next(found, None)
        if violation is None:
            return
        if not dry_run:
            self.events.record(
                "policy",
                "refused",
                violation.policy.name,
                sandbox=sandbox.name,
                doing=doing,
                reason=violation.reason,
            )
        raise PolicyRefused(
            f"policy {violation.policy} forbids {violation.reason}; {violation.advice}, "
            "or have the policy unset"
        )

    async def rename(self, before: Sandbox | None, after: Sandbox | None) -> None:
        """Have a sandbox found by its names, or not any more; None is one that is not there."""
        trouble = await self.naming.change(before, after, self.register.networks)
        if after is None:
            self.unanswered.pop(before.id if before is not None else "", None)
            return
        others = {id: why for id, why in self.unanswered.items() if id != after.id}
        self._note_names(others | trouble, {after.id: after.name})

    async def rename_all(self) -> None:
        """Have all sandboxes found by their names, and no others."""
        sandboxes = self.register.sandboxes.values()
        self._note_names(await self.naming.replace(self.register.networks.values(), sandboxes))

    def _note_names(self, trouble: dict[str, str], names: Mapping[str, str] = {}) -> None:
        """Record whose questions are not answered from now on, and whose are again.

        `names` are those of sandboxes that are not registered yet.
        """
        if trouble.keys() == self.unanswered.keys():
            self.unanswered = trouble
            return
        names = {**names, **self.register.names()}
        for id in trouble.keys() - self.unanswered.keys():
            self.events.record("sandbox", "names-lost", names.get(id, ""), id, reason=trouble[id])
        for id in (self.unanswered.keys() - trouble.keys()) & names.keys():
            self.events.record("sandbox", "names-back", names[id], id)
        self.unanswered = trouble

    @contextlib.asynccontextmanager
    async def renaming(self, before: Sandbox | None, after: Sandbox | None) -> AsyncIterator[None]:
        """`rename` beside the work of a block; done when the block ends."""
        task = asyncio.get_running_loop().create_task(self.rename(before, after))
        try:
            yield
        finally:
            await task

    async def observe(self, places: Mapping[str, str | None]) -> DataPlane:
        """What is in some namespaces."""
        return await asyncio.to_thread(self.host.observe, places)

    async def prepare_namespace(self, name: str) -> int:
        """Make a namespace beside the writer; gives its inode."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._makers, self.host.prepare_namespace, name)

    async def remember_uplinks(self, names: set[str]) -> None:
        """Store which interfaces of the host forward only because of us."""
        if names != self.uplinks:
            write = Write(
                {UPLINKS + name: b"" for name in names - self.uplinks},
                tuple(UPLINKS + name for name in self.uplinks - names),
            )
            await self.save(write)
            self.uplinks = names

    async def remember_forwarding6(self, settings: dict[str, str]) -> None:
        """Store which settings were changed so that IPv6 is forwarded."""
        if settings != self.forwarding6:
            write = Write(
                {FORWARDING6 + path: value.encode() for path, value in settings.items()},
                tuple(FORWARDING6 + path for path in self.forwarding6 if path not in settings),
            )
            await self.save(write)
            self.forwarding6 = settings

    async def save(self, write: Write, *happenings: Happening) -> None:
        """One transaction of the store, with what happened by it."""
        if happenings:
            await self.events.commit(happenings, puts=write.puts, deletes=write.deletes)
        else:
            await self.store.transaction(write.puts, write.deletes)

    def do_later(self, what: str, work: Coroutine[Any, Any, object]) -> None:
        """Finish something that no answer waits for; a failure is logged."""

        async def run() -> None:
            try:
                await work
            except Exception:
                log.exception("%s failed", what)

        task = asyncio.get_running_loop().create_task(run())
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def do_in_thread_later(self, what: str, function: Callable[..., object], *given: Any) -> None:
        """Run a blocking function that no answer waits for."""
        self.do_later(what, asyncio.to_thread(function, *given))

    def forget_flows(self, addresses: Iterable[str]) -> None:
        """Forget flows of addresses that are nobody's any more, soon and together: a released
        address is not given out again at once.
        """
        idle = not self._released
        self._released.update(addresses)
        if idle and self._released:
            self.do_later("forgetting flows", self._forget_flows())

    async def _forget_flows(self) -> None:
        while self._released:
            await asyncio.to_thread(self.host.flush_addresses, batch := sorted(self._released))
            self._released.difference_update(batch)

    async def settle(self) -> None:
        """Finish what was to be done later."""
        while self._later:
            await asyncio.gather(*self._later)

    async def close(self) -> None:
        """Finish what was to be done later, and everything that waits for the kernel."""
        await self.settle()
        await self.naming.close()
        await self.writer.close()
        self._makers.shutdown()
        self.host.close()
