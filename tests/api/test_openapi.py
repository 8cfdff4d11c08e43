"""The OpenAPI document is valid, complete, and true of what is answered."""

from __future__ import annotations

import json

import pytest

from linkspan.api.application import OPERATIONS
from linkspan.api.host import encoded_document
from linkspan.api.openapi import compose_document

DOCUMENT = json.loads(encoded_document())


def test_the_document_is_valid():
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(DOCUMENT)


def test_every_operation_is_there_with_its_answers_and_refusals():
    for operation in OPERATIONS:
        entry = DOCUMENT["paths"][operation.path][operation.method.lower()]
        wanted = {*map(str, operation.answers), *map(str, operation.errors), "400", "500", "507"}
        assert wanted <= entry["responses"].keys(), operation.name
        assert ("requestBody" in entry) == (operation.takes is not None), operation.name
        parameters = {p["name"] for p in entry["parameters"]}
        assert parameters == {p.name for p in operation.query} | set(operation.path_parameters)
    assert sum(len(path) for path in DOCUMENT["paths"].values()) == len(OPERATIONS)


def test_every_record_and_field_is_described_by_name():
    schemas = DOCUMENT["components"]["schemas"]
    silent = [name for name, schema in schemas.items() if not schema.get("description")]
    assert silent == []
    assert schemas["SandboxRequest"]["additionalProperties"] is False
    assert set(schemas["PortView"]["required"]) == {
        "host_ip",
        "host_port",
        "host_port_end",
        "port",
        "protocol",
    }


def test_the_same_operations_make_the_same_document():
    assert compose_document(OPERATIONS) == compose_document(OPERATIONS)
