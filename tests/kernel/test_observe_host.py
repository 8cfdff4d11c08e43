"""A host as one plane: what is in it, what is said to be missing, and what changes meanwhile."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Namespace
from linkspan.dataplane import (
    HOST,
    DataPlane,
    Link,
    Listener,
    Macvlan,
    PacketSocket,
    Route,
    Sysctl,
    Table,
    Veth,
)
from linkspan.dataplane.rules import Opaque
from linkspan.kernel import host as host_module
from linkspan.kernel import namespaces
from linkspan.kernel.host import Observed, observe_host
from linkspan.kernel.machine import look_over
from linkspan.kernel.netfilter import printed, rulesets
from linkspan.kernel.observe import observe


def ip(*words: str, of: Namespace | None = None) -> None:
    where = [] if of is None else ["-n", of.name]
    subprocess.run(["ip", *where, *words], check=True)


def complaints(seen: Observed) -> tuple[str, ...]:
    """What is said to be missing, apart from what this machine itself has."""
    return tuple(
        one for one in seen.unseen if "BPF program" not in one and "old ebtables" not in one
    )


@pytest.fixture
def pair(home: Namespace, netns: Callable[[str], Namespace]) -> dict[str, str | None]:
    """The home namespace with a bridge, and another one behind a cable to it."""
    far = netns("far")
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "set", "br0", "up")
    ip("addr", "add", "10.1.0.1/24", "dev", "br0")
    ip("link", "add", "v0", "master", "br0", "type", "veth", "peer", "eth0", "netns", far.name)
    ip("link", "set", "v0", "up")
    ip("link", "set", "eth0", "up", of=far)
    ip("addr", "add", "10.1.0.2/24", "dev", "eth0", of=far)
    ip("route", "add", "default", "via", "10.1.0.1", of=far)
    ip("link", "add", "mac0", "link", "br0", "netns", far.name, "type", "macvlan")
    return {HOST: None, "far": far.path}


def test_it_is_what_each_namespace_is_alone(pair: dict[str, str | None]) -> None:
    whole = observe_host(pair)
    apart = observe(pair)
    besides = (Listener, PacketSocket, Sysctl)
    kept = [item for item in whole.plane if not isinstance(item, besides)]
    # Entries that links listen for are left out where nothing is forwarded.
    wanted = [
        item
        for item in apart
        if not isinstance(item, Sysctl) and item.key in {one.key for one in kept}
    ]
    assert kept == wanted
    left_out = {type(item).__name__ for item in apart if item.key not in whole.plane}
    assert left_out <= {"Sysctl", "FdbEntry"}
    assert (complaints(whole), whole.changing) == ((), ())


def test_settings_are_those_of_the_files(pair: dict[str, str | None]) -> None:
    ip("link", "set", "lo", "up")
    plane = observe_host(pair).plane
    seen = [item for item in plane.of(Sysctl) if item.namespace == "far"]
    script = "cd /proc/sys/net; for f in $0 $@; do echo $f $(cat $f); done"
    said = subprocess.check_output(
        ["nsenter", f"--net={pair['far']}", "sh", "-c", script, *(item.path for item in seen)],
        text=True,
    )
    expected = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert {item.path: item.value for item in seen} == expected
    asked = {
        "ipv4/ip_forward", "ipv4/conf/all/rp_filter", "ipv4/conf/all/accept_local",
        "ipv4/conf/all/route_localnet", "ipv4/conf/all/arp_ignore", "ipv4/conf/all/arp_filter",
        "ipv4/conf/all/send_redirects", "ipv4/conf/all/src_valid_mark",
        "ipv4/conf/all/proxy_arp", "ipv6/conf/all/forwarding", "ipv6/conf/all/proxy_ndp",
        "ipv4/conf/eth0/rp_filter", "ipv4/conf/eth0/accept_local", "ipv6/conf/eth0/disable_ipv6",
    }  # fmt: skip
    assert asked <= expected.keys()


def test_a_bridge_in_a_namespace_brings_its_settings(netns: Callable[[str], Namespace]) -> None:
    place = netns("bridged")
    path = "bridge/bridge-nf-call-iptables"
    assert observe_host({"x": place.path}).plane.get(("sysctl", "x", path)) is None
    ip("link", "add", "br0", "type", "bridge", of=place)
    assert observe_host({"x": place.path}).plane.get(("sysctl", "x", path)) is not None


def test_peers_and_parents_across_namespaces(pair: dict[str, str | None]) -> None:
    plane = observe_host(pair).plane
    near, far = plane.get(("link", HOST, "v0")), plane.get(("link", "far", "eth0"))
    assert isinstance(near, Link)
    assert isinstance(far, Link)
    assert isinstance(near.kind, Veth)
    assert isinstance(far.kind, Veth)
    assert (near.kind.peer_namespace, near.kind.peer_name) == ("far", "eth0")
    assert (far.kind.peer_namespace, far.kind.peer_name) == (HOST, "v0")
    mac = plane.get(("link", "far", "mac0"))
    assert isinstance(mac, Link)
    assert mac.kind == Macvlan(mode="vepa", parent="br0", parent_namespace=HOST)


def test_only_what_cables_join_is_read(
    pair: dict[str, str | None], netns: Callable[[str], Namespace]
) -> None:
    places = {**pair, "alone": netns("alone").path}
    assert namespaces_of(observe_host(places).plane) == {HOST, "far", "alone"}
    assert namespaces_of(observe_host(places, ("far",)).plane) == {HOST, "far"}
    assert namespaces_of(observe_host(places, ("alone",)).plane) == {HOST, "far", "alone"}


def namespaces_of(plane: DataPlane) -> set[str]:
    return {item.namespace for item in plane}


# Sockets ------------------------------------------------------------------------------


@pytest.fixture
def sockets(home: Namespace) -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    yield made
    for one in made:
        one.close()


def test_sockets_that_wait_and_who_holds_them(sockets: list[socket.socket]) -> None:
    for family, kind, address in (
        (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 80)),
        (socket.AF_INET6, socket.SOCK_STREAM, ("::", 81)),
        (socket.AF_INET, socket.SOCK_DGRAM, ("0.0.0.0", 53)),
    ):
        one = socket.socket(family, kind)
        sockets.append(one)
        one.bind(address)
        if kind == socket.SOCK_STREAM:
            one.listen()
    sockets.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)))
    plane = observe_host({HOST: None}, files=look_over().files).plane
    found = {(one.protocol, one.address, one.port, one.dual_stack) for one in plane.of(Listener)}
    assert found == {
        ("tcp", "127.0.0.1", 80, False), ("tcp", "::", 81, True), ("udp", "0.0.0.0", 53, False),
    }  # fmt: skip
    (tap,) = plane.of(PacketSocket)
    assert (tap.protocol, tap.link) == (0x0806, None)
    holders = {process.pid for one in (*plane.of(Listener), tap) for process in one.processes}
    assert holders == {os.getpid()}


def test_a_socket_that_is_younger_than_the_look_has_its_process(
    sockets: list[socket.socket],
) -> None:
    before = look_over().files
    one = socket.socket()
    sockets.append(one)
    one.bind(("127.0.0.1", 80))
    one.listen()
    (listener,) = observe_host({HOST: None}, files=before).plane.of(Listener)
    assert [process.pid for process in listener.processes] == [os.getpid()]


# What is missing ----------------------------------------------------------------------


def load(place: Namespace, text: str) -> None:
    subprocess.run(["nsenter", f"--net={place.path}", "nft", "-f", "-"], input=text, text=True,
                   check=True)  # fmt: skip


RULES = "table ip t { chain c { type filter hook input priority 3; tcp dport 80 drop; }; }"


def test_without_the_program_nft_chains_are_there_and_it_is_said(
    netns: Callable[[str], Namespace], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = netns("ruled")
    load(place, RULES)
    source = Path(printed.printer.__file__).read_text()
    poor = tmp_path / "printer.py"
    poor.write_text(
        source.replace('"libnftables.so.1"', '"libnothing.so"').replace("/usr", "/nowhere")
        .replace('"/sbin", ', "").replace('"/bin", ', "")
    )  # fmt: skip
    monkeypatch.setattr(printed.printer, "__file__", str(poor))
    seen = observe_host({"x": place.path})
    assert complaints(seen) == ("The rules of x could not be read: there is no program nft here",)
    (table,) = seen.plane.of(Table)
    assert table.chains[0].priority == 3
    assert table.chains[0].rules[0].statements == (Opaque(""),)


def test_a_library_that_crashes_is_replaced_by_the_program(
    netns: Callable[[str], Namespace], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = netns("ruled")
    load(place, RULES)
    source = Path(printed.printer.__file__).read_text()
    crashing = tmp_path / "printer.py"
    crashing.write_text(source.replace("context = handle.nft_ctx_new(0)", "os.abort()"))
    monkeypatch.setattr(printed.printer, "__file__", str(crashing))
    seen = observe_host({"x": place.path})
    assert complaints(seen) == ()
    (table,) = seen.plane.of(Table)
    assert len(table.chains[0].rules[0].statements) == 2


def test_rulesets_of_many_namespaces_are_printed_by_few_processes(
    netns: Callable[[str], Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    places: dict[str, str | None] = {}
    for number in range(20):
        place = netns(f"r{number}")
        text = f"table ip t{number} {{ chain c {{ type filter hook input priority {number}; }}; }}"
        load(place, text)
        places[f"r{number}"] = place.path
    started: list[object] = []
    start = subprocess.Popen

    def count(*arguments: Any, **named: Any) -> Any:
        started.append(arguments)
        return start(*arguments, **named)

    monkeypatch.setattr(printed.subprocess, "Popen", count)
    plane = observe_host(places).plane
    assert {table.namespace: table.chains[0].priority for table in plane.of(Table)} == {
        f"r{number}": number for number in range(20)
    }
    assert len(started) <= os.cpu_count()


def test_a_namespace_that_died_is_left_out(netns: Callable[[str], Namespace]) -> None:
    seen = observe_host({"x": netns("alive").path, "gone": "/run/netns/never-was"})
    assert namespaces_of(seen.plane) == {"x"}
    assert (complaints(seen), seen.changing) == ((), ())


def test_without_root_it_says_what_it_could_not_see(
    netns: Callable[[str], Namespace], as_nobody: Callable[[str], str]
) -> None:
    place = netns("closed")
    said = as_nobody(
        "from linkspan.kernel.host import observe_host\n"
        f"seen = observe_host({{'host': None, 'x': '{place.path}', 'y': '{place.path}'}})\n"
        "import json\n"
        "print(json.dumps([sorted({i.namespace for i in seen.plane}), seen.unseen, seen.changing]))"
    )
    spaces, unseen, changing = json.loads(said)
    assert spaces == ["host"]
    assert "The namespace of x, y could not be read: run as root" in unseen
    assert "The firewall of host could not be read: run as root" in unseen
    assert changing == []


def test_what_is_there_and_not_understood_is_said(home: Namespace) -> None:
    assert complaints(observe_host({HOST: None})) == ()
    policy = "dir out src 10.0.0.0/8 dst 10.1.0.0/16"
    template = "tmpl mode tunnel src 192.0.2.1 dst 192.0.2.2 proto esp"
    ip("xfrm", "policy", "add", *policy.split(), *template.split())
    (said,) = complaints(observe_host({HOST: None}))
    assert said == "1 IPsec policy may wrap or drop what they hold for; they are not understood"


def test_tables_of_the_old_arptables_are_said(home: Namespace) -> None:
    make_arp_table()
    (said,) = complaints(observe_host({HOST: None}))
    assert said.startswith("tables of the old arptables (filter) may drop ARP")


def make_arp_table() -> None:
    """What arptables does first: ask for the table "filter", which makes it."""
    information = ctypes.create_string_buffer(b"filter", 32 + 4 + 3 * 4 + 3 * 4 + 4 + 4)
    length = ctypes.c_uint32(len(information))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        refused = ctypes.CDLL(None).getsockopt(
            raw.fileno(), socket.IPPROTO_IP, 96, information, ctypes.byref(length)
        )
    if refused:
        pytest.skip("this kernel has no tables of the old arptables")


# What changes -------------------------------------------------------------------------


def test_what_changes_once_is_read_again(
    pair: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cable is laid when its first namespace was read and its second was not."""
    changes = iter(["link add late0 type veth peer name late1 netns far"])
    visit = host_module._Reading._visit

    def visit_and_change(reading: Any, name: str) -> None:
        visit(reading, name)
        command = next(changes, None) if name == HOST else None
        if command:
            far = os.path.basename(pair["far"] or "")
            ip(*(far if word == "far" else word for word in command.split()))

    monkeypatch.setattr(host_module._Reading, "_visit", visit_and_change)
    seen = observe_host(pair)
    near, far = seen.plane.get(("link", HOST, "late0")), seen.plane.get(("link", "far", "late1"))
    assert isinstance(near, Link)
    assert isinstance(far, Link)
    assert isinstance(near.kind, Veth)
    assert (near.kind.peer_namespace, near.kind.peer_name) == ("far", "late1")
    assert seen.changing == ()


