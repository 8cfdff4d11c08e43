"""What happens, as newline-delimited JSON that a client can take up again by id."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import msgspec

from linkspan.api.operation import Call, Operation, Parameter, Stream
from linkspan.api.views import show_time
from linkspan.drivers.records import Actor
from linkspan.engine.events import Event, EventLog

LINES = "application/x-ndjson"


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a network, sandbox, container, port, firewall or the daemon.

    `id` grows with each; give the last one you saw as `since` to go on after it. An event
    `daemon`/`forgotten` says that older ones are no longer kept, `daemon`/`dropped` that this
    client read too slowly and has to ask again. `by` is the client who asked for it, null for
    what the daemon does by itself.
    """

    id: int
    time: datetime
    type: str
    action: str
    name: str
    object_id: str
    attributes: dict[str, str]
    by: Actor | None


def show_event(event: Event) -> EventView:
    """An event as shown."""
    return EventView(
        id=event.id,
        time=show_time(event.time),
        type=event.type,
        action=event.action,
        name=event.name,
        object_id=event.object_id,
        attributes=event.attributes,
        by=event.by,
    )


async def stream_events(call: Call) -> Stream:
    """Events after `since`: with follow for ever, else up to the newest one there is."""
    since, follow = call.query["since"], call.query["follow"]
    if since is None and not follow:
        since = 0
    return Stream(render_events(call.engine.events, since, follow), LINES)


async def render_events(log: EventLog, since: int | None, follow: bool) -> AsyncIterator[bytes]:
    """Events as JSON, one a line."""
    encoder = msgspec.json.Encoder()
    newest = log.last
    if not follow and since is not None and since >= newest:
        return
    subscription = log.subscribe(since)
    try:
        async for event in subscription:
            yield encoder.encode(show_event(event)) + b"\n"
            if not follow and event.id >= newest:
                return
    finally:
        subscription.close()


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/events",
        name="streamEvents",
        summary="What happens, as newline-delimited JSON",
        handler=stream_events,
        answers={200: EventView},
        query=(
            Parameter(
                "since",
                int,
                "Only events after this id; 0 for all that are kept. Without it those from now on, "
                "or without follow all that are kept.",
                None,
                0,
                2**63 - 1,
            ),
            Parameter("follow", bool, "Stay open and send what happens.", True),
        ),
        streams=LINES,
    ),
)
