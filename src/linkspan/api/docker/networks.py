"""Docker's operations on networks: list, inspect, remove, prune."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import msgspec

from linkspan.api.docker.endpoint import (
    read_boolean,
    refuse,
    rename_missing,
    version_of,
)
from linkspan.api.docker.filters import Filters, read_filters
from linkspan.api.docker.shown_networks import DockerNetwork, show_network
from linkspan.api.docker.times import read_moment
from linkspan.api.docker.written import visible_labels
from linkspan.api.operation import Answer, Call, Operation, Parameter
from linkspan.drivers.records import Network
from linkspan.engine.networks import PREDEFINED
from linkspan.errors import InvalidRequest, NetworkInUse, NotFound

if TYPE_CHECKING:
    from linkspan.engine.engine import Engine

LIST_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
PRUNE_FILTERS = ("label", "label!", "until")
FILTERS = Parameter("filters", str, "JSON; see Filters.")


class PruneReport(msgspec.Struct, frozen=True, rename="pascal"):
    """The names of the networks that are gone."""

    networks_deleted: list[str]


async def list_networks(call: Call) -> Answer:
    """The networks that pass the filters, in the order in which they were made."""
    filters = read_filters(call, LIST_FILTERS)
    for kind in filters.get("type"):
        if kind not in ("builtin", "custom"):
            raise InvalidRequest(f"invalid filter 'type={kind}': expected builtin or custom")
    passing = select_networks(call.engine, filters)
    return Answer(200, [show_network(network) for network in passing])


def select_networks(engine: Engine, filters: Filters) -> list[Network]:
    """The networks that pass filters of any kind but until. Raises InvalidRequest."""
    dangling = filters.boolean("dangling")
    used = (
        set() if dangling is None else {e.network for s in engine.sandboxes() for e in s.endpoints}
    )

    def passes(network: Network) -> bool:
        builtin = network.name in PREDEFINED
        labels = visible_labels(network)
        return (
            filters.one_of("driver", network.driver)
            and filters.match("name", network.name)
            and filters.match("id", network.id)
            and filters.have("label", labels)
            and not ("label!" in filters and filters.have("label!", labels))
            and filters.one_of("scope", "local")
            and filters.one_of("type", "builtin" if builtin else "custom")
            and dangling in (None, not builtin and network.id not in used)
        )

    return [network for network in engine.networks() if passes(network)]


def find_network(call: Call, scope: str = "local") -> Network:
    """The network that the path names. Raises NotFound in Docker's words."""
    ref = call.path["id"]
    try:
        if scope != "local":
            raise NotFound("; linkspan's networks are all of scope local")
        return call.engine.network(ref)
    except NotFound as error:
        raise rename_missing(error, f"network {ref} not found") from None


async def inspect_network(call: Call) -> Answer:
    """One network, with who is on it. `verbose` adds swarm's services, of which there are none."""
    read_boolean(call, "verbose")
    network = find_network(call, call.query.get("scope") or "local")
    status = version_of(call) >= (1, 52)
    return Answer(200, show_network(network, call.engine.sandboxes(), status))


async def remove_network(call: Call) -> Answer:
    """Take a network away that nobody is on."""
    network = find_network(call)
    if network.name in PREDEFINED:
        message = f"{network.name} is a pre-defined network and cannot be removed"
        return refuse(403, message)
    members = call.engine.members(network.id)
    if members:
        names = ", ".join(member.name for member in members[:10])
        message = f"network {network.name} has active endpoints: {names}"
        return refuse(403, f"{message}; disconnect or remove them first")
    await call.engine.remove_network(network.id)
    return Answer(204)


async def prune_networks(call: Call) -> Answer:
    """Take away the networks that nobody is on and that pass the filters."""
    filters = read_filters(call, PRUNE_FILTERS)
    until = filters.get("until")
    if len(until) > 1:
        raise InvalidRequest("filter until is given more than once")
    latest = read_moment(until[0], time.time()) if until else None
    removed = []
    for network in select_networks(call.engine, filters):
        if network.name in PREDEFINED or (latest is not None and network.created > latest):
            continue
        # One that somebody joins, or removes, meanwhile is left alone.
        with contextlib.suppress(NetworkInUse, NotFound):
            await call.engine.remove_network(network.id)
            removed.append(network.name)
    return Answer(200, PruneReport(removed))


OPERATIONS = (
    Operation(
        method="GET",
        path="/networks",
        name="dockerListNetworks",
        summary="List the networks",
        handler=list_networks,
        answers={200: list[DockerNetwork]},
        query=(FILTERS,),
        errors=(400,),
    ),
    Operation(
        method="POST",
        path="/networks/prune",
        name="dockerPruneNetworks",
        summary="Remove every network that nobody is on",
        handler=prune_networks,
        answers={200: PruneReport},
        query=(FILTERS,),
        errors=(400,),
    ),
    Operation(
        method="GET",
        path="/networks/{id}",
        name="dockerInspectNetwork",
        summary="Show one network and who is on it, by name, id, or the beginning of an id",
        handler=inspect_network,
        answers={200: DockerNetwork},
        query=(
            Parameter("verbose", bool, "Taken, without effect.", False),
            Parameter("scope", str, "Only a network of this scope."),
        ),
        errors=(400, 404),
    ),
    Operation(
        method="DELETE",
        path="/networks/{id}",
        name="dockerRemoveNetwork",
        summary="Remove a network that nobody is on",
        handler=remove_network,
        answers={204: None},
        errors=(403, 404),
    ),
)
