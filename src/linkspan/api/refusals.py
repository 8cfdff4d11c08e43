"""Errors as clients see them: `{"error": {"code", "message"}}`, and which field was wrong."""

from __future__ import annotations

import logging
import re
import secrets
import types
import typing
from typing import Any

import msgspec

from linkspan.api.operation import Answer
from linkspan.errors import LinkspanError

logger = logging.getLogger("linkspan.api")

WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_TYPES = re.compile(r"`([^`]+)`")


class ErrorText(msgspec.Struct, frozen=True):
    """What went wrong: `code` for programs (stable), `message` for people (one line)."""

    code: str
    message: str


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every 4xx and 5xx answer."""

    error: ErrorText


def refuse(status: int, code: str, message: str) -> Answer:
    """An answer that says no."""
    return Answer(status, ErrorBody(ErrorText(code, " ".join(message.split()))))


def answer_error(error: BaseException, doing: str) -> Answer:
    """The answer for an exception; what nobody foresaw is logged with an id to find it by."""
    if isinstance(error, LinkspanError):
        if error.status >= 500:
            logger.warning("%s: %s", doing, error.message)
        return refuse(error.status, error.code, error.message)
    identifier = secrets.token_hex(4)
    logger.error("%s: unexpected error %s", doing, identifier, exc_info=error)
    return refuse(
        500, "internal", f"unexpected error {identifier}: the daemon's log says more under that id"
    )


def explain_body(error: msgspec.MsgspecError, wanted: Any) -> str:
    """What is wrong with a body, in words: which field, what is expected, what came."""
    if not isinstance(error, msgspec.ValidationError):
        return f"the body is not JSON: {error}"
    what, _, place = str(error).partition(" - at `")
    path = place.rstrip("`").removeprefix("key in ").removeprefix("$").removeprefix(".")
    field = path.replace("[...]", "[]") or "the body"
    if unknown := re.search(r"unknown field `(.*)`", what):
        known = known_fields(wanted, path)
        names = f"; known are {', '.join(known)}" if known else ""
        return f"{field}: unknown field {unknown[1]!r}{names}"
    if missing := re.search(r"missing required field `(.*)`", what):
        return f"{field}: the field {missing[1]!r} is missing"
    return f"{field}: {_in_words(what)}"


def known_fields(wanted: Any, path: str) -> tuple[str, ...]:
    """The fields of the object that stands at `path` of a body of type `wanted`."""
    kind = _struct_of(wanted)
    for step in re.findall(r"[A-Za-z_]\w*|\[[^\]]*\]", path):
        if step.startswith("["):
            kind = _struct_of(kind)
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            kind = _struct_of(typing.get_type_hints(kind).get(step))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind.__struct_encode_fields__
    return ()


def _struct_of(kind: Any) -> Any:
    """The record inside a list, a mapping or a choice of types; the type itself if it is one."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType, list, tuple, dict):
        for inside in typing.get_args(kind):
            found = _struct_of(inside)
            if isinstance(found, type) and issubclass(found, msgspec.Struct):
                return found
    return kind


def _in_words(what: str) -> str:
    def name(match: re.Match[str]) -> str:
        kinds = [WORDS.get(kind.strip(), kind.strip()) for kind in match[1].split("|")]
        return " or ".join(kinds)

    if not what.startswith("Expected"):
        return what[:1].lower() + what[1:]
    return "e" + _TYPES.sub(name, what)[1:]
