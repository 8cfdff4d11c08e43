"""What exists is found by whatever identifies it, and no longer when it is gone."""

from __future__ import annotations

import msgspec
import pytest

from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.engine.register import Register
from linkspan.errors import NameInUse, NotFound

WEB = Network(id="a" * 64, name="web", driver="bridge", interface="ls-web")
ENDPOINT = Endpoint(
    id="e" * 64, network=WEB.id, interface="eth0", host_interface="lsv0", mac="02:00:00:00:00:01"
)
SHOP = Sandbox(id="ab" * 32, name="shop", state="up", inode=7, endpoints=(ENDPOINT,))


@pytest.fixture
def register() -> Register:
    register = Register()
    register.put_network(WEB)
    register.put_sandbox(SHOP)
    return register


def test_by_name_id_and_beginning(register: Register) -> None:
    for ref in ("shop", SHOP.id, "abab"):
        assert register.sandbox(ref) == SHOP
    other = msgspec.structs.replace(SHOP, id="abab" + "c" * 60, name="other", endpoints=())
    register.put_sandbox(other)
    with pytest.raises(NotFound, match="2 sandboxes"):
        register.sandbox("abab")
    with pytest.raises(NotFound, match="other, shop"):
        register.sandbox("nobody")
    with pytest.raises(NameInUse):
        register.check_sandbox_name("shop")


def test_by_everything_else(register: Register) -> None:
    assert register.at_host_interface("lsv0") == SHOP
    assert register.in_namespace(7) == SHOP
    assert register.with_mac(WEB.id, "02:00:00:00:00:01") == SHOP
    assert register.members(WEB.id) == [SHOP]
    assert register.at_network_interface("ls-web") == WEB


def test_not_when_it_has_changed(register: Register) -> None:
    register.put_sandbox(msgspec.structs.replace(SHOP, endpoints=(), inode=8))
    assert register.at_host_interface("lsv0") is None
    assert register.in_namespace(7) is None
    assert register.with_mac(WEB.id, "02:00:00:00:00:01") is None
    assert not register.is_used(WEB.id)


def test_one_that_exited_uses_its_networks_and_holds_nothing(register: Register) -> None:
    register.put_sandbox(msgspec.structs.replace(SHOP, state="exited"))
    assert register.at_host_interface("lsv0") is None
    assert register.in_namespace(7) is None
    assert register.with_mac(WEB.id, "02:00:00:00:00:01") is None
    assert register.is_used(WEB.id)


def test_nothing_is_left_of_one_that_is_dropped(register: Register) -> None:
    register.drop_sandbox(SHOP)
    register.drop_network(WEB)
    left = {name: held for name, held in vars(register).items() if held}
    assert left == {}


def test_a_network_under_way_cannot_be_joined_and_its_name_is_taken(register: Register) -> None:
    register.drop_sandbox(SHOP)
    register.reserve_network(WEB)
    with pytest.raises(NotFound):
        register.network("web")
    with pytest.raises(NameInUse):
        register.check_network_name("web")
    assert register.all_networks() == [WEB]
    register.put_network(WEB)
    assert register.network("web") == WEB
    assert register.all_networks() == [WEB]
