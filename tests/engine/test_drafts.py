"""From a request to what a sandbox shall be."""

from __future__ import annotations

import pytest

from linkspan.drivers.records import Endpoint, Network, Sandbox, Subnet
from linkspan.engine.drafts import (
    Join,
    check_alias,
    next_interface,
    parse_mac,
    rejoin,
    resolve_networks,
    without_addresses,
)
from linkspan.engine.register import Register
from linkspan.engine.requests import NetworkAttachment
from linkspan.errors import InvalidRequest, LinkspanError, NotFound


@pytest.fixture
def register() -> Register:
    register = Register()
    for name, driver in (("web", "bridge"), ("back", "bridge"), ("host", "host"), ("none", "null")):
        subnets = (Subnet(subnet="10.20.0.0/24"),) if driver == "bridge" else ()
        register.put_network(Network(id=name * 8, name=name, driver=driver, subnets=subnets))
    return register


def names(joins: list[Join]) -> list[str]:
    return [join.network.name for join in joins]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, ["web"]),
        ([], ["none"]),
        (["back", "web"], ["back", "web"]),
        (["host"], ["host"]),
        ([NetworkAttachment(network="web")], ["web"]),
    ],
)
def test_networks_in_the_order_of_the_request(
    register: Register, wanted: list[str] | None, found: list[str]
) -> None:
    assert names(resolve_networks(wanted, "web", register)) == found


@pytest.mark.parametrize(
    ("wanted", "error", "says"),
    [
        (["web", "host"], InvalidRequest, "host cannot be combined with web"),
        (["none", "web"], InvalidRequest, "none cannot be combined"),
        (["host", "host"], InvalidRequest, "host"),
        (["web", "webwebwebwebwebwebwebweb"], InvalidRequest, "named twice"),
        (["lost"], NotFound, "back, host, none, web"),
        ([NetworkAttachment(network="host", ip="10.0.0.1")], InvalidRequest, "no interface"),
        ([NetworkAttachment(network="web", ip="fd00::1")], InvalidRequest, "as ipv6"),
        ([NetworkAttachment(network="web", ipv6="10.0.0.1")], InvalidRequest, "as ip"),
        ([NetworkAttachment(network="web", ip="10.0.0.1/24")], InvalidRequest, "prefix length"),
    ],
)
def test_networks_that_do_not_go_together(
    register: Register, wanted: list[str], error: type[LinkspanError], says: str
) -> None:
    with pytest.raises(error, match=says):
        resolve_networks(wanted, "web", register)


@pytest.mark.parametrize("text", ["02:42:0A:14:00:02", "02-42-0a-14-00-02"])
def test_a_mac_in_one_spelling(text: str) -> None:
    assert parse_mac(text) == "02:42:0a:14:00:02"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:42",
        "01:00:5e:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "02:42:0a:14:00:0g",
    ],
)
def test_no_mac_that_a_host_can_have(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_mac(text)


@pytest.mark.parametrize("text", ["db", "a", "db.shop", "_sip._tcp", "a_b-c", "7", "a" * 63])
def test_an_alias_that_can_be_looked_up(text: str) -> None:
    assert check_alias(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        ".",
        "db.",
        ".db",
        "a..b",
        "-db",
        "a\0",
        "a\n",
        "\u202e",
        "a" * 64,
        "a.a" * 60,
    ],
)
def test_an_alias_that_cannot_be_looked_up(text: str, register: Register) -> None:
    with pytest.raises(InvalidRequest, match="is no alias"):
        resolve_networks([NetworkAttachment(network="web", aliases=[text])], "web", register)


def test_interfaces_are_numbered_around_those_that_are_there() -> None:
    assert next_interface(()) == "eth0"
    assert next_interface({"lo", "eth0", "eth2"}) == "eth1"


def test_what_was_asked_for_outlives_a_release(register: Register) -> None:
    web = register.network("web")
    endpoint = Endpoint(
        id="e" * 64, network=web.id, interface="eth0", host_interface="lsv0", ipv4="10.20.0.9/24",
        mac="02:42:0a:14:00:09", gateway="10.20.0.1", fixed=("ipv4",), aliases=("db",),
    )  # fmt: skip
    released = without_addresses(endpoint)
    assert (released.ipv4, released.mac, released.host_interface) == ("10.20.0.9/24", None, "")
    sandbox = Sandbox(id="s" * 64, name="shop", state="exited", endpoints=(released,))
    assert rejoin(sandbox, register) == [
        Join(web, ipv4="10.20.0.9", aliases=("db",), preferred=("10.20.0.9",))
    ]
