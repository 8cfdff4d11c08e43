"""The text of a published port: every form, and what is wrong with the others."""

from __future__ import annotations

import pytest

from linkspan.engine.publishing import parse_port
from linkspan.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "host_ip", "host", "inside", "protocol"),
    [
        ("80", None, None, (80, 80), "tcp"),
        ("8080:80", None, (8080, 8080), (80, 80), "tcp"),
        ("53:53/udp", None, (53, 53), (53, 53), "udp"),
        ("5000:5000/SCTP", None, (5000, 5000), (5000, 5000), "sctp"),
        ("127.0.0.1:8080:80", "127.0.0.1", (8080, 8080), (80, 80), "tcp"),
        ("127.0.0.1::80", "127.0.0.1", None, (80, 80), "tcp"),
        ("[::1]:8080:80", "::1", (8080, 8080), (80, 80), "tcp"),
        ("[::1]::80/udp", "::1", None, (80, 80), "udp"),
        ("[2001:0db8::0001]:1:2", "2001:db8::1", (1, 1), (2, 2), "tcp"),
        ("[::]:80:80", "::", (80, 80), (80, 80), "tcp"),
        (":8080:80", None, (8080, 8080), (80, 80), "tcp"),
        ("::80", None, None, (80, 80), "tcp"),
        (":80", None, None, (80, 80), "tcp"),
        ("8000-8010:9000-9010", None, (8000, 8010), (9000, 9010), "tcp"),
        ("9000-9010", None, None, (9000, 9010), "tcp"),
        ("8000-8010:80", None, (8000, 8010), (80, 80), "tcp"),
        ("80-80:90", None, (80, 80), (90, 90), "tcp"),
    ],
)
def test_what_a_text_asks_for(
    text: str,
    host_ip: str | None,
    host: tuple[int, int] | None,
    inside: tuple[int, int],
    protocol: str,
):
    found = parse_port(text)
    assert found.text == text
    assert found.host_ip == host_ip
    assert (found.host_port, found.host_port_end) == (host or (None, None))
    assert (found.port, found.port_end) == inside
    assert found.protocol == protocol
    assert found.is_fixed == (host is not None and host[1] - host[0] == inside[1] - inside[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "container's port is missing"),
        ("8080:", "container's port is missing"),
        ("http", "container port 'http' is no number"),
        ("80x:80", "host port '80x' is no number"),
        ("-1:80", "is no number"),
        ("80-:80", "is no number"),
        ("\u0661:80", "is no number"),
        ("0", "container port 0 is not between 1 and 65535"),
        ("0:80", "leave it out for a free one"),
        ("70000:80", "host port 70000 is not between 1 and 65535"),
        ("80/icmp", "no protocol 'icmp'"),
        ("80/", "no protocol ''"),
        ("8010-8000:80", "write 8000-8010"),
        ("8000-8002:9000-9001", "3 host ports cannot lead to 2"),
        ("8000:9000-9001", "1 host port cannot lead to 2"),
        ("127.0.0.1:80", "write 127.0.0.1::80"),
        ("[::1]:80", r"write \[::1\]::80"),
        ("::1:80:80", r"in brackets, like \[::1\]:8080:80"),
        ("1.2.3:80:80", "'1.2.3' is no IP address"),
        ("localhost:80:80", "use 127.0.0.1"),
        ("web:80:80", "names are not looked up"),
        ("[::ffff:192.0.2.1]:80:80", "write 192.0.2.1 instead"),
        ("[fe80::1]:80:80", "link-local"),
        ("[::1:80:80", "brackets|form"),
        ("[::1]80", "form"),
        ("[::1]:1:2:3", "form"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str):
    with pytest.raises(InvalidRequest, match=said) as caught:
        parse_port(text)
    assert repr(text) in caught.value.message
