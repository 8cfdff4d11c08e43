"""What one operation of the API is: how it is called, what it takes, what it answers.

The same record makes the route and the entry in the OpenAPI document, so that neither can be
there without the other. No I/O here; endpoint.py does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from linkspan.errors import InvalidRequest

if TYPE_CHECKING:
    from linkspan.engine.engine import Engine

JSON = "application/json"
TRUE = frozenset({"true", "1", ""})
FALSE = frozenset({"false", "0"})

SERVER_ERRORS = (500, 507)
"""Statuses that every operation may answer: a failure of ours, or of the disk."""


class Parameter(msgspec.Struct, frozen=True):
    """A query parameter. `type` is bool, int, float or str."""

    name: str
    type: type
    description: str
    default: Any = None
    least: int | None = None
    most: int | None = None


DRY_RUN = Parameter("dry_run", bool, "Answer with the plan, and change nothing.", False)
FORCE = Parameter("force", bool, "Also when it is in use or running.", False)


class Service(msgspec.Struct, kw_only=True):
    """What the handlers work with. `closing` is set when the daemon is about to end; `purged`
    says that it ends because nothing is left.
    """

    engine: Engine
    closing: asyncio.Event
    facts: Mapping[str, Any]
    """Paths, process id, namespace and start time, as GET /v1/info shows them."""
    purged: bool = False


class Call(msgspec.Struct, kw_only=True):
    """One request, already checked: path and query parameters, and the decoded body."""

    service: Service
    path: Mapping[str, str]
    query: Mapping[str, Any]
    body: Any = None

    @property
    def engine(self) -> Engine:
        """The engine that does the work."""
        return self.service.engine

    @property
    def dry_run(self) -> bool:
        """Whether only a plan is wanted."""
        return bool(self.query.get("dry_run", False))


class Answer(msgspec.Struct):
    """A status and a value to be encoded; `value` None with status 204 has no body.

    `afterwards` runs when the client has been answered.
    """

    status: int = 200
    value: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = JSON
    """Of a value that is bytes; any other is encoded as JSON."""
    afterwards: Callable[[], None] | None = None


class Stream(msgspec.Struct):
    """An answer that comes in pieces, until the source or the client ends it."""

    pieces: AsyncIterator[bytes]
    content_type: str


Handler = Callable[[Call], Awaitable[Answer | Stream]]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path.

    `answers` maps statuses to the type of their body: several in a tuple, None for no body.
    `streams` is the content type when the 200 comes in pieces. `waits` marks one that may take
    for ever, and is given up when the client leaves or the daemon ends. `errors` are the 4xx
    and 5xx statuses besides those that every operation can answer.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    takes: Any = None
    body_optional: bool = False
    answers: Mapping[int, Any] = {}
    query: tuple[Parameter, ...] = ()
    errors: tuple[int, ...] = ()
    streams: str | None = None
    waits: bool = False

    @property
    def path_parameters(self) -> tuple[str, ...]:
        """The names between braces in the path."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))


def read_query(known: tuple[Parameter, ...], pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """The query as typed values, with defaults for what was left out.

    Raises:
        InvalidRequest: an unknown or repeated parameter, or a value that is none of its type.
    """
    values: dict[str, Any] = {}
    by_name = {parameter.name: parameter for parameter in known}
    for name, text in pairs:
        parameter = by_name.get(name)
        if parameter is None:
            known_names = ", ".join(sorted(by_name)) or "none"
            raise InvalidRequest(f"unknown query parameter {name!r}; known here: {known_names}")
        if name in values:
            raise InvalidRequest(f"query parameter {name!r} is given twice")
        values[name] = _read_value(parameter, text)
    for parameter in known:
        values.setdefault(parameter.name, parameter.default)
    return values


def _read_value(parameter: Parameter, text: str) -> Any:
    name, kind = parameter.name, parameter.type
    if kind is str:
        return text
    if kind is bool:
        if text.lower() in TRUE or text.lower() in FALSE:
            return text.lower() in TRUE
        raise InvalidRequest(f"query parameter {name}={text!r}: expected true or false")
    try:
        # int() would take blanks, underscores and other scripts' digits.
        if kind is int and not (text.isascii() and text.removeprefix("-").isdigit()):
            raise ValueError
        value = kind(text)
    except ValueError:
        expected = "a whole number" if kind is int else "a number"
        raise InvalidRequest(f"query parameter {name}={text!r}: expected {expected}") from None
    least, most = parameter.least, parameter.most
    # Written this way round, not-a-number is refused as well.
    if (least is not None and not value >= least) or (most is not None and not value <= most):
        limits = f"from {least} to {most}" if most is not None else f"{least} or more"
        raise InvalidRequest(f"query parameter {name}={text!r}: expected {limits}")
    return value
