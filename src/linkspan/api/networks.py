"""Operations on networks: create, list, show, remove, prune."""

from __future__ import annotations

from linkspan.api.operation import DRY_RUN, Answer, Call, Operation
from linkspan.api.plans import PlanView, answer_or_plan
from linkspan.api.views import NetworkView, members_by_network, show_network
from linkspan.engine.requests import NetworkRequest


async def create_network(call: Call) -> Answer:
    """Make a network on the host."""
    made = await call.engine.create_network(call.body, dry_run=call.dry_run)
    return answer_or_plan(made, lambda network: Answer(201, show_network(network)))


async def list_networks(call: Call) -> Answer:
    """All networks, in the order in which they were made."""
    members = members_by_network(call.engine.sandboxes())
    state = call.engine.network_state
    shown = [show_network(n, members.get(n.id, ()), state(n)) for n in call.engine.networks()]
    return Answer(200, shown)


async def inspect_network(call: Call) -> Answer:
    """One network, by name, id, or the unique beginning of an id."""
    network = call.engine.network(call.path["name"])
    members = members_by_network(call.engine.sandboxes())
    state = call.engine.network_state(network)
    return Answer(200, show_network(network, members.get(network.id, ()), state))


async def remove_network(call: Call) -> Answer:
    """Take a network away that nobody is on."""
    done = await call.engine.remove_network(call.path["name"], dry_run=call.dry_run)
    return answer_or_plan(done, lambda _: Answer(204))


async def prune_networks(call: Call) -> Answer:
    """Take away every network that nobody is on, except the default ones."""
    removed = await call.engine.prune_networks(dry_run=call.dry_run)
    return answer_or_plan(
        removed, lambda networks: Answer(200, [show_network(n) for n in networks])
    )


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/networks",
        name="createNetwork",
        summary="Create a network",
        handler=create_network,
        takes=NetworkRequest,
        answers={201: NetworkView, 200: PlanView},
        query=(DRY_RUN,),
        errors=(400, 409, 501),
    ),
    Operation(
        method="GET",
        path="/v1/networks",
        name="listNetworks",
        summary="List the networks",
        handler=list_networks,
        answers={200: list[NetworkView]},
    ),
    Operation(
        method="POST",
        path="/v1/networks/prune",
        name="pruneNetworks",
        summary="Remove every network that nobody is on",
        handler=prune_networks,
        answers={200: (list[NetworkView], PlanView)},
        query=(DRY_RUN,),
    ),
    Operation(
        method="GET",
        path="/v1/networks/{name}",
        name="inspectNetwork",
        summary="Show one network, by name, id, or the unique beginning of an id",
        handler=inspect_network,
        answers={200: NetworkView},
        errors=(404, 409),
    ),
    Operation(
        method="DELETE",
        path="/v1/networks/{name}",
        name="removeNetwork",
        summary="Remove a network that nobody is on",
        handler=remove_network,
        answers={204: None, 200: PlanView},
        query=(DRY_RUN,),
        errors=(404, 409),
    ),
)
