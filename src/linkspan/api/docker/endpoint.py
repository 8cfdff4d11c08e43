"""Between ASGI and the Docker operations: queries and errors as Docker's clients know them."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import Scope

from linkspan.api.endpoint import PathEndpoint
from linkspan.api.operation import Answer, Call, Operation
from linkspan.api.refusals import answer_error
from linkspan.errors import (
    AddressInUse,
    InvalidRequest,
    LinkspanError,
    NetworkInUse,
    NotFound,
    StorageFailed,
)

Version = tuple[int, int]
"""A version of the Engine API, (1, 43) for example."""

MIN_VERSION: Version = (1, 40)
MAX_VERSION: Version = (1, 52)

STATUSES: dict[type[LinkspanError], int] = {
    # moby's libnetwork calls these forbidden: ErrPoolOverlap, ErrIPAlreadyAllocated,
    # ActiveEndpointsError, PredefinedNetworkError.
    AddressInUse: 403,
    NetworkInUse: 403,
    StorageFailed: 500,
}
"""Where Docker answers another status than our own API."""

TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False", ""})
"""What Go's strconv.ParseBool takes; Docker takes an empty value for false."""


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every 4xx and 5xx answer."""

    message: str


class DockerEndpoint(PathEndpoint):
    """All operations on one path. A query parameter that is not known is ignored, as by Docker."""

    def refuse(self, status: int, code: str, message: str) -> Answer:
        """Docker has no codes."""
        return refuse(status, message)

    def answer_error(self, error: BaseException, doing: str) -> Answer:
        """The status that Docker would answer, and our message."""
        answer = answer_error(error, doing)
        status = STATUSES.get(type(error), answer.status)  # type: ignore[arg-type]
        return refuse(status, answer.value.error.message)

    def refuse_method(self, scope: Scope) -> Answer:
        """As for a path that is not there: Docker has something here, and we do not."""
        return refuse_unsupported(scope["method"], scope["path"])

    def read_query(self, operation: Operation, pairs: list[tuple[str, str]]) -> dict[str, Any]:
        """The first value of each parameter, as text."""
        query: dict[str, Any] = {}
        for name, text in pairs:
            query.setdefault(name, text)
        return query


def refuse(status: int, message: str) -> Answer:
    """An answer that says no, in the form of the Engine API."""
    return Answer(status, ErrorBody(message))


def refuse_unsupported(method: str, path: str) -> Answer:
    """501 for what this part of the Engine API does not do.

    `docker inspect` goes on to the next kind of object when it reads "not supported".
    """
    return refuse(
        501,
        f"{method} {path} is not supported: linkspan manages networks through Docker's API and "
        "shows its sandboxes; run containers with linkspan run",
    )


def empty_answer() -> Answer:
    """200 without a body."""
    return Answer(200, b"", content_type="text/plain; charset=utf-8")


def version_of(call: Call) -> Version:
    """The version of the Engine API that a request was made in."""
    major, _, minor = call.path["version"].partition(".")
    return int(major), int(minor)


def read_boolean(call: Call, name: str) -> bool:
    """A parameter that is true or false; false when it is not there. Raises InvalidRequest."""
    text = call.query.get(name, "")
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise InvalidRequest(f"invalid value for {name}: {text!r}; expected true or false")


def rename_missing(error: NotFound, message: str) -> NotFound:
    """A NotFound in the words that Docker's clients look for, with the names that there are."""
    _, _, known = error.message.partition("; ")
    return NotFound(f"{message}; {known}" if known else message)
