"""Operations on policies, and the audit: what is forbidden here, and what is open."""

from __future__ import annotations

from datetime import datetime

import msgspec

from linkspan.api.operation import DRY_RUN, Answer, Call, Operation
from linkspan.api.plans import PlanView, answer_or_plan
from linkspan.api.views import show_time
from linkspan.drivers.records import Actor
from linkspan.engine.auditing import Hole
from linkspan.engine.engine import Engine
from linkspan.engine.policies import Policy
from linkspan.engine.requests import PolicyRequest


class ViolationView(msgspec.Struct, frozen=True):
    """A sandbox that was there before the policy, and what the policy would refuse."""

    sandbox: str
    reason: str


class PolicyView(msgspec.Struct, frozen=True, kw_only=True):
    """A policy in force. `by` is null when the daemon cannot say who set it."""

    name: str
    values: list[str]
    set: datetime
    by: Actor | None
    violations: list[ViolationView]


class HoleView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that configuration opened.

    `kind` is published_port, host_mode, privileged, several_networks, routed, source_check_off,
    masquerade_off, members_open or route_localnet; `name` the sandbox, network or interface;
    `open_to` says who gets in, or where to. `opened` and `by` are null where linkspan did not
    open it; `by` alone, where the daemon did by itself.
    """

    kind: str
    name: str
    what: str
    open_to: str
    opened: datetime | None
    by: Actor | None


async def list_policies(call: Call) -> Answer:
    """The policies in force, with what violates them."""
    return Answer(200, [show_policy(call.engine, policy) for policy in call.engine.policies()])


async def set_policy(call: Call) -> Answer:
    """Put a policy in force; what violates it already stays, and is listed."""
    done = await call.engine.set_policy(call.path["name"], call.body.values, dry_run=call.dry_run)
    return answer_or_plan(done, lambda policy: Answer(200, show_policy(call.engine, policy)))


async def unset_policy(call: Call) -> Answer:
    """Take a policy out of force."""
    done = await call.engine.unset_policy(call.path["name"], dry_run=call.dry_run)
    return answer_or_plan(done, lambda _: Answer(204))


async def audit(call: Call) -> Answer:
    """Every hole that configuration opened, with who opened it and when."""
    return Answer(200, [show_hole(hole) for hole in await call.engine.audit()])


def show_policy(engine: Engine, policy: Policy) -> PolicyView:
    """A policy as shown."""
    return PolicyView(
        name=policy.name,
        values=list(policy.values),
        set=show_time(policy.opening.at),
        by=policy.opening.by,
        violations=[ViolationView(v.sandbox, v.reason) for v in engine.violations(policy)],
    )


def show_hole(hole: Hole) -> HoleView:
    """A hole as shown."""
    opening = hole.opening
    return HoleView(
        kind=hole.kind,
        name=hole.name,
        what=hole.what,
        open_to=hole.open_to,
        opened=None if opening is None else show_time(opening.at),
        by=None if opening is None else opening.by,
    )


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/policies",
        name="listPolicies",
        summary="List the policies in force, and what violates them",
        handler=list_policies,
        answers={200: list[PolicyView]},
    ),
    Operation(
        method="PUT",
        path="/v1/policies/{name}",
        name="setPolicy",
        summary="Put a policy in force: one-network, no-routing, no-host-mode or published-on",
        handler=set_policy,
        takes=PolicyRequest,
        body_optional=True,
        answers={200: (PolicyView, PlanView)},
        query=(DRY_RUN,),
        errors=(400,),
    ),
    Operation(
        method="DELETE",
        path="/v1/policies/{name}",
        name="unsetPolicy",
        summary="Take a policy out of force",
        handler=unset_policy,
        answers={204: None, 200: PlanView},
        query=(DRY_RUN,),
        errors=(404,),
    ),
    Operation(
        method="GET",
        path="/v1/audit",
        name="audit",
        summary="Every hole that configuration opened, with who opened it and when",
        handler=audit,
        answers={200: list[HoleView]},
    ),
)
