"""The API over a fake engine: what is answered, and how it says no."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from api.asgi import Reply, ask
from api.fake_engine import FakeEngine
from linkspan.api.application import OPERATIONS, build_application
from linkspan.api.endpoint import MOST_BODY
from linkspan.api.operation import Service
from linkspan.engine.runtime.log import LogEntry
from linkspan.errors import Exhausted, KernelRefused

Ask = Callable[..., Awaitable[Reply]]
FACTS = {
    "version": "1", "pid": 1, "namespace": 1, "socket": "/s", "state_dir": "/a", "run_dir": "/b",
    "default_network": "bridge", "started": 0.0,
}  # fmt: skip


def converse(talk: Callable[[Ask, FakeEngine], Awaitable[None]]) -> None:
    async def with_engine() -> None:
        engine = await FakeEngine.open()
        service = Service(engine=engine, closing=asyncio.Event(), facts=FACTS)  # type: ignore[arg-type]
        application = build_application(service)

        async def ask_application(method: str, target: str, *more: Any, **named: Any) -> Reply:
            return await ask(application, method, target, *more, **named)

        await talk(ask_application, engine)

    asyncio.run(with_engine())


def test_a_network_is_made_listed_shown_and_removed():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        made = await ask("POST", "/v1/networks", {"name": "web", "subnets": ["10.20.0.0/24"]})
        assert made.status == 201
        assert made.body["name"] == "web"
        assert made.body["subnets"][0]["gateway"] == "10.20.0.1"
        assert made.body["created"] == "2027-01-15T08:00:00Z"
        listed = await ask("GET", "/v1/networks")
        assert [one["name"] for one in listed.body] == ["bridge", "host", "none", "web"]
        shown = await ask("GET", f"/v1/networks/{made.body['id'][:8]}")
        assert shown.body == made.body
        removed = await ask("DELETE", "/v1/networks/web")
        assert (removed.status, removed.data) == (204, b"")
        gone = await ask("GET", "/v1/networks/web")
        assert (gone.status, gone.error["code"]) == (404, "not_found")

    converse(talk)


def test_a_sandbox_shows_names_of_networks_and_ports_as_the_contract_says():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        made = await ask(
            "POST",
            "/v1/sandboxes",
            {"name": "shop", "networks": [{"network": "bridge"}], "ports": ["8080:80"]},
        )
        assert made.status == 201
        assert made.body["state"] == "up"
        assert made.body["pid"] is None
        (endpoint,) = made.body["endpoints"]
        assert endpoint["network"] == "bridge"
        assert endpoint["ipv4"] == "172.20.0.2/24"
        assert endpoint["gateway"] == "172.20.0.1"
        assert made.body["ports"] == [
            {
                "host_ip": "0.0.0.0",
                "host_port": 8080,
                "host_port_end": 8080,
                "port": 80,
                "protocol": "tcp",
            }
        ]
        members = (await ask("GET", "/v1/networks/bridge")).body["endpoints"]
        assert [(m["sandbox"], m["ipv4"]) for m in members] == [("shop", "172.20.0.2/24")]

    converse(talk)


def test_a_sandbox_is_connected_and_disconnected():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        await ask("POST", "/v1/networks", {"name": "web"})
        await ask("POST", "/v1/sandboxes", {"name": "shop"})
        there = await ask("POST", "/v1/sandboxes/shop/networks", {"network": "web"})
        assert [e["network"] for e in there.body["endpoints"]] == ["bridge", "web"]
        refused = await ask("DELETE", "/v1/networks/web")
        assert (refused.status, refused.error["code"]) == (409, "network_in_use")
        left = await ask("DELETE", "/v1/sandboxes/shop/networks/web")
        assert [e["network"] for e in left.body["endpoints"]] == ["bridge"]
        pruned = await ask("POST", "/v1/networks/prune")
        assert [one["name"] for one in pruned.body] == ["web"]

    converse(talk)


def test_a_dry_run_shows_the_steps_and_does_nothing():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        planned = await ask("POST", "/v1/networks?dry_run=true", {"name": "web"})
        assert planned.status == 200
        (step,) = planned.body["plan"]
        assert step["operation"] == "create"
        assert step["text"].startswith("create ")
        assert step["object"] in step["text"]
        assert [n.name for n in engine.networks()] == ["bridge", "host", "none"]

    converse(talk)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/networks", {"name": "web", "colour": "red"}, ["'colour'", "known are name, driver"]),
        ("/v1/networks", {"name": 7}, ["name:", "expected text"]),
        ("/v1/networks", {}, ["'name' is missing"]),
        ("/v1/networks", {"name": "web", "internal": "yes"}, ["internal:", "true or false"]),
        (
            "/v1/networks",
            {"name": "web", "subnets": [{"subnet": "10.0.0.0/8", "mask": 8}]},
            ["subnets[0]:", "'mask'", "known are subnet, gateway, ip_range, reserved"],
        ),
        ("/v1/sandboxes", {"networks": [{"network": "web", "ip": 9}]}, ["networks[0].ip:"]),
        ("/v1/sandboxes", {"ports": "8080:80"}, ["ports:", "a list"]),
        ("/v1/sandboxes", {"pid": "12"}, ["pid:", "a whole number or null"]),
        ("/v1/sandboxes", [], ["the body:", "an object"]),
        ("/v1/sandboxes/x/networks", {"network": "web", "gateway_priority": 1.5}, ["whole number"]),
    ],
)
def test_a_wrong_body_is_refused_by_field(path: str, body: Any, words: list[str]):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        reply = await ask("POST", path, body)
        assert (reply.status, reply.error["code"]) == (400, "invalid")
        for word in words:
            assert word in reply.error["message"]

    converse(talk)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff\xfe", b'{"name": "a"} trailing', b"[" * 5000, b'{"name": "\\ud800"}']
)
def test_what_is_not_json_is_refused(raw: bytes):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        reply = await ask("POST", "/v1/networks", raw=raw)
        assert (reply.status, reply.error["code"]) == (400, "invalid")

    converse(talk)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/v1/networks?dryrun=true", "unknown query parameter 'dryrun'; known here: dry_run"),
        ("/v1/networks?dry_run=perhaps", "expected true or false"),
        ("/v1/networks?dry_run=true&dry_run=false", "given twice"),
    ],
)
def test_a_wrong_query_is_refused_and_changes_nothing(target: str, words: str):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        reply = await ask("POST", target, {"name": "web"})
        assert reply.status == 400
        assert words in reply.error["message"]
        assert len(engine.networks()) == 3

    converse(talk)


@pytest.mark.parametrize("since", ["-1", "1e3", "nan", "٣", "1_0", " 1", "99999999999999999999999"])
def test_numbers_in_a_query_are_plain_ones_in_bounds(since: str):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        from urllib.parse import quote

        reply = await ask("GET", f"/v1/events?follow=false&since={quote(since)}")
        assert reply.status == 400
        assert "since" in reply.error["message"]

    converse(talk)


def test_unknown_paths_and_methods():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        nowhere = await ask("GET", "/v1/nothing")
        assert (nowhere.status, nowhere.error["code"]) == (404, "not_found")
        wrong = await ask("PUT", "/v1/networks")
        assert (wrong.status, wrong.error["code"]) == (405, "method_not_allowed")
        assert wrong.headers["allow"] == "GET, POST"
        head = await ask("HEAD", "/v1/networks")
        assert (head.status, head.data) == (200, b"")
        assert int(head.headers["content-length"]) > 0

    converse(talk)


def test_a_body_that_is_too_long_is_refused():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        reply = await ask("POST", "/v1/networks", raw=b" " * (MOST_BODY + 1))
        assert (reply.status, reply.error["code"]) == (413, "too_large")

    converse(talk)


def test_errors_of_the_engine_have_their_status_and_one_line():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        engine.failure = Exhausted("network web has no address left in 10.20.0.0/30")
        reply = await ask("POST", "/v1/sandboxes", {"name": "a1"})
        assert (reply.status, reply.error["code"]) == (409, "exhausted")
        engine.failure = KernelRefused("adding link eth0", 12, "two\nlines")
        reply = await ask("POST", "/v1/sandboxes", {"name": "a1"})
        assert (reply.status, reply.error["code"]) == (500, "kernel")
        assert "\n" not in reply.error["message"]

    converse(talk)


def test_an_unexpected_error_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        engine.failure = ZeroDivisionError("secret detail")
        reply = await ask("POST", "/v1/sandboxes", {"name": "a1"})
        assert (reply.status, reply.error["code"]) == (500, "internal")
        assert "secret" not in reply.data.decode()
        identifier = reply.error["message"].split()[2].rstrip(":")
        (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
        assert identifier in record.getMessage()
        assert record.exc_info

    converse(talk)


def test_events_are_resumed_by_id():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        for name in ("web", "back", "side"):
            await ask("POST", "/v1/networks", {"name": name})
        reply = await ask("GET", "/v1/events?follow=false")
        events = [json.loads(line) for line in reply.data.splitlines()]
        assert reply.headers["content-type"] == "application/x-ndjson"
        assert [e["name"] for e in events] == ["web", "back", "side"]
        later = await ask("GET", f"/v1/events?follow=false&since={events[0]['id']}")
        assert [json.loads(line) for line in later.data.splitlines()] == events[1:]
        none = await ask("GET", f"/v1/events?follow=false&since={events[-1]['id']}")
        assert none.data == b""

    converse(talk)


def test_a_follower_gets_what_happens_until_the_daemon_ends():
    async def with_engine() -> None:
        engine = await FakeEngine.open()
        service = Service(engine=engine, closing=asyncio.Event(), facts=FACTS)  # type: ignore[arg-type]
        application = build_application(service)
        following = asyncio.ensure_future(ask(application, "GET", "/v1/events?since=0"))
        await ask(application, "POST", "/v1/networks", {"name": "web"})
        assert engine.events.last == 1
        await asyncio.sleep(0.05)  # nothing may end it by itself
        assert not following.done()
        service.closing.set()
        reply = await asyncio.wait_for(following, 5)
        assert [json.loads(line)["name"] for line in reply.data.splitlines()] == ["web"]

    asyncio.run(with_engine())


def test_a_container_is_made_started_stopped_and_removed():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        made = await ask("POST", "/v1/containers", {"name": "shop", "command": ["sleep", "9"]})
        assert (made.status, made.body["container"]["status"]) == (201, "created")
        started = await ask("POST", "/v1/containers/shop/start")
        assert started.body["container"]["status"] == "running"
        assert started.body["container"]["started"] == "2027-01-15T08:00:01Z"
        refused = await ask("DELETE", "/v1/sandboxes/shop")
        assert (refused.status, refused.error["code"]) == (409, "conflict")
        killed = await ask("POST", "/v1/containers/shop/kill?signal=HUP")
        assert (killed.status, killed.data) == (204, b"")
        stopped = await ask("POST", "/v1/containers/shop/stop?timeout=0.5")
        assert stopped.body["container"]["exit_code"] == 143
        assert engine.containers.asked == [("kill", "shop", "HUP"), ("stop", "shop", 0.5)]
        assert (await ask("DELETE", "/v1/sandboxes/shop")).status == 204
        assert (await ask("GET", "/v1/sandboxes")).body == []

    converse(talk)


def test_a_plan_for_a_container_alone_says_what_would_happen_to_it():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        await ask("POST", "/v1/containers", {"name": "shop", "command": ["true"]})
        planned = await ask("POST", "/v1/containers/shop/stop?dry_run=true&timeout=3")
        assert [step["text"] for step in planned.body["plan"]] == [
            "stop container shop, killed after 3 s"
        ]
        assert engine.containers.asked == []
        unknown = await ask("POST", "/v1/containers/other/stop?dry_run=true")
        assert unknown.status == 404

    converse(talk)


def test_whoever_waits_for_a_container_gets_its_exit_status():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        await ask("POST", "/v1/containers", {"name": "shop", "command": ["true"]})
        waiting = asyncio.ensure_future(ask("POST", "/v1/containers/shop/wait"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        engine.containers.ended.set()
        assert (await waiting).body == {"exit_code": 7}
        assert (await ask("POST", "/v1/containers/nobody/wait")).status == 404

    converse(talk)


def test_logs_are_lines_of_json_and_bytes_that_are_no_text_are_kept():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        await ask("POST", "/v1/containers", {"name": "shop", "command": ["true"]})
        second = 10**9
        engine.containers.written = [
            LogEntry(1_800_000_000 * second, "stdout", "gr\u00fc\u00df\n".encode()),
            LogEntry(1_800_000_001 * second, "stderr", b"\xff\n"),
        ]
        reply = await ask("GET", "/v1/containers/shop/logs")
        first, last = (json.loads(line) for line in reply.data.splitlines())
        assert first == {
            "time": "2027-01-15T08:00:00Z", "stream": "stdout", "text": "gr\u00fc\u00df\n"
        }  # fmt: skip
        assert (last["stream"], last["base64"]) == ("stderr", "/wo=")
        later = await ask("GET", "/v1/containers/shop/logs?since=1800000000.5")
        assert [json.loads(line)["stream"] for line in later.data.splitlines()] == ["stderr"]
        unknown = await ask("GET", "/v1/containers/nobody/logs")
        assert (unknown.status, unknown.error["code"]) == (404, "not_found")

    converse(talk)


def test_a_session_is_prepared_started_awaited_and_forgotten():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        await ask("POST", "/v1/containers", {"name": "shop", "command": ["true"]})
        body = {"command": ["ls", "-l"], "user": "65534", "tty": True}
        made = await ask("POST", "/v1/containers/shop/exec", body)
        assert made.status == 201
        session = f"/v1/containers/shop/exec/{made.body['id']}"
        assert made.body["attach"].endswith("exec/5e")
        wanted = {
            "env": (), "user": "65534", "workdir": None, "tty": True, "interactive": False
        }  # fmt: skip
        assert engine.containers.asked == [("exec", "shop", ("ls", "-l"), wanted)]
        assert (await ask("POST", f"{session}/start")).body == {"pid": 4711}
        assert (await ask("POST", f"{session}/wait")).body == {"exit_code": 6}
        assert (await ask("POST", f"{session}/wait")).status == 404

    converse(talk)


def test_a_purge_ends_the_daemon_when_it_has_answered():
    async def with_engine() -> None:
        engine = await FakeEngine.open()
        service = Service(engine=engine, closing=asyncio.Event(), facts=FACTS)  # type: ignore[arg-type]
        application = build_application(service)
        planned = await ask(application, "POST", "/v1/purge?dry_run=true")
        assert planned.body == {"plan": []}
        assert not service.closing.is_set()
        done = await ask(application, "POST", "/v1/purge")
        assert done.body["removed"] == ["remove bridge ls-bridge"]
        assert service.closing.is_set()
        assert service.purged

    asyncio.run(with_engine())


def test_the_exit_status_of_a_container_that_was_removed_meanwhile_is_found():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        gone = "a" * 64
        await engine.events.append("container", "die", "shop", gone, exit_code="4")
        await engine.events.append("container", "remove", "shop", gone)
        assert (await ask("POST", f"/v1/containers/{gone}/wait")).body == {"exit_code": 4}
        assert (await ask("POST", f"/v1/containers/{'b' * 64}/wait")).status == 404

    converse(talk)


@pytest.mark.parametrize("size", [{"rows": 0, "columns": 80}, {"rows": 24, "columns": 70000}])
def test_a_terminal_has_a_sensible_size(size: dict[str, int]):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        await ask("POST", "/v1/containers", {"name": "shop", "command": ["true"]})
        refused = await ask("POST", "/v1/containers/shop/resize", size)
        assert (refused.status, refused.error["code"]) == (400, "invalid")
        done = await ask("POST", "/v1/containers/shop/resize", {"rows": 24, "columns": 80})
        assert done.status == 204
        assert engine.containers.asked == [("resize", "shop", 24, 80)]

    converse(talk)


def test_info_and_health():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        assert (await ask("GET", "/v1/health")).body == {"status": "ok"}
        info = (await ask("GET", "/v1/info")).body
        assert (info["version"], info["networks"], info["sandboxes"]) == ("1", 3, 0)

    converse(talk)


def test_every_changing_operation_can_be_planned():
    planned = {
        (operation.method, operation.path)
        for operation in OPERATIONS
        if any(parameter.name == "dry_run" for parameter in operation.query)
    }
    changing = {(o.method, o.path) for o in OPERATIONS if o.method in ("POST", "DELETE")}
    unplanned = {path for _, path in changing - planned}
    inside_containers = {p for p in unplanned if p.endswith(("/wait", "/resize")) or "/exec" in p}
    assert unplanned - inside_containers == {"/v1/reconcile"}


def test_names_of_operations_are_unique():
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)
