"""Published ports as elements."""

from __future__ import annotations

from linkspan.drivers.published import describe_direct
from linkspan.drivers.records import PublishedPort


def spans(*ports: tuple[str, int, int, str]) -> list[tuple[object, object]]:
    published = [
        PublishedPort(
            protocol=protocol, host_port=first, host_port_end=first + length - 1, port=inner,
            host_ip=host,
        )
        for first, (protocol, inner, length, host) in enumerate(ports, 8000)
    ]  # fmt: skip
    return [
        (element.first[1:], element.last and element.last[1:])
        for element in describe_direct(published, "10.0.0.2")
    ]


def test_ports_inside_that_overlap_are_one_element():
    anywhere = "0.0.0.0"
    assert spans(("tcp", 80, 11, anywhere), ("tcp", 85, 11, anywhere)) == [
        (("tcp", 80), ("tcp", 95))
    ]
    assert spans(("tcp", 80, 20, anywhere), ("tcp", 85, 2, anywhere)) == [
        (("tcp", 80), ("tcp", 99))
    ]
    assert spans(("tcp", 80, 1, anywhere), ("tcp", 81, 1, anywhere)) == [(("tcp", 80), ("tcp", 81))]


def test_protocols_gaps_and_single_addresses_stay_apart():
    anywhere = "0.0.0.0"
    assert spans(("tcp", 80, 1, anywhere), ("udp", 81, 1, anywhere), ("tcp", 82, 1, anywhere)) == [
        (("tcp", 80), ("tcp", 80)),
        (("tcp", 82), ("tcp", 82)),
        (("udp", 81), ("udp", 81)),
    ]
    assert spans(("tcp", 80, 1, "192.0.2.10")) == []
