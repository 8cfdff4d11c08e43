"""The OpenAPI 3.1 document, made from the same operations and records that serve the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from linkspan import __version__
from linkspan.api.operation import SERVER_ERRORS, Operation, Parameter
from linkspan.api.refusals import ErrorBody

SCHEMAS = "#/components/schemas/"

TYPE_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string"}

STATUSES = {
    200: "Done; what is shown, or the plan where dry_run was asked for",
    201: "Made",
    204: "Done; there is nothing to show",
    400: "The request is wrong; the message names the field and what is expected",
    403: "The daemon lacks a right that this needs",
    404: "There is no such thing",
    405: "This path has other methods",
    409: "It clashes with something that exists, or nothing is left to give",
    413: "The body is too long",
    500: "The kernel or the container runtime refused, or an unexpected error",
    501: "This kernel or host lacks a feature that this needs",
    503: "The daemon is stopping",
    507: "State could not be written",
}

DESCRIPTION = (
    "Networks, sandboxes and containers of one Linux host. HTTP on a unix socket. Bodies are "
    "JSON; fields and query parameters that are not known are refused."
)


def compose_document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The whole document for these operations."""
    operations = tuple(operations)
    types: list[Any] = [ErrorBody]
    for operation in operations:
        types += [kind for answer in operation.answers.values() for kind in kinds_of(answer)]
        types += [operation.takes] if operation.takes is not None else []
    schemas, components = msgspec.json.schema_components(types, ref_template=SCHEMAS + "{name}")
    by_type = {_key(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        entry = describe_operation(operation, by_type)
        paths.setdefault(operation.path, {})[operation.method.lower()] = entry
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "linkspan",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://localhost", "description": "over the unix socket"}],
        "paths": paths,
        "components": {"schemas": components},
    }


def describe_operation(operation: Operation, schemas: Mapping[str, Any]) -> dict[str, Any]:
    """One operation: parameters, body, and an entry for each status it can answer."""
    parameters = [describe_path_parameter(name) for name in operation.path_parameters]
    parameters += [describe_query_parameter(parameter) for parameter in operation.query]
    entry: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.path.split("/")[2]],
        "parameters": parameters,
        "responses": describe_responses(operation, schemas),
    }
    if operation.takes is not None:
        entry["requestBody"] = {
            "required": not operation.body_optional,
            "content": {"application/json": {"schema": schemas[_key(operation.takes)]}},
        }
    return entry


def describe_responses(operation: Operation, schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Every status of an operation with its body."""
    responses: dict[str, Any] = {}
    for status, answer in operation.answers.items():
        responses[str(status)] = {"description": STATUSES[status]}
        shapes = [schemas[_key(kind)] for kind in kinds_of(answer)]
        if shapes:
            content_type = operation.streams or "application/json"
            shape = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
            responses[str(status)]["content"] = {content_type: {"schema": shape}}
    # Any operation can be given a query parameter that it does not know.
    refusals = {400, *operation.errors, *SERVER_ERRORS}
    refusals |= {413} if operation.takes is not None else set()
    refusals |= {503} if operation.waits or operation.streams else set()
    for status in sorted(refusals):
        responses[str(status)] = {
            "description": STATUSES[status],
            "content": {"application/json": {"schema": schemas[_key(ErrorBody)]}},
        }
    return responses


def kinds_of(answer: Any) -> tuple[Any, ...]:
    """The types that an answer may have: none, one, or a choice."""
    if answer is None:
        return ()
    return answer if isinstance(answer, tuple) else (answer,)


def describe_path_parameter(name: str) -> dict[str, Any]:
    """A part of the path, which is always text."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": "Name, id, or the unique beginning of an id",
        "schema": {"type": "string", "minLength": 1, "pattern": "^[^/]+$"},
    }


def describe_query_parameter(parameter: Parameter) -> dict[str, Any]:
    """A query parameter, which is always optional."""
    schema: dict[str, Any] = {"type": TYPE_NAMES[parameter.type]}
    if parameter.default is not None:
        schema["default"] = parameter.default
    if parameter.least is not None:
        schema["minimum"] = parameter.least
    if parameter.most is not None:
        schema["maximum"] = parameter.most
    return {
        "name": parameter.name,
        "in": "query",
        "required": False,
        "description": parameter.description,
        "schema": schema,
    }


def _key(kind: Any) -> str:
    return repr(kind)
