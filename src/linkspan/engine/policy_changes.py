"""Policies set and unset: stored, made true in the kernel, and told with who did it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

import msgspec

from linkspan.dataplane import Change, diff
from linkspan.drivers.records import Opening
from linkspan.engine.actors import acting
from linkspan.engine.core import Core
from linkspan.engine.entries import Write
from linkspan.engine.events import Happening
from linkspan.engine.plans import Plan
from linkspan.engine.policies import PREFIX, Policy, Violation, draft_policy, find_violations
from linkspan.errors import NotFound
from linkspan.kernel.failpoints import reach


async def set_policy(
    core: Core, name: str, values: Iterable[str], *, dry_run: bool = False
) -> Policy | Plan:
    """Put a policy in force, or change its values. What violates it already stays.

    Raises InvalidRequest, StorageFailed, KernelRefused: then nothing has changed.
    """
    policy = draft_policy(name, values, Opening(at=time.time(), by=acting()))
    write = Write({PREFIX + name: msgspec.json.encode(policy)})
    wanted = {**core.policies, name: policy}
    plan = await _change(core, wanted, write, _about("set", policy), dry_run)
    return policy if plan is None else plan


async def unset_policy(core: Core, name: str, *, dry_run: bool = False) -> Plan | None:
    """Take a policy out of force. Raises NotFound unless it is, StorageFailed, KernelRefused."""
    policy = core.policies.get(name)
    if policy is None:
        known = ", ".join(core.policies) or "none"
        raise NotFound(f"policy {name} is not set; set are: {known}")
    wanted = {other: held for other, held in core.policies.items() if other != name}
    write = Write({}, (PREFIX + name,))
    return await _change(core, wanted, write, _about("unset", policy), dry_run)


def list_violations(core: Core, policy: Policy) -> list[Violation]:
    """Who violates a policy now."""
    return [
        violation
        for sandbox in core.register.sandboxes.values()
        if sandbox.state in ("allocated", "up")
        for violation in find_violations([policy], sandbox, core.register.networks)
    ]


async def load_policies(core: Core) -> None:
    """Take in the policies that the store knows. Raises StorageFailed."""
    for entry in await core.store.list(PREFIX):
        policy = msgspec.json.decode(entry.value, type=Policy)
        core.policies[policy.name] = policy


async def _change(
    core: Core, wanted: dict[str, Policy], write: Write, happening: Happening, dry_run: bool
) -> Plan | None:
    # Alone: nothing that was checked against the policies of before is still under way.
    async with core.gate.alone():
        change = _difference(core, wanted)
        if dry_run:
            return Plan(change, core.register.names())
        async with contextlib.AsyncExitStack() as undo:
            before, core.policies = core.policies, wanted
            undo.callback(setattr, core, "policies", before)
            back = _difference(core, before)
            await core.writer.apply(change)
            undo.push_async_callback(core.writer.apply, back)
            reach("policy.applied")
            await core.save(write, happening)
            undo.pop_all()
        reach("policy.stored")
    return None


def _difference(core: Core, wanted: dict[str, Policy]) -> Change:
    held = core.policies
    sandboxes = core.register.sandboxes.values()
    before = [core.guard(sandbox, held) for sandbox in sandboxes]
    after = [core.guard(sandbox, wanted) for sandbox in sandboxes]
    return tuple(
        operation for old, new in zip(before, after, strict=True) for operation in diff(old, new)
    )


def _about(action: str, policy: Policy) -> Happening:
    attributes = {"values": ",".join(policy.values)} if policy.values else {}
    return Happening(type="policy", action=action, name=policy.name, attributes=attributes)
