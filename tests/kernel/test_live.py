"""`linkspan path --live`: the real packet, what the kernel did with it, and nothing left behind."""

from __future__ import annotations

import signal
import socket
import subprocess
from typing import Any

import msgspec
import pytest

from lab import Lab
from lab.live import Live, Router, ask_live, live_command, live_environment, run_live
from lab.processes import wait_until
from linkspan.dataplane import DataPlane, Link, Veth

RULES = """
table ip nat {
  chain pre { type nat hook prerouting priority -100; tcp dport 8080 dnat to 10.2.0.2:80; }
  chain post { type nat hook postrouting priority 100; oifname "far" masquerade fully-random; }
}
table inet guard {
  chain forward {
    type filter hook forward priority 0; policy accept;
    tcp dport 81 drop
    tcp dport 82 reject with icmpx admin-prohibited
    tcp dport 83 reject with tcp reset
    tcp dport 84 jump checks
    udp dport 53 accept
  }
  chain checks { ct state new counter; ip saddr 10.1.0.0/24 drop; }
}
table inet last {
  chain forward {
    type filter hook forward priority 10; policy drop;
    tcp dport { 80, 8080 } accept
    ct state established,related accept
    meta l4proto { icmp, ipv6-icmp, udp } accept
  }
}
"""

FRAMES = """
table bridge frames {
  chain forward { type filter hook forward priority PRIORITY; tcp dport 81 drop; accept; }
}
table netdev wire {
  chain in { type filter hook ingress device p2 priority 0; tcp dport 82 drop; }
}
"""


@pytest.fixture
def router(lab: Lab) -> Router:
    made = Router(lab, RULES)
    lab.listener_tcp(made.server, "::", 80, reply="server")
    lab.listener_udp(made.server, "0.0.0.0", 53, reply="server")
    return made


def test_a_connection_is_followed_through_both_translations(router: Router):
    found = router.ask("10.1.0.1:8080")
    assert found.status == 0
    assert found.seen["outcome"]["kind"] == "connected"
    assert found.seen["as_predicted"], found.difference
    names = [router.client.name, "host", router.server.name]
    assert found.way() == names
    assert found.way("answer") == names[::-1]
    assert found.way("later") == names
    assert {"ip nat pre accept", "ip nat post accept", "inet last forward accept"} <= found.rules
    arrived = [one["headers"] for one in found.seen["frames"] if one["part"] == "there"][-1]
    assert (arrived["source"], arrived["destination"]) == ("10.2.0.1", "10.2.0.2")
    assert arrived["destination_port"] == 80
    (entry,) = found.seen["connections"]
    assert entry["reply"]["destination_port"] == arrived["source_port"]


@pytest.mark.parametrize(
    ("target", "kind", "rule"),
    [
        ("10.2.0.2:81", "no-answer", "inet guard forward drop"),
        ("10.2.0.2:82", "icmp-error", "inet guard forward drop"),
        ("10.2.0.2:83", "refused", "inet guard forward drop"),
        ("10.2.0.2:84", "no-answer", "inet guard checks drop"),
        ("10.2.0.2:85", "no-answer", "inet last forward drop"),
    ],
)
def test_the_rule_that_stops_it_is_seen_to_be_the_predicted_one(
    router: Router, target: str, kind: str, rule: str
):
    found = router.ask(target, "--timeout", "0.4")
    assert found.status == 1
    assert found.seen["outcome"]["kind"] == kind
    assert found.seen["as_predicted"], found.difference
    assert rule in found.rules
    last = found.seen["hops"][-1]
    assert last["namespace"] == "host"
    assert last["observed"]["stopped_by"] is not None
    if "policy" not in found.answer["reason"]:
        assert last["observed"]["stopped_by"] in found.answer["reason"]


