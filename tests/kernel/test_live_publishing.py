"""Ports opened and closed while the container runs: at once, alone, and for good."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from lab import Conversation, Refused
from lab.reuse import Sites
from lab.site import HOST, NEIGHBOUR, Site, address

pytestmark = pytest.mark.parametrize("bridge_netfilter", [False, True], ids=["nf0", "nf1"])


@pytest.fixture
def site(sites: Sites, bridge_netfilter: bool) -> Iterator[Site]:
    with sites.borrowed(bridge_netfilter) as site:
        site.network("web", "10.20.0.0/24")
        yield site


def publish(site: Site, *ports: str, name: str = "shop") -> list[str]:
    done = site.daemon.post(f"/v1/sandboxes/{name}/ports", {"ports": list(ports)})
    return [f"{p['host_port']}-{p['host_port_end']}/{p['protocol']}" for p in done["ports"]]


def unpublish(site: Site, port: str, *, now: bool = False, name: str = "shop") -> None:
    site.daemon.delete(f"/v1/sandboxes/{name}/ports/{port}{'?now=true' if now else ''}")


def is_broken(conversation: Conversation) -> bool:
    try:
        conversation.say("still there?")
    except OSError:
        return True
    return False


def test_it_opens_while_others_talk_and_closes_for_new_connections_only(site: Site) -> None:
    shop = site.sandbox("shop", "web", ports=("8080:80",))
    site.serve(shop, 80)
    site.serve(shop, 443)
    talk = site.lab.connect(site.neighbour, HOST, 8080)
    assert site.lab.fetch(site.neighbour, HOST, 8443, timeout=0.3).error == "refused"
    assert publish(site, "8443:443") == ["8080-8080/tcp", "8443-8443/tcp"]
    for where, target in (
        (site.neighbour, HOST),
        (site.host, HOST),
        (site.host, "127.0.0.1"),
        (shop["netns"], HOST),
    ):
        assert site.lab.fetch(where, target, 8443).reply == "shop"
    other = site.lab.connect(site.neighbour, HOST, 8443)
    unpublish(site, "8443")
    assert site.lab.fetch(site.neighbour, HOST, 8443, timeout=0.3).error == "refused"
    assert not site.lab.fetch(site.host, "127.0.0.1", 8443, timeout=0.3).ok
    assert (talk.say("one"), other.say("two")) == ("one", "two")
    assert site.lab.fetch(site.neighbour, HOST, 8080).seen == NEIGHBOUR


@pytest.mark.parametrize("inside", [80, 8080], ids=["another number", "the same number"])
@pytest.mark.parametrize("by", [HOST, "127.0.0.1"])
def test_now_ends_what_is_established_and_nothing_else(site: Site, inside: int, by: str) -> None:
    shop = site.sandbox("shop", "web", ports=(f"8080:{inside}", f"8081:{inside}"))
    listener = site.lab.listener_tcp(shop["netns"], "0.0.0.0", inside, reply="shop")
    where = site.neighbour if by == HOST else site.host
    cut, kept = site.lab.connect(where, by, 8080), site.lab.connect(where, by, 8081)
    direct = site.lab.connect(site.host, address(shop), inside)
    unpublish(site, "8080/tcp", now=True)
    assert is_broken(cut)
    assert (kept.say("one"), direct.say("two")) == ("one", "two")
    assert site.lab.fetch(where, by, 8080, timeout=0.3).error == "refused"
    publish(site, f"8080:{inside}")
    assert site.lab.fetch(where, by, 8080).ok
    assert len(listener.seen) == 4


def test_a_blocked_reader_learns_at_once_that_it_was_cut_off(site: Site) -> None:
    shop = site.sandbox("shop", "web", ports=("8080:8080",))
    site.serve(shop, 8080)
    with site.lab.socket(site.neighbour) as client:
        client.settimeout(5)
        client.connect((HOST, 8080))
        assert b"shop" in client.recv(1000)
        unpublish(site, "8080", now=True)
        with pytest.raises(ConnectionResetError):
            client.recv(1000)


def test_a_flow_that_was_cut_is_not_taken_up_by_the_side_that_speaks_first(site: Site) -> None:
    """The same number inside and outside: masquerading would give the container's own packets
    the port that the client knows.
    """
    shop = site.sandbox("shop", "web", ports=("9000:9000/udp",))
    with (
        site.lab.socket(shop["netns"], kind=socket.SOCK_DGRAM) as server,
        site.lab.socket(site.neighbour, kind=socket.SOCK_DGRAM) as client,
    ):
        server.bind(("0.0.0.0", 9000))
        server.settimeout(2)
        client.connect((HOST, 9000))
        client.settimeout(0.3)
        client.send(b"hello")
        _, asker = server.recvfrom(100)
        assert asker[0] == NEIGHBOUR
        server.sendto(b"welcome", asker)
        assert client.recv(100) == b"welcome"
        unpublish(site, "9000/udp", now=True)
        server.settimeout(0.3)
        server.sendto(b"and another thing", asker)
        with pytest.raises((TimeoutError, ConnectionRefusedError)):
            client.recv(100)
        client.send(b"are you there?")
        with pytest.raises(TimeoutError):
            server.recvfrom(100)
        # Published again, the same client comes in by the same ports.
        publish(site, "9000:9000/udp")
        server.settimeout(2)
        client.send(b"hello again")
        assert server.recvfrom(100) == (b"hello again", asker)


def test_what_was_cut_off_is_known_to_the_next_daemon(site: Site) -> None:
    shop = site.sandbox("shop", "web", ports=("8080:80",))
    site.serve(shop, 80)
    talk = site.lab.connect(site.neighbour, HOST, 8080)
    port = talk._connection.getsockname()[1]
    unpublish(site, "8080", now=True)
    assert is_broken(talk)
    talk.close()
    site.daemon.restart(signal.SIGKILL)
    publish(site, "8080:80")
    with site.lab.socket(site.neighbour) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind((NEIGHBOUR, port))
        client.settimeout(2)
        client.connect((HOST, 8080))
        assert b"shop" in client.recv(1000)


def test_a_part_of_a_range_can_be_closed(site: Site) -> None:
    shop = site.sandbox("shop", "web", ports=("8000-8009:8000-8009", "7000-7002:80-82"))
    for port in (8000, 8004, 8005, 8009, 80, 81, 82):
        site.serve(shop, port)
    talk = site.lab.connect(site.neighbour, HOST, 8009)
    unpublish(site, "8003-8004")
    unpublish(site, "7001")
    answers = {
        port: site.lab.fetch(site.neighbour, HOST, port, timeout=0.5).ok
        for port in (8000, 8004, 8005, 8009, 7000, 7001, 7002)
    }
    assert answers == {
        8000: True, 8004: False, 8005: True, 8009: True, 7000: True, 7001: False, 7002: True,
    }  # fmt: skip
    assert talk.say("hello") == "hello"
    assert publish(site, "8003-8004:8003-8004")[-1] == "8003-8004/tcp"
    assert not any(site.daemon.post("/v1/reconcile").values())


def test_it_survives_restarts_and_is_held_by_name(site: Site) -> None:
    shop = site.sandbox("shop", "web")
    site.sandbox("other", "web")
    site.serve(shop, 80)
    publish(site, "8080:80")
    site.daemon.restart(signal.SIGKILL)
    assert site.lab.fetch(site.neighbour, HOST, 8080).ok
    with pytest.raises(Refused, match="already published by shop"):
        publish(site, "8080:80", name="other")
    unpublish(site, "8080")
    site.daemon.restart(signal.SIGKILL)
    assert not site.lab.fetch(site.neighbour, HOST, 8080, timeout=0.3).ok
    assert publish(site, "8080:80", name="other") == ["8080-8080/tcp"]


def test_what_cannot_be_is_refused_and_changes_nothing(site: Site) -> None:
    site.sandbox("shop", "web", ports=("8080:80",))
    site.sandbox("quiet", "none")
    site.sandbox("agent", "host")
    site.lab.listener_tcp(site.host, "0.0.0.0", 9999)
    for name, port, code in (
        ("shop", "9999:80", "port_in_use"),
        ("shop", "8080:81", "port_in_use"),
        ("shop", "rubbish", "invalid"),
        ("shop", "203.0.113.9:1:1", "invalid"),
        ("quiet", "8081:80", "invalid"),
        ("agent", "8081:80", "conflict"),
        ("nobody", "8081:80", "not_found"),
    ):
        with pytest.raises(Refused) as refused:
            publish(site, "8090:90", port, name=name)
        assert refused.value.code == code, port
    for port, code in (("8081", "not_found"), ("8080/udp", "not_found"), ("127.0.0.1:8080",
                       "not_found"), ("8080-8081", "not_found"), ("x", "invalid")):  # fmt: skip
        with pytest.raises(Refused) as refused:
            unpublish(site, port)
        assert refused.value.code == code, port
    assert [p["host_port"] for p in site.daemon.get("/v1/sandboxes/shop")["ports"]] == [8080]
    assert not any(site.daemon.post("/v1/reconcile").values())


@pytest.mark.parametrize("point", ["publish.stored", "publish.applied"])
def test_a_publication_that_fails_leaves_nothing(site: Site, point: str) -> None:
    shop = site.sandbox("shop", "web")
    site.serve(shop, 80)
    site.daemon.restart(environment={"LINKSPAN_FAILPOINT": f"{point}:raise"})
    status, _ = site.daemon.request("POST", "/v1/sandboxes/shop/ports", {"ports": ["8080:80"]})
    assert status == 500
    assert not site.lab.fetch(site.neighbour, HOST, 8080, timeout=0.3).ok
    assert site.daemon.get("/v1/sandboxes/shop")["ports"] == []
    assert not any(site.daemon.post("/v1/reconcile").values())
    assert publish(site, "8080:80") == ["8080-8080/tcp"]
    assert site.lab.fetch(site.neighbour, HOST, 8080).ok


def test_a_closing_that_fails_leaves_it_open(site: Site) -> None:
    shop = site.sandbox("shop", "web", ports=("8080:80",))
    site.serve(shop, 80)
    site.daemon.restart(environment={"LINKSPAN_FAILPOINT": "unpublish.applied:raise"})
    status, _ = site.daemon.request("DELETE", "/v1/sandboxes/shop/ports/8080/tcp")
    assert status == 500
    assert site.lab.fetch(site.neighbour, HOST, 8080).ok
    assert not any(site.daemon.post("/v1/reconcile").values())


@pytest.mark.parametrize(
    ("point", "opens"),
    [("publish.stored", True), ("publish.applied", True), ("unpublish.applied", True),
     ("unpublish.stored", False)],
)  # fmt: skip
def test_after_a_kill_in_the_middle_store_and_kernel_agree(
    site: Site, point: str, opens: bool
) -> None:
    first = point.startswith("publish")
    shop = site.sandbox("shop", "web", ports=() if first else ("8080:80",))
    site.serve(shop, 80)
    site.daemon.restart(environment={"LINKSPAN_FAILPOINT": f"{point}:kill"})
    with pytest.raises(Exception):  # noqa: B017, PT011 - the daemon dies while it answers
        publish(site, "8080:80") if first else unpublish(site, "8080")
    assert site.daemon.process
    site.daemon.process.wait()
    site.daemon.start()
    assert bool(site.daemon.get("/v1/sandboxes/shop")["ports"]) is opens
    assert site.lab.fetch(site.neighbour, HOST, 8080, timeout=0.5).ok is opens
    assert not any(site.daemon.post("/v1/reconcile").values())


def test_the_command_line_tells_what_it_opened_and_events_tell_who(site: Site) -> None:
    shop = site.sandbox("shop", "web")
    site.serve(shop, 443)
    planned = site.daemon.cli("publish", "shop", "8443:443", "--dry-run").stdout
    assert "8443" in planned
    assert site.daemon.cli("publish", "shop", "8443:443").stdout == (
        f"0.0.0.0:8443 -> {address(shop)}:443/tcp\n"
    )
    assert site.lab.fetch(site.neighbour, HOST, 8443).ok
    assert "8443" in site.daemon.cli("port", "shop").stdout
    site.daemon.cli("unpublish", "shop", "8443", "--now")
    gone = site.daemon.cli("unpublish", "shop", "8443", check=False)
    assert (gone.returncode, gone.stderr) == (
        1,
        "linkspan: port 8443/tcp is not published by shop; it publishes nothing\n",
    )
    events = [
        (e["action"], e["attributes"]["port"], e["by"]["uid"], e["by"]["program"])
        for e in site.daemon.stream(f"/v1/events?since={site.since}&follow=false")
        if e["type"] == "port"
    ]
    assert [row[:3] for row in events] == [
        ("published", "0.0.0.0:8443:443/tcp", os.getuid()),
        ("unpublished", "0.0.0.0:8443:443/tcp", os.getuid()),
    ]
    assert all(row[3] for row in events)
    lines = site.daemon.cli(
        "events", "--since", f"{site.since}", "--no-follow", "--format", "json"
    ).stdout
    assert any(json.loads(line)["by"] for line in lines.splitlines())
