"""Networks connected and disconnected while packets flow."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Refused
from lab.processes import wait_until
from lab.reuse import Sites
from lab.site import HOST, NEIGHBOUR, Site, address


@pytest.fixture
def site(sites: Sites) -> Iterator[Site]:
    with sites.borrowed() as site:
        site.network("web", "10.20.0.0/24")
        site.network("back", "10.30.0.0/24")
        site.network("vault", "10.40.0.0/24", internal=True)
        yield site


def connect(site: Site, name: str, network: str, **wishes: Any) -> Any:
    body = {"network": network, **wishes}
    return site.daemon.post(f"/v1/sandboxes/{name}/networks", body)


def disconnect(site: Site, name: str, network: str) -> Any:
    return site.daemon.delete(f"/v1/sandboxes/{name}/networks/{network}")


def gateway(site: Site, sandbox: Any) -> str | None:
    shown = site.lab.run(sandbox["netns"], "ip -j route show default").stdout
    routes = json.loads(shown or "[]")
    return routes[0]["gateway"] if routes else None


class Chatter(threading.Thread):
    """Conversations that go on while something else is done; `errors` says which broke."""

    def __init__(self, **conversations: Any) -> None:
        super().__init__()
        self.conversations = conversations
        self.rounds = 0
        self.errors: dict[str, str] = {}
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.is_set():
            for name, conversation in self.conversations.items():
                if name in self.errors:
                    continue
                try:
                    assert conversation.say(f"round {self.rounds}") == f"round {self.rounds}"
                except (OSError, AssertionError) as error:
                    self.errors[name] = str(error)
            self.rounds += 1

    def __enter__(self) -> Chatter:
        self.start()
        self.wait()
        return self

    def wait(self, rounds: int = 20) -> None:
        """Until so many more rounds are done."""
        start = self.rounds
        wait_until(lambda: self.rounds >= start + rounds, "the conversations to go on", 20)

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join()


def test_conversations_on_other_networks_go_on(site: Site) -> None:
    shop = site.sandbox("shop", "web", ports=("8080:80",))
    member = site.sandbox("member", "web")
    site.serve(shop, 80)
    site.lab.listener_tcp(site.neighbour, NEIGHBOUR, 80)
    site.lab.listener_tcp(member["netns"], "0.0.0.0", 81)
    talks = {
        "published": site.lab.connect(site.neighbour, HOST, 8080),
        "from the host": site.lab.connect(site.host, address(shop), 80),
        "from a member": site.lab.connect(member["netns"], address(shop), 80),
        "outwards": site.lab.connect(shop["netns"], NEIGHBOUR, 80),
        "to a member": site.lab.connect(shop["netns"], address(member), 81),
    }
    with Chatter(**talks) as chatter:
        for _ in range(3):
            for network, wishes in (("back", {"gateway_priority": 9}), ("vault", {})):
                connect(site, "shop", network, **wishes)
                chatter.wait()
            disconnect(site, "shop", "vault")
            disconnect(site, "shop", "back")
            chatter.wait()
    assert chatter.errors == {}


def test_the_default_route_is_the_highest_prioritys_then_the_firsts(site: Site) -> None:
    shop = site.sandbox("shop", "vault")
    assert gateway(site, shop) is None
    connect(site, "shop", "web")
    assert gateway(site, shop) == "10.20.0.1"
    connect(site, "shop", "back")
    assert gateway(site, shop) == "10.20.0.1"
    disconnect(site, "shop", "web")
    assert gateway(site, shop) == "10.30.0.1"
    connect(site, "shop", "web", gateway_priority=5)
    assert gateway(site, shop) == "10.20.0.1"
    disconnect(site, "shop", "web")
    disconnect(site, "shop", "back")
    assert gateway(site, shop) is None
    site.daemon.post("/v1/reconcile")
    assert [e["network"] for e in site.daemon.get("/v1/sandboxes/shop")["endpoints"]] == ["vault"]


def test_published_ports_follow_the_default_route_and_open_conversations_stay(site: Site) -> None:
    shop = site.sandbox("shop", "web", ports=("8080:80",))
    site.serve(shop, 80)
    old = site.lab.connect(site.neighbour, HOST, 8080)
    connect(site, "shop", "back", gateway_priority=9)
    assert old.say("still here") == "still here"
    new = site.lab.connect(site.neighbour, HOST, 8080)
    targets = [row["address"] for row in site.daemon.cli_json("port", "shop")]
    assert targets == ["10.30.0.2"]
    disconnect(site, "shop", "web")
    assert new.say("me too") == "me too"
    disconnect(site, "shop", "back")
    assert not site.lab.fetch(site.neighbour, HOST, 8080, timeout=0.3).ok
    connect(site, "shop", "web")
    assert site.lab.fetch(site.neighbour, HOST, 8080, timeout=5).ok


def test_none_is_left_by_connecting_and_entered_again_by_disconnecting(site: Site) -> None:
    quiet = site.sandbox("quiet", "none")
    member = site.sandbox("member", "web")
    site.serve(quiet, 80)
    connect(site, "quiet", "web", ip="10.20.0.50")
    assert site.lab.fetch(member["netns"], "10.20.0.50", 80).reply == "quiet"
    disconnect(site, "quiet", "web")
    assert not site.lab.fetch(member["netns"], "10.20.0.50", 80, timeout=0.3).ok
    assert [link["ifname"] for link in json.loads(
        site.lab.run(quiet["netns"], "ip -j link").stdout)] == ["lo"]  # fmt: skip


def test_host_mode_and_networks_without_interfaces_are_refused_with_the_reason(site: Site) -> None:
    site.sandbox("agent", "host")
    site.sandbox("shop", "web")
    for name, network, says in (
        ("agent", "web", "uses the host's own network"),
        ("shop", "host", "gives no interface"),
        ("shop", "none", "gives no interface"),
        ("shop", "web", "already on network web"),
        ("shop", "nowhere", "no network 'nowhere'"),
    ):
        with pytest.raises(Refused, match=says):
            connect(site, name, network)
    with pytest.raises(Refused, match="is not on network back"):
        disconnect(site, "shop", "back")


def test_the_command_line_takes_every_wish(site: Site) -> None:
    site.sandbox("shop", "web")
    site.daemon.cli(
        *("network", "connect", "back", "shop", "--ip", "10.30.0.9", "--gw-priority", "7"),
        *("--mac", "02:00:00:00:00:99", "--alias", "orders", "--alias", "till"),
    )
    (endpoint,) = [
        e for e in site.daemon.cli_json("inspect", "shop")["endpoints"] if e["network"] == "back"
    ]
    assert (endpoint["ipv4"], endpoint["mac"], endpoint["gateway_priority"]) == (
        "10.30.0.9/24",
        "02:00:00:00:00:99",
        7,
    )
    assert endpoint["aliases"] == ["orders", "till"]
    site.daemon.cli("network", "disconnect", "-f", "back", "shop")
    wishes = "web:ip=10.20.0.77,alias=www,mac=02:00:00:00:00:77,gw-priority=1"
    site.daemon.cli("attach", "--name", "till", "--network", wishes, "--network", "back")
    first, second = site.daemon.cli_json("inspect", "till")["endpoints"]
    assert (first["ipv4"], first["aliases"], first["gateway_priority"]) == (
        "10.20.0.77/24",
        ["www"],
        1,
    )
    assert second["aliases"] == []


@pytest.mark.parametrize("point", ["connect.stored", "connect.applied"])
def test_a_connection_that_fails_leaves_nothing(site: Site, point: str) -> None:
    shop = site.sandbox("shop", "web", ports=("8080:80",))
    site.serve(shop, 80)
    site.daemon.restart(environment={"LINKSPAN_FAILPOINT": f"{point}:raise"})
    talk = site.lab.connect(site.neighbour, HOST, 8080)
    body = {"network": "back", "gateway_priority": 9}
    assert site.daemon.request("POST", "/v1/sandboxes/shop/networks", body).status == 500
    assert talk.say("hello") == "hello"
    assert gateway(site, shop) == "10.20.0.1"
    assert not any(site.daemon.post("/v1/reconcile").values())
    connect(site, "shop", "back")


def test_a_container_shows_its_process_and_comes_back_with_its_address(
    site: Site, require: Any
) -> None:
    require("runc", "conmon")
    for name in ("one", "two"):
        site.daemon.cli("run", "-d", "--name", name, "--network", "web", "--", "sleep", "1000")
    one = site.daemon.get("/v1/sandboxes/one")
    assert Path(f"/proc/{one['pid']}/comm").read_text() == "sleep\n"
    before = address(one)
    site.daemon.cli("stop", "-t", "0", "one")
    assert site.daemon.get("/v1/sandboxes/one")["pid"] is None
    site.daemon.cli("start", "one")
    again = site.daemon.get("/v1/sandboxes/one")
    assert (address(again), again["pid"] != one["pid"]) == (before, True)
    # Its end is seen by the daemon itself, whoever started it.
    by = {
        e["action"]: e["by"] and e["by"]["program"]
        for e in site.daemon.stream(f"/v1/events?since={site.since}&follow=false")
        if e["type"] == "container"
    }
    assert by["die"] is None
    assert by["start"]
    # Taken meanwhile: it gets another.
    site.daemon.cli("stop", "-t", "0", "one")
    site.sandbox("thief", {"network": "web", "ip": before})
    site.daemon.cli("start", "one")
    assert address(site.daemon.get("/v1/sandboxes/one")) != before
