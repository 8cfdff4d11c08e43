"""Requests made up from the OpenAPI document: none may crash, and answers are as described."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, Phase, settings

from api.asgi import ask
from api.fake_engine import FakeEngine
from api.test_openapi import DOCUMENT
from linkspan.api.application import OPERATIONS, build_application
from linkspan.api.operation import Service

schemathesis = pytest.importorskip("schemathesis")
requests = pytest.importorskip("requests")

SLOW = [o.path for o in OPERATIONS if o.waits or o.streams] + ["/v1/doctor"]
"""What stays open, or looks at the machine: tested elsewhere."""

schema = schemathesis.openapi.from_dict(DOCUMENT)
cases = schema.exclude(path=SLOW) if SLOW else schema


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@cases.parametrize()
@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_requests_from_the_document(case: Any, loop: asyncio.AbstractEventLoop):
    logging.disable(logging.CRITICAL)
    try:
        reply = loop.run_until_complete(send(case))
    finally:
        logging.disable(logging.NOTSET)
    assert reply.status < 500, reply.data
    entry = DOCUMENT["paths"][case.path].get(case.method.lower())
    if entry is None:
        assert reply.status == 405
    else:
        # An empty name makes another path, which does not exist.
        assert str(reply.status) in entry["responses"] or reply.status in (404, 405)
    if reply.status >= 400:
        assert set(reply.error) == {"code", "message"}
        assert "\n" not in reply.error["message"]
    elif reply.status != 204 and entry is not None:
        case.operation.validate_response(as_response(reply, case.method))


async def send(case: Any) -> Any:
    engine = await FakeEngine.open()
    await engine.create_sandbox(Wish("shop", ["bridge"], ["8080:80"], {}))
    facts = {
        "version": "1", "pid": 1, "namespace": 1, "socket": "/s", "state_dir": "/a",
        "run_dir": "/b", "default_network": "bridge", "started": 0.0,
    }  # fmt: skip
    service = Service(engine=engine, closing=asyncio.Event(), facts=facts)  # type: ignore[arg-type]
    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://localhost")).prepare()
    body = prepared.body or b""
    raw = body.encode() if isinstance(body, str) else bytes(body)
    path, _, query = prepared.path_url.partition("?")
    return await ask(
        build_application(service),
        prepared.method,
        unquote(path) + (f"?{query}" if query else ""),
        raw=raw,
    )


class Wish:
    """A request for the fake engine."""

    def __init__(self, name: str, networks: list[str], ports: list[str], labels: dict[str, str]):
        self.name, self.networks, self.ports, self.labels = name, networks, ports, labels


def as_response(reply: Any, method: str) -> Any:
    return schemathesis.Response(
        status_code=reply.status,
        headers={name: [value] for name, value in reply.headers.items()},
        content=reply.data,
        request=requests.Request(method, "http://localhost/").prepare(),
        elapsed=0.0,
        verify=False,
    )
