"""The lab does what the other tests take for granted, and leaves nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lab import Lab
from lab.processes import wait_until


@pytest.fixture
def wired(lab: Lab):
    left, right = lab.namespace("left"), lab.namespace("right")
    lab.veth(
        *(left, "eth0", ["192.0.2.10/24", "2001:db8::10/64"]),
        *(right, "eth0", ["192.0.2.20/24", "2001:db8::20/64"]),
    )
    return left, right


@pytest.mark.parametrize(
    ("server", "client"), [("192.0.2.10", "192.0.2.20"), ("2001:db8::10", "2001:db8::20")]
)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_listener_says_whom_it_saw(lab: Lab, wired, server, client, protocol):
    left, right = wired
    listen = lab.listener_tcp if protocol == "tcp" else lab.listener_udp
    listen(left, server, 80, reply="hello")
    answer = lab.fetch(right, server, 80, protocol)
    assert (answer.ok, answer.seen, answer.reply) == (True, client, "hello")


def test_a_closed_port_is_refused_and_a_dropped_packet_times_out(lab: Lab, wired):
    left, right = wired
    assert lab.fetch(right, "192.0.2.10", 81).error == "refused"
    assert lab.fetch(right, "192.0.2.10", 81, "udp").error == "refused"
    lab.run(
        left,
        "nft -f -",
        stdin="table inet t { chain c { type filter hook input priority 0; policy drop; }\n}",
    )
    assert lab.fetch(right, "192.0.2.10", 81, timeout=0.2).error == "timed out"
    assert lab.fetch(right, "198.51.100.1", 81).error == "unreachable"


def test_a_conversation_lasts_until_it_is_cut(lab: Lab, wired):
    left, right = wired
    listener = lab.listener_tcp(left, "192.0.2.10", 80)
    talk = lab.connect(right, "192.0.2.10", 80)
    assert talk.say("still there?") == "still there?"
    listener.close()
    with pytest.raises(ConnectionError):
        talk.say("and now?")


def test_programs_run_inside_the_namespace(lab: Lab, wired):
    left, right = wired
    assert "192.0.2.10/24" in lab.run(left, "ip -br address show eth0").stdout
    server = lab.spawn(right, "python3 -u -m http.server 8000 --bind 192.0.2.20")
    server.wait_for_output("Serving HTTP")
    answer = lab.fetch(left, "192.0.2.20", 8000, request=b"HEAD / HTTP/1.0\r\n\r\n")
    assert answer.reply.startswith("HTTP/1.0 200")
    with pytest.raises(AssertionError, match="exit status 1"):
        lab.run(left, "false")


def test_nothing_is_left_when_it_closes():
    with Lab() as lab:
        place = lab.namespace("one")
        process = lab.spawn(place, ["sh", "-c", "sleep 1000 & sleep 1000"])
        # A daemon's leftovers: a process in another session, and a namespace mounted in a file.
        lab.run(place, ["sh", "-c", "setsid sleep 1001 >/dev/null 2>&1 &"])
        mounted = lab.directory / "netns"
        mounted.touch()
        subprocess.run(["unshare", f"--net={mounted}", "true"], check=True)
        inside = lab.run(mounted, ["sh", "-c", "setsid sleep 1002 >/dev/null 2>&1 & echo $!"])
    assert not os.path.exists(place.path)
    assert not lab.directory.exists()
    assert str(mounted) not in Path("/proc/self/mountinfo").read_text()
    assert not process.running
    # Its parent is init now, which reaps it when it comes to it.
    wait_until(lambda: not Path(f"/proc/{inside.stdout.strip()}").exists(), "the end of sleep")
