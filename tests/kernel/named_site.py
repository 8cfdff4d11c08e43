"""A site with names, and questions asked from inside its sandboxes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import dns.message
import dns.query

from lab import Lab, open_socket
from lab.site import NEIGHBOUR, Site

SERVER = "127.0.0.11"


class NamedSite(Site):
    """A site whose daemon passes outside names on to the neighbour."""

    def __init__(self, lab: Lab) -> None:
        self.resolv_conf = lab.directory / "resolv.conf"
        self.resolv_conf.write_text(f"nameserver {NEIGHBOUR}\nsearch corp.example\n")
        self.settings = lab.directory / "settings.toml"
        self.settings.write_text(f'resolv_conf = "{self.resolv_conf}"\n')
        super().__init__(lab, arguments=("--config", str(self.settings)))

    def ask(
        self,
        sandbox: Any,
        name: str,
        type: str = "A",
        tcp: bool = False,
        timeout: float = 2.0,
        **more: Any,
    ) -> Any:
        """The answer that a sandbox's resolver gives, as a message of dnspython."""
        query = dns.message.make_query(name, type, **more)
        return self.exchange(sandbox, query, tcp, timeout)

    def exchange(self, sandbox: Any, query: Any, tcp: bool = False, timeout: float = 2.0) -> Any:
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        with open_socket(sandbox["netns"], socket.AF_INET, kind) as client:
            client.settimeout(timeout)
            client.connect((SERVER, 53))
            if tcp:
                return dns.query.tcp(query, SERVER, timeout=timeout, sock=client)
            client.send(query.to_wire())
            return dns.message.from_wire(client.recv(65535))

    def addresses(self, sandbox: Any, name: str, type: str = "A", **more: Any) -> list[str]:
        """The addresses that a name has for a sandbox, in the order of the answer."""
        answer = self.ask(sandbox, name, type, **more)
        return [str(item) for rows in answer.answer for item in rows]

    def names_pid(self) -> int:
        """The process that answers."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"linkspan.names.server" in words and str(self.daemon.run_dir).encode() in words:
                    return int(entry.name)
        raise AssertionError("no names process runs")
