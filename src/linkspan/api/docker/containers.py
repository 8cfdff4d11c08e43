"""Docker's operations on containers that look and change nothing: list and inspect sandboxes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from linkspan.api.docker.endpoint import read_boolean, rename_missing, version_of
from linkspan.api.docker.filters import Filters, read_filters
from linkspan.api.docker.networks import FILTERS
from linkspan.api.docker.shown_containers import (
    STATES,
    ContainerDetails,
    ContainerSummary,
    Place,
    name_state,
    show_details,
    summarise,
)
from linkspan.api.docker.shown_endpoints import show_endpoints
from linkspan.api.operation import Answer, Call, Operation, Parameter
from linkspan.drivers.records import Sandbox
from linkspan.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from linkspan.engine.engine import Engine

LIST_FILTERS = ("id", "label", "name", "network", "status")


def look_around(engine: Engine) -> Place:
    """The networks of this host now."""
    networks = engine.networks()
    return Place({n.id: n for n in networks}, {n.name: n for n in networks})


def find_sandbox(engine: Engine, ref: str) -> Sandbox:
    """The sandbox of a name (a slash before it is fine), id, or unique beginning of an id.

    Raises NotFound in Docker's words.
    """
    try:
        return engine.sandbox(ref.removeprefix("/"))
    except NotFound as error:
        raise rename_missing(error, f"No such container: {ref}") from None


async def list_containers(call: Call) -> Answer:
    """The sandboxes that pass the filters, the newest first; those that run unless `all`."""
    filters = read_filters(call, LIST_FILTERS)
    limit = _read_limit(call)
    everything = read_boolean(call, "all") or "status" in filters or limit is not None
    passing = select_sandboxes(call.engine, filters, everything)[:limit]
    place, now, record = look_around(call.engine), time.time(), call.engine.containers.record
    return Answer(200, [summarise(one, record(one.id), place, now) for one in passing])


def select_sandboxes(engine: Engine, filters: Filters, everything: bool) -> Sequence[Sandbox]:
    """The sandboxes that pass, the newest first. Raises InvalidRequest."""
    for state in filters.get("status"):
        if state not in STATES:
            raise InvalidRequest(
                f"invalid filter 'status={state}': expected one of {', '.join(STATES)}"
            )
    place = look_around(engine)

    def passes(sandbox: Sandbox) -> bool:
        state = name_state(sandbox, engine.containers.record(sandbox.id))
        return (
            (everything or state in ("running", "restarting"))
            and filters.one_of("status", state)
            and filters.match("name", sandbox.name, f"/{sandbox.name}")
            and filters.begin("id", sandbox.id)
            and filters.have("label", sandbox.labels)
            and ("network" not in filters or on_network(sandbox))
        )

    def on_network(sandbox: Sandbox) -> bool:
        shown = show_endpoints(sandbox, place.by_id, place.by_name)
        wanted = filters.get("network")
        return any(
            name in wanted or settings.network_id.startswith(wanted)
            for name, settings in shown.items()
        )

    return [one for one in reversed(engine.sandboxes()) if passes(one)]


async def inspect_container(call: Call) -> Answer:
    """One sandbox as Docker would show a container."""
    sandbox = find_sandbox(call.engine, call.path["id"])
    containers = call.engine.containers
    record = containers.record(sandbox.id)
    shown = show_details(
        sandbox,
        record,
        look_around(call.engine),
        log_path=str(containers.log_path(sandbox.id)) if record is not None else "",
        old=version_of(call) < (1, 52),
    )
    return Answer(200, shown)


def _read_limit(call: Call) -> int | None:
    text = call.query.get("limit", "")
    if not text or text in ("0", "-1"):
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidRequest(f"invalid value for limit: {text!r}; expected a whole number")
    return int(text)


OPERATIONS = (
    Operation(
        method="GET",
        path="/containers/json",
        name="dockerListContainers",
        summary="List the sandboxes",
        handler=list_containers,
        answers={200: list[ContainerSummary]},
        query=(
            Parameter("all", bool, "Also those that do not run.", False),
            Parameter("limit", int, "The newest so many."),
            FILTERS,
        ),
        errors=(400,),
    ),
    Operation(
        method="GET",
        path="/containers/{id}/json",
        name="dockerInspectContainer",
        summary="Show one sandbox, by name, id, or the beginning of an id",
        handler=inspect_container,
        answers={200: ContainerDetails},
        errors=(404,),
    ),
)
