"""Asking `linkspan path --live` in a namespace, as a program and in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from lab import Lab, Namespace
from lab.places import Place, path_of

_SOURCE = str(Path(__file__).parents[2] / "src")


class Live(NamedTuple):
    """What the command said: its exit status, the whole answer, and the object `live` in it."""

    status: int
    answer: Any
    seen: Any

    @property
    def rules(self) -> set[str]:
        """Rules and policies that the kernel told of for the first packet, with their verdict."""
        return {
            f"{one['family']} {one['table']} {one['chain']} {one['verdict']}"
            for one in self.seen["rules"]
            if one["part"] == "there"
        }

    @property
    def difference(self) -> str:
        """What differs first, and all frames, for a test that fails."""
        row = self.seen["first_difference"] or {"aspects": []}
        said = [f"{a['kind']}: {a['predicted']} / {a['observed']}" for a in row["aspects"]]
        frames = [
            f"{one['namespace']} {'out' if one['outgoing'] else 'in'} {one['link']} {one['part']}"
            for one in self.seen["frames"]
        ]
        return "\n".join([str(row.get("namespace")), *said, *frames])

    def way(self, part: str = "there") -> list[str]:
        """The namespaces that were seen on the way of a part of the flow."""
        return [hop["namespace"] for hop in self.seen["hops"] if hop["part"] == part]


def live_command(host: Place, *words: str) -> list[str]:
    return ["nsenter", f"--net={path_of(host)}", sys.executable, "-m", "linkspan", "path", *words]


def live_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": _SOURCE, "LINKSPAN_SOCKET": "/nonexistent/linkspan.sock"}


def ask_live(host: Place, *words: str) -> Live:
    """Run it, and decode its answer."""
    done = run_live(host, *words, "--format", "json")
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    return Live(done.returncode, answer, answer["live"])


def run_live(host: Place, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        live_command(host, *words, "--live"), capture_output=True, text=True, timeout=60,
        env=live_environment(),
    )  # fmt: skip


class Router:
    """`client` and `server`, with `host` between them, which forwards and has a ruleset."""

    def __init__(self, lab: Lab, ruleset: str = "") -> None:
        self.lab = lab
        self.client: Namespace = lab.namespace("client")
        self.host: Namespace = lab.namespace("host")
        self.server: Namespace = lab.namespace("server")
        near, far = ("10.1.0.1/24", "fd00:1::1/64"), ("10.2.0.1/24", "fd00:2::1/64")
        lab.veth(self.host, "near", near, self.client, "eth0", ("10.1.0.2/24", "fd00:1::2/64"))
        lab.veth(self.host, "far", far, self.server, "eth0", ("10.2.0.2/24", "fd00:2::2/64"))
        for place, number in ((self.client, 1), (self.server, 2)):
            lab.route(place, "default", "via", f"10.{number}.0.1")
            lab.route(place, "default", "via", f"fd00:{number}::1")
        for path in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            lab.run(self.host, ["sysctl", "-qw", f"net.{path}=1"])
        if ruleset:
            lab.run(self.host, "nft -f -", stdin=ruleset)

    def ask(self, target: str, *words: str) -> Live:
        """From the client."""
        return ask_live(self.host, self.client.name, target, *words, "--live")

    def state(self) -> tuple[str, ...]:
        """All that a question could leave behind: rules, flows that are remembered, links."""
        places = (self.client, self.host, self.server)
        commands = ("nft list ruleset", "conntrack -L", "cut -d: -f1 /proc/net/dev", "ip rule")
        return tuple(self.lab.run(place, words).stdout for place in places for words in commands)
