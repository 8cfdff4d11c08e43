"""Relays whose destination nobody can see are said to be what they are."""

from __future__ import annotations

import pytest

from linkspan.analysis import Confidence, Flow, View, trace_flow
from linkspan.analysis.relay import describe_relay
from linkspan.dataplane import Address, DataPlane, Link, Listener, Loopback, Namespace, Process
from linkspan.dataplane.objects import Object


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("rootlessport", "rootlessport (pid 7) hands it into a rootless container"),
        ("pasta.avx2", "pasta.avx2 (pid 7) hands it into a rootless container"),
        ("slirp4netns", "slirp4netns (pid 7) hands it into a rootless container"),
        ("conmon", "conmon (pid 7) only keeps the port for its container, and answers nothing"),
    ],
)
def test_an_answer_from_a_relay_is_not_certain(program: str, said: str) -> None:
    objects: list[Object] = [
        Namespace(namespace="host"),
        Link(name="lo", kind=Loopback(), up=True, mtu=65536, index=1),
        Address(link="lo", address="127.0.0.1/8", scope="host"),
        Listener(protocol="tcp", address="0.0.0.0", port=8080, processes=(Process(7, program),)),
    ]
    answer = trace_flow(
        View(DataPlane(objects)), "host", Flow(destination="127.0.0.1", destination_port=8080)
    )
    assert answer.first.disposition.value == "delivered"
    assert any(note.startswith(said) for note in answer.first.not_understood)
    assert answer.confidence is not Confidence.CERTAIN


def test_other_programs_are_no_relays() -> None:
    assert describe_relay((Process(7, "nginx"), Process(8, "docker-proxy"))) is None
