"""Operations on sandboxes: attach, list, show, detach, connect, disconnect."""

from __future__ import annotations

from linkspan.api.operation import DRY_RUN, FORCE, Answer, Call, Operation, Parameter
from linkspan.api.plans import PlanView, answer_or_plan
from linkspan.api.shown import show_one
from linkspan.api.views import SandboxView
from linkspan.engine.requests import NetworkAttachment, PublishRequest, SandboxRequest

NOW = Parameter("now", bool, "End established connections as well.", False)


async def create_sandbox(call: Call) -> Answer:
    """Give a namespace, made here or brought along, its networks and ports."""
    made = await call.engine.create_sandbox(call.body, dry_run=call.dry_run)
    return answer_or_plan(made, lambda sandbox: Answer(201, show_one(call.engine, sandbox)))


async def list_sandboxes(call: Call) -> Answer:
    """All sandboxes, containers included, in the order in which they were made."""
    return Answer(200, [show_one(call.engine, sandbox) for sandbox in call.engine.sandboxes()])


async def inspect_sandbox(call: Call) -> Answer:
    """One sandbox, by name, id, or the unique beginning of an id."""
    return Answer(200, show_one(call.engine, call.engine.sandbox(call.path["name"])))


async def remove_sandbox(call: Call) -> Answer:
    """Take a sandbox's networks away; its container too, which must not run without force."""
    done = await call.engine.remove_sandbox(
        call.path["name"], force=call.query["force"], dry_run=call.dry_run
    )
    return answer_or_plan(done, lambda _: Answer(204))


async def connect(call: Call) -> Answer:
    """Put a sandbox on one more network."""
    done = await call.engine.connect(call.path["name"], call.body, dry_run=call.dry_run)
    return answer_or_plan(done, lambda sandbox: Answer(200, show_one(call.engine, sandbox)))


async def disconnect(call: Call) -> Answer:
    """Take a sandbox off a network."""
    done = await call.engine.disconnect(
        call.path["name"],
        call.path["network"],
        force=call.query["force"],
        dry_run=call.dry_run,
    )
    return answer_or_plan(done, lambda sandbox: Answer(200, show_one(call.engine, sandbox)))


async def publish(call: Call) -> Answer:
    """Publish more ports of a sandbox that is up."""
    done = await call.engine.publish(call.path["name"], call.body.ports, dry_run=call.dry_run)
    return answer_or_plan(done, lambda sandbox: Answer(200, show_one(call.engine, sandbox)))


async def unpublish(call: Call) -> Answer:
    """Close published ports of a sandbox that is up."""
    done = await call.engine.unpublish(
        call.path["name"], call.path["spec"], now=call.query["now"], dry_run=call.dry_run
    )
    return answer_or_plan(done, lambda sandbox: Answer(200, show_one(call.engine, sandbox)))


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/sandboxes",
        name="createSandbox",
        summary="Attach a namespace to networks; answers when packets can flow",
        handler=create_sandbox,
        takes=SandboxRequest,
        answers={201: SandboxView, 200: PlanView},
        query=(DRY_RUN,),
        errors=(400, 403, 404, 409, 501),
    ),
    Operation(
        method="GET",
        path="/v1/sandboxes",
        name="listSandboxes",
        summary="List the sandboxes, containers included",
        handler=list_sandboxes,
        answers={200: list[SandboxView]},
    ),
    Operation(
        method="GET",
        path="/v1/sandboxes/{name}",
        name="inspectSandbox",
        summary="Show one sandbox, by name, id, or the unique beginning of an id",
        handler=inspect_sandbox,
        answers={200: SandboxView},
        errors=(404, 409),
    ),
    Operation(
        method="DELETE",
        path="/v1/sandboxes/{name}",
        name="removeSandbox",
        summary="Detach a sandbox; with force also one whose container runs, which is ended",
        handler=remove_sandbox,
        answers={204: None, 200: PlanView},
        query=(FORCE, DRY_RUN),
        errors=(404, 409),
    ),
    Operation(
        method="POST",
        path="/v1/sandboxes/{name}/networks",
        name="connect",
        summary="Put a sandbox on one more network",
        handler=connect,
        takes=NetworkAttachment,
        answers={200: (SandboxView, PlanView)},
        query=(DRY_RUN,),
        errors=(400, 403, 404, 409, 501),
    ),
    Operation(
        method="DELETE",
        path="/v1/sandboxes/{name}/networks/{network}",
        name="disconnect",
        summary="Take a sandbox off a network",
        handler=disconnect,
        answers={200: (SandboxView, PlanView)},
        query=(FORCE, DRY_RUN),
        errors=(404, 409),
    ),
    Operation(
        method="POST",
        path="/v1/sandboxes/{name}/ports",
        name="publish",
        summary="Publish more ports of a sandbox that is up",
        handler=publish,
        takes=PublishRequest,
        answers={200: (SandboxView, PlanView)},
        query=(DRY_RUN,),
        errors=(400, 403, 404, 409),
    ),
    Operation(
        method="DELETE",
        path="/v1/sandboxes/{name}/ports/{spec}",
        name="unpublish",
        summary="Close published ports, [HOST_IP:]HOST_PORT[-END][/PROTOCOL], for new connections",
        handler=unpublish,
        answers={200: (SandboxView, PlanView)},
        query=(NOW, DRY_RUN),
        errors=(400, 404, 409),
    ),
)