@pytest.mark.parametrize(
    ("words", "kind", "status"),
    [
        (("10.2.0.2:53", "--proto", "udp"), "answered", 0),
        (("10.2.0.2:54", "--proto", "udp"), "refused", 1),
        (("10.2.0.2",), "answered", 0),
        (("[fd00:2::2]:80",), "connected", 0),
        (("fd00:2::2",), "answered", 0),
        (("10.1.0.1:22",), "refused", 1),
        (("10.77.0.1",), "icmp-error", 1),
    ],
)
def test_every_protocol_in_both_versions(
    router: Router, words: tuple[str, ...], kind: str, status: int
):
    found = router.ask(*words)
    assert (found.seen["outcome"]["kind"], found.status) == (kind, status)
    assert found.seen["as_predicted"], found.difference


def test_a_datagram_that_nobody_answers_has_arrived(router: Router):
    with router.lab.socket(router.server, socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("0.0.0.0", 99))
        found = router.ask("10.2.0.2:99", "--proto", "udp", "--timeout", "0.2")
        assert (found.status, found.seen["outcome"]["kind"]) == (0, "no-answer")
        assert found.seen["as_predicted"], found.difference
        assert found.seen["not_observable"] > 0
        assert silent.recv(16) == b"\0"


def test_nothing_is_left_behind(router: Router):
    before = router.state()
    for target in ("10.1.0.1:8080", "10.2.0.2:81", "10.2.0.2", "[fd00:2::2]:80"):
        found = router.ask(target, "--timeout", "0.2")
        assert found.seen["left_over"] == []
    assert router.state() == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_behind_by_one_that_is_killed(router: Router, number: signal.Signals):
    before = router.state()
    process = subprocess.Popen(
        live_command(router.host, router.client.name, "10.2.0.2:81", "--live", "--timeout", "30"),
        env=live_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: has_table(router), "a table that traces")
        process.send_signal(number)
        process.wait(20)
        wait_until(lambda: not has_table(router), "the table to vanish")
    finally:
        process.kill()
        process.wait()
    assert router.state() == before


def test_a_difference_is_called_one(router: Router):
    """The ruleset changes between the look at the host and the packet."""
    from linkspan.cli.live import observe_and_compare

    question = look(router, "10.2.0.2:80")
    router.lab.run(router.host, "nft insert rule inet guard forward tcp dport 80 drop")
    _, seen, found = observe_and_compare(question, 0.3)
    assert not found.as_predicted
    assert found.arrived is False
    first = found.first_difference
    assert first is not None
    assert first.namespace == "host"
    assert seen.outcome.kind == "no-answer"
    stopped = first.observed.stopped_by if first.observed else None
    assert (stopped or "").startswith("inet guard forward handle")


def test_beyond_a_link_that_leads_out_only_what_comes_back_is_seen(router: Router):
    """As on a machine whose neighbours are elsewhere: the server's namespace is not known."""
    from linkspan.cli.live import observe_and_compare

    for target, proto, arrived in (
        ("10.2.0.2:80", "tcp", True), ("10.2.0.2:53", "udp", True), ("10.2.0.2:54", "udp", False),
    ):  # fmt: skip
        question = look(router, target, proto, without=router.server.name)
        answer, seen, found = observe_and_compare(question, 0.3)
        assert answer.first.disposition.value == "left"
        assert found.as_predicted, found.first_difference
        assert found.arrived is arrived
        assert router.server.name not in seen.watched


def test_an_answer_that_gets_lost_is_a_difference_too(router: Router):
    from linkspan.cli.live import observe_and_compare

    question = look(router, "10.2.0.2:80")
    router.lab.run(router.host, "nft insert rule inet guard forward tcp sport 80 drop")
    _, _, found = observe_and_compare(question, 0.3)
    first = found.first_difference
    assert first is not None
    assert (first.part, first.namespace) == ("answer", "host")


def test_where_nobody_has_rules_frames_tell_all_and_no_table_is_made(lab: Lab):
    bare = Router(lab)
    lab.listener_tcp(bare.server, "0.0.0.0", 80, reply="server")
    found = bare.ask("10.2.0.2:80")
    assert found.status == 0
    assert found.seen["as_predicted"]
    assert found.seen["rules"] == []
    assert found.seen["not_observable"] == 0
    assert lab.run(bare.host, "conntrack -L").stdout == ""


