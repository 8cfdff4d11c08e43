"""Reading the host's resolv.conf and writing a container's."""

from __future__ import annotations

import os
from pathlib import Path

from linkspan.names.resolvconf import (
    HostConfiguration,
    HostFile,
    read_resolv_conf,
    resolv_conf,
    resolv_conf_of_host,
)


def test_the_hosts_file_is_read() -> None:
    text = """# a comment
nameserver 192.0.2.1
nameserver 2001:db8::1 ; another
nameserver fe80::1%eth0
nameserver none
nameserver 192.0.2.1
domain old.example
search corp.example .
options ndots:3 edns0
options trust-ad
sortlist 1.2.3.4
"""
    assert read_resolv_conf(text) == HostConfiguration(
        ("192.0.2.1", "2001:db8::1", "fe80::1%eth0"),
        ("corp.example",),
        ("ndots:3", "edns0", "trust-ad"),
    )


def test_without_a_server_it_is_the_hosts_own() -> None:
    assert read_resolv_conf("").servers == ("127.0.0.1",)


def test_a_containers_file_has_us_and_tries_names_as_they_are() -> None:
    assert resolv_conf() == "nameserver 127.0.0.11\noptions ndots:0\n"
    assert resolv_conf(["a.example", "b"], ["ndots:2", "timeout:1"]) == (
        "nameserver 127.0.0.11\nsearch a.example b\noptions ndots:2 timeout:1\n"
    )
    host = HostConfiguration(("192.0.2.1",), ("corp.example",), ("ndots:5", "edns0"))
    assert resolv_conf_of_host(host) == (
        "nameserver 127.0.0.11\nsearch corp.example\noptions edns0 ndots:0\n"
    )
    assert "search own.example" in resolv_conf_of_host(host, ["own.example"])


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\n")
    file = HostFile(str(path))
    assert file.configuration.servers == ("192.0.2.1",)
    assert not file.refresh()
    (tmp_path / "new").write_text("nameserver 192.0.2.2\n")
    os.replace(tmp_path / "new", path)
    assert file.refresh()
    assert file.configuration.servers == ("192.0.2.2",)
    path.unlink()
    assert not file.refresh()
    assert file.configuration.servers == ("192.0.2.2",)
    path.write_text("# nothing new\nnameserver 192.0.2.2\n")
    assert not file.refresh()
