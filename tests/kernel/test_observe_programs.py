"""Programs at links: real ones, loaded and attached by hand; what is read is what `ip` shows."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator

import pytest

from lab import Namespace
from linkspan.analysis import Confidence, Flow, View, trace_flow
from linkspan.dataplane import HOST, DataPlane, Program
from linkspan.kernel import bpf
from linkspan.kernel.host import observe_host
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.socket import NetlinkSocket

XDP, XDP_HOOK = 6, 37
DROP = {XDP: 1, bpf.SCHED_CLS: 2}
PASS = {XDP: 2, bpf.SCHED_CLS: 0}
PROG_LOAD, LINK_CREATE = 5, 28


def load(type: int, name: bytes, result: int) -> int:
    """A program that returns a number, by its descriptor."""
    # r0 = result; exit
    code = ctypes.create_string_buffer(struct.pack("=BBhiBBhi", 0xB7, 0, 0, result, 0x95, 0, 0, 0))
    licence = ctypes.create_string_buffer(b"GPL")
    request = struct.pack(
        "=IIQQIIQII16sII", type, 2, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0, 0,
        0, name, 0, 0,
    )  # fmt: skip
    descriptor = bpf._call(PROG_LOAD, bytearray(request.ljust(128, b"\0")))
    if descriptor < 0:
        pytest.skip(f"this kernel loads no BPF program: {os.strerror(ctypes.get_errno())}")
    return descriptor


class Attached:
    """Programs at links of the home namespace and another one; gone after the test."""

    def __init__(self, far: Namespace) -> None:
        self.far = far
        self.held: list[int] = []

    def attach(self, type: int, hook: int, link: str, result: int, name: bytes) -> int:
        """Attach with a BPF link."""
        program = load(type, name, result)
        self.held.append(program)
        flags = 2 if type == XDP else 0  # XDP_FLAGS_SKB_MODE
        request = struct.pack("=IIII", program, socket.if_nametoindex(link), hook, flags)
        made = bpf._call(LINK_CREATE, bytearray(request.ljust(128, b"\0")))
        if made < 0:
            pytest.skip(f"no such hook in this kernel: {os.strerror(ctypes.get_errno())}")
        self.held.append(made)
        return program

    def attach_filter(self, link: str, hook: str, result: int, name: str) -> None:
        """Attach with clsact, as `tc filter add ... bpf da` does."""
        program = load(bpf.SCHED_CLS, name.encode(), result)
        self.held.append(program)
        subprocess.run(["tc", "qdisc", "replace", "dev", link, "clsact"], check=True)
        parent = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}[hook]
        priority_and_protocol = 1 << 16 | socket.htons(0x0003)
        body = struct.pack(
            "=BxxxiIII", 0, socket.if_nametoindex(link), 0, parent, priority_and_protocol
        )
        body += wire.attribute_text(1, "bpf") + wire.nested(
            2, wire.attribute_u32(6, program), wire.attribute_text(7, name),
            wire.attribute_u32(8, 1),
        )  # fmt: skip
        with NetlinkSocket() as sock:
            refused = sock.request([wire.pack_message(44, wire.CREATE | wire.EXCLUDE, 0, body)])
        assert refused == [None]

    def look(self) -> DataPlane:
        return observe_host({HOST: None, "far": self.far.path}).plane


@pytest.fixture
def attached(home: Namespace, netns: Callable[[str], Namespace]) -> Iterator[Attached]:
    far = netns("far")
    for line in (
        f"link add v0 type veth peer name eth0 netns {far.name}", "link set v0 up",
        "addr add 10.1.0.1/24 dev v0", f"-n {far.name} link set eth0 up",
        f"-n {far.name} addr add 10.1.0.2/24 dev eth0",
    ):  # fmt: skip
        subprocess.run(["ip", *line.split()], check=True)
    made = Attached(far)
    yield made
    for descriptor in made.held:
        os.close(descriptor)


def pings(attached: Attached) -> bool:
    done = subprocess.run(
        ["ping", "-c1", "-W1", "10.1.0.2"], capture_output=True, check=False
    )  # fmt: skip
    return done.returncode == 0


def walk(attached: Attached) -> tuple[Confidence, str]:
    view = View(attached.look(), sockets_known=True)
    answer = trace_flow(view, HOST, Flow(destination="10.1.0.2", protocol="icmp"))
    legs = [leg for trace in answer.traces for leg in trace.legs]
    return answer.confidence, " ".join(note for leg in legs for note in leg.not_understood)


def test_without_programs_a_walk_is_sure(attached: Attached) -> None:
    assert list(attached.look().of(Program)) == []
    assert pings(attached)
    assert walk(attached) == (Confidence.CERTAIN, "")


def test_an_xdp_program(attached: Attached) -> None:
    attached.attach(XDP, XDP_HOOK, "v0", DROP[XDP], b"drop_all")
    (program,) = attached.look().of(Program)
    (shown,) = json.loads(subprocess.check_output(["ip", "-j", "link", "show", "v0"]))
    assert (program.link, program.hook, program.kind) == ("v0", "xdp", "xdp")
    assert (program.id, program.name) == (shown["xdp"]["prog"]["id"], "drop_all")
    assert not pings(attached)
    confidence, notes = walk(attached)
    assert confidence is not Confidence.CERTAIN
    assert "the xdp program drop_all at xdp of v0" in notes


@pytest.mark.parametrize("hook", ["ingress", "egress"])
def test_a_tcx_program(attached: Attached, hook: str) -> None:
    number = bpf.TCX_INGRESS if hook == "ingress" else bpf.TCX_EGRESS
    attached.attach(bpf.SCHED_CLS, number, "v0", DROP[bpf.SCHED_CLS], b"drop_all")
    (program,) = attached.look().of(Program)
    assert (program.link, program.hook, program.kind, program.name) == (
        "v0", hook, "tcx", "drop_all",
    )  # fmt: skip
    assert not pings(attached)
    confidence, notes = walk(attached)
    assert confidence is not Confidence.CERTAIN
    assert f"the tcx program drop_all at {hook} of v0" in notes


@pytest.mark.parametrize("hook", ["ingress", "egress"])
def test_a_filter_of_the_traffic_control(attached: Attached, hook: str) -> None:
    attached.attach_filter("v0", hook, DROP[bpf.SCHED_CLS], "drop_all")
    (program,) = attached.look().of(Program)
    shown = json.loads(subprocess.check_output(["tc", "-j", "filter", "show", "dev", "v0", hook]))
    (options,) = [row["options"] for row in shown if "options" in row]
    assert (program.link, program.hook, program.kind) == ("v0", hook, "tc")
    assert (program.name, program.id) == ("drop_all", options["prog"]["id"])
    assert not pings(attached)
    confidence, notes = walk(attached)
    assert confidence is not Confidence.CERTAIN
    assert f"the tc program drop_all at {hook} of v0" in notes


def test_a_program_elsewhere_does_not_matter(attached: Attached) -> None:
    """One at a link that the packet does not pass."""
    subprocess.run(["ip", "link", "add", "w0", "type", "veth", "peer", "w1"], check=True)
    attached.attach(XDP, XDP_HOOK, "w0", PASS[XDP], b"elsewhere")
    assert len(list(attached.look().of(Program))) == 1
    assert walk(attached) == (Confidence.CERTAIN, "")


def test_programs_beside_links_are_said(home: Namespace) -> None:
    descriptor = load(8, b"some_filter", 1)
    try:
        said = [one for one in observe_host({HOST: None}).unseen if "cgroup_skb" in one]
    finally:
        os.close(descriptor)
    assert len(said) == 1
    assert "some_filter" in said[0]
    assert not [one for one in observe_host({HOST: None}).unseen if "some_filter" in one]


def test_a_filter_without_bpf(attached: Attached) -> None:
    words = "protocol ip pref 7 u32 match ip dst 10.9.0.1/32 flowid 1:1"
    subprocess.run(["tc", "qdisc", "add", "dev", "v0", "clsact"], check=True)
    subprocess.run(["tc", "filter", "add", "dev", "v0", "egress", *words.split()], check=True)
    (program,) = attached.look().of(Program)
    assert (program.hook, program.kind, program.name) == ("egress", "tc", "u32 pref 7")
