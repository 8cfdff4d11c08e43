"""/etc/resolv.conf: the host's, which is read, and a container's, which is written."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence

import msgspec

ADDRESS = "127.0.0.11"
"""Where a container's resolver is; nobody else uses it but Docker's, for the same."""
HOST_FILE = "/etc/resolv.conf"
MOST_SERVERS = 8


class HostConfiguration(msgspec.Struct, frozen=True):
    """What the host's file says. Without a name server the host's own port 53 is meant."""

    servers: tuple[str, ...] = ("127.0.0.1",)
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def read_resolv_conf(text: str) -> HostConfiguration:
    """Read a resolv.conf (resolv.conf(5)); lines that nobody understands are passed over."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver" and is_server(words[1]):
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = tuple(word for word in words[1:] if word != ".")
        elif words[0] == "options":
            options += words[1:]
    chosen = tuple(dict.fromkeys(servers))[:MOST_SERVERS] or ("127.0.0.1",)
    return HostConfiguration(chosen, search, tuple(options))


def is_server(text: str) -> bool:
    """Whether a text is an address that can be asked; IPv6 may name a link ("fe80::1%eth0")."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def resolv_conf(
    search: Sequence[str] = (), options: Sequence[str] = (), servers: Sequence[str] = (ADDRESS,)
) -> str:
    """A container's resolv.conf.

    Unless `options` has its own ndots, names are tried as they are first ("ndots:0"): a
    container's name has no dot, and would otherwise be sought in every search domain before.
    """
    stated = list(options)
    if ADDRESS in servers and not any(option.startswith("ndots:") for option in stated):
        stated.append("ndots:0")
    lines = [f"nameserver {server}" for server in servers]
    if search:
        lines.append(f"search {' '.join(search)}")
    if stated:
        lines.append(f"options {' '.join(stated)}")
    return "\n".join(lines) + "\n"


def resolv_conf_of_host(
    host: HostConfiguration, search: Sequence[str] = (), options: Sequence[str] = ()
) -> str:
    """A container's resolv.conf with the host's search domains, unless it has its own.

    Of the host's options those are kept that say how answers are read, not how names are
    tried.
    """
    kept = [option for option in host.options if option in ("edns0", "trust-ad", "use-vc")]
    return resolv_conf(search or host.search, [*kept, *options])


class HostFile:
    """The host's resolv.conf, read again when it has changed."""

    def __init__(self, path: str = HOST_FILE) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self.configuration = HostConfiguration()
        self.refresh()

    def refresh(self) -> bool:
        """Look whether the file changed; whether what it says did."""
        try:
            status = os.stat(self._path)
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen == self._seen:
                return False
            with open(self._path, encoding="utf-8", errors="replace") as file:
                found = read_resolv_conf(file.read())
            self._seen = seen
        except OSError:
            # A file that is just being replaced will be there in a moment.
            return False
        changed = found != self.configuration
        self.configuration = found
        return changed
