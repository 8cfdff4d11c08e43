"""The API without a socket, in front of a rehearsal: the same operations, played through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from linkspan.api.application import OPERATIONS
from linkspan.api.operation import Answer, Call, Operation, Service, read_query
from linkspan.api.refusals import explain_body
from linkspan.engine.rehearsal.rehearsal import Rehearsal
from linkspan.errors import InvalidRequest, Unsupported

Perform = Callable[[Rehearsal, Call], Awaitable[object]]


async def _start(engine: Rehearsal, call: Call) -> object:
    return await engine.start_container(call.path["name"])


async def _stop(engine: Rehearsal, call: Call) -> object:
    return await engine.stop_container(call.path["name"])


_OTHERWISE: dict[str, Perform] = {"startContainer": _start, "stopContainer": _stop}
"""Operations on programs, which a rehearsal does not run: what they mean for the network."""
_BLIND = frozenset(("killContainer", "reconcile"))
"""Operations whose effect lies with a program, or with what was not looked at."""


async def perform(
    engine: Rehearsal, method: str, parts: tuple[str, ...], body: Any, query: Mapping[str, Any]
) -> Any:
    """Carry out a request on the model; the answer as JSON would give it.

    What changes something answers with an empty plan. Raises what the daemon would refuse
    with, and Unsupported for what cannot be played through.
    """
    operation, path = _find(method, ("v1", *parts))
    if operation.name in _BLIND or operation.streams or operation.waits:
        raise Unsupported(f"what this does cannot be told before: {operation.summary.lower()}")
    call = Call(
        service=Service(engine=engine, closing=asyncio.Event(), facts={}),
        path=path,
        query=_read_query(operation, query),
        body=_read_body(operation, body),
    )
    otherwise = _OTHERWISE.get(operation.name)
    if otherwise is not None:
        await otherwise(engine, call)
        return {"plan": []}
    answer = await operation.handler(call)
    if method != "GET":
        return {"plan": []}
    assert isinstance(answer, Answer)
    return msgspec.to_builtins(answer.value)


def _find(method: str, parts: tuple[str, ...]) -> tuple[Operation, dict[str, str]]:
    for operation in OPERATIONS:
        places = operation.path.strip("/").split("/")
        if operation.method != method or len(places) != len(parts):
            continue
        pairs = list(zip(places, parts, strict=True))
        if all(place == part or place.startswith("{") for place, part in pairs):
            return operation, {p[1:-1]: part for p, part in pairs if p.startswith("{")}
    raise Unsupported(f"{method} {'/'.join(parts)} cannot be planned")


def _read_query(operation: Operation, query: Mapping[str, Any]) -> dict[str, Any]:
    texts = [
        (name, "true" if value is True else str(value))
        for name, value in query.items()
        if value is not None and value is not False
    ]
    return read_query(operation.query, texts)


def _read_body(operation: Operation, body: Any) -> Any:
    if operation.takes is None:
        return None
    try:
        return msgspec.convert({} if body is None else body, operation.takes)
    except msgspec.ValidationError as error:
        raise InvalidRequest(explain_body(error, operation.takes)) from None
