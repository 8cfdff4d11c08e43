"""Networks in Docker's form: created, listed by filters, inspected, joined, removed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from api.docker.conversation import Ask, converse, with_filters
from api.fake_engine import FakeEngine
from linkspan.api.docker.creation import DockerNetworkRequest, compose_request
from linkspan.engine.requests import SubnetRequest
from linkspan.errors import InvalidRequest, LinkspanError, Unsupported


def compose(**fields: Any) -> Any:
    import msgspec

    return compose_request(msgspec.convert({"Name": "web", **fields}, DockerNetworkRequest))


def test_a_network_as_the_cli_asks_for_it():
    request = compose(
        CheckDuplicate=True,
        Driver="bridge",
        Scope="",
        EnableIPv6=True,
        IPAM={
            "Driver": "default",
            "Options": {},
            "Config": [
                {"Subnet": "fd00:20::/64"},
                {
                    "Subnet": "10.20.0.0/24",
                    "IPRange": "10.20.0.128/25",
                    "Gateway": "10.20.0.9",
                    "AuxiliaryAddresses": {"nas": "10.20.0.5"},
                },
            ],
        },
        Internal=True,
        Options={"com.docker.network.driver.mtu": "1400"},
        Labels={"team": "shop"},
    )
    assert request.subnets == [
        SubnetRequest(subnet="fd00:20::/64"),
        SubnetRequest(
            subnet="10.20.0.0/24",
            ip_range="10.20.0.128/25",
            gateway="10.20.0.9",
            reserved={"nas": "10.20.0.5"},
        ),
    ]
    assert (request.ipv4, request.ipv6) == (True, True)
    assert request.options == {"com.docker.network.driver.mtu": "1400"}
    assert request.labels == {"team": "shop"}
    assert request.internal


def test_null_and_empty_are_as_good_as_left_out():
    plain = compose()
    assert plain.driver == "bridge"
    assert (plain.subnets, plain.ipv4, plain.ipv6) == ([], True, False)
    nothing = dict.fromkeys(
        ("Driver", "IPAM", "Options", "Labels", "Internal", "EnableIPv4", "EnableIPv6", "Scope")
    )
    assert compose(**nothing, ConfigFrom={"Network": ""}, Unknown=1) == plain
    config = dict.fromkeys(("Subnet", "IPRange", "Gateway", "AuxiliaryAddresses"))
    assert compose(IPAM={"Driver": "default", "Config": [config]}) == plain
    stated = dict.fromkeys(config, "") | {"Subnet": "10.0.0.0/24", "AuxiliaryAddresses": {"n": ""}}
    (subnet,) = compose(IPAM={"Driver": "", "Config": [stated]}).subnets
    assert subnet == SubnetRequest(subnet="10.0.0.0/24")


def test_ipv4_is_there_unless_it_is_switched_off_and_ipv6_the_other_way_round():
    six = {"IPAM": {"Config": [{"Subnet": "fd00:20::/64"}]}, "EnableIPv6": True}
    for fields, versions in (
        ({}, (True, False)),
        (six, (True, True)),
        ({**six, "EnableIPv4": False}, (False, True)),
        ({"EnableIPv4": True, "EnableIPv6": False}, (True, False)),
    ):
        made = compose(**fields)
        assert (made.ipv4, made.ipv6) == versions


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"ConfigOnly": True}, Unsupported, "ConfigOnly"),
        ({"ConfigFrom": {"Network": "base"}}, Unsupported, "ConfigFrom base"),
        ({"Ingress": True}, Unsupported, "Ingress"),
        ({"Scope": "swarm"}, Unsupported, "Scope swarm"),
        ({"IPAM": {"Driver": "remote"}}, Unsupported, "IPAM driver remote"),
        ({"IPAM": {"Options": {"colour": "red"}}}, InvalidRequest, "'colour'"),
        ({"Labels": {"linkspan.docker.options": "{}"}}, InvalidRequest, "linkspan.docker."),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    fields: dict[str, Any], error: type[LinkspanError], words: str
):
    with pytest.raises(error, match=re.escape(words)):
        compose(**fields)


def test_options_are_shown_as_they_were_written_and_labels_of_ours_are_not():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        body = {"Name": "web", "Options": {"mtu": "1400"}, "Labels": {"a": "1"}, "Attachable": True}
        made = await ask("POST", "/v1.43/networks/create", body)
        assert (made.status, made.body["Warning"]) == (201, "")
        shown = (await ask("GET", f"/v1.43/networks/{made.body['Id']}")).body
        assert shown["Options"] == {"mtu": "1400"}
        assert shown["Labels"] == {"a": "1"}
        assert shown["Attachable"] is True
        for hidden in ("linkspan.docker.attachable", "linkspan.docker.attachable=true"):
            found = await ask("GET", with_filters("/networks", label=[hidden]))
            assert found.body == []

    converse(talk)


def test_a_network_that_was_made_otherwise_is_shown_with_dockers_option_names():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        options = {"icc": "false", "source_check": "false"}
        await ask("POST", "/v1/networks", {"name": "web", "options": options})
        shown = (await ask("GET", "/networks/web")).body
        assert shown["Options"] == {
            "com.docker.network.bridge.enable_icc": "false",
            "source_check": "false",
        }
        assert (shown["Scope"], shown["Driver"], shown["Ingress"]) == ("local", "bridge", False)
        assert shown["Created"] == "2027-01-15T08:00:00Z"
        assert shown["ConfigFrom"] == {"Network": ""}

    converse(talk)


def test_statuses_and_messages_are_dockers():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        async def refused(method: str, path: str, body: Any = None) -> tuple[int, str]:
            reply = await ask(method, path, body)
            assert list(reply.body) == ["message"]
            return reply.status, reply.body["message"]

        await ask("POST", "/networks/create", {"Name": "web"})
        await ask("POST", "/v1/sandboxes", {"name": "shop", "networks": ["web"]})
        status, message = await refused("POST", "/networks/create", {"Name": "web"})
        assert (status, "network with name web already exists" in message) == (409, True)
        status, message = await refused("POST", "/networks/create", {"Name": "bridge"})
        assert (status, "predefined" in message) == (403, True)
        create = {"Name": "x", "Driver": "no-such"}
        status, message = await refused("POST", "/networks/create", create)
        assert (status, "'no-such'" in message) == (404, True)
        status, message = await refused("POST", "/networks/create", {"Name": 7})
        assert (status, "Name" in message) == (400, True)
        status, message = await refused("GET", "/networks/nono")
        assert (status, message.startswith("network nono not found")) == (404, True)
        status, message = await refused("GET", "/networks/web?scope=swarm")
        assert (status, message.startswith("network web not found")) == (404, True)
        status, message = await refused("GET", "/networks/web?verbose=maybe")
        assert (status, "verbose" in message) == (400, True)
        status, message = await refused("DELETE", "/networks/host")
        assert (status, "pre-defined" in message) == (403, True)
        status, message = await refused("DELETE", "/networks/web")
        assert (status, "has active endpoints: shop" in message) == (403, True)
        status, message = await refused("POST", "/networks/web/connect", {"Container": "shop"})
        assert (status, "already exists in network web" in message) == (403, True)
        status, message = await refused("POST", "/networks/web/connect", {"Container": "nono"})
        assert (status, message.startswith("No such container: nono")) == (404, True)
        status, message = await refused("POST", "/networks/nono/connect", {"Container": "shop"})
        assert (status, message.startswith("network nono not found")) == (404, True)
        status, message = await refused("POST", "/networks/host/disconnect", {"Container": "shop"})
        assert (status, "is not connected to network host" in message) == (404, True)
        status, message = await refused("POST", "/networks/web/connect", {})
        assert (status, "'Container' is missing" in message) == (400, True)

    converse(talk)


@pytest.mark.parametrize(
    ("wishes", "status", "words"),
    [
        ({"Links": ["db:db"]}, 501, "Links"),
        ({"IPAMConfig": {"LinkLocalIPs": ["169.254.1.1"]}}, 501, "LinkLocalIPs"),
        ({"DriverOpts": {"com.docker.network.endpoint.ifname": "x"}}, 400, "endpoint.ifname"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_by_name(wishes: Any, status: int, words: str):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        await ask("POST", "/networks/create", {"Name": "web"})
        await ask("POST", "/v1/sandboxes", {"name": "shop"})
        body = {"Container": "shop", "EndpointConfig": wishes}
        reply = await ask("POST", "/networks/web/connect", body)
        assert (reply.status, words in reply.body["message"]) == (status, True)

    converse(talk)


def test_a_sandbox_joins_and_leaves():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        await ask("POST", "/networks/create", {"Name": "web"})
        await ask("POST", "/v1/sandboxes", {"name": "shop"})
        body = {"Container": "/shop", "EndpointConfig": {"IPAMConfig": {}, "Links": None,
                "Aliases": [], "GwPriority": 0, "MacAddress": "", "DriverOpts": None}}  # fmt: skip
        joined = await ask("POST", "/v1.43/networks/web/connect", body)
        assert (joined.status, joined.data) == (200, b"")
        members = (await ask("GET", "/networks/web")).body["Containers"]
        assert [one["Name"] for one in members.values()] == ["shop"]
        assert list(members) == [engine.sandbox("shop").id]
        left = await ask("POST", "/networks/web/disconnect", {"Container": "shop", "Force": True})
        assert (left.status, left.data) == (200, b"")
        assert (await ask("GET", "/networks/web")).body["Containers"] == {}
        assert (await ask("DELETE", "/networks/web")).status == 204

    converse(talk)


def test_a_sandbox_on_no_network_leaves_none_without_effect():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        await ask("POST", "/networks/create", {"Name": "web"})
        await ask("POST", "/v1/sandboxes", {"name": "shop", "networks": ["web"]})
        await engine.disconnect("shop", "web")
        none = (await ask("GET", "/networks/none")).body["Containers"]
        assert [one["Name"] for one in none.values()] == ["shop"]
        left = await ask("POST", "/networks/none/disconnect", {"Container": "shop"})
        assert left.status == 200

    converse(talk)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["bridge", "host", "none", "web", "website"]),
        ({"name": ["web"]}, ["web", "website"]),
        ({"name": {"web": True}}, ["web", "website"]),
        ({"name": {"^web$": True, "ost": True}}, ["host", "web"]),
        ({"name": ["("]}, []),
        ({"driver": ["null"]}, ["none"]),
        ({"driver": ["null", "host"]}, ["host", "none"]),
        ({"label": ["team"]}, ["web", "website"]),
        ({"label": ["team=shop"]}, ["web"]),
        ({"label": ["team", "tier=1"]}, ["website"]),
        ({"scope": ["local"], "type": ["custom"]}, ["web", "website"]),
        ({"scope": ["swarm"]}, []),
        ({"type": ["builtin"]}, ["bridge", "host", "none"]),
        ({"dangling": ["true"]}, ["website"]),
        ({"dangling": {"0": True}}, ["bridge", "host", "none", "web"]),
    ],
)
def test_networks_are_filtered(filters: Any, names: list[str]):
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        for name, labels in (("web", {"team": "shop"}), ("website", {"team": "x", "tier": "1"})):
            await ask("POST", "/networks/create", {"Name": name, "Labels": labels})
        await ask("POST", "/v1/sandboxes", {"name": "shop", "networks": ["web"]})
        found = await ask("GET", with_filters("/v1.43/networks", **filters))
        assert [one["Name"] for one in found.body] == names
        assert all("Containers" not in one for one in found.body)
        identity = engine.network("web").id
        by_id = await ask("GET", with_filters("/networks", id=[identity[:12]]))
        assert [one["Id"] for one in by_id.body] == [identity]

    converse(talk)


@pytest.mark.parametrize(
    "query",
    ["nonsense", '{"name": 7}', '{"colour": ["red"]}', '{"dangling": ["perhaps"]}',
     '{"dangling": ["0", "1"]}', '{"type": ["other"]}', "[" * 3000],
)  # fmt: skip
def test_a_wrong_filter_is_refused(query: str):
    from urllib.parse import quote

    async def talk(ask: Ask, engine: FakeEngine) -> None:
        reply = await ask("GET", f"/networks?filters={quote(query)}")
        assert reply.status == 400
        assert "filter" in reply.body["message"]

    converse(talk)


def test_unused_networks_are_pruned_by_label_and_age():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        await ask("POST", "/networks/create", {"Name": "used"})
        for name, labels in (("kept", {"keep": "1"}), ("old", {"old": "1"}), ("plain", {})):
            await ask("POST", "/networks/create", {"Name": name, "Labels": labels})
        await ask("POST", "/v1/sandboxes", {"name": "shop", "networks": ["used"]})

        async def prune(**filters: list[str]) -> Any:
            reply = await ask("POST", with_filters("/v1.43/networks/prune", **filters))
            return reply.body.get("NetworksDeleted", reply.body)

        # The fake engine made them all on 2027-01-15 at 08:00.
        assert await prune(until=["2027-01-15T07:59:59Z"]) == []
        assert await prune(label=["old"]) == ["old"]
        assert await prune(**{"label!": ["keep"]}) == ["plain"]
        assert await prune(until=["2027-01-15T08:00:01"]) == ["kept"]
        assert "expected" in (await prune(until=["yesterday"]))["message"]
        assert [n.name for n in engine.networks()] == ["bridge", "host", "none", "used"]

    converse(talk)


def test_newer_clients_are_told_how_many_addresses_are_left():
    async def talk(ask: Ask, engine: FakeEngine) -> None:
        await ask("POST", "/v1/sandboxes", {"name": "shop"})
        shown = (await ask("GET", "/v1.52/networks/bridge")).body
        # Of 256: network, broadcast, gateway and one sandbox.
        counted = {"172.20.0.0/24": {"IPsInUse": 4, "DynamicIPsAvailable": 252}}
        assert shown["Status"]["IPAM"]["Subnets"] == counted
        assert "Status" not in (await ask("GET", "/v1.51/networks/bridge")).body

    converse(talk)