def test_the_old_iptables_is_not_traced_and_that_is_said(lab: Lab):
    old = Router(lab)
    lab.run(old.host, "iptables-legacy -A FORWARD -p tcp --dport 81 -j DROP")
    found = old.ask("10.2.0.2:81", "--timeout", "0.2")
    assert found.status == 1
    assert found.seen["as_predicted"], found.difference
    assert "host" not in found.seen["traced"]
    assert any("old iptables" in sentence for sentence in found.seen["not_seen"])
    assert found.seen["not_observable"] > 0


@pytest.mark.parametrize("priority", [-200, 0])
def test_frames_that_a_bridge_passes_meet_its_own_rules(lab: Lab, priority: int):
    """At priority 0 it depends on when the chain was made, and that is seen."""
    host, one, other = (lab.namespace(word) for word in ("host", "one", "other"))
    lab.run(host, "ip link add br0 type bridge")
    lab.run(host, "ip link set br0 up")
    for number, place in enumerate((one, other), 2):
        lab.veth(host, f"p{number}", "", place, "eth0", f"10.3.0.{number}/24")
        lab.run(host, f"ip link set p{number} master br0")
    lab.run(host, "nft -f -", stdin=FRAMES.replace("PRIORITY", str(priority)))
    lab.listener_tcp(other, "0.0.0.0", 80, reply="other")
    for port, status, rule in (
        (80, 0, "bridge frames forward accept"), (81, 1, "bridge frames forward drop"),
        (82, 1, "netdev wire in drop"),
    ):  # fmt: skip
        found: Live = ask_live(host, one.name, f"10.3.0.3:{port}", "--live", "--timeout", "0.3")
        assert (port, found.status) == (port, status)
        assert found.seen["as_predicted"], found.difference
        assert rule in found.rules


@pytest.mark.parametrize("width", [80, 120])
def test_side_by_side_in_a_terminal(router: Router, width: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", str(width))
    done = run_live(router.host, router.client.name, "10.2.0.2:81", "--timeout", "0.2")
    assert done.returncode == 1
    assert "NOT DELIVERED: no answer within 0.2 s" in done.stdout
    assert "AS PREDICTED" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= width


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("outside", "10.2.0.2:80", "--live", "--link", "near"), "cannot send as outside"),
        (("host", "10.2.0.2:80", "--live", "--proto", "sctp"), "sctp is only computed"),
        (("host", "10.2.0.2:80", "--timeout", "1"), "--timeout is for --live"),
        (("host", "10.2.0.2:80", "--live", "--plan", "network create x"), "not with --from-file"),
    ],
)
def test_what_cannot_be_sent_is_wrong_usage(router: Router, words: tuple[str, ...], said: str):
    done = subprocess.run(
        live_command(router.host, *words), capture_output=True, text=True, timeout=60,
        env=live_environment(),
    )  # fmt: skip
    assert (done.returncode, said in " ".join(done.stderr.split())) == (2, True), done.stderr


def has_table(router: Router) -> bool:
    return "linkspan-live-" in router.lab.run(router.host, "nft list tables").stdout


def look(router: Router, target: str, proto: str = "tcp", without: str = "") -> Any:
    """The question about the client and a target, with the host looked at now; one namespace
    may be left out.
    """
    from linkspan.cli.hostview import look_at_host
    from linkspan.cli.path import find_question
    from linkspan.kernel import namespaces

    class _Looking:
        live, plans = True, ()

        def around(self, ends: Any) -> Any:
            with namespaces.opened(router.host.path) as descriptor, namespaces.entered(descriptor):
                view = look_at_host(None, ends)
            # The host is that of the question, not of the test.
            paths = {name: path or router.host.path for name, path in view.paths.items()}
            plane = DataPlane(map(cut, (o for o in view.plane if o.namespace != without)))
            paths.pop(without, None)
            return msgspec.structs.replace(view, paths=paths, plane=plane)

    def cut(one: Any) -> Any:
        if isinstance(one, Link) and getattr(one.kind, "peer_namespace", None) == without:
            return msgspec.structs.replace(one, kind=Veth())
        return one

    return find_question(_Looking(), router.client.name, target, proto)  # type: ignore[arg-type]
