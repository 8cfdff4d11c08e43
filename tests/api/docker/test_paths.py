"""Docker's paths beside ours: neither is taken for the other, and versions are checked."""

from __future__ import annotations

import pytest

from api.docker.conversation import Ask, converse
from api.fake_engine import FakeEngine
from linkspan.drivers.registry import DRIVERS


@pytest.mark.parametrize("path", ["/networks", "/v1.40/networks", "/v1.52/networks"])
def test_a_version_before_the_path_is_dockers(path: str):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        reply = await ask("GET", path)
        assert reply.status == 200
        assert [one["Name"] for one in reply.body] == ["bridge", "host", "none"]
        assert reply.headers["api-version"] == "1.52"
        assert reply.headers["ostype"] == "linux"

    converse(talk)


@pytest.mark.parametrize("path", ["/v1/networks", "/v1/networks/bridge", "/v1/events?follow=0"])
def test_our_own_version_is_ours(path: str):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        reply = await ask("GET", path)
        assert reply.status == 200
        assert "api-version" not in reply.headers
        assert b'"Name"' not in reply.data

    converse(talk)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1.39/networks", "is too old. Minimum supported API version is 1.40"),
        ("/v1.53/networks", "is too new. Maximum supported API version is 1.52"),
        ("/v2.0/networks", "is too new"),
        ("/v0.9/_ping", "is too old"),
    ],
)
def test_a_version_that_is_not_spoken_is_refused(path: str, words: str):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        reply = await ask("GET", path)
        assert reply.status == 400
        assert words in reply.body["message"]
        assert reply.headers["api-version"] == "1.52"

    converse(talk)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1.43/containers/create?name=shop"),
        ("GET", "/v1.43/images/json"),
        ("GET", "/images/shop/json"),
        ("DELETE", "/v1.43/containers/shop"),
        ("PUT", "/v1.43/networks/web"),
        ("GET", "/v1.43/"),
        ("GET", "/v1.43"),
        ("GET", "/v1.43/no/such/thing"),
        ("POST", "/build"),
        ("GET", "/v1.43/v1/networks"),
    ],
)
def test_the_rest_of_the_engine_api_is_not_supported(method: str, path: str):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        reply = await ask(method, path)
        assert reply.status == 501
        assert list(reply.body) == ["message"]
        assert "is not supported" in reply.body["message"]

    converse(talk)


@pytest.mark.parametrize("path", ["/", "/index.html", "/v1", "/v1.x/networks", "/net", "*", "/v2/"])
def test_what_is_neither_is_answered_in_our_form(path: str):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        reply = await ask("GET", path)
        assert reply.status == 404
        assert reply.error["code"] == "not_found"

    converse(talk)


def test_a_ping_says_ok_by_get_and_nothing_by_head():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        got = await ask("GET", "/_ping")
        assert (got.status, got.data) == (200, b"OK")
        assert got.headers["content-type"].startswith("text/plain")
        head = await ask("HEAD", "/_ping")
        assert (head.status, head.data) == (200, b"")
        assert head.headers["api-version"] == got.headers["api-version"] == "1.52"

    converse(talk)


def test_version_and_info_tell_of_this_daemon():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        version = (await ask("GET", "/version")).body
        assert (version["ApiVersion"], version["MinAPIVersion"]) == ("1.52", "1.40")
        assert version["Version"] == "1"
        await ask("POST", "/v1/sandboxes", {"name": "shop"})
        info = (await ask("GET", "/v1.43/info")).body
        assert (info["Containers"], info["ContainersRunning"], info["Images"]) == (1, 1, 0)
        assert info["ServerVersion"] == "1"
        assert info["DockerRootDir"] == "/a"
        assert info["Plugins"]["Network"] == sorted(DRIVERS)

    converse(talk)


def test_an_unforeseen_error_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        engine.failure = RuntimeError("secret")
        reply = await ask("POST", "/networks/create", {"Name": "web"})
        assert reply.status == 500
        assert "secret" not in reply.body["message"]
        assert "secret" in caplog.text

    converse(talk)
