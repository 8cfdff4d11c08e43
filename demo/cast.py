"""Who plays in the story: containers, by `linkspan run`, or namespaces that are attached.

Where nobody may start a container (an ordinary user without cgroups, say), a namespace made by
`ip netns` with a program in it takes its place; linkspan does the same for both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from demo.teller import Teller, run_quietly


class Cast:
    """Starts players and says how to reach into them. `runs` says whether `run` works here."""

    def __init__(self, teller: Teller, needs_run: bool) -> None:
        """`needs_run`: that `run` fails is no reason to do without it here."""
        self._teller = teller
        self.refusal = run_quietly("linkspan run --rm --network none -- true")
        self.runs = needs_run or self.refusal.status == 0
        self.namespaces: list[str] = []

    def start(
        self, name: str, network: str, program: str, ports: Sequence[str] = (), claim: str = ""
    ) -> None:
        """Start a program on a network, shown as the commands that it takes."""
        published = "".join(f" -p {port}" for port in ports)
        if self.runs:
            self._teller.run(
                f"linkspan run -d --name {name} --network {network}{published} -- {program}",
                claim,
                shows=r"^[0-9a-f]{64}$",
            )
            return
        self._teller.run(f"ip netns add {name}")
        self.namespaces.append(name)
        self._teller.run(
            f"linkspan attach --name {name} --netns {name} --network {network}{published}",
            claim,
            shows=r"^[0-9a-f]{64}$",
        )
        log = f"/run/{name}.log"
        self._teller.run(f"ip netns exec {name} {program} >{log} 2>&1 &")

    def inside(self, name: str) -> str:
        """The words that run what follows inside a player."""
        return f"linkspan exec {name} --" if self.runs else f"ip netns exec {name}"

    def log_of(self, name: str) -> str:
        """The command that shows what a player wrote."""
        return f"linkspan logs {name}" if self.runs else f"cat /run/{name}.log"


def address_of(name: str) -> str:
    """A sandbox's first IPv4 address, without its prefix length."""
    shown = json.loads(run_quietly(f"linkspan inspect {name} --format json").text)
    sandbox = shown[0] if isinstance(shown, list) else shown
    return str(sandbox["endpoints"][0]["ipv4"]).split("/")[0]
