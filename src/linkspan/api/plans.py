"""What `?dry_run=true` answers: the steps of a plan, each in words, and nothing done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from linkspan.api.operation import Answer
from linkspan.dataplane import Add, Operation, Remove, Replace
from linkspan.engine.plans import Plan, describe_object, describe_operation

VERBS = {Add: "create", Remove: "remove", Replace: "change"}


class StepView(msgspec.Struct, frozen=True):
    """One step: `operation` is create, remove or change; `object` is what it is done to;
    `text` says both in a line.
    """

    operation: str
    object: str
    text: str


class PlanView(msgspec.Struct, frozen=True):
    """What a request would do, in order. Nothing was done."""

    plan: list[StepView]


def answer_or_plan(result: Any, show: Callable[[Any], Answer]) -> Answer:
    """The plan if the engine gave one, else what `show` makes of the result."""
    return Answer(200, show_plan(result)) if isinstance(result, Plan) else show(result)


def show_plan(plan: Plan) -> PlanView:
    """A plan as shown."""
    return PlanView([show_step(operation, plan.names) for operation in plan.operations])


def show_step(operation: Operation, names: dict[str, str]) -> StepView:
    """One step as shown."""
    item = operation.new if isinstance(operation, Replace) else operation.object
    return StepView(
        operation=VERBS[type(operation)],
        object=describe_object(item, names),
        text=describe_operation(operation, names),
    )
