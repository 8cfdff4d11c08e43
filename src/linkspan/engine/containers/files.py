"""The two files that tell a container of its network: /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

from linkspan.drivers.records import Sandbox

HOSTS = Path("/etc/hosts")
RESOLV_CONF = Path("/etc/resolv.conf")
UPSTREAM = Path("/run/systemd/resolve/resolv.conf")
"""Where systemd-resolved says whom it asks itself (systemd-resolved.service(8))."""

_LOCAL = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def short_id(id: str) -> str:
    """The first 12 digits of an id: the host name of a container that was given none."""
    return id[:12]


def choose_hostname(sandbox: Sandbox) -> str:
    """The host name of a container: the one asked for, else the host's own in host mode, else
    its short id.
    """
    if sandbox.host_mode and sandbox.hostname in ("", short_id(sandbox.id)):
        return socket.gethostname()
    return sandbox.hostname or short_id(sandbox.id)


def compose_hosts(sandbox: Sandbox) -> str:
    """The text of /etc/hosts: localhost, and the container's own name at each of its addresses.

    In host mode it is the host's, which has the name of the host.
    """
    name = choose_hostname(sandbox)
    if sandbox.host_mode:
        text = _read(HOSTS) or _LOCAL
        return text if _knows(text, name) else f"{text.rstrip()}\n127.0.1.1\t{name}\n"
    addresses = [
        address
        for endpoint in sandbox.endpoints
        for address in (endpoint.address, endpoint.address_ipv6)
        if address is not None
    ]
    # Without a network the name still leads to the container itself.
    return _LOCAL + "".join(f"{address}\t{name}\n" for address in addresses or ["127.0.1.1"])


def compose_resolv_conf(text: str, upstream: str | None = None) -> str:
    """The text of /etc/resolv.conf for a namespace of its own, made from the host's.

    A resolver on the host's loopback cannot be reached from there, nor one behind a named
    interface: they are left out. Where nothing but such are in it, `upstream` takes its place:
    what systemd-resolved uses.
    """
    if upstream is not None and not any(map(_is_reachable, _nameservers(text))):
        text = upstream
    kept = [line for line in text.splitlines() if all(map(_is_reachable, _nameservers(line)))]
    return "\n".join(kept).strip() + "\n"


def read_resolv_conf(*, host_mode: bool) -> str:
    """The text of a container's /etc/resolv.conf on this host; in host mode the host's own."""
    text = _read(RESOLV_CONF) or ""
    return text if host_mode else compose_resolv_conf(text, _read(UPSTREAM))


def _nameservers(text: str) -> list[str]:
    fields = [line.split() for line in text.splitlines()]
    return [words[1] for words in fields if len(words) > 1 and words[0] == "nameserver"]


def _is_reachable(nameserver: str) -> bool:
    try:
        address = ipaddress.ip_address(nameserver)
    except ValueError:
        return False
    zone = isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None
    return not (address.is_loopback or address.is_unspecified or zone)


def _knows(hosts: str, name: str) -> bool:
    return any(name in line.partition("#")[0].split()[1:] for line in hosts.splitlines())


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