def test_what_never_stops_is_marked(
    pair: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(1, 200))
    visit = host_module._Reading._visit

    def visit_and_change(reading: Any, name: str) -> None:
        visit(reading, name)
        if name == "far":
            place = os.path.basename(pair["far"] or "")
            route = f"10.99.{next(numbers)}.0/24"
            subprocess.run(["ip", "-n", place, "route", "add", "blackhole", route], check=True)

    monkeypatch.setattr(host_module._Reading, "_visit", visit_and_change)
    seen = observe_host(pair)
    assert seen.changing == ("far",)
    assert 3 < next(numbers) < 9
    assert any(route.type == "blackhole" for route in seen.plane.of(Route))


def test_rules_that_change_while_they_are_printed_are_printed_again(
    netns: Callable[[str], Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = netns("ruled")
    load(place, RULES)
    changes = iter(["add chain ip t later"])
    print_rulesets = rulesets.print_rulesets

    def print_and_change(*arguments: Any) -> Any:
        done = print_rulesets(*arguments)
        for change in changes:
            load(place, change)
            break
        return done

    monkeypatch.setattr(rulesets, "print_rulesets", print_and_change)
    seen = observe_host({"x": place.path})
    (table,) = seen.plane.of(Table)
    assert [chain.name for chain in table.chains] == ["c", "later"]
    assert seen.changing == ()


def test_namespaces_that_come_and_go_meanwhile(home: Namespace, tmp_path: Path) -> None:
    """Whatever the moment: no crash, and cables have both ends or their places are marked."""
    stop = threading.Event()
    failures: list[BaseException] = []
    paths = [str(tmp_path / f"n{number}") for number in range(6)]

    def churn() -> None:
        try:
            with namespaces.opened(home.path) as descriptor, namespaces.entered(descriptor):
                number = 0
                while not stop.is_set():
                    path = paths[number % len(paths)]
                    number += 1
                    if os.path.exists(path):
                        namespaces.delete(path)
                    else:
                        namespaces.create(path).socket.close()
                        name = f"c{number}"
                        file = os.open(path, os.O_RDONLY)
                        try:
                            subprocess.run(
                                ["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0",
                                 "netns", f"/proc/{os.getpid()}/fd/{file}"],
                                check=True, capture_output=True,
                            )  # fmt: skip
                        finally:
                            os.close(file)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(30):
            places: dict[str, str | None] = {HOST: None}
            places |= {os.path.basename(path): path for path in paths}
            look_over((str(tmp_path),))
            seen = observe_host(places)
            links = {(link.namespace, link.name) for link in seen.plane.of(Link)}
            for link in seen.plane.of(Link):
                kind = link.kind
                if not isinstance(kind, Veth) or kind.peer_namespace is None:
                    continue
                if {link.namespace, kind.peer_namespace} & set(seen.changing):
                    continue
                assert (kind.peer_namespace, kind.peer_name) in links, (link, seen.changing)
    finally:
        stop.set()
        thread.join()
        for path in paths:
            namespaces.delete(path)
    assert not failures
