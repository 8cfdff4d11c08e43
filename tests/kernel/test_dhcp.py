"""Addresses from the segment's own DHCP server: dnsmasq, and one that misbehaves on purpose."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from lab import Lab, Refused
from lab.places import Namespace, open_socket, run_ip
from lab.processes import Process, wait_until
from lab.segment import NEIGHBOUR, ROUTER, SUBNET6, Segment
from linkspan.engine.dhcp import messages as dhcp
from linkspan.engine.dhcp.messages import Message, pack_message, unpack_message

SERVER = "192.168.7.5"
POOL = ("192.168.7.200", "192.168.7.210")


@pytest.fixture
def segment(lab: Lab) -> Segment:
    return Segment(lab)


@pytest.fixture
def server(segment: Segment) -> Namespace:
    """A machine on the segment for a DHCP server."""
    return segment.plug_in("server", "eth0", f"{SERVER}/24")


def dnsmasq(segment: Segment, server: Namespace, *arguments: str, pool: Any = POOL) -> Process:
    """The DHCP server of many small networks; it says what it does in its log."""
    command = [
        *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0"),
        *("--bind-interfaces", "--no-ping", "--log-dhcp", "--dhcp-authoritative", "--user=root"),
        f"--dhcp-leasefile={segment.daemon.directory}/dnsmasq.leases",
        f"--dhcp-range={pool[0]},{pool[1]},255.255.255.0,10m",
        f"--dhcp-option=option:router,{ROUTER}",
        *("--dhcp-option=option:dns-server,192.0.2.53,192.0.2.54", "--domain=office.example"),
        *arguments,
    ]
    started = segment.lab.spawn(server, command)
    started.wait_for_output("sockets bound exclusively to interface")
    return started


class Server:
    """A DHCP server whose leases take seconds, and that can be told to refuse or be silent."""

    def __init__(self, place: Namespace, seconds: int = 4) -> None:
        self.seconds = seconds
        self.pool = (f"192.168.7.{number}" for number in itertools.count(220))
        self.given: dict[bytes, str] = {}
        self.seen: list[int] = []
        self.silent = self.refuses = False
        self.deaf_to: set[bytes] = set()
        """Host names of clients that get no answer."""
        self._socket = open_socket(place, socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        # Without a default route the kernel does not know where everybody is.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        self._socket.bind(("", 67))
        self._socket.settimeout(0.1)
        self._ended = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._ended = True
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._ended:
            with contextlib.suppress(TimeoutError, OSError):
                data, (source, _) = self._socket.recvfrom(2048)
                asked = unpack_message(data)
                self.seen.append(asked.type)
                deaf = self.silent or asked.options.get(dhcp.HOST_NAME) in self.deaf_to
                answer = None if deaf else self._answer(asked)
                if answer is not None:
                    to = source if asked.client_address != dhcp.NO_ADDRESS else "255.255.255.255"
                    self._socket.sendto(pack_message(answer), (to, 68))

    def _answer(self, asked: Message) -> Message | None:
        client = asked.options[dhcp.CLIENT_IDENTIFIER]
        if asked.type == dhcp.DECLINE:
            self.given.pop(client)
        if asked.type not in (dhcp.DISCOVER, dhcp.REQUEST):
            return None
        kind = dhcp.OFFER if asked.type == dhcp.DISCOVER else dhcp.ACK
        if kind == dhcp.ACK and self.refuses:
            kind = dhcp.NAK
        if client not in self.given or self.refuses:
            self.given[client] = next(self.pool)
        options = {
            dhcp.MESSAGE_TYPE: bytes((kind,)),
            dhcp.SERVER_IDENTIFIER: ipaddress.IPv4Address(SERVER).packed,
            dhcp.LEASE_TIME: self.seconds.to_bytes(4, "big"),
            dhcp.SUBNET_MASK: bytes((255, 255, 255, 0)),
        }
        return Message(
            transaction=asked.transaction,
            mac=asked.mac,
            from_client=False,
            your_address=self.given[client],
            options=options,
        )


@pytest.fixture
def quick(server: Namespace) -> Iterator[Server]:
    made = Server(server)
    yield made
    made.close()


def lan(segment: Segment, name: str = "lan", **more: Any) -> Any:
    return segment.network(name, subnets=more.pop("subnets", []), ipam="dhcp", **more)


def endpoint(segment: Segment, name: str) -> Any:
    return segment.daemon.get(f"/v1/sandboxes/{name}")["endpoints"][0]


def addresses(segment: Segment, sandbox: Any) -> list[str]:
    """What the kernel has, with prefix lengths."""
    shown = segment.lab.run(sandbox["netns"], "ip -j -4 addr show eth0").stdout
    links = json.loads(shown)  # none without an address
    return [f"{a['local']}/{a['prefixlen']}" for link in links for a in link["addr_info"]]


def actions(segment: Segment) -> list[str]:
    """What happened to sandboxes, in order."""
    events = segment.daemon.stream("/v1/events?since=0&follow=false")
    return [event["action"] for event in events if event["type"] == "sandbox"]


def test_a_container_gets_what_the_server_gives(
    segment: Segment, server: Namespace, require: Any
) -> None:
    require("dnsmasq")
    log = dnsmasq(segment, server)
    made = lan(segment)
    assert (made["ipam"], made["subnets"]) == ("dhcp", [])
    web = segment.sandbox("web", "lan")
    (one,) = web["endpoints"]
    low, high, got = map(ipaddress.ip_address, (*POOL, one["ipv4"].split("/")[0]))
    assert low <= got <= high
    assert addresses(segment, web) == [one["ipv4"]]
    assert one["gateway"] == ROUTER
    lease = one["lease"]
    assert (lease["address"], lease["server"]) == (one["ipv4"], SERVER)
    assert (lease["router"], lease["domain"]) == (ROUTER, "office.example")
    assert lease["dns"] == ["192.0.2.53", "192.0.2.54"]
    assert lease["acquired"] < lease["renews"] < lease["expires"]
    assert segment.reaches(segment.neighbour, str(got))
    assert segment.reaches(web["netns"], NEIGHBOUR)
    (default,) = json.loads(segment.lab.run(web["netns"], "ip -j route show default").stdout)
    assert default["gateway"] == ROUTER
    assert "client provides name: web" in log.output
    # Another one has another address, and the first goes back.
    other = segment.sandbox("db", "lan")
    assert other["endpoints"][0]["ipv4"] != one["ipv4"]
    segment.daemon.delete("/v1/sandboxes/web")
    log.wait_for_output(f"DHCPRELEASE(eth0) {got} {one['mac']}")


def test_it_is_extended_in_time_by_a_daemon_that_was_killed_meanwhile(
    segment: Segment, server: Namespace, require: Any
) -> None:
    require("dnsmasq")
    log = dnsmasq(segment, server, "--dhcp-option-force=option:T1,3", "--dhcp-option-force=59,500")
    lan(segment)
    web = segment.sandbox("web", "lan")
    before = web["endpoints"][0]["lease"]
    wait_until(lambda: log.output.count("DHCPACK") > 1, "an extension")
    wait_until(
        lambda: endpoint(segment, "web")["lease"]["expires"] > before["expires"], "what it says"
    )
    segment.daemon.kill()
    asked = log.output.count("DHCPACK")
    segment.daemon.start()
    wait_until(lambda: log.output.count("DHCPACK") > asked, "an extension by the next daemon")
    assert addresses(segment, web) == [before["address"]]
    assert "DHCPDISCOVER" not in log.output[log.output.index("DHCPACK") :]


def test_it_has_the_same_address_when_it_comes_back(
    segment: Segment, server: Namespace, require: Any
) -> None:
    require("dnsmasq")
    dnsmasq(segment, server)
    lan(segment)
    segment.daemon.post("/v1/networks", {"name": "other"})
    web = segment.sandbox("web", "other")
    held = segment.daemon.post("/v1/sandboxes/web/networks", {"network": "lan"})
    mine = next(e for e in held["endpoints"] if e["network"] == "lan")
    segment.daemon.delete("/v1/sandboxes/web/networks/lan")
    again = segment.daemon.post("/v1/sandboxes/web/networks", {"network": "lan"})
    assert next(e for e in again["endpoints"] if e["network"] == "lan")["ipv4"] == mine["ipv4"]
    assert web["endpoints"][0]["lease"] is None


def test_joining_without_a_lease_fails_says_why_and_leaves_nothing(
    segment: Segment, quick: Server
) -> None:
    quick.deaf_to, quick.refuses = {b"web"}, True
    lan(segment)

    def refusal(name: str) -> Refused:
        with pytest.raises(Refused) as refused:
            segment.sandbox(name, "lan")
        return refused.value

    with ThreadPoolExecutor(2) as asking:
        unanswered, refused = asking.map(refusal, ("web", "db"))
    assert (unanswered.code, refused.code) == ("no_lease", "no_lease")
    assert "no DHCP server answered on eth1" in str(unanswered)
    assert "DHCP server 192.168.7.5 took its offer back" in str(refused)
    assert segment.daemon.get("/v1/sandboxes") == []


def test_an_unanswered_lease_ends_and_a_new_one_is_taken(segment: Segment, quick: Server) -> None:
    lan(segment)
    web = segment.sandbox("web", "lan")
    assert addresses(segment, web) == ["192.168.7.220/24"]
    wait_until(lambda: quick.seen.count(dhcp.REQUEST) > 1, "an extension")
    quick.silent = True
    wait_until(lambda: addresses(segment, web) == [], "the end of the lease")
    assert endpoint(segment, "web")["ipv4"] is None
    quick.silent = False
    wait_until(lambda: addresses(segment, web) == ["192.168.7.220/24"], "a new lease")
    wait_until(lambda: endpoint(segment, "web")["lease"] is not None, "what it says")
    told = actions(segment)
    assert told[:2] == ["attached", "leased"]
    assert told.count("lease_lost") == 1
    assert told[-1] in ("leased", "renewed")


def test_a_refused_extension_gives_another_address(segment: Segment, quick: Server) -> None:
    lan(segment)
    web = segment.sandbox("web", "lan")
    quick.refuses = True
    wait_until(lambda: dhcp.REQUEST in quick.seen[2:], "an extension")
    wait_until(lambda: addresses(segment, web) == [], "the address taken away")
    quick.refuses = False
    wait_until(lambda: addresses(segment, web) not in ([], ["192.168.7.220/24"]), "another one")
    assert segment.reaches(segment.neighbour, addresses(segment, web)[0].split("/")[0])


def test_an_address_that_a_neighbour_has_is_declined(segment: Segment, quick: Server) -> None:
    run_ip("-n", segment.neighbour.name, "addr", "add", "192.168.7.220/24", "dev", "eth0")
    lan(segment)
    web = segment.sandbox("web", "lan")
    assert addresses(segment, web) == ["192.168.7.221/24"]
    assert dhcp.DECLINE in quick.seen


def test_a_lease_that_ended_while_nobody_was_there_is_not_used(
    segment: Segment, quick: Server
) -> None:
    lan(segment)
    web = segment.sandbox("web", "lan")
    quick.silent = True
    expires = endpoint(segment, "web")["lease"]["expires"]
    segment.daemon.kill()
    wait_until(lambda: now() > expires, "the end of the lease")
    segment.daemon.start()
    wait_until(lambda: addresses(segment, web) == [], "the address taken away")


def test_a_join_that_nobody_waits_for_any_more_is_undone(segment: Segment, quick: Server) -> None:
    quick.silent = True
    lan(segment)
    asking = threading.Thread(target=lambda: suppress(lambda: segment.sandbox("web", "lan")))
    asking.start()
    wait_until(lambda: dhcp.DISCOVER in quick.seen, "a question")
    segment.daemon.kill()
    asking.join()
    segment.daemon.start()
    assert segment.daemon.get("/v1/sandboxes") == []


def test_a_stated_gateway_counts_more_than_the_servers(
    segment: Segment, server: Namespace, require: Any
) -> None:
    require("dnsmasq")
    dnsmasq(segment, server)
    lan(segment, subnets=[{"gateway": NEIGHBOUR}, {"subnet": SUBNET6}])
    web = segment.sandbox("web", "lan")
    (one,) = web["endpoints"]
    assert (one["gateway"], one["lease"]["router"]) == (NEIGHBOUR, ROUTER)
    assert one["ipv6"] is not None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"driver": "bridge", "options": {"parent": ""}}, "is on none"),
        ({"subnets": [{"subnet": "192.168.7.0/24"}]}, "knows the subnet"),
        ({"ipam": "static"}, "choose default or dhcp"),
    ],
)
def test_what_goes_not_with_dhcp_is_refused(segment: Segment, more: Any, words: str) -> None:
    body = {"name": "lan", "driver": "macvlan", "ipam": "dhcp", "options": {"parent": "eth1"}}
    with pytest.raises(Refused, match=words):
        segment.daemon.post("/v1/networks", {**body, **more})


def test_an_address_cannot_be_chosen(segment: Segment) -> None:
    lan(segment)
    with pytest.raises(Refused, match="its DHCP server chooses"):
        segment.sandbox("web", {"network": "lan", "ip": "192.168.7.77"})


def suppress(what: Any) -> None:
    with contextlib.suppress(Exception):
        what()


def now() -> str:
    """The time as the API shows it."""
    import time

    from linkspan.api.views import show_time

    return str(msgspec.to_builtins(show_time(time.time())))
