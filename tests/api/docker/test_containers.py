"""Sandboxes as Docker's clients see containers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from api.docker.conversation import Ask, converse, with_filters
from api.fake_engine import FakeEngine
from linkspan.api.docker.shown_containers import describe_state, name_state
from linkspan.drivers.records import Sandbox
from linkspan.engine.containers.records import ContainerRecord


def test_a_sandbox_is_listed():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        body = {"name": "shop", "ports": ["8080:80"], "labels": {"team": "x"}}
        made = await ask("POST", "/v1/sandboxes", body)
        (shown,) = (await ask("GET", "/v1.43/containers/json")).body
        assert shown["Id"] == made.body["id"]
        assert (shown["Names"], shown["Image"], shown["State"]) == (["/shop"], "", "running")
        assert shown["Created"] == 1_800_000_000
        assert shown["Labels"] == {"team": "x"}
        assert shown["Ports"] == [
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}
        ]
        assert shown["HostConfig"] == {"NetworkMode": "bridge"}
        settings = shown["NetworkSettings"]["Networks"]["bridge"]
        assert (settings["IPAddress"], settings["IPPrefixLen"]) == ("172.20.0.2", 24)
        assert settings["Gateway"] == "172.20.0.1"
        assert settings["NetworkID"] == engine.network("bridge").id

    converse(talk)


def test_a_container_is_inspected_by_name_with_and_without_slash_and_by_id():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        body = {"name": "shop", "command": ["sleep", "9"], "ports": ["8080:80"]}
        made = await ask("POST", "/v1/containers", body | {"restart": "on-failure:3"})
        await ask("POST", "/v1/containers/shop/start")
        shown = (await ask("GET", "/v1.43/containers/shop/json")).body
        assert (shown["Name"], shown["Path"], shown["Args"]) == ("/shop", "sleep", ["9"])
        assert shown["State"]["Status"] == "running"
        assert shown["State"]["StartedAt"] == "2027-01-15T08:00:01Z"
        assert shown["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
        assert shown["HostConfig"]["RestartPolicy"] == {
            "Name": "on-failure",
            "MaximumRetryCount": 3,
        }
        assert shown["NetworkSettings"]["Ports"] == {
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]
        }
        assert shown["NetworkSettings"]["IPAddress"] == "172.20.0.2"
        by_id = await ask("GET", f"/containers/{made.body['id'][:12]}/json")
        assert by_id.body["Id"] == made.body["id"]
        assert "IPAddress" not in by_id.body["NetworkSettings"]
        gone = await ask("GET", "/containers/nono/json")
        assert (gone.status, gone.body["message"][:23]) == (404, "No such container: nono")

    converse(talk)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ["web", "shop"]),
        ({"name": ["^sh"]}, ["shop"]),
        ({"name": ["^/shop$"]}, ["shop"]),
        ({"label": ["team=x"]}, ["shop"]),
        ({"network": ["backend"]}, ["web"]),
        ({"status": ["exited"]}, ["old"]),
        ({"status": ["exited", "running"], "name": ["o"]}, ["old", "shop"]),
        ({"network": ["none"]}, []),
    ],
)
def test_containers_are_filtered_and_the_newest_is_first(query: Any, names: list[str]):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        await ask("POST", "/networks/create", {"Name": "backend"})
        await ask("POST", "/v1/sandboxes", {"name": "shop", "labels": {"team": "x"}})
        await ask("POST", "/v1/sandboxes", {"name": "web", "networks": ["backend"]})
        await ask("POST", "/v1/containers", {"name": "old", "command": ["true"]})
        await ask("POST", "/v1/containers/old/stop")
        found = await ask("GET", with_filters("/containers/json", **query))
        assert [one["Names"][0][1:] for one in found.body] == names
        identity = engine.network("backend").id
        there = await ask("GET", with_filters("/containers/json", network=[identity[:12]]))
        assert [one["Names"] for one in there.body] == [["/web"]]

    converse(talk)


def test_all_and_limit_and_what_is_wrong_with_them():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        for name in ("one", "two"):
            await ask("POST", "/v1/sandboxes", {"name": name})
        await ask("POST", "/v1/containers", {"name": "three", "command": ["true"]})

        async def names(query: str) -> list[str]:
            found = (await ask("GET", f"/containers/json?{query}")).body
            return [one["Names"][0][1:] for one in found]

        assert await names("all=0&size=0") == ["two", "one"]
        assert await names("all=1") == ["three", "two", "one"]
        assert await names("limit=2") == ["three", "two"]
        assert await names("limit=-1") == ["two", "one"]
        for query in ("all=perhaps", "limit=some", "filters={%22status%22:[%22asleep%22]}"):
            assert (await ask("GET", f"/containers/json?{query}")).status == 400

    converse(talk)


@pytest.mark.parametrize(
    ("state", "status", "shown", "words"),
    [
        ("up", None, "running", "Up 5 minutes"),
        ("gone", None, "dead", "Dead"),
        ("exited", None, "exited", "Exited (0)"),
        ("allocated", "creating", "created", "Created"),
        ("up", "running", "running", "Up 2 minutes"),
        ("exited", "exited", "exited", "Exited (7) About a minute ago"),
        ("up", "restarting", "restarting", "Restarting (7) About a minute ago"),
        ("up", "removing", "removing", "Removal In Progress"),
    ],
)
def test_states_are_dockers(state: str, status: str | None, shown: str, words: str):
    sandbox = Sandbox(id="a", name="shop", state=state, created=1000.0)
    record = ContainerRecord(
        id="a", command=("true",), status=status or "", started=1180.0, finished=1240.0, exit_code=7
    )
    given = None if status is None else record
    assert name_state(sandbox, given) == shown
    assert describe_state(sandbox, given, 1300.0) == words


def test_host_mode_and_no_network_have_their_own_names():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        await ask("POST", "/v1/sandboxes", {"name": "shop"})
        sandbox = engine.sandbox("shop")
        for name, changes in (("host", {"host_mode": True}), ("none", {"host_mode": False})):
            changed = msgspec.structs.replace(sandbox, endpoints=(), **changes)
            engine.by_name["sandbox"]["shop"] = changed
            (shown,) = (await ask("GET", "/containers/json")).body
            assert shown["HostConfig"]["NetworkMode"] == name
            assert list(shown["NetworkSettings"]["Networks"]) == [name]
            members = (await ask("GET", f"/networks/{name}")).body["Containers"]
            assert [one["Name"] for one in members.values()] == ["shop"]

    converse(talk)
