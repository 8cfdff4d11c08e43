"""Made-up requests: whatever arrives, the answer is one that Docker's clients can read."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.asgi import Reply, ask
from api.docker.conversation import FACTS
from api.fake_engine import FakeEngine
from linkspan.api.application import build_application
from linkspan.api.docker.application import OPERATIONS
from linkspan.api.operation import Service

WORDS = st.sampled_from(
    ["web", "bridge", "shop", "", "true", "0", "10.0.0.0/24", "fd00::/64", "\ud7ff", "^(a|b)+$"]
)
FIELDS = st.sampled_from(
    [
        *("Name", "Driver", "IPAM", "Config", "Subnet", "Gateway", "AuxiliaryAddresses", "Options"),
        *("Labels", "EnableIPv4", "EnableIPv6", "Internal", "ConfigOnly", "ConfigFrom", "Scope"),
        *("Container", "Force", "EndpointConfig", "IPAMConfig", "Aliases", "Links", "MacAddress"),
        *("name", "label", "until", "dangling", "status", "since", "network", "type"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(FIELDS, inside, max_size=6),
    max_leaves=12,
)
BODIES = st.dictionaries(FIELDS, VALUES, max_size=8).map(json.dumps).map(str.encode) | st.binary(
    max_size=30
)
QUERIES = st.dictionaries(
    st.sampled_from(["filters", "all", "limit", "since", "until", "verbose", "scope"]),
    VALUES.map(json.dumps) | WORDS,
    max_size=3,
)
PATHS = [operation for operation in OPERATIONS if not operation.streams]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


async def send(method: str, path: str, query: dict[str, Any], body: bytes) -> Reply:
    engine = await FakeEngine.open()
    service = Service(engine=engine, closing=asyncio.Event(), facts=FACTS)  # type: ignore[arg-type]
    application = build_application(service)
    await ask(application, "POST", "/networks/create", {"Name": "web"})
    await ask(application, "POST", "/v1/sandboxes", {"name": "shop"})
    asked = "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
    return await ask(application, method, f"{path}?{asked}", raw=body)


@given(data=st.data(), version=st.sampled_from(["", "/v1.40", "/v1.43", "/v1.52", "/v1.99"]))
@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_request_is_too_much(
    data: st.DataObject, version: str, loop: asyncio.AbstractEventLoop
) -> None:
    operation = data.draw(st.sampled_from(PATHS))
    path = operation.path.replace("{id}", data.draw(st.sampled_from(["web", "shop", "none", "x"])))
    query, body = data.draw(QUERIES), data.draw(BODIES)
    logging.disable(logging.CRITICAL)
    try:
        reply = loop.run_until_complete(send(operation.method, version + path, query, body))
    finally:
        logging.disable(logging.NOTSET)
    assert reply.status != 500, reply.data
    assert reply.headers["api-version"] == "1.52"
    if reply.status >= 400:
        assert list(reply.body) == ["message"]
        assert reply.body["message"]
