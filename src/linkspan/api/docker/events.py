"""Docker's operation that streams what happens."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from linkspan.api.docker.endpoint import version_of
from linkspan.api.docker.filters import Filters, read_filters
from linkspan.api.docker.messages import Message, Translator
from linkspan.api.docker.networks import FILTERS
from linkspan.api.docker.times import read_seconds
from linkspan.api.operation import JSON, Call, Operation, Parameter, Stream
from linkspan.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from linkspan.engine.engine import Engine
    from linkspan.engine.events import Event, Subscription

EVENT_FILTERS = (
    "config", "container", "daemon", "event", "image", "label", "network", "node", "plugin",
    "scope", "secret", "service", "type", "volume",
)  # fmt: skip
"""What Docker knows; of those for kinds of things that we do not have, nothing passes."""
JSON_LINES = "application/jsonl"


async def stream_events(call: Call) -> Stream:
    """What happened after `since`, and what happens from now on until `until`."""
    since = read_seconds("since", call.query.get("since", ""))
    until = read_seconds("until", call.query.get("until", ""))
    if since is not None and until is not None and until < since:
        raise InvalidRequest(
            f"since ({call.query['since']}) cannot be after until ({call.query['until']})"
        )
    filters = read_filters(call, EVENT_FILTERS)
    old = version_of(call) < (1, 52)
    pieces = render_messages(call.engine, filters, since, until, legacy=old)
    return Stream(pieces, JSON if old else JSON_LINES)


async def render_messages(
    engine: Engine, filters: Filters, since: float | None, until: float | None, *, legacy: bool
) -> AsyncIterator[bytes]:
    """Messages as JSON, one a line. Without `since` and `until` those from now on."""
    encoder = msgspec.json.Encoder()
    replay = since is not None or until is not None
    newest = engine.events.last
    only_past = until is not None and until <= time.time()
    subscription = engine.events.subscribe(0 if replay else None)
    try:
        past = await _read_past(subscription, newest) if replay and newest else []
        translator = _make_translator(engine, past, legacy)
        for event in past:
            for message in translator.translate(event):
                if (since or 0) <= event.time <= (until or event.time) and passes(filters, message):
                    yield encoder.encode(message) + b"\n"
        if only_past:
            return
        async for event in _until(subscription, until):
            _learn_labels(engine, translator, event)
            for message in translator.translate(event):
                if passes(filters, message):
                    yield encoder.encode(message) + b"\n"
    finally:
        subscription.close()


def passes(filters: Filters, message: Message) -> bool:
    """Whether a message passes; names of containers and networks may be beginnings."""
    attributes = message.actor.attributes
    for kind in EVENT_FILTERS:
        if kind in ("event", "label", "scope", "type") or kind not in filters:
            continue
        # A message about a network tells its container, too.
        subjects = [message.actor.id, attributes.get("name", "")] if kind == message.type else []
        if kind == "container" and "container" in attributes:
            subjects.append(attributes["container"])
        if not filters.begin(kind, *subjects):
            return False
    return (
        filters.one_of("event", message.action)
        and filters.one_of("type", message.type)
        and filters.one_of("scope", message.scope)
        and filters.have("label", attributes)
    )


def _make_translator(engine: Engine, past: list[Event], legacy: bool) -> Translator:
    sandboxes = engine.sandboxes()
    ours = {event.object_id for event in past if event.type == "container"}
    ours |= {sandbox.id for sandbox in sandboxes if engine.containers.owns(sandbox.id)}
    return Translator(engine.networks(), sandboxes, ours, legacy)


async def _read_past(subscription: Subscription, newest: int) -> list[Event]:
    past = []
    async for event in subscription:
        past.append(event)
        if event.id >= newest:
            break
    return past


async def _until(subscription: Subscription, until: float | None) -> AsyncIterator[Event]:
    with contextlib.suppress(TimeoutError, StopAsyncIteration):
        while True:
            left = None if until is None else max(0.0, until - time.time())
            yield await asyncio.wait_for(anext(subscription), left)


def _learn_labels(engine: Engine, translator: Translator, event: Event) -> None:
    if event.type in ("sandbox", "container") and not translator.knows(event.object_id):
        with contextlib.suppress(NotFound):
            translator.note_labels(engine.sandbox(event.object_id))


OPERATIONS = (
    Operation(
        method="GET",
        path="/events",
        name="dockerStreamEvents",
        summary="What happens to networks and sandboxes",
        handler=stream_events,
        answers={200: Message},
        query=(
            Parameter("since", str, "Also what happened from then on, in Unix seconds."),
            Parameter("until", str, "End then, in Unix seconds."),
            FILTERS,
        ),
        errors=(400,),
        streams=JSON,
    ),
)
