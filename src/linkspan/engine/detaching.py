"""Detaching: the kernel first, then the store, then what was taken is free again."""

from __future__ import annotations

import contextlib

import msgspec

from linkspan.dataplane import Change
from linkspan.drivers.records import Sandbox
from linkspan.engine.aftermath import about, forget_flows
from linkspan.engine.changes import removal
from linkspan.engine.core import Core
from linkspan.engine.drafts import without_addresses
from linkspan.engine.entries import delete_sandbox, holds, write_sandbox
from linkspan.engine.plans import Plan
from linkspan.kernel.failpoints import reach


async def remove_sandbox(
    core: Core, ref: str, *, force: bool = False, dry_run: bool = False
) -> Plan | None:
    """Take a sandbox's networks away, and its namespace if it is ours.

    With `force` the record goes even where the kernel refuses; what is left then is
    removed by the next reconciliation. Raises NotFound, KernelRefused, StorageFailed.
    """
    identity = core.register.sandbox(ref).id
    async with core.gate.on(identity):
        sandbox = core.register.sandbox(identity)
        change = removal(core.describe(sandbox))
        if dry_run:
            return Plan(change, {sandbox.id: sandbox.name})
        reach("detach.begin")
        await core.leasing.release(sandbox.endpoints)
        await _take_down(core, change, force)
        reach("detach.applied")
        async with core.renaming(sandbox, None):
            await core.save(delete_sandbox(sandbox), about("detached", sandbox))
        reach("detach.stored")
        _let_go(core, sandbox, None)
    return None


async def release_sandbox(core: Core, ref: str, state: str = "exited") -> Sandbox:
    """Take away everything that a sandbox holds and keep its record, in this state.

    "exited" keeps its wishes for `restore`; "gone" keeps nothing.
    """
    identity = core.register.sandbox(ref).id
    async with core.gate.on(identity):
        return await release_held(core, core.register.sandbox(identity), state)


async def release_held(core: Core, sandbox: Sandbox, state: str) -> Sandbox:
    """`release` for callers that keep others away from the sandbox themselves."""
    if not holds(sandbox):
        return sandbox
    await core.leasing.release(sandbox.endpoints)
    kept = state == "exited"
    after = msgspec.structs.replace(
        sandbox,
        state=state,
        inode=None,
        endpoints=tuple(map(without_addresses, sandbox.endpoints)) if kept else (),
        ports=sandbox.ports if kept else (),
    )
    await _take_down(core, removal(core.describe(sandbox)), force=not sandbox.made)
    reach("release.applied")
    async with core.renaming(sandbox, after):
        await core.save(write_sandbox(after, sandbox), about(state, after))
    _let_go(core, sandbox, after)
    return after


async def _take_down(core: Core, change: Change, force: bool) -> None:
    with contextlib.suppress(*((Exception,) if force else ())):
        await core.writer.apply(change)


def _let_go(core: Core, sandbox: Sandbox, after: Sandbox | None) -> None:
    if holds(sandbox):
        core.addresses.release(sandbox)
        core.ports.release(sandbox)
    if not sandbox.made:
        core.host.disown(sandbox.namespace)
    if after is None:
        core.register.drop_sandbox(sandbox)
    else:
        core.register.put_sandbox(after)
    forget_flows(core, sandbox, after)
