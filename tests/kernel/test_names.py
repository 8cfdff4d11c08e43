"""Names as containers find them: real clients in namespaces, a real daemon, a real resolver."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.reversename
import pytest

from kernel.named_site import SERVER, NamedSite
from lab import Lab, Namespace, open_socket
from lab.processes import wait_until
from lab.site import address

SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def site(lab: Lab) -> NamedSite:
    return NamedSite(lab)


@pytest.fixture
def shop(site: NamedSite) -> NamedSite:
    site.network("shop", "10.20.0.0/24")
    return site


# Who is found -------------------------------------------------------------------------


def test_members_find_each_other_by_name_alias_id_and_full_name(shop: NamedSite) -> None:
    db = shop.sandbox("db", {"network": "shop", "aliases": ["postgres"]})
    web = shop.sandbox("web", "shop")
    for name in ("db", "DB", "postgres", db["id"][:12], "db.shop", "Postgres.Shop."):
        assert shop.addresses(web, name) == [address(db)], name
    assert shop.addresses(db, "web") == [address(web)]
    assert shop.addresses(web, "web") == [address(web)]
    answer = shop.ask(web, "db")
    assert answer.rcode() == dns.rcode.NOERROR
    assert answer.flags & dns.flags.AA
    assert answer.answer[0].ttl <= 5


def test_reverse_and_service_look_ups(shop: NamedSite) -> None:
    db = shop.sandbox(
        "db", "shop", ports=("5432:5432",), labels={"linkspan.service.metrics": "9187/tcp"}
    )
    web = shop.sandbox("web", "shop")
    pointer = str(dns.reversename.from_address(address(db)))
    assert shop.addresses(web, pointer, "PTR") == ["db.shop."]
    for name in ("_5432._tcp.db", "_postgresql._tcp.db", "_postgresql._tcp.db.shop"):
        answer = shop.ask(web, name, "SRV")
        assert [str(item) for rows in answer.answer for item in rows] == ["0 0 5432 db.shop."]
        assert [str(item) for rows in answer.additional for item in rows] == [address(db)]
    assert shop.addresses(web, "_metrics._tcp.db", "SRV") == ["0 0 9187 db.shop."]
    assert shop.ask(web, "_5432._udp.db", "SRV").rcode() == dns.rcode.NXDOMAIN


def test_both_ip_versions_are_answered_and_other_types_are_empty(site: NamedSite) -> None:
    site.network("dual", subnets=[{"subnet": "10.21.0.0/24"}, {"subnet": "fd00:21::/64"}])
    db, web = site.sandbox("db", "dual"), site.sandbox("web", "dual")
    six = db["endpoints"][0]["ipv6"].split("/")[0]
    assert site.addresses(web, "db") == [address(db)]
    assert site.addresses(web, "db", "AAAA") == [six]
    assert site.addresses(web, str(dns.reversename.from_address(six)), "PTR") == ["db.dual."]
    for type in ("MX", "TXT", "HTTPS"):
        answer = site.ask(web, "db", type)
        assert answer.rcode() == dns.rcode.NOERROR
        assert not answer.answer


def test_everybody_under_one_alias_is_answered_in_turn(shop: NamedSite) -> None:
    members = [shop.sandbox(f"w{n}", {"network": "shop", "aliases": ["workers"]}) for n in range(3)]
    asker = shop.sandbox("asker", "shop")
    orders = [tuple(shop.addresses(asker, "workers")) for _ in range(6)]
    assert all(set(order) == {address(member) for member in members} for order in orders)
    assert {order[0] for order in orders} == {address(member) for member in members}


def test_names_are_known_only_where_a_network_is_shared(shop: NamedSite) -> None:
    shop.network("back", "10.30.0.0/24", internal=True)
    db = shop.sandbox("db", "back")
    web = shop.sandbox("web", "shop")
    assert shop.ask(web, "db.back", timeout=6).rcode() != dns.rcode.NOERROR
    both = shop.daemon.post("/v1/sandboxes/web/networks", {"network": "back"})
    assert shop.addresses(web, "db") == [address(db)]
    assert shop.addresses(db, "web") == [address(both, "back")]
    assert shop.addresses(web, "web.back") == [address(both, "back")]
    shop.daemon.delete("/v1/sandboxes/web/networks/back")
    assert shop.ask(db, "web").rcode() == dns.rcode.NXDOMAIN


def test_names_are_in_force_when_the_request_returns(site: NamedSite) -> None:
    site.network("back", "10.30.0.0/24", internal=True)
    asker = site.sandbox("asker", "back")
    for number in range(10):
        name = f"c{number}"
        made = site.sandbox(name, "back")
        assert site.addresses(asker, name) == [address(made)]
        assert site.addresses(made, "asker") == [address(asker)]
        site.daemon.delete(f"/v1/sandboxes/{name}")
        assert site.ask(asker, name).rcode() == dns.rcode.NXDOMAIN
        again = site.sandbox(name, "back")
        assert site.addresses(asker, name) == [address(again)]


def test_the_default_network_has_no_names(site: NamedSite) -> None:
    first, _ = site.sandbox("first"), site.sandbox("second")
    with open_socket(first["netns"], socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.connect((SERVER, 53))
        client.send(dns.message.make_query("second", "A").to_wire())
        with pytest.raises(ConnectionRefusedError):
            client.recv(512)
    assert site.lab.run(first["netns"], "nft list ruleset").stdout == ""


# Real clients -------------------------------------------------------------------------


def test_the_programs_that_people_use(
    shop: NamedSite, require: Callable[..., None], tmp_path: Path
) -> None:
    require("dig", "busybox", "getent")
    db = shop.sandbox("db", {"network": "shop", "aliases": ["postgres"]})
    web = shop.sandbox("web", "shop")
    text = tmp_path / "resolv.conf"
    text.write_text(f"nameserver {SERVER}\noptions ndots:0\n")

    def run(*words: str) -> str:
        command = f"mount --bind {text} /etc/resolv.conf && exec {' '.join(words)}"
        done = shop.lab.run(web["netns"], ["unshare", "--mount", "sh", "-c", command])
        return done.stdout

    assert run("getent", "hosts", "postgres").split() == [address(db), "postgres"]
    assert run("getent", "hosts", address(db)).split() == [address(db), "db.shop"]
    assert address(db) in run("getent", "ahosts", "db.shop")
    assert run("dig", "+short", "db").split() == [address(db)]
    assert run("dig", "+short", "+tcp", "+bufsize=4096", "db").split() == [address(db)]
    assert address(db) in run("busybox", "nslookup", "-type=a", "db")


def test_a_container_of_ours_finds_names_at_once(shop: NamedSite, require: Any) -> None:
    require("runc", "conmon")
    db = shop.sandbox("db", "shop")
    done = shop.daemon.cli(
        *("run", "--rm", "--network", "shop", "--", "sh", "-c"),
        "cat /etc/resolv.conf; getent hosts db",
    )
    assert f"nameserver {SERVER}" in done.stdout
    assert "search corp.example" in done.stdout
    assert f"{address(db)}" in done.stdout.splitlines()[-1]


def test_an_attached_namespace_gets_a_resolv_conf_where_asked(
    shop: NamedSite, netns: Callable[[str], Namespace], tmp_path: Path
) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("old")
    place = netns("ctr")
    command = ("attach", "--name", "ctr", "--netns", place.path, "--resolv-conf", str(path))
    refused = shop.daemon.cli(*command, "--network", "bridge", check=False)
    assert "is on no network with names" in refused.stderr
    assert path.read_text() == "old"
    assert shop.daemon.get("/v1/sandboxes") == []
    shop.daemon.cli(*command, "--network", "shop")
    assert path.read_text() == (f"nameserver {SERVER}\nsearch corp.example\noptions ndots:0\n")


def test_a_container_of_ours_has_the_wishes_for_its_resolver(shop: NamedSite, require: Any) -> None:
    require("runc", "conmon")
    wishes = ("--dns", "192.0.2.99", "--dns-search", "a.example", "--dns-option", "ndots:2")
    for network, server in (("shop", SERVER), ("bridge", "192.0.2.99")):
        command = ("run", "--rm", "--network", network, *wishes, "--", "cat", "/etc/resolv.conf")
        assert shop.daemon.cli(*command).stdout == (
            f"nameserver {server}\nsearch a.example\noptions ndots:2\n"
        )


def test_a_container_may_have_its_own_server_on_port_53(shop: NamedSite) -> None:
    db, web = shop.sandbox("db", "shop"), shop.sandbox("web", "shop")
    shop.serve(web, 53)
    shop.serve(web, 53, "udp")
    assert shop.lab.fetch(web["netns"], "127.0.0.1", 53, "udp").reply == "web"
    assert shop.lab.fetch(db["netns"], address(web), 53).reply == "web"
    for tcp in (False, True):
        assert shop.addresses(web, "db", tcp=tcp) == [address(db)]


def test_many_answers_are_cut_short_by_udp_and_whole_by_tcp(shop: NamedSite) -> None:
    for number in range(40):
        shop.sandbox(f"w{number}", {"network": "shop", "aliases": ["workers"]})
    asker = shop.sandbox("asker", "shop")
    short = shop.ask(asker, "workers", use_edns=False)
    assert short.flags & dns.flags.TC
    assert len(short.to_wire()) <= 512
    assert 20 <= len(short.answer[0]) < 40
    for more in ({"tcp": True}, {"use_edns": 0, "payload": 1400}):
        whole = shop.ask(asker, "workers", **more)
        assert not whole.flags & dns.flags.TC
        assert len(whole.answer[0]) == 40


def test_a_container_cannot_lose_its_names_by_flushing_its_firewall(shop: NamedSite) -> None:
    db, web = shop.sandbox("db", "shop"), shop.sandbox("web", "shop")
    shop.lab.run(web["netns"], "nft add table inet own")
    shop.lab.run(web["netns"], "nft flush ruleset")
    shop.daemon.post("/v1/reconcile")
    assert shop.addresses(web, "db") == [address(db)]


def test_look_ups_leave_no_tracked_flows(shop: NamedSite, require: Any) -> None:
    require("conntrack")
    web = shop.sandbox("web", "shop")
    rules = "table inet own { chain c { type filter hook output priority 0; ct state new; }; }"
    shop.lab.run(web["netns"], ["nft", rules])
    for tcp in (False, True):
        assert shop.addresses(web, "web", tcp=tcp) == [address(web)]
    assert shop.lab.run(web["netns"], "conntrack -L").stdout == ""


def test_what_cannot_be_understood_is_answered_shortly_or_not_at_all(shop: NamedSite) -> None:
    web = shop.sandbox("web", "shop")
    good = dns.message.make_query("web", "A").to_wire()
    cases = {
        b"": None,
        good[:11]: None,
        good[:2] + b"\x81\x80" + good[4:]: None,
        good[:-3]: dns.rcode.FORMERR,
        good + b"more": dns.rcode.FORMERR,
        good[:2] + b"\x28\x00" + good[4:]: dns.rcode.NOTIMP,
    }
    for wire, expected in cases.items():
        with open_socket(web["netns"], socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(1)
            client.connect((SERVER, 53))
            client.send(wire)
            # The answer to a good question comes behind whatever answers the bad one.
            client.send(good)
            first = client.recv(4096)
            if expected is None:
                assert dns.message.from_wire(first).answer
            else:
                assert first[3] & 15 == expected
                assert len(first) <= len(wire)
                assert dns.message.from_wire(client.recv(4096)).answer


def test_any_is_answered_minimally(shop: NamedSite) -> None:
    web = shop.sandbox("web", "shop")
    answer = shop.ask(web, "web", "ANY")
    assert [str(item) for rows in answer.answer for item in rows] == ['"RFC8482" ""']


# Processes ----------------------------------------------------------------------------


def test_names_go_on_without_the_daemon_and_are_taken_up_again(shop: NamedSite) -> None:
    db, web = shop.sandbox("db", "shop"), shop.sandbox("web", "shop")
    serving = shop.names_pid()
    shop.daemon.kill()
    assert shop.addresses(web, "db") == [address(db)]
    shop.daemon.start()
    assert shop.names_pid() == serving
    late = shop.sandbox("late", "shop")
    assert shop.addresses(web, "late") == [address(late)]
    shop.daemon.stop()
    assert shop.addresses(web, "late") == [address(late)]


def test_a_killed_names_process_is_back_within_a_second(shop: NamedSite) -> None:
    db, web = shop.sandbox("db", "shop"), shop.sandbox("web", "shop")
    killed = shop.names_pid()
    start = time.monotonic()
    shop.lab.run(shop.host, f"kill -9 {killed}")

    def answered() -> bool:
        try:
            return shop.addresses(web, "db", timeout=0.05) == [address(db)]
        except (TimeoutError, ConnectionRefusedError):
            return False

    wait_until(answered, "names to be back", timeout=5)
    assert time.monotonic() - start < 2  # 1 s on a quiet machine
    assert shop.names_pid() != killed


def test_an_upgrade_keeps_process_and_sockets_and_loses_no_question(shop: NamedSite) -> None:
    from linkspan.names import control, process

    db, web = shop.sandbox("db", "shop"), shop.sandbox("web", "shop")
    serving = shop.names_pid()
    stop, answers, errors = threading.Event(), [0], list[Exception]()

    def keep_asking() -> None:
        while not stop.is_set():
            try:
                assert shop.addresses(web, "db", timeout=5) == [address(db)]
                answers[0] += 1
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        wait_until(lambda: answers[0] > 5, "questions to be asked")
        command = process.command(str(shop.daemon.run_dir), str(shop.resolv_conf))
        upgrade = control.Upgrade(command, {**process.environment(), "PYTHONPATH": str(SOURCE)})
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(control.socket_path(str(shop.daemon.run_dir)))
            client.sendall(control.pack(upgrade))
            while client.recv(4096):
                pass
        log = shop.daemon.run_dir / control.LOG
        wait_until(lambda: log.read_text().count("serving") == 2, "the new program to serve")
        before = answers[0]
        wait_until(lambda: answers[0] > before + 5, "questions to be answered again")
    finally:
        stop.set()
        thread.join()
    assert errors == []
    assert shop.names_pid() == serving
    late = shop.sandbox("late", "shop")
    assert shop.addresses(web, "late") == [address(late)]


def test_a_foreign_namespace_is_not_kept_alive(shop: NamedSite) -> None:
    process = shop.lab.spawn(shop.host, "unshare --net sleep 1000")
    own = shop.lab.run(shop.host, "readlink /proc/self/ns/net").stdout
    there = f"readlink /proc/{process.pid}/ns/net"
    wait_until(lambda: shop.lab.run(shop.host, there).stdout != own, "its namespace")
    made = shop.sandbox("ctr", "shop", pid=process.pid)
    links = lambda: len(shop.lab.run(shop.host, "ip -br link show type veth").stdout.split("\n"))  # noqa: E731
    before = links()
    assert shop.addresses(made, "ctr") == [address(made)]
    process.kill()
    wait_until(lambda: links() < before, "its links to go with it", timeout=5)


def test_a_foreign_namespace_is_left_as_it_was(
    shop: NamedSite, netns: Callable[[str], Namespace]
) -> None:
    place = netns("ctr")
    made = shop.sandbox("ctr", "shop", netns=place.path)
    assert shop.addresses(made, "ctr") == [address(made)]
    assert "linkspan_names" in shop.lab.run(place, "nft list tables").stdout
    shop.daemon.delete("/v1/sandboxes/ctr")
    assert shop.lab.run(place, "nft list tables").stdout == ""
    assert SERVER not in shop.lab.run(place, "ss -Htuln").stdout
    shop.sandbox("ctr", "shop", netns=place.path)
    serving = shop.names_pid()
    shop.daemon.purge()
    wait_until(lambda: not Path(f"/proc/{serving}").exists(), "the names process to end")
    assert shop.lab.run(place, "nft list tables").stdout == ""


def test_another_resolver_on_the_same_address_is_left_alone(
    shop: NamedSite, netns: Callable[[str], Namespace]
) -> None:
    place = netns("ctr")
    shop.lab.listener_udp(place, SERVER, 4053, reply="another")
    shop.sandbox("ctr", "shop", netns=place.path)
    assert shop.lab.run(place, "nft list tables").stdout == ""
    log = (shop.daemon.run_dir / "names.log").read_text()
    assert f"another resolver listens on {SERVER}" in log
