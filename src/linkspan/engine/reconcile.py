"""Making the host as the store says: compare everything, change what differs.

Runs alone (see gate.py), at start, when asked, and when something of ours was changed behind
our back. What carries our mark and is in no record is removed; what is in a record and not in
the kernel is made; what differs is set right. Anything else is not ours, and stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from linkspan.dataplane import (
    HOST,
    Change,
    DataPlane,
    Link,
    Sysctl,
)
from linkspan.drivers.records import Sandbox
from linkspan.drivers.registry import driver
from linkspan.engine.aftermath import about
from linkspan.engine.changes import is_firewall, removal, repair, subject
from linkspan.engine.comparing import (
    find_stale,
    firewall_change,
    guarded_uplinks,
    guards6,
    replaces_tables,
    without_firewall,
)
from linkspan.engine.core import Core, log
from linkspan.engine.detaching import release_held
from linkspan.engine.entries import delete_sandbox, holds, write_sandbox
from linkspan.engine.foreign import find_process_in
from linkspan.engine.forwarding6 import Forwarding6, plan_forwarding6, settings_needed
from linkspan.engine.host import HOST_PLACE
from linkspan.engine.report import Notes, Report
from linkspan.engine.uplinks import find_uplinks, forwarding, is_ours, plan_uplinks

MOST_PASSES = 4
"""Repairing one thing can unsettle another (a bridge made anew has no ports yet)."""


class Reconciler:
    """Reconciliations of one engine."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def reconcile(self, *, starting: bool = False) -> Report:
        """Put everything right. `starting`: requests of a daemon before us will not return."""
        async with self._core.gate.alone():
            notes = Notes(self._core.register.names())
            if starting:
                await self._undo_unanswered(notes)
            await self._find_gone(notes)
            for _ in range(MOST_PASSES):
                notes.failed.clear()
                if not await self._pass(notes):
                    break
            await self._note_inodes()
            await self._core.rename_all()
            return notes.finish()

    async def check(self, sandbox: Sandbox) -> Report:
        """Put one sandbox right, or find that it is gone. The caller keeps others away."""
        notes = Notes({sandbox.id: sandbox.name})
        core, before = self._core, sandbox
        if await self._is_gone(sandbox):
            await release_held(core, sandbox, "gone")
            notes.gone.append(sandbox.name)
            return notes.finish()
        sandbox = core.register.sandboxes[sandbox.id]
        for _ in range(MOST_PASSES):
            notes.failed.clear()
            observed = await core.observe({**HOST_PLACE, sandbox.namespace: sandbox.netns})
            change = repair(observed, without_firewall(core.describe(sandbox)))
            if not await self._apply([change], notes):
                break
        await self._note_inodes([sandbox])
        await core.rename(before, core.register.sandboxes[sandbox.id])
        return notes.finish()

    async def restore_firewall(self) -> Report:
        """Put our tables and their elements right, in one transaction."""
        async with self._core.gate.alone():
            notes = Notes(self._core.register.names())
            firewall = await asyncio.to_thread(self._core.host.observe_firewall)
            observed = await self._core.observe(HOST_PLACE)
            uplinks, _ = await self._uplinks(observed, firewall)
            described = DataPlane().union(*self._pieces())
            await self._apply([firewall_change(firewall, described, uplinks)], notes)
            return notes.finish()

    async def refresh_uplinks(self) -> Report:
        """Forward where the host's packets come and go now; look at our bridges' settings."""
        async with self._core.gate.alone():
            core = self._core
            notes = Notes({})
            observed = await core.observe(HOST_PLACE)
            firewall = await asyncio.to_thread(core.host.observe_uplinks)
            _, change = await self._uplinks(observed, firewall)
            await self._apply([change], notes)
            bridges = [
                repair(observed, DataPlane(driver(n.driver).describe_network(n).of(Sysctl)))
                for n in core.register.networks.values()
            ]
            await self._apply(bridges, notes)
            return notes.finish()

    # Who is still there ---------------------------------------------------------------

    async def _undo_unanswered(self, notes: Notes) -> None:
        """Sandboxes whose request never returned: as if it had never come."""
        core = self._core
        for sandbox in list(core.register.sandboxes.values()):
            if sandbox.state == "allocated" and sandbox.answered:
                await release_held(core, sandbox, "exited")
            elif sandbox.state == "allocated":
                if not sandbox.made and not sandbox.host_mode:
                    core.host.adopt(sandbox.namespace, sandbox.netns, sandbox.inode)
                await self._apply([removal(core.describe(sandbox))], notes)
                notes.failed.clear()
                await core.save(delete_sandbox(sandbox), about("undone", sandbox))
                core.addresses.release(sandbox)
                core.ports.release(sandbox)
                core.host.disown(sandbox.namespace)
                core.register.drop_sandbox(sandbox)

    async def _find_gone(self, notes: Notes) -> None:
        core = self._core
        for sandbox in list(core.register.sandboxes.values()):
            if await self._is_gone(sandbox):
                await release_held(core, sandbox, "gone")
                notes.gone.append(sandbox.name)

    async def _is_gone(self, sandbox: Sandbox) -> bool:
        core = self._core
        if sandbox.made or sandbox.host_mode or sandbox.state != "up":
            return False
        if not core.host.has_vanished(sandbox.netns, sandbox.inode):
            return False
        # Its file is gone, or its first process: the namespace itself may live on in another.
        pid = await asyncio.to_thread(find_process_in, sandbox.inode or 0, core.own_inode)
        if pid is None:
            return True
        after = msgspec.structs.replace(sandbox, netns=f"/proc/{pid}/ns/net", pid=pid)
        core.host.adopt(after.namespace, after.netns, after.inode)
        await core.save(write_sandbox(after, sandbox))
        core.register.put_sandbox(after)
        return False

    async def _note_inodes(self, sandboxes: Iterable[Sandbox] | None = None) -> None:
        """Namespaces of ours that were made anew are other ones."""
        core = self._core
        held = await asyncio.to_thread(core.host.held_namespaces)
        for sandbox in list(sandboxes or core.register.sandboxes.values()):
            inode = held.get(sandbox.namespace)
            if sandbox.made and sandbox.state == "up" and inode and inode != sandbox.inode:
                after = msgspec.structs.replace(sandbox, inode=inode)
                await core.save(write_sandbox(after, sandbox))
                core.register.put_sandbox(after)

    # Comparing ------------------------------------------------------------------------

    async def _pass(self, notes: Notes) -> bool:
        """Compare everything once and change what differs; whether anything did."""
        core = self._core
        pieces = self._pieces()
        places = dict(HOST_PLACE)
        for sandbox in core.register.sandboxes.values():
            if holds(sandbox) and not sandbox.host_mode:
                places[sandbox.namespace] = sandbox.netns
                if not sandbox.made:
                    core.host.adopt(sandbox.namespace, sandbox.netns, sandbox.inode)
        observed = await core.observe(places)
        core.parents.learn(observed)
        firewall = await asyncio.to_thread(core.host.observe_firewall)
        held = await asyncio.to_thread(core.host.held_namespaces)
        uplinks, uplink_change = await self._uplinks(observed, firewall)
        described = DataPlane().union(*pieces)
        stale = find_stale(observed, described, held, set(places))
        tables = firewall_change(firewall, described, uplinks)
        changed = False
        if replaces_tables(tables):
            changed |= await self._apply([tables], notes)
            tables = ()
        changed |= await self._apply([stale], notes)
        changed |= await self._apply([tables], notes)
        networks = len(core.register.networks)
        wanted = [without_firewall(piece) for piece in pieces]
        # Bridges first: what hangs on them knows them by number.
        changed |= await self._apply([repair(observed, p) for p in wanted[:networks]], notes)
        changed |= await self._apply([repair(observed, p) for p in wanted[networks:]], notes)
        settings = tuple(op for op in uplink_change if not is_firewall(subject(op)))
        changed |= await self._apply([settings], notes)
        return changed

    def _pieces(self) -> list[DataPlane]:
        """What every network and every sandbox needs, networks first."""
        register = self._core.register
        networks = [driver(n.driver).describe_network(n) for n in register.networks.values()]
        return networks + [self._core.describe(s) for s in register.sandboxes.values()]

    async def _uplinks(self, observed: DataPlane, firewall: DataPlane) -> tuple[DataPlane, Change]:
        """What the uplinks need; the store remembers which forward for us before they do."""
        core = self._core
        names, guarded = find_uplinks(observed), guarded_uplinks(firewall)
        paths = [forwarding(name) for name in {*names, *guarded, *core.uplinks}]
        settings = core.host.read_settings(["ipv4/ip_forward", *paths])
        wanted, change = plan_uplinks(
            names,
            host_is_router=settings.get("ipv4/ip_forward") == "1",
            settings=settings,
            guarded=guarded,
            remembered=core.uplinks,
        )
        await core.remember_uplinks(guarded_uplinks(wanted))
        forwarding_ = await self._forwarding6(observed, firewall)
        return wanted | forwarding_.guards, (*change, *forwarding_.change)

    async def _forwarding6(self, observed: DataPlane, firewall: DataPlane) -> Forwarding6:
        """The same for IPv6, which nothing forwards unless a network has it."""
        core = self._core
        bridges = [n.interface for n in core.register.networks.values() if n.forwards_ipv6]
        uplinks = find_uplinks(observed, 6)
        others = [
            link.name for link in observed.of(Link) if link.namespace == HOST and not is_ours(link)
        ]
        paths = settings_needed({*bridges, *others}, core.forwarding6)
        found = plan_forwarding6(
            bridges,
            uplinks,
            others,
            settings=core.host.read_settings(paths),
            guards=guards6(firewall),
            remembered=core.forwarding6,
        )
        await core.remember_forwarding6(found.remembered)
        return found

    async def _apply(self, changes: Sequence[Change], notes: Notes) -> bool:
        """Carry out changes that do not know of each other; whether there were any."""
        core = self._core
        wanted = [change for change in changes if change]
        if not wanted:
            return False
        errors = await core.writer.run(lambda: core.host.apply_many(wanted, True))
        for change, error in zip(wanted, errors, strict=True):
            if error is None:
                notes.note(change)
            else:
                notes.failed.append(str(error))
                log.warning("could not put right: %s", error)
        return True


__all__ = ["Reconciler", "Report"]
