"""A container's /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from linkspan.drivers.records import Endpoint, Sandbox
from linkspan.engine.containers import files
from linkspan.engine.containers.files import (
    choose_hostname,
    compose_hosts,
    compose_resolv_conf,
    read_resolv_conf,
)

ID = "0123456789ab" + "c" * 52


def sandbox(*endpoints: Endpoint, hostname: str = "", host_mode: bool = False) -> Sandbox:
    return Sandbox(id=ID, name="shop", hostname=hostname, host_mode=host_mode, endpoints=endpoints)


def last_lines(text: str) -> list[tuple[str, ...]]:
    return [tuple(line.split()) for line in text.splitlines() if "ip6-" not in line]


def test_the_own_name_leads_to_each_own_address():
    one = Endpoint(id="a", network="n", ipv4="10.20.0.2/24", ipv6="fd00:20::2/64")
    two = Endpoint(id="b", network="m", ipv4="10.21.0.9/24")
    assert last_lines(compose_hosts(sandbox(one, two, hostname="till"))) == [
        ("127.0.0.1", "localhost"),
        ("10.20.0.2", "till"),
        ("fd00:20::2", "till"),
        ("10.21.0.9", "till"),
    ]


def test_without_a_network_the_own_name_leads_to_itself():
    assert last_lines(compose_hosts(sandbox()))[-1] == ("127.0.1.1", "0123456789ab")


def test_in_host_mode_it_is_the_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hosts = tmp_path / "hosts"
    monkeypatch.setattr(files, "HOSTS", hosts)
    own = socket.gethostname()
    hosts.write_text(f"127.0.0.1 localhost\n192.0.2.7 {own} printer # {own}2\n")
    assert choose_hostname(sandbox(host_mode=True)) == own
    assert choose_hostname(sandbox(host_mode=True, hostname="0123456789ab")) == own
    assert choose_hostname(sandbox(hostname="0123456789ab")) == "0123456789ab"
    assert compose_hosts(sandbox(host_mode=True)) == hosts.read_text()
    text = compose_hosts(sandbox(host_mode=True, hostname=f"{own}2"))
    assert text == hosts.read_text() + f"127.0.1.1\t{own}2\n"
    hosts.unlink()
    assert "localhost" in compose_hosts(sandbox(host_mode=True))


@pytest.mark.parametrize(
    ("host", "upstream", "expected"),
    [
        (
            "nameserver 192.0.2.1\nsearch example.org\noptions ndots:2\n",
            "nameserver 192.0.2.53\n",
            "nameserver 192.0.2.1\nsearch example.org\noptions ndots:2\n",
        ),
        (
            "nameserver 127.0.0.53\noptions edns0\nsearch example.org\n",
            "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch example.org\n",
            "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch example.org\n",
        ),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.1\n", "x", "nameserver 192.0.2.1\n"),
        (
            "nameserver ::1\n",
            "nameserver fe80::1%eth0\nnameserver 192.0.2.5\n",
            "nameserver 192.0.2.5\n",
        ),
        ("# nothing\nnameserver 127.0.0.53\n", None, "# nothing\n"),
        (
            "nameserver 0.0.0.0\nnameserver dns\nnameserver 192.0.2.1",
            None,
            "nameserver 192.0.2.1\n",
        ),
        ("", None, "\n"),
    ],
)
def test_resolvers_that_cannot_be_reached_are_left_out(
    host: str, upstream: str | None, expected: str
):
    assert compose_resolv_conf(host, upstream) == expected


def test_in_host_mode_the_resolvers_are_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own, upstream = tmp_path / "resolv.conf", tmp_path / "upstream"
    monkeypatch.setattr(files, "RESOLV_CONF", own)
    monkeypatch.setattr(files, "UPSTREAM", upstream)
    own.write_text("nameserver 127.0.0.53\n")
    assert read_resolv_conf(host_mode=True) == "nameserver 127.0.0.53\n"
    assert read_resolv_conf(host_mode=False) == "\n"
    upstream.write_text("nameserver 192.0.2.53\n")
    assert read_resolv_conf(host_mode=False) == "nameserver 192.0.2.53\n"
    own.unlink()
    assert read_resolv_conf(host_mode=True) == ""
