"""Made-up requests to a real daemon: whatever it is asked, it answers, and nothing leaks.

Only networks and sandboxes, and never with a namespace or process of this machine.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from lab import Lab
from lab.daemon import Daemon
from linkspan.api.host import encoded_document

schemathesis = pytest.importorskip("schemathesis")
requests = pytest.importorskip("requests")


def compose_safe_document() -> dict[str, Any]:
    """The document without what would touch more than the daemon's own namespace."""
    document = copy.deepcopy(json.loads(encoded_document()))
    chosen = {
        path: entry
        for path, entry in document["paths"].items()
        if path.startswith(("/v1/networks", "/v1/sandboxes"))
    }
    document["paths"] = chosen
    for field in ("pid", "netns"):
        del document["components"]["schemas"]["SandboxRequest"]["properties"][field]
    return document


schema = schemathesis.openapi.from_dict(compose_safe_document())


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Lab() as lab:
        daemon = lab.daemon(lab.namespace("fuzz"))
        daemon.post("/v1/networks", {"name": "web", "subnets": ["10.20.0.0/24"]})
        daemon.post("/v1/sandboxes", {"name": "shop", "networks": ["web"], "ports": ["8080:80"]})
        yield daemon
        links = json.loads(lab.run(daemon.place, "ip -json link").stdout)
        assert daemon.cli("purge", "--yes", check=False).returncode == 0
        left = json.loads(lab.run(daemon.place, "ip -json link").stdout)
        assert [link["ifname"] for link in left] == ["lo"], links


@schema.parametrize()
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_it_answers_whatever_it_is_asked(case: Any, daemon: Daemon):
    body = case.body if isinstance(case.body, dict | list) else None
    if isinstance(body, dict) and {"pid", "netns"} & body.keys():
        return
    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://localhost")).prepare()
    answer = daemon.request(prepared.method, prepared.path_url, body)
    assert answer.status < 500, answer.body
    if answer.status >= 400:
        assert set(answer.body["error"]) == {"code", "message"}
        assert "\n" not in answer.body["error"]["message"]
    # What was there at the start goes on, unless it was asked to go.
    assert daemon.get("/v1/health") == {"status": "ok"}
