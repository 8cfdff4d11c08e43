"""Texts that close published ports: what they mean, and what is left of ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkspan.drivers.records import PublishedPort
from linkspan.engine.publishing import close_ports
from linkspan.errors import InvalidRequest, NotFound


def port(host: int, inside: int, length: int = 1, ip: str = "0.0.0.0", protocol: str = "tcp"):
    return PublishedPort(
        host_ip=ip, host_port=host, host_port_end=host + length - 1, port=inside, protocol=protocol
    )


WEB = port(8080, 80)
WEB6 = port(8080, 80, ip="::")
LOCAL = port(9000, 90, ip="127.0.0.1", protocol="udp")
LOCAL6 = port(9001, 91, ip="::1")
RANGE = port(7000, 70, 10)
ALL = (WEB, WEB6, LOCAL, LOCAL6, RANGE)


@pytest.mark.parametrize(
    ("text", "affected"),
    [
        ("8080", [WEB, WEB6]),
        ("8080/tcp", [WEB, WEB6]),
        ("8080:80", [WEB, WEB6]),
        ("0.0.0.0:8080", [WEB]),
        ("[::]:8080", [WEB6]),
        ("[::]:8080:80/tcp", [WEB6]),
        ("9000/udp", [LOCAL]),
        ("127.0.0.1:9000/UDP", [LOCAL]),
        ("[::1]:9001", [LOCAL6]),
        ("7000-7009", [RANGE]),
        ("7003", [RANGE]),
        ("7003:73", [RANGE]),
        (str(RANGE), [RANGE]),
    ],
)
def test_a_text_means_what_it_published(text: str, affected: list[PublishedPort]):
    assert list(close_ports(text, ALL, "web").affected) == affected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("8081", "port 8081/tcp is not published by web"),
        ("8080/udp", "8080/udp is not published"),
        ("8080:81", "not published to lead to 81"),
        ("127.0.0.1:8080", "not published on 127.0.0.1"),
        ("9000", "9000/tcp is not published"),
        ("7005-7010", "port 7010/tcp"),
        ("6999-7001", "port 6999/tcp"),
        ("7003:74", "not published to lead to 74"),
    ],
)
def test_what_is_not_published_is_named(text: str, says: str):
    with pytest.raises(NotFound, match=says) as refused:
        close_ports(text, ALL, "web")
    assert "it publishes 0.0.0.0:8080:80/tcp, [::]:8080:80/tcp" in refused.value.message


@pytest.mark.parametrize("text", ["", "x", "0", "8080/icmp", "::1:80", "1-0", "a.b:80", "[::1]"])
def test_what_is_no_port_is_refused_with_the_form(text: str):
    with pytest.raises(InvalidRequest):
        close_ports(text, ALL, "web")


@given(st.integers(1, 60000), st.integers(1, 60000), st.integers(1, 200), st.data())
def test_a_range_is_what_was_closed_and_what_is_left(host: int, inside: int, length: int, data):
    whole = port(host, inside, length)
    first = data.draw(st.integers(host, host + length - 1))
    last = data.draw(st.integers(first, host + length - 1))
    closing = close_ports(f"{first}-{last}", [whole], "web")

    def lead(ports) -> dict[int, int]:
        return {
            p.host_port + n: p.port + n
            for p in ports
            for n in range(p.host_port_end - p.host_port + 1)
        }

    left = lead(part for part, _ in closing.remaining)
    closed = lead(closing.closed)
    assert closed.keys() == set(range(first, last + 1))
    assert closed.keys().isdisjoint(left)
    assert {**left, **closed} == lead([whole])
